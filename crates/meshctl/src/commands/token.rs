//! `meshctl token create NS/NAME`: a one-time join token for a workload.

use jiff::SignedDuration;
use serde::Serialize;
use weft_identity::WorkloadName;
use weft_wire::v1;

use crate::client::refused;
use crate::failure::Answer;
use crate::moments::{exact, moment, parse_length, proto_length, shown};
use crate::output::{Format, FormatArg};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, clap::Subcommand)]
enum TokenVerb {
    /// Make a one-time join token; it is shown once and the control plane keeps only its hash.
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The workload that may join with it, `namespace/name`.
    #[arg(value_name = "NAMESPACE/NAME")]
    workload: WorkloadName,
    /// How long it can be used, at most 10 minutes.
    #[arg(long, value_name = "DURATION", value_parser = parse_length)]
    ttl: Option<SignedDuration>,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    token: String,
    identity: String,
    expires: Option<String>,
}

pub(crate) async fn run(args: TokenArgs, session: &Session) -> anyhow::Result<Answer> {
    let TokenVerb::Create(args) = args.verb;
    let client = session.connect().await?;
    let request = v1::CreateTokenRequest {
        workload: args.workload.to_string(),
        ttl: args.ttl.map(proto_length),
    };
    let answer = client
        .operations()
        .create_token(request)
        .await
        .map_err(refused)?
        .into_inner();
    let expires = moment(answer.expires);
    let created = Created {
        token: answer.token,
        identity: answer.spiffe_id,
        expires: exact(expires),
    };
    match args.format.format {
        Format::Json => session.out.json(&created)?,
        Format::Yaml => session.out.yaml(&created)?,
        Format::Table | Format::Wide => {
            // The token alone on standard output, so that it can be piped into its file.
            session.out.note(format!(
                "for {}, until {}",
                created.identity,
                shown(expires)
            ));
            session.out.line(&created.token)?;
        }
    }
    Ok(Answer::Yes)
}
