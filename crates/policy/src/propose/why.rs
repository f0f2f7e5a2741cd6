//! Why a flow is not in a proposal.

use std::fmt;

use crate::fold::FoldedPath;
use crate::request::Reason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotProposed {
    /// Its path was not in canonical form.
    NotCanonical,
    /// The pattern of its path would have no word in it.
    CatchAll(FoldedPath),
    /// The source uses more paths of the port than one can read, and they have no structure.
    TooManyPaths { limit: usize },
    /// No rule can name its method.
    Method,
    /// No rule can name the protocol it would switch to.
    Upgrade,
    /// No pattern says its path.
    Path,
    /// It needs a rule without `http`, but the source also sends requests there, which such a rule would all allow.
    WholeBesideRequests,
    /// The connection was refused before a request was seen.
    ConnectionOnly,
    /// No service has that port.
    UnknownTarget,
    /// An end of it is under Quarantine.
    Quarantined,
    /// It was, or would be, refused for a reason that no rule lifts.
    Refused(Reason),
}

impl fmt::Display for NotProposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical => f.write_str(
                "its path is not in canonical form: refused wherever a rule of the port has paths",
            ),
            Self::CatchAll(path) => write!(
                f,
                "a pattern for {path} would have no word in it and allow nearly everything"
            ),
            Self::TooManyPaths { limit } => write!(
                f,
                "more than {limit} paths without a structure that a pattern could say; this is among the least used"
            ),
            Self::Method => f.write_str("no rule can name its method"),
            Self::Upgrade => f.write_str("no rule can name the protocol that it would switch to"),
            Self::Path => f.write_str("no pattern says its path"),
            Self::WholeBesideRequests => f.write_str(
                "it needs a rule without `http`, which would allow every request that the source sends to the port",
            ),
            Self::ConnectionOnly => {
                f.write_str("it was refused before a request was seen; what it would ask is not known")
            }
            Self::UnknownTarget => f.write_str("no service has that port now"),
            Self::Quarantined => f.write_str("an end of it is under Quarantine"),
            Self::Refused(reason) => write!(f, "refused whatever a rule says: {reason}"),
        }
    }
}
