//! What a route takes from the other routes of its server: no other one sees these requests.

use super::route::{Match, ValueKind};
use crate::{
    header::{HeaderCondition, HeaderTest},
    http::HostPattern,
    import::{
        grants::{Named, Refusal},
        meta::Holds,
        sources::contains,
    },
    path::PathPattern,
    source::{NamePattern, SourcePattern},
};

/// Requests that a route takes: no other route of the server sees them.
pub(super) struct Taken<'a> {
    /// `None` takes all.
    pub(super) by: Option<&'a Match>,
    /// Whom it admits, so that it takes nothing from them.
    pub(super) admitted: &'a [SourcePattern],
}

impl Refusal for Taken<'_> {
    fn source(&self, pattern: &SourcePattern) -> Holds {
        if self.admitted.iter().any(|outer| contains(outer, pattern)) {
            return Holds::No;
        }
        let is_one = matches!(
            pattern,
            SourcePattern::Exact(_)
                | SourcePattern::Local {
                    name: NamePattern::Exact(_),
                    ..
                }
        );
        let overlaps = self.admitted.iter().any(|inner| contains(pattern, inner));
        if is_one || !overlaps {
            Holds::Yes
        } else {
            Holds::Unknown
        }
    }

    fn method(&self, method: &str) -> Holds {
        let named = self.by.and_then(|one| one.method.as_deref());
        named.map_or(Holds::Yes, |named| Holds::from(named == method))
    }

    fn path(&self, pattern: &PathPattern) -> Holds {
        let path = self.by.and_then(|one| one.path.as_ref());
        path.map_or(Holds::Yes, |path| path.holds(pattern))
    }

    fn host(&self, _: &HostPattern) -> Holds {
        // another route's names may be among these
        Holds::Unknown
    }

    fn headers(&self, headers: &[HeaderCondition]) -> Holds {
        let asked = self.by.map_or(&[][..], |one| &one.headers);
        let outside = asked
            .iter()
            .filter(|asked| asked.kind == ValueKind::Exact)
            .any(|asked| {
                headers.iter().any(|header| {
                    header.name.as_str().eq_ignore_ascii_case(&asked.name)
                        && match &header.test {
                            HeaderTest::Exact(value) => *value != asked.value,
                            HeaderTest::Prefix(prefix) => !asked.value.starts_with(prefix.as_str()),
                            HeaderTest::Present => false,
                        }
                })
            });
        match (outside, asked.is_empty()) {
            (true, _) => Holds::No,
            (false, true) => Holds::Yes,
            (false, false) => Holds::Unknown,
        }
    }

    fn names(&self) -> Named {
        let Some(one) = self.by else {
            return Named::default();
        };
        Named {
            methods: one.method.is_some(),
            paths: one.path.is_some(),
            hosts: false,
            headers: !one.headers.is_empty() || !one.query_params.is_empty(),
        }
    }
}
