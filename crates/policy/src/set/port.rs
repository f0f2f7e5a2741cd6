//! The rules that can match on one port.

use std::sync::Arc;

use weft_identity::TrustDomain;

use super::{
    edit::Edit,
    form::Form,
    grants::{Audited, Grants},
    peers::Peers,
};
use crate::rule::Mode;

#[derive(Debug, Default)]
pub(super) struct Port {
    pub(super) enforced: Peers<Grants>,
    pub(super) audited: Peers<Audited>,
    /// Of all enforced rules.
    pub(super) form: Form,
}

impl Port {
    /// This after an edit of the rules for it, or this itself where there is nothing to edit.
    pub(super) fn edited(self: &Arc<Self>, edit: &Edit, trust_domain: &TrustDomain) -> Arc<Self> {
        if edit.is_empty() {
            return Arc::clone(self);
        }
        let enforced = edit.only(|rule| rule.mode == Mode::Enforce);
        let audited = edit.only(|rule| rule.mode == Mode::Audit);
        let enforced = self.enforced.edited(&enforced, trust_domain);
        Arc::new(Self {
            form: Form::demanded_by_all(enforced.parts().map(|grants| grants.form())),
            enforced,
            audited: self.audited.edited(&audited, trust_domain),
        })
    }
}
