//! What one source is granted on one port.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    alternatives::Search,
    lasting::{Earliest, Lasting},
    methods::Methods,
    paths::Paths,
    sources::Part,
};
use crate::{request::HttpRequest, rule::Rule};

/// The enforced rules that name one source.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Grants {
    /// How long there is a rule with HTTP conditions.
    conditional: Lasting,
    /// Rules without HTTP conditions.
    whole: Earliest,
    conditions: Paths,
    rules: Box<[Arc<Rule>]>,
}

impl Part for Grants {
    fn compile(rules: Vec<Arc<Rule>>) -> Self {
        let mut whole = Earliest::default();
        let mut conditional = Lasting::default();
        for (place, rule) in rules.iter().enumerate() {
            if rule.http.is_any() {
                whole.push(place, rule);
            } else {
                conditional.extend(Lasting::of(rule));
            }
        }
        Self {
            whole,
            conditional,
            conditions: Paths::compile(&rules),
            rules: rules.into(),
        }
    }

    fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

impl Grants {
    /// The first rule in force that allows all there is.
    pub(super) fn whole(&self, now: Timestamp) -> Option<&Arc<Rule>> {
        self.whole.in_force(now).map(|first| &first.rule)
    }

    pub(super) fn has_conditions(&self, now: Timestamp) -> bool {
        self.conditional.holds(now)
    }

    pub(super) fn is_in_force(&self, now: Timestamp) -> bool {
        self.has_conditions(now) || self.whole.in_force(now).is_some()
    }

    /// `method` is the request's.
    pub(super) fn judge(
        &self,
        request: &HttpRequest<'_>,
        method: Methods,
        now: Timestamp,
    ) -> Judged<'_> {
        let mut search = Search {
            request,
            method,
            now,
            first: self.whole.in_force(now),
            but_upgrade: false,
        };
        if request.connect {
            search.but_upgrade = self.has_conditions(now);
        } else if self.has_conditions(now) && search.first.is_none_or(|first| first.place > 0) {
            self.conditions.search(&mut search);
        }
        Judged {
            rule: search.first.map(|first| &first.rule),
            but_upgrade: search.but_upgrade,
        }
    }
}

/// What the rules of one source say of a request.
pub(super) struct Judged<'s> {
    /// The first by name that allows it.
    pub(super) rule: Option<&'s Arc<Rule>>,
    /// Whether some rule would, were it no upgrade and no CONNECT. Counts where none allows it.
    pub(super) but_upgrade: bool,
}

/// The rules in Audit mode that name one source.
#[derive(Debug)]
pub(super) struct Audited(Box<[Arc<Rule>]>);

impl Part for Audited {
    fn compile(rules: Vec<Arc<Rule>>) -> Self {
        Self(rules.into())
    }

    fn rules(&self) -> &[Arc<Rule>] {
        &self.0
    }
}
