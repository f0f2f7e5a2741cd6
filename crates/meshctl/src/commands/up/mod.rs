//! `meshctl up`: a whole mesh from one file.

use crate::failure::Answer;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {}

pub(crate) async fn run(_args: UpArgs, _session: &Session) -> anyhow::Result<Answer> {
    anyhow::bail!("not built yet")
}
