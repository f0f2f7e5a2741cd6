//! Methods as a set of bits: whether a condition's methods hold a request's is one instruction.

use crate::{http::Method, lists::Match};

/// The methods that are known by name, a bit for each, and one bit for all others, which have to be told apart by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Methods(u16);

impl Methods {
    pub(super) const NONE: Self = Self(0);
    pub(super) const OTHER: Self = Self(1);
    const ANY: Self = Self(u16::MAX);

    pub(super) fn of(methods: &Match<Method>) -> Self {
        match methods {
            Match::Any => Self::ANY,
            Match::OneOf(methods) => methods
                .iter()
                .map(|method| Self::one(method.as_str()))
                .fold(Self::NONE, |all, one| Self(all.0 | one.0)),
        }
    }

    pub(super) fn one(method: &str) -> Self {
        match method {
            "GET" => Self(1 << 1),
            "POST" => Self(1 << 2),
            "PUT" => Self(1 << 3),
            "DELETE" => Self(1 << 4),
            "HEAD" => Self(1 << 5),
            "PATCH" => Self(1 << 6),
            "OPTIONS" => Self(1 << 7),
            "TRACE" => Self(1 << 8),
            _ => Self::OTHER,
        }
    }

    /// Those of a list that are known by name, or any.
    pub(super) fn known(methods: &Match<Method>) -> Self {
        match methods {
            Match::Any => Self::ANY,
            Match::OneOf(_) => Self(Self::of(methods).0 & !Self::OTHER.0),
        }
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
