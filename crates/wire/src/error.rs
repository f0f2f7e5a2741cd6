//! Why a message cannot be read: the field, and what is wrong with it.
//!
//! Invariant: a conversion that fails yields nothing at all. No element is dropped, no number is cut, nothing is guessed.

use std::fmt;

use weft_identity::{NameError, ServiceName};

/// A field that cannot be read, and why.
#[derive(Debug, thiserror::Error)]
pub struct ConversionError {
    /// The field as documents and protobuf's JSON spell it, such as `rules[2].allow.from[0]`; empty: the message itself.
    pub path: String,
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("is required")]
    Missing,
    #[error("must not be empty")]
    Empty,
    #[error("carries no schema number")]
    SchemaMissing,
    #[error("needs schema {found}, but only schemas up to {newest} are understood here")]
    SchemaTooNew { found: u32, newest: u32 },
    #[error("is {found}, but what is stated beside it needs schema {needed}")]
    SchemaTooOld { found: u32, needed: u32 },
    #[error("{0} is not a value that is understood here")]
    UnknownValue(i32),
    #[error("{value} is greater than {most}")]
    TooLarge { value: u64, most: u64 },
    #[error("has {count} elements; at most {limit} are supported")]
    TooMany { count: usize, limit: usize },
    #[error("`{0}` appears twice")]
    Duplicate(String),
    #[error("is not a point in time that is supported")]
    Timestamp,
    #[error("is not a length of time that is supported")]
    Duration,
    #[error("is not `ip:port`")]
    Address,
    #[error("is not a label of at most {limit} characters, none of them a control character")]
    Label { limit: usize },
    #[error("is a rule for {found}, not for {expected}")]
    RuleOfAnotherService {
        found: ServiceName,
        expected: ServiceName,
    },
    #[error("a {kind} belongs to the whole mesh and has no namespace")]
    NamespaceGiven { kind: &'static str },
    #[error("is `{found}`, not `{expected}`")]
    Type {
        found: String,
        expected: &'static str,
    },
    #[error("`{}` is not a kind of resource", .0.escape_debug())]
    UnknownKind(String),
    #[error("cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Catalog(#[from] weft_catalog::Problem),
    #[error(transparent)]
    Length(#[from] weft_catalog::LengthError),
    #[error("must state something; a rule for everything has no conditions")]
    EmptyCondition,
    #[error("can only be true: rules only add")]
    NotPresent,
    #[error("begins with a zero byte or has more than {limit} bytes")]
    Serial { limit: usize },
    #[error(transparent)]
    Pattern(#[from] weft_policy::PatternError),
    #[error(transparent)]
    Rule(#[from] weft_policy::RuleError),
    #[error(transparent)]
    Flow(#[from] weft_policy::FlowError),
    #[error(transparent)]
    Bundle(#[from] weft_identity::BundleError),
    #[error(transparent)]
    Host(#[from] weft_catalog::HostError),
    #[error(transparent)]
    Range(#[from] weft_catalog::CidrError),
    #[error("an external service has no endpoints")]
    EndpointOutside,
    #[error(transparent)]
    Endpoint(#[from] weft_catalog::InstanceError),
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl<P: Into<Problem>> From<P> for ConversionError {
    fn from(problem: P) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }
}

impl From<weft_catalog::Invalid> for ConversionError {
    fn from(invalid: weft_catalog::Invalid) -> Self {
        Self {
            path: invalid.path,
            problem: invalid.problem.into(),
        }
    }
}

impl ConversionError {
    /// Says that the field lies under `parent`.
    pub(crate) fn under(self, parent: impl fmt::Display) -> Self {
        let path = match self.path.as_str() {
            "" => parent.to_string(),
            path if path.starts_with('[') => format!("{parent}{path}"),
            path => format!("{parent}.{path}"),
        };
        Self {
            path,
            problem: self.problem,
        }
    }
}

/// Adds a field's name to whatever went wrong below it.
pub(crate) trait At<T> {
    fn at(self, field: impl fmt::Display) -> Result<T, ConversionError>;
}

impl<T, E: Into<ConversionError>> At<T> for Result<T, E> {
    fn at(self, field: impl fmt::Display) -> Result<T, ConversionError> {
        self.map_err(|error| error.into().under(field))
    }
}

/// A message field that must be there.
pub(crate) fn required<'a, T>(field: &'a Option<T>, name: &str) -> Result<&'a T, ConversionError> {
    field.as_ref().ok_or(Problem::Missing).at(name)
}

/// Converts every element or none; `read` says what went wrong, this says with which.
pub(crate) fn each<'a, T: 'a, U, E: Into<ConversionError>>(
    elements: impl IntoIterator<Item = &'a T>,
    field: &str,
    mut read: impl FnMut(&'a T) -> Result<U, E>,
) -> Result<Vec<U>, ConversionError> {
    let elements = elements.into_iter().enumerate();
    elements
        .map(|(i, element)| read(element).at(format_args!("{field}[{i}]")))
        .collect()
}

/// Checks that this reader understands a security message.
pub(crate) fn check_schema(found: u32) -> Result<(), ConversionError> {
    let newest = weft_policy::SCHEMA;
    match found {
        0 => Err(Problem::SchemaMissing).at("schema"),
        found if found > newest => Err(Problem::SchemaTooNew { found, newest }).at("schema"),
        _ => Ok(()),
    }
}
