//! `meshctl identity`: who has joined the mesh, and taking that away again.

use serde::Serialize;
use weft_identity::{SpiffeId, TrustDomain, WorkloadName};
use weft_wire::v1;

use crate::client::{Client, refused};
use crate::failure::{Answer, SaysNo};
use crate::moments::{exact, moment, shown};
use crate::output::{FormatArg, Table};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    verb: IdentityVerb,
}

#[derive(Debug, clap::Subcommand)]
enum IdentityVerb {
    /// List every identity that has joined.
    List(ListArgs),
    /// Show one identity with its lineages.
    Show(ShowArgs),
    /// Revoke an identity, a lineage or a serial: its connections are cut and it can neither renew nor join.
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// `namespace/name` or a SPIFFE ID.
    identity: String,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["identity", "lineage", "serial"])))]
struct RevokeArgs {
    /// `namespace/name` or a SPIFFE ID.
    identity: Option<String>,
    /// One lineage, by the id that `identity show` prints.
    #[arg(long, value_name = "ID")]
    lineage: Option<String>,
    /// One certificate, by its serial number in hex.
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// Why; kept in the audit record.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Lift the revocation again.
    #[arg(long)]
    undo: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    identity: String,
    revoked: bool,
    quarantined: bool,
    lineages: Vec<Lineage>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lineage {
    id: String,
    state: &'static str,
    current_serial: String,
    issued_at: Option<String>,
    expires_at: Option<String>,
    #[serde(skip)]
    shown_issue: String,
    #[serde(skip)]
    shown_expiry: String,
    /// Number of certificates issued.
    issued: u64,
    attested_by: String,
}

pub(crate) async fn run(args: IdentityArgs, session: &Session) -> anyhow::Result<Answer> {
    match args.verb {
        IdentityVerb::List(args) => list(args, session).await,
        IdentityVerb::Show(args) => show(args, session).await,
        IdentityVerb::Revoke(args) => revoke(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> anyhow::Result<Answer> {
    let identities = fetch(&session.connect().await?, "").await?;
    session
        .out
        .answer(args.format.format, &identities, |wide| {
            overview(&identities, wide)
        })?;
    Ok(Answer::Yes)
}

async fn show(args: ShowArgs, session: &Session) -> anyhow::Result<Answer> {
    let context = session.context().await?;
    let id = parse_identity(&args.identity, &context.settings.trust_domain)?;
    let found = fetch(&Client::connect(&context).await?, id.as_str()).await?;
    let Some(identity) = found
        .into_iter()
        .find(|identity| identity.identity == id.as_str())
    else {
        return Err(SaysNo(format!("{id} has never joined")).into());
    };
    session.out.answer(args.format.format, &identity, |wide| {
        details(&identity, wide)
    })?;
    Ok(Answer::Yes)
}

async fn revoke(args: RevokeArgs, session: &Session) -> anyhow::Result<Answer> {
    use v1::revoke_request::Target;
    let context = session.context().await?;
    let (target, what) = match (args.identity, args.lineage, args.serial) {
        (Some(identity), ..) => {
            let id = parse_identity(&identity, &context.settings.trust_domain)?;
            (Target::SpiffeId(id.to_string()), id.to_string())
        }
        (None, Some(lineage), _) => (
            Target::Lineage(lineage.clone()),
            format!("lineage {lineage}"),
        ),
        (None, None, serial) => {
            let serial = serial.unwrap_or_default();
            (Target::Serial(serial.clone()), format!("serial {serial}"))
        }
    };
    let request = v1::RevokeRequest {
        target: Some(target),
        reason: args.reason,
        undo: args.undo,
    };
    let client = Client::connect(&context).await?;
    let answer = client
        .operations()
        .revoke(request)
        .await
        .map_err(refused)?
        .into_inner();
    session.out.line(match (answer.changed, args.undo) {
        (true, false) => format!("{what} revoked, revision {}", answer.revision),
        (true, true) => format!("{what} no longer revoked, revision {}", answer.revision),
        (false, false) => format!("{what} unchanged: it was revoked already"),
        (false, true) => format!("{what} unchanged: it was not revoked"),
    })?;
    Ok(Answer::Yes)
}

async fn fetch(client: &Client, spiffe_id: &str) -> anyhow::Result<Vec<Identity>> {
    let mut identities = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListIdentitiesRequest {
            spiffe_id: spiffe_id.to_owned(),
            page_size: 0,
            page_token,
            revoked: false,
        };
        let page = client
            .operations()
            .list_identities(request)
            .await
            .map_err(refused)?
            .into_inner();
        identities.extend(page.identities.into_iter().map(Identity::from));
        if page.next_page_token.is_empty() {
            return Ok(identities);
        }
        page_token = page.next_page_token;
    }
}

/// `namespace/name` of this mesh, or a whole SPIFFE ID.
pub(crate) fn parse_identity(text: &str, trust_domain: &TrustDomain) -> anyhow::Result<SpiffeId> {
    if text.starts_with("spiffe://") {
        return Ok(text.parse()?);
    }
    Ok(SpiffeId::for_workload(
        trust_domain,
        &text.parse::<WorkloadName>()?,
    ))
}

fn overview(identities: &[Identity], wide: bool) -> Table {
    let mut table = Table::new(["IDENTITY", "STATE", "LINEAGES", "EXPIRES"]);
    if wide {
        table = table.with_columns(&["SERIAL", "ISSUED"]);
    }
    for identity in identities {
        let newest = identity
            .lineages
            .iter()
            .max_by(|a, b| a.expires_at.cmp(&b.expires_at));
        let expires = newest.map_or_else(|| "-".to_owned(), |lineage| lineage.shown_expiry.clone());
        let mut cells = vec![
            identity.identity.clone(),
            identity.state().to_owned(),
            identity.lineages.len().to_string(),
            expires,
        ];
        if wide {
            cells.push(
                newest.map_or_else(|| "-".to_owned(), |lineage| lineage.current_serial.clone()),
            );
            cells.push(
                identity
                    .lineages
                    .iter()
                    .map(|lineage| lineage.issued)
                    .sum::<u64>()
                    .to_string(),
            );
        }
        table.row(cells);
    }
    table
}

fn details(identity: &Identity, wide: bool) -> Table {
    let mut table = Table::new([
        "LINEAGE",
        "STATE",
        "SERIAL",
        "EXPIRES",
        "ISSUED",
        "ATTESTED BY",
    ]);
    if wide {
        table = table.with_columns(&["ISSUED AT", "IDENTITY"]);
    }
    for lineage in &identity.lineages {
        let mut cells = vec![
            lineage.id.clone(),
            if identity.state() == ACTIVE {
                lineage.state
            } else {
                identity.state()
            }
            .to_owned(),
            lineage.current_serial.clone(),
            lineage.shown_expiry.clone(),
            lineage.issued.to_string(),
            lineage.attested_by.clone(),
        ];
        if wide {
            cells.extend([lineage.shown_issue.clone(), identity.identity.clone()]);
        }
        table.row(cells);
    }
    table
}

impl Identity {
    fn state(&self) -> &'static str {
        match (self.revoked, self.quarantined) {
            (true, _) => "revoked",
            (false, true) => "quarantined",
            (false, false) => ACTIVE,
        }
    }
}

impl From<v1::Identity> for Identity {
    fn from(identity: v1::Identity) -> Self {
        Self {
            identity: identity.spiffe_id,
            revoked: identity.revoked,
            quarantined: identity.quarantined,
            lineages: identity.lineages.into_iter().map(Lineage::from).collect(),
        }
    }
}

impl From<v1::Lineage> for Lineage {
    fn from(lineage: v1::Lineage) -> Self {
        let (issued, expires) = (moment(lineage.issued_at), moment(lineage.expires_at));
        Self {
            state: state_word(lineage.state()),
            id: lineage.id,
            current_serial: lineage.current_serial,
            issued_at: exact(issued),
            shown_issue: shown(issued),
            expires_at: exact(expires),
            shown_expiry: shown(expires),
            issued: lineage.issued,
            attested_by: lineage.attested_by,
        }
    }
}

fn state_word(state: v1::lineage::State) -> &'static str {
    match state {
        v1::lineage::State::Unspecified => "unknown",
        v1::lineage::State::Active => ACTIVE,
        v1::lineage::State::Frozen => "frozen",
        v1::lineage::State::Revoked => "revoked",
        v1::lineage::State::Expired => "expired",
    }
}

const ACTIVE: &str = "active";
