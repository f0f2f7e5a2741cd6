//! What every verb is given: where to look for the context, and where to write.

use std::path::PathBuf;

use crate::client::Client;
use crate::context::{self, Context};
use crate::login;
use crate::output::Output;

#[derive(Debug)]
pub(crate) struct Session {
    /// `--context` or `$WEFT_CONTEXT`; otherwise the context is searched for.
    pub(crate) context: Option<PathBuf>,
    pub(crate) out: Output,
}

impl Session {
    /// The context with a certificate that is good now.
    pub(crate) async fn context(&self) -> anyhow::Result<Context> {
        let found = context::find(self.context.as_deref(), |warning| self.out.warn(warning))?;
        login::fresh(found).await
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.context().await?).await
    }
}
