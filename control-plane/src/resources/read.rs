//! What every resource and field of a request must be, before anything stored is looked at.

use std::sync::Arc;

use jiff::Timestamp;
use tonic::Status;
use weft_identity::{DnsLabel, TrustDomain};
use weft_policy::PolicySet;
use weft_wire::{Resource, ResourceKey, Spec, encoded_slashes, v1};

/// What a resource must satisfy in this mesh, beyond being readable. A rule is compiled as a sidecar would.
pub(super) fn admit(
    resource: &Resource,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<(), String> {
    match &resource.spec {
        Spec::Service(service) => match &service.external {
            // That it takes no name of a namespace is asked where the mesh's are known.
            Some(external) => external.check_not_mesh(trust_domain, |namespace| {
                namespace == service.name.namespace.as_str()
            }),
            None => service.check_server_names(trust_domain),
        }
        .map_err(|error| error.to_string()),
        Spec::Allow(rule) => {
            let slashes = encoded_slashes(weft_catalog::EncodedSlashes::default());
            PolicySet::compile(
                trust_domain.clone(),
                &rule.service,
                [Arc::clone(rule)],
                slashes,
            );
            Ok(())
        }
        Spec::Quarantine(quarantine) if quarantine.workload.is_reserved() => {
            Err("spec.workload: namespace `weft` is the mesh's own".to_owned())
        }
        Spec::NamespaceSettings(settings) => {
            settings.check_end(now).map_err(|error| error.to_string())
        }
        Spec::Quarantine(_) | Spec::Mesh(_) => Ok(()),
    }
}

/// A resource that cannot be read still has a place and perhaps a name.
pub(super) fn shown_name(i: usize, message: &v1::Resource) -> String {
    match weft_wire::key_of(message) {
        Ok(key) => key.to_string(),
        Err(_) => format!("resources[{i}]"),
    }
}

pub(super) fn read_set(set: &str) -> Result<Option<DnsLabel>, Status> {
    if set.is_empty() {
        return Ok(None);
    }
    set.parse()
        .map(Some)
        .map_err(|error| Status::invalid_argument(format!("set: {error}")))
}

pub(super) fn read_preconditions(
    preconditions: &[v1::Precondition],
) -> Result<Vec<(ResourceKey, u64)>, Status> {
    check_count("preconditions", preconditions.len())?;
    let read = |(i, precondition): (usize, &v1::Precondition)| {
        let path = format!("preconditions[{i}].key");
        let key = precondition
            .key
            .as_ref()
            .ok_or_else(|| Status::invalid_argument(format!("{path}: is required")))?;
        let key = ResourceKey::try_from(key)
            .map_err(|error| Status::invalid_argument(format!("{path}.{error}")))?;
        Ok((key, precondition.revision))
    };
    preconditions.iter().enumerate().map(read).collect()
}

pub(super) fn check_count(field: &str, count: usize) -> Result<(), Status> {
    if count > RESOURCES_LIMIT {
        return Err(Status::invalid_argument(format!(
            "{field}: has {count} elements; at most {RESOURCES_LIMIT}"
        )));
    }
    Ok(())
}

/// Resources that one request may carry.
const RESOURCES_LIMIT: usize = 5000;
