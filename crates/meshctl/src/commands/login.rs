//! `meshctl login`: a new operator's certificate from a control plane on this host.

use std::path::PathBuf;

use anyhow::Context as _;
use weft_identity::DnsLabel;

use crate::context::config_folder;
use crate::failure::Answer;
use crate::login;
use crate::session::Session;

/// Gets an operator's certificate over the control plane's Unix socket and writes the context.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The control plane's operator socket, `operator.sock` in its runtime folder.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The operator's name, which the audit record shows.
    #[arg(long, default_value = "admin", value_name = "NAME")]
    name: DnsLabel,
}

pub(crate) async fn run(args: LoginArgs, session: &Session) -> anyhow::Result<Answer> {
    let folder = match &session.context {
        Some(named) => named.clone(),
        None => config_folder()
            .context("neither --context nor $HOME says where to write the context")?,
    };
    let made = login::login(&args.socket, &args.name, &folder).await?;
    session.out.line(format!(
        "operator {} of {}, context in {}",
        made.settings.operator,
        made.settings.trust_domain,
        made.folder.display()
    ))?;
    Ok(Answer::Yes)
}
