//! Which schemas the sidecars must understand that an edit brings rules to.

use weft_catalog::Service;
use weft_identity::WorkloadName;
use weft_policy::Rule;

use super::apply::Edit;
use crate::world::World;

/// A rule with its service, as both ends have them.
pub(super) struct Read<'a> {
    pub(super) rule: &'a Rule,
    service: Option<&'a Service>,
}

impl Read<'_> {
    /// Callers have the service, and of the rule what is about them: never its addresses.
    pub(super) fn callers_schema(&self) -> u32 {
        self.service.map_or(1, weft_catalog::required_schema)
    }

    /// Whoever offers the service has the whole rule.
    pub(super) fn servers_schema(&self) -> u32 {
        weft_policy::required_schema(self.rule)
    }

    /// Who may offer the service, once the edit is made.
    pub(super) fn servers(&self) -> &[WorkloadName] {
        self.service.map_or(&[], |service| &service.workloads)
    }
}

impl Edit {
    /// The rules of this edit, and the stored ones of its services.
    pub(super) fn read<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Read<'a>> {
        let rules = self.rules_with_services(world);
        rules.map(|(rule, service)| Read { rule, service })
    }
}
