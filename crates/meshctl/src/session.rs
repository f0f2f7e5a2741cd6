//! What every verb is given: where to look for the context, and where to write.

use std::path::PathBuf;

use crate::output::Output;

#[derive(Debug)]
pub(crate) struct Session {
    /// `--context` or `$WEFT_CONTEXT`; otherwise the context is searched for.
    pub(crate) context: Option<PathBuf>,
    pub(crate) out: Output,
}
