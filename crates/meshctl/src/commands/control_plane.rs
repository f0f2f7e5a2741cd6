//! `meshctl control-plane`: the control plane's own library, run from this binary.

use crate::failure::Answer;

#[derive(Debug, clap::Args)]
pub(crate) struct ControlPlaneArgs {}

pub(crate) async fn run(_args: ControlPlaneArgs) -> anyhow::Result<Answer> {
    anyhow::bail!("the control plane is not part of this build")
}
