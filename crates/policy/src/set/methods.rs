//! Methods as a set of bits: whether a condition's methods may hold a request's is one instruction.

use crate::{http::Method, lists::Match};

/// The methods that are known by name, a bit for each, and one bit for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Methods(u16);

impl Methods {
    const ANY: Self = Self(u16::MAX);
    const OTHER: Self = Self(1);

    pub(super) fn of(methods: &Match<Method>) -> Self {
        match methods {
            Match::Any => Self::ANY,
            Match::OneOf(methods) => {
                let methods = methods.iter().map(|method| Self::one(method.as_str()));
                methods.fold(Self(0), |all, one| Self(all.0 | one.0))
            }
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
            _ => Self::OTHER,
        }
    }

    /// Whether they have a method in common, or others that may be the same.
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether what [`Methods::meets`] says of them is certain.
    pub(super) fn is_certain(self) -> bool {
        self == Self::ANY || !self.meets(Self::OTHER)
    }
}
