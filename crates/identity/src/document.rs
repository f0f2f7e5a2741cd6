//! The envelope that every resource has, and the one YAML reader of the product.
//!
//! Invariant: nothing is skipped. An unknown or doubled key, an alias, a custom tag or a second document is an error that
//! names file, line and column; so a misspelt condition can never widen a rule. JSON is read as the subset of YAML that it is.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny},
};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::name::DnsLabel;

/// Reads one resource of a known kind.
pub fn read<S: DeserializeOwned>(
    text: &str,
    origin: &Origin,
    kind: &str,
) -> Result<Document<S>, DocumentError> {
    let head: Head = read_value(text, origin)?;
    if head.api_version.value != API_VERSION {
        let problem = format!(
            "apiVersion `{}` is not known; this version reads `{API_VERSION}`",
            head.api_version.value
        );
        return Err(DocumentError::at(
            origin,
            head.api_version.referenced,
            problem,
        ));
    }
    if head.kind.value != kind {
        let problem = format!("expected kind `{kind}`, found `{}`", head.kind.value);
        return Err(DocumentError::at(origin, head.kind.referenced, problem));
    }
    let whole: Whole<S> = read_value(text, origin)?;
    Ok(Document {
        metadata: whole.metadata,
        spec: whole.spec,
    })
}

/// Reads only the envelope, to dispatch by kind; `spec` may hold anything.
pub fn read_envelope(text: &str, origin: &Origin) -> Result<Envelope, DocumentError> {
    let head: Head = read_value(text, origin)?;
    Ok(Envelope {
        api_version: head.api_version.value,
        kind: head.kind.value,
        metadata: head.metadata,
    })
}

/// Reads a file that has no envelope, such as a process's own settings, under the same rules.
pub fn read_value<T: DeserializeOwned>(text: &str, origin: &Origin) -> Result<T, DocumentError> {
    check_length(text, origin)?;
    serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| at_its_place(origin, &error))
}

/// Reads a text whose shape only its reader knows, such as a list of different kinds, under the same rules.
pub fn read_seed<'t, S: DeserializeSeed<'t>>(
    text: &'t str,
    origin: &Origin,
    seed: S,
) -> Result<S::Value, DocumentError> {
    check_length(text, origin)?;
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        seed.deserialize(deserializer)
    })
    .map_err(|error| at_its_place(origin, &error))
}

/// Where a document stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub file: String,
    /// The line of the file that is the document's first, counted from 1.
    pub first_line: usize,
}

impl Origin {
    /// A document that begins where its file does.
    pub fn file(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            first_line: 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
}

/// Names a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among its kind in the namespace.
    pub name: DnsLabel,
    /// Absent for kinds of the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DnsLabel>,
    /// For people and tools; no verdict rests on them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<S> {
    pub metadata: Metadata,
    pub spec: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    metadata: Metadata,
    #[serde(default, rename = "spec")]
    _spec: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Whole<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    spec: S,
}

/// What is wrong with a document, and where; prints as `file:line:column: problem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    pub file: String,
    pub line: usize,
    /// Counted from 1; 0 when the problem has no place of its own.
    pub column: usize,
    pub problem: String,
}

impl DocumentError {
    fn at(origin: &Origin, location: Location, problem: String) -> Self {
        let line = usize::try_from(location.line())
            .unwrap_or(usize::MAX)
            .max(1);
        Self {
            file: origin.file.clone(),
            line: origin.first_line.saturating_add(line - 1),
            column: usize::try_from(location.column()).unwrap_or(usize::MAX),
            problem,
        }
    }
}

impl std::error::Error for DocumentError {}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        if self.column > 0 {
            write!(f, "{}:", self.column)?;
        }
        write!(f, " {}", self.problem)
    }
}

fn check_length(text: &str, origin: &Origin) -> Result<(), DocumentError> {
    if text.len() > DOCUMENT_LIMIT_BYTES {
        let problem = format!("longer than {DOCUMENT_LIMIT_BYTES} bytes");
        return Err(DocumentError::at(origin, Location::UNKNOWN, problem));
    }
    Ok(())
}

fn at_its_place(origin: &Origin, error: &serde_saphyr::Error) -> DocumentError {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    DocumentError::at(origin, location, problem_of(error))
}

fn problem_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown("field", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("value", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("missing field `{field}`"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("field `{}` is given twice", key.escape_debug())
        }
        Error::MultipleDocuments { .. } => "a second document begins here; expected one".to_owned(),
        Error::Budget {
            breach: serde_saphyr::budget::BudgetBreach::Aliases { .. },
            ..
        }
        | Error::Budget {
            breach: serde_saphyr::budget::BudgetBreach::Anchors { .. },
            ..
        }
        | Error::MergeKeyNotAllowed { .. } => {
            "anchors, aliases and merge keys are not allowed".to_owned()
        }
        other => UserMessageFormatter
            .format_message(other)
            .chars()
            .flat_map(char::escape_debug)
            .collect(),
    }
}

fn unknown(what: &str, found: &str, expected: &[&str]) -> String {
    let shown = found.escape_debug();
    let nearest = expected
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.chars().count() / 3));
    match nearest {
        Some((_, candidate)) => format!("unknown {what} `{shown}`, did you mean `{candidate}`?"),
        None if expected.is_empty() => format!("unknown {what} `{shown}`"),
        None => format!(
            "unknown {what} `{shown}`, expected one of `{}`",
            expected.join("`, `")
        ),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: EVENT_LIMIT,
            max_nodes: EVENT_LIMIT,
            max_depth: DEPTH_LIMIT,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_documents: 2,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        with_snippet: false,
    }
}

const API_VERSION: &str = "weft.dev/v1";
const DOCUMENT_LIMIT_BYTES: usize = 4 << 20;
const EVENT_LIMIT: usize = 200_000;
const DEPTH_LIMIT: usize = 64;

#[cfg(test)]
mod tests;
