//! `meshctl policy import`: policies of other meshes become `Allow` rules, with a comment on everything that has no equal.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use weft_catalog::Service;
use weft_identity::TrustDomain;
use weft_identity::document::Origin;
use weft_policy::import::{
    Import, ImportOptions, Importer, MeshPort, MeshService, Source, api_version,
};
use weft_wire::{Resource, Spec, text};

use super::DEFAULT_TRUST_DOMAIN;
use crate::documents;
use crate::failure::{Answer, SaysNo};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Policies, and the workloads, namespaces and services that they are about; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<String>,
    /// Refuse policies of another mesh than this one [default: as their apiVersion says].
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Write the rules to this file.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The trust domain that the rules are for.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: TrustDomain,
    /// The trust domain of the other mesh, whose workloads become those of this one.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    foreign_trust_domain: String,
    /// The namespace of objects that name none.
    #[arg(short = 'n', long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The namespace of Istio's policies for the whole mesh.
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    istio_namespace: String,
    /// The namespace of Linkerd's control plane.
    #[arg(long, value_name = "NAME", default_value = "linkerd")]
    linkerd_namespace: String,
    /// Exit with 1 when anything has no equal.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    Kubernetes,
    Istio,
    Linkerd,
}

impl From {
    fn of(source: Source) -> Self {
        match source {
            Source::Kubernetes => Self::Kubernetes,
            Source::Istio => Self::Istio,
            Source::Linkerd => Self::Linkerd,
        }
    }
}

pub(super) fn run(args: ImportArgs, session: &Session) -> anyhow::Result<Answer> {
    let importer = read(&args.files)?;
    let sources = importer.sources();
    if sources.is_empty() {
        bail!("no policy in {}", args.files.join(", "));
    }
    if let Some(from) = args.from
        && sources.iter().any(|source| From::of(*source) != from)
    {
        bail!("there are policies of another source than `--from` says");
    }
    let import = importer.convert(&ImportOptions {
        trust_domain: args.trust_domain,
        foreign_trust_domain: args.foreign_trust_domain,
        default_namespace: args.namespace,
        control_plane_namespace: args.linkerd_namespace,
        root_namespace: args.istio_namespace,
    })?;
    let written = write(&import)?;
    match &args.output {
        Some(file) => std::fs::write(file, &written)
            .with_context(|| file.display().to_string())
            .context(SaysNo::new("cannot write the rules"))?,
        None => session.out.raw(&written)?,
    }
    let (rules, notes) = (import.rules().count(), import.notes().count());
    session.out.note(summary(rules, notes));
    Ok(Answer::from(!args.strict || notes == 0))
}

fn summary(rules: usize, notes: usize) -> String {
    let plural = |count: usize, one: &str, more: &str| {
        format!("{count} {}", if count == 1 { one } else { more })
    };
    match notes {
        0 => plural(rules, "rule", "rules"),
        _ => format!(
            "{}, {} no equal: see the comments",
            plural(rules, "rule", "rules"),
            plural(notes, "thing has", "things have")
        ),
    }
}

fn read(files: &[String]) -> anyhow::Result<Importer> {
    let mut importer = Importer::default();
    let mut problems = Vec::new();
    for (origin, text) in documents::pieces(files)? {
        if let Err(problem) = read_one(&mut importer, &text, &origin) {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(importer)
    } else {
        bail!("{}", problems.join("\n"))
    }
}

fn read_one(importer: &mut Importer, document: &str, origin: &Origin) -> Result<(), String> {
    let api_version = api_version(document, origin).map_err(|error| error.to_string())?;
    if !api_version.is_some_and(|version| version.starts_with("weft.dev/")) {
        return importer
            .read(document, origin)
            .map_err(|error| error.to_string());
    }
    let resource = text::read(document, origin).map_err(|error| error.to_string())?;
    match resource.spec {
        Spec::Service(service) => {
            importer.add_service(mesh_service(&service));
            Ok(())
        }
        _ => Err(format!(
            "{}:{}: of this mesh's own kinds only `Service` is read here",
            origin.file, origin.first_line
        )),
    }
}

fn mesh_service(service: &Service) -> MeshService {
    let ports = service.ports.iter().map(|port| MeshPort {
        name: port.name.clone(),
        port: port.port,
        target_port: port.target_port,
        is_http: port.protocol.is_http(),
    });
    MeshService {
        name: service.name.clone(),
        workloads: service.workloads.clone(),
        ports: ports.collect(),
    }
}

/// Documents with comments: those about the whole first, then each policy's before its rules.
fn write(import: &Import) -> anyhow::Result<String> {
    let mut written = String::from(
        "# Written by `meshctl policy import`. Nothing here allows what the source refuses, as far as it was given:\n\
         # give all workloads, namespaces and services, and read the comments before you apply it.\n",
    );
    for note in &import.notes {
        writeln!(written, "#\n# {note}")?;
    }
    for section in &import.sections {
        if section.rules.is_empty() && section.notes.is_empty() {
            continue;
        }
        written.push_str("---\n");
        writeln!(written, "# {}", section.title.escape_debug())?;
        for note in &section.notes {
            writeln!(written, "# {note}")?;
        }
        for (index, rule) in section.rules.iter().enumerate() {
            if index > 0 {
                written.push_str("---\n");
            }
            let resource = Resource::new(Spec::Allow(rule.clone().into()), Default::default())?;
            written.push_str(text::write(&resource)?.trim_end());
            written.push('\n');
        }
    }
    Ok(written)
}
