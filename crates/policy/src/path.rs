//! Path patterns: `*` is one segment or a part of one, `**` at the end is the rest.
//!
//! Invariant: a pattern is itself in canonical form, so it can match canonical paths only by what it says.

use std::{fmt, str::FromStr};

use crate::{
    canonical::{EncodedSlashes, is_canonical},
    pattern::{PatternError, string_form},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: Box<str>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// No `*`: compared as it stands.
    Literal,
    /// `*` in some segments.
    Segments,
    /// The same, and `/**` at the end.
    Rest,
}

impl PathPattern {
    /// Whether `path`, which is in canonical form, matches. Case matters.
    pub fn matches(&self, path: &str) -> bool {
        match self.shape {
            Shape::Literal => *self.text == *path,
            Shape::Segments => match_segments(&self.text, path, false),
            Shape::Rest => match_segments(self.text.trim_end_matches("**"), path, true),
        }
    }

    /// The segments after the first `/`.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let segments = self.text.split('/').skip(1);
        segments.map(|segment| match segment {
            // only as the last one, and only alone
            "**" => Segment::Rest,
            "*" => Segment::Any,
            _ if segment.contains('*') => Segment::Part(segment),
            _ => Segment::Literal(segment),
        })
    }

    /// Whether this matches one path only.
    pub fn is_literal(&self) -> bool {
        self.shape == Shape::Literal
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// One segment of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Segment<'p> {
    Literal(&'p str),
    /// `*`
    Any,
    /// `*` and other characters: see [`match_segment`].
    Part(&'p str),
    /// `**`
    Rest,
}

/// With `open`, the pattern ends in `/` and anything may follow there, nothing included.
fn match_segments(pattern: &str, path: &str, open: bool) -> bool {
    let mut wanted = pattern.split('/').peekable();
    let mut rest = path;
    while let Some(segment) = wanted.next() {
        if open && wanted.peek().is_none() {
            return true;
        }
        let (found, after) = match rest.split_once('/') {
            Some((found, after)) => (found, Some(after)),
            None => (rest, None),
        };
        if !match_segment(segment, found) {
            return false;
        }
        match after {
            Some(after) => rest = after,
            None => return wanted.next().is_none(),
        }
    }
    false
}

pub(crate) fn match_segment(pattern: &str, segment: &str) -> bool {
    if pattern == "*" {
        return !segment.is_empty();
    }
    match pattern.split_once('*') {
        None => pattern == segment,
        Some((start, rest)) => segment
            .strip_prefix(start)
            .is_some_and(|segment| match_after_star(rest, segment)),
    }
}

/// `pattern` is what follows a `*`. The leftmost place of each literal leaves most for the next one, so no step is taken back.
fn match_after_star(mut pattern: &str, mut segment: &str) -> bool {
    while let Some((literal, rest)) = pattern.split_once('*') {
        let Some(at) = segment.find(literal) else {
            return false;
        };
        segment = segment.get(at + literal.len()..).unwrap_or_default();
        pattern = rest;
    }
    segment.ends_with(pattern)
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem: &str| PatternError::new("a path pattern", text, problem);
        if text.len() > LENGTH_LIMIT {
            return Err(error("it is longer than 2048 bytes"));
        }
        if !text.starts_with('/') {
            return Err(error("it must begin with `/`"));
        }
        if text.contains(['?', '#']) {
            return Err(error("a path has no query and no fragment"));
        }
        if !is_canonical(text, EncodedSlashes::Keep) {
            return Err(error(
                "it is not in canonical form (dot or empty segments, `\\`, control or unencoded characters, needless or broken percent-encoding), so no request could match it",
            ));
        }
        let (body, open) = match text.strip_suffix("/**") {
            Some(body) => (body, true),
            None => (text, false),
        };
        if body.contains("**") {
            return Err(error("`**` stands only as the whole last segment"));
        }
        let shape = match (open, body.contains('*')) {
            (true, _) => Shape::Rest,
            (false, true) => Shape::Segments,
            (false, false) => Shape::Literal,
        };
        Ok(Self {
            text: text.into(),
            shape,
        })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

string_form!(
    PathPattern,
    "a path; `*` is one segment or a part of one, `**` as the last segment is the rest; case matters"
);

const LENGTH_LIMIT: usize = 2048;
