//! What makes a rule broad, and what is left of it without that.

use std::fmt;

use crate::http::HttpCondition;
use crate::lists::{Match, NonEmpty};
use crate::rule::Rule;
use crate::source::{NamePattern, SourcePattern};

/// A part of a rule that admits what nobody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breadth {
    /// A source is `*`.
    AnySource,
    /// A source is a prefix.
    SourcePrefix,
    /// There are no HTTP conditions.
    NoConditions,
    /// A condition has no paths.
    NoPaths,
    /// A path ends in `/**`.
    OpenPath,
}

impl Breadth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnySource => "any source",
            Self::SourcePrefix => "source prefix",
            Self::NoConditions => "no http conditions",
            Self::NoPaths => "no paths",
            Self::OpenPath => "path /**",
        }
    }
}

impl fmt::Display for Breadth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(super) fn of(rule: &Rule) -> Vec<Breadth> {
    // no flow has an address for its source, so a wide range of them allows none
    let identities = rule.from.identities().iter();
    let mut breadths: Vec<_> = identities.filter_map(of_source).collect();
    match &rule.http {
        Match::Any => breadths.push(Breadth::NoConditions),
        Match::OneOf(conditions) => {
            for condition in conditions {
                match &condition.paths {
                    Match::Any => breadths.push(Breadth::NoPaths),
                    Match::OneOf(paths) if paths.iter().any(|path| is_open(path.as_str())) => {
                        breadths.push(Breadth::OpenPath);
                    }
                    Match::OneOf(_) => {}
                }
            }
        }
    }
    breadths.sort();
    breadths.dedup();
    breadths
}

fn of_source(source: &SourcePattern) -> Option<Breadth> {
    match source {
        SourcePattern::AnyLocal => Some(Breadth::AnySource),
        SourcePattern::Local {
            name: NamePattern::Prefix(_),
            ..
        } => Some(Breadth::SourcePrefix),
        SourcePattern::Local {
            name: NamePattern::Exact(_),
            ..
        }
        | SourcePattern::Exact(_) => None,
    }
}

fn is_open(path: &str) -> bool {
    path.ends_with("/**")
}

/// The rule without its broad parts; `None`: nothing is left that allows a request.
pub(super) fn narrow_for_requests(rule: &Rule) -> Option<Rule> {
    let conditions = rule.http.listed().iter().filter_map(narrow_condition);
    Some(Rule {
        http: Match::OneOf(NonEmpty::new(conditions.collect())?),
        ..narrow_for_whole(rule)?
    })
}

/// Bytes and CONNECT cannot be told apart by conditions: only the sources count.
pub(super) fn narrow_for_whole(rule: &Rule) -> Option<Rule> {
    let identities = rule.from.identities().iter();
    let exact = identities.filter(|from| of_source(from).is_none());
    Some(Rule {
        from: NonEmpty::new(exact.cloned().collect::<Vec<_>>())?.into(),
        ..rule.clone()
    })
}

fn narrow_condition(condition: &HttpCondition) -> Option<HttpCondition> {
    let paths = condition.paths.listed().iter();
    let narrow = paths.filter(|path| !is_open(path.as_str())).cloned();
    Some(HttpCondition {
        paths: Match::OneOf(NonEmpty::new(narrow.collect())?),
        ..condition.clone()
    })
}
