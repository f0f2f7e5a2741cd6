//! Paths as Istio matches them, and what our patterns can say of that.

use super::{
    meta::Holds,
    text::{Part, TextTest},
};
use crate::path::PathPattern;

/// One entry of `paths` or `notPaths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathTest {
    Text(TextTest),
    /// `{*}` is one segment, `{**}` the rest.
    Template(String),
    /// Braces that form no template: nobody knows what it matches.
    Unreadable(String),
}

impl PathTest {
    pub(super) fn new(text: &str) -> Self {
        if !text.contains("{*}") && !text.contains("{**}") {
            return Self::Text(TextTest::new(text));
        }
        let operators = |segment: &str| matches!(segment, "{*}" | "{**}");
        let sound = text
            .split('/')
            .all(|segment| operators(segment) || !segment.contains(['*', '{', '}']));
        let after_rest = text
            .split('/')
            .skip_while(|segment| *segment != "{**}")
            .skip(1);
        if sound && !after_rest.into_iter().any(operators) {
            Self::Template(text.to_owned())
        } else {
            Self::Unreadable(text.to_owned())
        }
    }

    /// The patterns that match the same canonical paths.
    pub(super) fn to_patterns(&self) -> Option<Vec<PathPattern>> {
        let texts = match self {
            Self::Text(TextTest::Present) => vec![EVERYTHING.to_owned()],
            Self::Text(TextTest::Exact(path)) if !path.contains('*') => vec![path.clone()],
            Self::Text(TextTest::Prefix(prefix)) if !prefix.contains('*') => {
                prefix_patterns(prefix)
            }
            Self::Template(template) => match template.split_once("{**}") {
                Some((before, "")) => vec![before.replace("{*}", "*") + "**"],
                Some(_) => return None,
                None => vec![template.replace("{*}", "*")],
            },
            // nothing of ours begins anywhere, and `*` never stands for itself
            Self::Text(_) | Self::Unreadable(_) => return None,
        };
        texts.iter().map(|text| text.parse().ok()).collect()
    }

    /// Whether the paths that `pattern` matches pass the test.
    pub(super) fn holds(&self, pattern: &PathPattern) -> Holds {
        let text = pattern.as_str();
        let part = match text.split_once('*') {
            None => Part::Whole(text.to_owned()),
            Some((known, _)) => Part::Begins(known.to_owned()),
        };
        match self {
            // what is below `/a/` and what `/a*` means can be told exactly, the rest by how it begins
            Self::Text(TextTest::Exact(exact))
                if !pattern.is_literal() && !pattern.matches(exact) =>
            {
                Holds::No
            }
            Self::Text(test) => test.holds(&part),
            Self::Template(template) => match part {
                Part::Whole(path) => template_holds(template, &path),
                Part::Some => Holds::Unknown,
                Part::Begins(known) => {
                    let begins = template.split('{').next().unwrap_or_default();
                    let may_meet = begins.starts_with(&known) || known.starts_with(begins);
                    if may_meet { Holds::Unknown } else { Holds::No }
                }
            },
            Self::Unreadable(_) => Holds::Unknown,
        }
    }
}

/// `/a` and all that begins so, in whichever segment it ends.
pub(super) fn prefix_patterns(prefix: &str) -> Vec<String> {
    if prefix.ends_with('/') {
        vec![format!("{prefix}**")]
    } else if prefix.is_empty() {
        vec![EVERYTHING.to_owned()]
    } else {
        vec![format!("{prefix}*"), format!("{prefix}*/**")]
    }
}

fn template_holds(template: &str, path: &str) -> Holds {
    let mut wanted = template.split('/').peekable();
    let mut found = path.split('/');
    while let Some(segment) = wanted.next() {
        if segment == "{**}" {
            // what may follow the rest is not told exactly
            return if wanted.peek().is_none() {
                Holds::from(found.next().is_some())
            } else {
                Holds::Unknown
            };
        }
        match found.next() {
            Some(here) if segment == "{*}" && !here.is_empty() => {}
            Some(here) if segment == here => {}
            _ => return Holds::No,
        }
    }
    Holds::from(found.next().is_none())
}

/// Every path that is in canonical form.
pub(super) const EVERYTHING: &str = "/**";
