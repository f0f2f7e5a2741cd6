//! Tests on texts of which only the beginning may be known: exact, prefix, suffix and presence.

use super::meta::Holds;

/// A text, or how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole(String),
    Begins(String),
    /// Nothing is known but that it is not empty.
    Some,
}

/// As Istio writes them: `abc`, `abc*`, `*abc` and `*`, which is any text but the empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextTest {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Present,
    /// Stars at both ends: the reference does not say what that means.
    Unclear,
}

impl TextTest {
    pub(super) fn new(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if text.starts_with('*') && text.ends_with('*') {
            Self::Unclear
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.to_owned())
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.to_owned())
        } else {
            Self::Exact(text.to_owned())
        }
    }

    pub(super) fn holds(&self, part: &Part) -> Holds {
        match part {
            Part::Whole(text) => match self {
                Self::Exact(exact) => Holds::from(text == exact),
                Self::Prefix(prefix) => Holds::from(text.starts_with(prefix)),
                Self::Suffix(suffix) => Holds::from(text.ends_with(suffix)),
                Self::Present => Holds::from(!text.is_empty()),
                Self::Unclear => Holds::Unknown,
            },
            Part::Some => match self {
                Self::Present => Holds::Yes,
                Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) | Self::Unclear => {
                    Holds::Unknown
                }
            },
            Part::Begins(known) => match self {
                Self::Exact(exact) if exact.starts_with(known) => Holds::Unknown,
                Self::Exact(_) => Holds::No,
                Self::Prefix(prefix) if known.starts_with(prefix) => Holds::Yes,
                Self::Prefix(prefix) if prefix.starts_with(known) => Holds::Unknown,
                Self::Prefix(_) => Holds::No,
                Self::Suffix(_) | Self::Unclear => Holds::Unknown,
                Self::Present if known.is_empty() => Holds::Unknown,
                Self::Present => Holds::Yes,
            },
        }
    }
}

/// One of `any_of`, where it says any, and none of `none_of`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) any_of: Vec<TextTest>,
    pub(super) none_of: Vec<TextTest>,
}

impl Texts {
    pub(super) fn new(any_of: &[String], none_of: &[String]) -> Self {
        let read = |texts: &[String]| texts.iter().map(|text| TextTest::new(text)).collect();
        Self {
            any_of: read(any_of),
            none_of: read(none_of),
        }
    }

    pub(super) fn is_any(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    pub(super) fn holds(&self, part: &Part) -> Holds {
        let admitted = if self.any_of.is_empty() {
            Holds::Yes
        } else {
            Holds::any(self.any_of.iter().map(|test| test.holds(part)))
        };
        admitted.and(Holds::any(self.none_of.iter().map(|test| test.holds(part))).not())
    }
}
