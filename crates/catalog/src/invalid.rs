//! Why a readable document is not a valid service or mesh: where, and what.

use std::time::Duration;

use weft_identity::NameError;

use crate::length::Length;

/// One value that a document may not hold, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Invalid {
    /// The field as the document spells it, such as `spec.ports[1].port`.
    pub path: String,
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("must not be empty")]
    Empty,
    #[error("has {count} elements; at most {limit} are supported")]
    TooMany { count: usize, limit: usize },
    #[error("`{0}` appears twice")]
    Duplicate(String),
    #[error("namespace `weft` is the mesh's own")]
    Reserved,
    #[error("a {kind} needs a namespace")]
    NamespaceMissing { kind: &'static str },
    #[error("a {kind} belongs to the whole mesh and has no namespace")]
    NamespaceGiven { kind: &'static str },
    #[error("there is one Mesh and its name is `mesh`, not `{0}`")]
    NotTheMesh(String),
    #[error("the settings of a namespace are named `settings`, not `{0}`")]
    NotTheSettings(String),
    #[error("learn mode needs an end, at most 30 days from now")]
    LearnsForever,
    #[error("learn mode ends at most 30 days from now")]
    LearnsTooLong,
    #[error("only learn mode has an end; leave it out or say `mode: learn`")]
    EndOfNoLearning,
    #[error(
        "permissive mode needs transparent interception, which does not exist yet; use strict or learn"
    )]
    NeedsInterception,
    #[error("a port number is 1 to 65535")]
    PortZero,
    #[error("needs exactly one of `http` and `tcp`")]
    NotOneProbe,
    #[error("the service has no port `{0}`")]
    NoSuchPort(String),
    #[error("port `{port}` speaks {protocol}; an HTTP probe needs a port of protocol http")]
    ProbeNeedsHttp {
        port: String,
        protocol: crate::Protocol,
    },
    #[error("must begin with `/` and hold at most {limit} visible ASCII characters")]
    ProbePath { limit: usize },
    #[error("a service of type {kind} has no `{field}`")]
    NotOfThisType {
        kind: &'static str,
        field: &'static str,
    },
    #[error("an external service is dialled on the port that its clients name, {port}")]
    TargetPortElsewhere { port: u16 },
    #[error(
        "`tls` is for external services: what passes between workloads is `tcp` or HTTP inside the mesh's own TLS"
    )]
    TlsInMesh,
    #[error("`{0}` is a name of this mesh")]
    MeshHost(String),
    #[error("{} is outside {} to {}", shown(*.value), shown(*.least), shown(*.most))]
    OutOfBounds {
        value: Duration,
        least: Duration,
        most: Duration,
    },
    #[error("{} is more than half of ttl, {}", shown(*.value), shown(*.ttl))]
    RenewsTooLate { value: Duration, ttl: Duration },
    #[error("no server name can be made for this port: {0}")]
    ServerName(NameError),
}

impl Invalid {
    pub(crate) fn at(path: impl Into<String>, problem: Problem) -> Self {
        Self {
            path: path.into(),
            problem,
        }
    }
}

fn shown(duration: Duration) -> String {
    Length::try_from(duration).map_or_else(|_| format!("{duration:?}"), |length| length.to_string())
}
