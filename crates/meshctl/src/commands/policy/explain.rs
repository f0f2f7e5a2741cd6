//! `meshctl policy explain`: one question, judged by the control plane or offline against files.

use std::net::IpAddr;

use anyhow::bail;
use jiff::Timestamp;
use weft_identity::TrustDomain;
use weft_policy::{HttpRequest, OwnedSource, Target};
use weft_wire::{v1, write_timestamp};

use super::DEFAULT_TRUST_DOMAIN;
use super::verdict::Verdict;
use crate::client::refused;
use crate::commands::identity::parse_identity;
use crate::documents;
use crate::failure::Answer;
use crate::output::{Format, FormatArg};
use crate::session::Session;
use crate::world::{Asked, explain_in, world};

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// Who asks: `namespace/name`, a SPIFFE ID, or the address of a plaintext source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What is asked of: `namespace/service:port`, or `host:port` outside of the mesh.
    #[arg(value_name = "TARGET")]
    target: Target,
    /// The HTTP method; without one it is about a TCP connection, or TLS for the host.
    method: Option<String>,
    /// The path, as on the wire.
    #[arg(requires = "method")]
    path: Option<String>,
    /// The request's `Host`.
    #[arg(long, requires = "method")]
    host: Option<String>,
    /// Judge the address too that a host outside leads to.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// A header, `name: value`; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "method", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Judge the request as an upgrade to this protocol.
    #[arg(long, value_name = "PROTOCOL", requires = "method")]
    upgrade: Option<String>,
    /// Judge at this time instead of now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Judge offline against these resources instead of the live mesh; may be repeated.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    files: Vec<String>,
    /// The trust domain that the files are about.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN, requires = "files")]
    trust_domain: TrustDomain,
    #[command(flatten)]
    format: FormatArg,
}

pub(super) async fn run(args: ExplainArgs, session: &Session) -> anyhow::Result<Answer> {
    let explanation = if args.files.is_empty() {
        ask(&args, session).await?
    } else {
        judge(&args)?
    };
    let verdict = Verdict::new(explanation)?;
    match args.format.format {
        Format::Json => session.out.json(&verdict)?,
        Format::Yaml => session.out.yaml(&verdict)?,
        Format::Table | Format::Wide => verdict.print(session.out)?,
    }
    Ok(Answer::from(verdict.allowed()))
}

async fn ask(args: &ExplainArgs, session: &Session) -> anyhow::Result<v1::Explanation> {
    let headers = args.headers.iter().map(|(name, value)| v1::Header {
        name: name.clone(),
        value: value.clone(),
    });
    let request = v1::ExplainRequest {
        source: args.source.clone(),
        target: args.target.to_string(),
        method: args.method.clone().unwrap_or_default(),
        path: args.path().to_owned(),
        host: args.host.clone().unwrap_or_default(),
        headers: headers.collect(),
        upgrade: args.upgrade.clone().unwrap_or_default(),
        at: args.at.map(write_timestamp),
        address: args.address.map(|it| it.to_string()).unwrap_or_default(),
    };
    let client = session.connect().await?;
    Ok(client
        .decisions()
        .explain(request)
        .await
        .map_err(refused)?
        .into_inner())
}

fn judge(args: &ExplainArgs) -> anyhow::Result<v1::Explanation> {
    // no identity can be read as an address: each has a `/`
    let asks = match args.source.parse() {
        Ok(address) => OwnedSource::Address(address),
        Err(_) => OwnedSource::Identity(parse_identity(&args.source, &args.trust_domain)?),
    };
    let source = asks.borrowed();
    let documents = documents::load(&args.files)?;
    if documents.resources.is_empty() {
        bail!("no resources in {}", args.files.join(", "));
    }
    let http = args.method.as_deref().map(|method| HttpRequest {
        method,
        path: args.path().split('?').next().unwrap_or_default(),
        authority: args.host.as_deref(),
        headers: &args.headers,
        upgrade: args.upgrade.as_deref(),
        connect: method == "CONNECT",
    });
    let now = args.at.unwrap_or_else(Timestamp::now);
    let world = world(
        &args.trust_domain,
        documents.resources.iter().map(|resource| &resource.value),
    );
    let (target, explanation) = explain_in(
        &world,
        &Asked {
            source,
            target: &args.target,
            http,
            address: args.address,
            now,
        },
    )?;
    let target = target.map_or_else(|| args.target.to_string(), |target| target.to_string());
    Ok(v1::Explanation {
        source: source.to_string(),
        target,
        ..v1::Explanation::from(&explanation)
    })
}

impl ExplainArgs {
    /// The path to judge: `/` for a request without one, nothing for CONNECT and for TCP.
    fn path(&self) -> &str {
        match (self.method.as_deref(), self.path.as_deref()) {
            (_, Some(path)) => path,
            (None | Some("CONNECT"), None) => "",
            (Some(_), None) => "/",
        }
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err("expected `name: value`".to_owned()),
    }
}
