//! What one source is granted on one port.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    alternatives::{MethodKey, Search},
    form::Form,
    lasting::{Earliest, Lasting},
    paths::Paths,
    sources::Part,
};
use crate::{request::HttpRequest, rule::Rule};

/// The enforced rules that name one source.
#[derive(Debug)]
pub(super) struct Grants {
    rules: Box<[Arc<Rule>]>,
    /// Rules without HTTP conditions.
    whole: Earliest,
    /// How long there is a rule with HTTP conditions.
    conditional: Lasting,
    conditions: Paths,
    form: Form,
}

impl Part for Grants {
    fn compile(rules: Vec<Arc<Rule>>) -> Self {
        let mut whole = Earliest::default();
        let mut conditional = Lasting::default();
        for (place, rule) in rules.iter().enumerate() {
            let lasting = Lasting::of(rule);
            if rule.http.is_any() {
                whole.push(place, lasting);
            } else {
                conditional.extend(lasting);
            }
        }
        Self {
            whole,
            conditional,
            conditions: Paths::compile(&rules),
            form: Form::demanded_by(rules.iter().map(|rule| &**rule)),
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
        self.rules.get(self.whole.in_force(now)?)
    }

    pub(super) fn has_conditions(&self, now: Timestamp) -> bool {
        self.conditional.holds(now)
    }

    pub(super) fn is_in_force(&self, now: Timestamp) -> bool {
        self.has_conditions(now) || self.whole.in_force(now).is_some()
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    pub(super) fn judge(&self, request: &HttpRequest<'_>, now: Timestamp) -> Judged<'_> {
        let mut search = Search {
            rules: &self.rules,
            request,
            method: MethodKey::of(request.method),
            now,
            first: self.whole.in_force(now),
            but_upgrade: false,
        };
        if request.connect {
            search.but_upgrade = self.has_conditions(now);
        } else if self.has_conditions(now) && search.first != Some(0) {
            self.conditions.search(&mut search);
        }
        Judged {
            rule: search.first.and_then(|place| self.rules.get(place)),
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
