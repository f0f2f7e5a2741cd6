//! `meshctl sidecar`: the sidecar's own library, run from this binary.

use crate::failure::Answer;

#[derive(Debug, clap::Args)]
pub(crate) struct SidecarArgs {}

pub(crate) async fn run(_args: SidecarArgs) -> anyhow::Result<Answer> {
    anyhow::bail!("the sidecar is not part of this build")
}
