//! Whom an authorization of Linkerd admits, as patterns of ours.

use super::{Client, MeshTlsSpec, Network, Reference};
use crate::{
    import::{
        ImportOptions,
        notes::{NoteKind, Notes},
        sources::{of_principal, whole_namespace, without_repetition},
    },
    source::SourcePattern,
};

/// Whether addresses restrict nobody.
pub(super) fn are_all_networks(networks: &[Network]) -> bool {
    let whole = |cidr: &str| {
        networks
            .iter()
            .any(|network| network.cidr == cidr && network.except.is_empty())
    };
    whole("0.0.0.0/0") && whole("::/0")
}

pub(super) fn of_client(
    client: &Client,
    namespace: &str,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Vec<SourcePattern> {
    if !client.networks.is_empty() && !are_all_networks(&client.networks) {
        notes.add(NoteKind::IpAddress, "spec.client.networks", ADDRESSES);
        return Vec::new();
    }
    if client.unauthenticated {
        return anybody(notes, "spec.client.unauthenticated");
    }
    let Some(mesh) = &client.mesh_tls else {
        notes.add(
            NoteKind::MissingReference,
            "spec.client",
            "it admits nobody, and the source ignores it",
        );
        return Vec::new();
    };
    if mesh.unauthenticated_tls {
        return anybody(notes, "spec.client.meshTLS.unauthenticatedTLS");
    }
    let mut found = Vec::new();
    for identity in &mesh.identities {
        found.extend(of_identity(
            identity,
            options,
            notes,
            "spec.client.meshTLS.identities",
        ));
    }
    for account in &mesh.service_accounts {
        let namespace = account.namespace.as_deref().unwrap_or(namespace);
        found.extend(of_account(
            namespace,
            &account.name,
            notes,
            "spec.client.meshTLS.serviceAccounts",
        ));
    }
    without_repetition(found)
}

pub(super) fn of_mesh_tls(
    spec: &MeshTlsSpec,
    namespace: &str,
    options: &ImportOptions,
    notes: &mut Notes,
    name: &str,
) -> Vec<SourcePattern> {
    let path = format!("MeshTLSAuthentication {namespace}/{name}");
    let mut found = Vec::new();
    for identity in &spec.identities {
        found.extend(of_identity(identity, options, notes, &path));
    }
    for reference in &spec.identity_refs {
        let target = reference.namespace.as_deref().unwrap_or(namespace);
        match (
            reference.is_core("ServiceAccount"),
            reference.is_core("Namespace"),
            &reference.name,
        ) {
            (true, _, Some(name)) => found.extend(of_account(target, name, notes, &path)),
            (true, _, None) => found.extend(target.parse().ok().map(whole_namespace)),
            (_, true, Some(name)) => found.extend(name.parse().ok().map(whole_namespace)),
            (_, true, None) => found.push(SourcePattern::AnyLocal),
            (false, false, _) => {
                notes.add(
                    NoteKind::MissingReference,
                    &path,
                    format!(
                        "`{}` is no kind of identity, so it is left out",
                        reference.kind
                    ),
                );
            }
        }
    }
    without_repetition(found)
}

pub(super) fn anybody(notes: &mut Notes, path: &str) -> Vec<SourcePattern> {
    notes.add(
        NoteKind::NoIdentity,
        path,
        "the source admits everybody; here each workload of the mesh, and nobody without an identity of it",
    );
    vec![SourcePattern::AnyLocal]
}

pub(super) fn of_account(
    namespace: &str,
    name: &str,
    notes: &mut Notes,
    path: &str,
) -> Option<SourcePattern> {
    let pattern = format!("{namespace}/{name}");
    // a name with a star is no name
    match pattern.parse() {
        Ok(pattern) if !name.contains('*') => Some(pattern),
        _ => {
            notes.add(
                NoteKind::Name,
                path,
                format!("`{pattern}` is none that a workload here can have, so it is left out"),
            );
            None
        }
    }
}

/// `<account>.<namespace>.serviceaccount.identity.<control plane>.<trust domain>`, `*` for its first labels, or a SPIFFE ID.
fn of_identity(
    identity: &str,
    options: &ImportOptions,
    notes: &mut Notes,
    path: &str,
) -> Option<SourcePattern> {
    let domain = options.foreign_trust_domain.as_str();
    let found = if let Some(principal) = identity.strip_prefix("spiffe://") {
        of_principal(principal, domain)
    } else if let Some(suffix) = identity.strip_prefix('*') {
        notes.add(
            NoteKind::ForeignDomain,
            path,
            format!("`{identity}`: a rule's pattern means workloads of the own trust domain alone; name others by their whole SPIFFE ID"),
        );
        of_suffix(suffix, options)
    } else if identity.contains('*') {
        // a star elsewhere is none
        None
    } else {
        of_name(identity, options)
    };
    if found.is_none() {
        notes.add(
            NoteKind::Name,
            path,
            format!("no pattern means the same as `{identity}`, so it is left out"),
        );
    }
    found
}

/// `suffix` begins with a dot, or is empty.
fn of_suffix(suffix: &str, options: &ImportOptions) -> Option<SourcePattern> {
    let layout = layout(options);
    if layout.ends_with(suffix) && (suffix.is_empty() || suffix.starts_with('.')) {
        return Some(SourcePattern::AnyLocal);
    }
    let namespace = suffix.strip_suffix(&layout)?.strip_prefix('.')?;
    namespace.parse().ok().map(whole_namespace)
}

fn of_name(identity: &str, options: &ImportOptions) -> Option<SourcePattern> {
    let (account, rest) = identity.split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    let own = layout(options);
    if own.strip_prefix('.') == Some(rest) {
        return format!("{namespace}/{account}").parse().ok();
    }
    let (_, domain) = rest
        .strip_prefix("serviceaccount.identity.")?
        .split_once('.')?;
    if domain == options.foreign_trust_domain {
        return None;
    }
    of_principal(
        &format!("{domain}/ns/{namespace}/sa/{account}"),
        &options.foreign_trust_domain,
    )
}

fn layout(options: &ImportOptions) -> String {
    format!(
        ".serviceaccount.identity.{}.{}",
        options.control_plane_namespace, options.foreign_trust_domain
    )
}

impl Reference {
    pub(super) fn is_core(&self, kind: &str) -> bool {
        matches!(self.group.as_str(), "" | "core") && self.kind.eq_ignore_ascii_case(kind)
    }

    pub(super) fn is_policy(&self, kind: &str) -> bool {
        self.group == super::GROUP && self.kind.eq_ignore_ascii_case(kind)
    }
}

pub(super) const ADDRESSES: &str = "`from` names identities, and `fromAddresses` admits plaintext alone: what depends on addresses is left out";
