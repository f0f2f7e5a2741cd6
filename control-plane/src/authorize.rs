//! Who may call which method: one table. What is not in it, or not for this caller, is refused.

use weft_identity::{Serial, SpiffeId, TrustDomain};

/// The verified peer of a request on the mTLS API, among the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub id: SpiffeId,
    /// Of the SVID that the connection was made with.
    pub serial: Serial,
}

/// The peer of a request on the operator's Unix socket, as the kernel says, among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalUser {
    pub uid: u32,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Any verified SVID of the trust domain.
    Anyone,
    /// Workloads outside the reserved namespace.
    Workload,
    /// `spiffe://<td>/operator/<name>`.
    Operator,
}

/// Whether this caller may call the method with this path (`/package.Service/Method`).
pub fn is_allowed(path: &str, caller: &SpiffeId, trust_domain: &TrustDomain) -> bool {
    if !caller.is_in(trust_domain) {
        return false;
    }
    let audience = TABLE
        .iter()
        .find(|(method, _)| *method == path)
        .map(|(_, audience)| *audience);
    match audience {
        None => false,
        Some(Audience::Anyone) => is_workload(caller) || caller.operator().is_some(),
        Some(Audience::Workload) => is_workload(caller),
        Some(Audience::Operator) => caller.operator().is_some(),
    }
}

fn is_workload(caller: &SpiffeId) -> bool {
    caller
        .workload()
        .is_some_and(|workload| !workload.is_reserved())
}

const TABLE: &[(&str, Audience)] = &[
    ("/weft.v1.Issuance/Renew", Audience::Workload),
    ("/weft.v1.Registration/Register", Audience::Workload),
    (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        Audience::Workload,
    ),
    ("/weft.v1.Decisions/Report", Audience::Workload),
    ("/weft.v1.Decisions/Why", Audience::Operator),
    ("/weft.v1.Decisions/Explain", Audience::Operator),
    ("/weft.v1.Flows/Report", Audience::Workload),
    ("/weft.v1.Flows/List", Audience::Operator),
    ("/weft.v1.Resources/Apply", Audience::Operator),
    ("/weft.v1.Resources/Get", Audience::Operator),
    ("/weft.v1.Resources/List", Audience::Operator),
    ("/weft.v1.Resources/Delete", Audience::Operator),
    ("/weft.v1.Resources/Watch", Audience::Operator),
    ("/weft.v1.Resources/WaitRollout", Audience::Operator),
    ("/weft.v1.Operations/CreateToken", Audience::Operator),
    ("/weft.v1.Operations/ListIdentities", Audience::Operator),
    ("/weft.v1.Operations/Revoke", Audience::Operator),
    ("/weft.v1.Operations/ListEndpoints", Audience::Operator),
    ("/weft.v1.Operations/ListSidecars", Audience::Operator),
    ("/weft.v1.Operations/ListAudit", Audience::Operator),
    ("/weft.v1.Operations/Status", Audience::Operator),
    ("/grpc.health.v1.Health/Check", Audience::Anyone),
    ("/grpc.health.v1.Health/Watch", Audience::Anyone),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Audience::Anyone,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Audience::Anyone,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    fn weft() -> TrustDomain {
        "weft.local".parse().unwrap()
    }

    #[test]
    fn row_09_a_workload_is_refused_by_every_method_of_the_admin_api() {
        let web = id("spiffe://weft.local/ns/shop/sa/web");
        for (path, audience) in TABLE {
            let allowed = is_allowed(path, &web, &weft());
            assert_eq!(allowed, *audience != Audience::Operator, "{path}");
        }
    }

    #[test]
    fn row_09_a_method_that_is_not_in_the_table_is_refused_to_everyone() {
        let ada = id("spiffe://weft.local/operator/ada");
        assert!(is_allowed("/weft.v1.Operations/Status", &ada, &weft()));
        for path in [
            "/weft.v1.Operations/Shutdown",
            "/weft.v1.Operations/status",
            "/weft.v1.Operations/Status/",
            "//weft.v1.Operations/Status",
            "/weft.v1.Attestation/Attest",
            "/weft.v1.OperatorLogin/Login",
            "",
        ] {
            assert!(!is_allowed(path, &ada, &weft()), "{path}");
        }
    }

    #[test]
    fn row_09_names_that_only_look_like_an_operator_or_a_workload_are_refused() {
        for caller in [
            "spiffe://partner.example/operator/ada",
            "spiffe://partner.example/ns/shop/sa/web",
            "spiffe://weft.local/operator/ada/x",
            "spiffe://weft.local/ns/operator/sa/ada",
            "spiffe://weft.local/ns/weft/sa/control-plane",
            "spiffe://weft.local/other",
        ] {
            assert!(
                !is_allowed("/weft.v1.Operations/Status", &id(caller), &weft()),
                "{caller}"
            );
        }
        let reserved = id("spiffe://weft.local/ns/weft/sa/impostor");
        assert!(!is_allowed("/weft.v1.Issuance/Renew", &reserved, &weft()));
    }

    #[test]
    fn every_method_of_the_public_api_is_in_the_table_or_on_another_port() {
        use prost::Message;
        let files = prost_types::FileDescriptorSet::decode(weft_wire::FILE_DESCRIPTORS).unwrap();
        for file in files.file.iter().filter(|file| file.package() == "weft.v1") {
            for service in &file.service {
                if ["Attestation", "OperatorLogin"].contains(&service.name()) {
                    continue;
                }
                for method in &service.method {
                    let path = format!("/weft.v1.{}/{}", service.name(), method.name());
                    assert!(TABLE.iter().any(|(known, _)| *known == path), "{path}");
                }
            }
        }
    }
}
