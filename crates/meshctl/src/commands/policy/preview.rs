//! `meshctl policy preview`: what an edit would do to the traffic of the last day. Exit code 0 whatever comes, unless
//! `--fail-on-deny` asks for 1 where something would be cut.

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use weft_identity::TrustDomain;

use super::DEFAULT_TRUST_DOMAIN;
use crate::client::Client;
use crate::commands::identity::parse_identity;
use crate::commands::named::parse_key;
use crate::documents;
use crate::failure::{Answer, SaysNo};
use crate::moments::parse_length;
use crate::output::{Format, FormatArg};
use crate::preview::{self, Edit, Report, Standing};
use crate::session::Session;
use crate::traffic;

#[derive(Debug, clap::Args)]
#[group(id = "edit", required = true, multiple = true, args = ["files", "delete", "revoke", "at"])]
pub(super) struct PreviewArgs {
    /// Resources as they would be applied: a file, a folder or `-`; may be repeated.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    files: Vec<String>,
    /// A resource that would be deleted; may be repeated.
    #[arg(long, value_name = "KIND/NAMESPACE/NAME")]
    delete: Vec<String>,
    /// An identity that would be revoked, `namespace/name` or a SPIFFE ID; may be repeated.
    #[arg(long, value_name = "IDENTITY")]
    revoke: Vec<String>,
    /// Look at this time instead of now: what will have expired by then.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How far back to look.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_length)]
    since: SignedDuration,
    /// Take the traffic from this file, which `meshctl flows -o json` wrote, instead of the control plane.
    #[arg(long, value_name = "FILE|-")]
    flows: Option<String>,
    /// Take the resources as they are now from here instead of the control plane; with --flows this needs none.
    #[arg(long, value_name = "FILE|DIR", requires = "flows")]
    against: Vec<String>,
    /// The trust domain that --against is about.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN, requires = "against")]
    trust_domain: TrustDomain,
    /// Exit with 1 if live traffic would be cut, or if the record cannot exclude it.
    #[arg(long)]
    fail_on_deny: bool,
    /// `wide` prints every line.
    #[command(flatten)]
    format: FormatArg,
}

pub(super) async fn run(args: PreviewArgs, session: &Session) -> anyhow::Result<Answer> {
    let report = if args.against.is_empty() {
        online(&args, session).await?
    } else {
        offline(&args)?
    };
    match args.format.format {
        Format::Json => session.out.json(&report)?,
        Format::Yaml => session.out.yaml(&report)?,
        Format::Table => session.out.raw(report.text(LINES, session.out))?,
        Format::Wide => session.out.raw(report.text(usize::MAX, session.out))?,
    }
    Ok(Answer::from(!(args.fail_on_deny && report.may_cut)))
}

async fn online(args: &PreviewArgs, session: &Session) -> anyhow::Result<Report> {
    let context = session.context().await?;
    let trust_domain = &context.settings.trust_domain;
    let edit = args.edit(trust_domain)?;
    let client = Client::connect(&context).await?;
    if !edit.revoke.is_empty() {
        let already = preview::revoked(&client).await?;
        for revoked in edit.revoke.intersection(&already) {
            session.out.note(format!("{revoked} is revoked already"));
        }
    }
    if let Some(file) = &args.flows {
        let traffic = traffic::from_file(file)?;
        let standing = preview::standing(&client).await?;
        return Ok(preview::of_traffic(
            trust_domain,
            &standing,
            &edit,
            &traffic,
        ));
    }
    preview::of_live(&client, trust_domain, &edit, args.since)
        .await?
        .context(SaysNo::new("this control plane records no traffic"))
}

fn offline(args: &PreviewArgs) -> anyhow::Result<Report> {
    let edit = args.edit(&args.trust_domain)?;
    let resources = documents::load(&args.against)?.resources;
    if resources.is_empty() {
        bail!("no resources in {}", args.against.join(", "));
    }
    let standing = Standing {
        resources: resources.into_iter().map(|placed| placed.value).collect(),
        ..Standing::default()
    };
    let traffic = traffic::from_file(args.flows.as_deref().unwrap_or("-"))?;
    Ok(preview::of_traffic(
        &args.trust_domain,
        &standing,
        &edit,
        &traffic,
    ))
}

impl PreviewArgs {
    fn edit(&self, trust_domain: &TrustDomain) -> anyhow::Result<Edit> {
        let documents = documents::load(&self.files)?;
        if !self.files.is_empty() && documents.resources.is_empty() {
            bail!("no resources in {}", self.files.join(", "));
        }
        let delete = self.delete.iter().map(|name| parse_key(name));
        let revoke = self.revoke.iter();
        Ok(Edit {
            delete: delete.collect::<anyhow::Result<_>>()?,
            revoke: revoke
                .map(|identity| parse_identity(identity, trust_domain))
                .collect::<anyhow::Result<_>>()?,
            at: self.at,
            ..Edit::of_documents(&documents)
        })
    }
}

const LINES: usize = 50;
