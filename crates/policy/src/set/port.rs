//! The rules that can match on one port.

use std::sync::Arc;

use weft_identity::TrustDomain;

use super::{
    edit::Edit,
    form::Form,
    grants::{Audited, Grants},
    peers::Peers,
    sources::Part,
};
use crate::rule::Mode;

/// A clone shares its tables.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub(super) struct Port {
    pub(super) enforced: Peers<Grants>,
    /// Of all enforced rules.
    pub(super) form: Form,
    /// For logs alone, and so out of the way.
    pub(super) audited: Arc<Peers<Audited>>,
}

impl Port {
    /// This after an edit of the rules for it.
    pub(super) fn edited(&self, edit: &Edit, trust_domain: &TrustDomain) -> Self {
        if edit.is_empty() {
            return self.clone();
        }
        let enforced = edit.only(|rule| rule.mode == Mode::Enforce);
        let audited = edit.only(|rule| rule.mode == Mode::Audit);
        let enforced = self.enforced.edited(&enforced, trust_domain);
        Self {
            form: Form::demanded_by(enforced.parts().flat_map(Part::rules).map(|rule| &**rule)),
            enforced,
            audited: Arc::new(self.audited.edited(&audited, trust_domain)),
        }
    }
}
