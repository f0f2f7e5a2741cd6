//! Lines to paste for a mesh file that names none: one call that the allow-list lets through and one that it refuses.
//!
//! The policy's own evaluator says which is which; here are only its candidates.

use jiff::Timestamp;
use weft_catalog::{Probe, Protocol, Service};
use weft_identity::{ServicePort, SpiffeId, WorkloadName};
use weft_policy::{HttpRequest, Target, World};

use super::mesh_file::{MeshFile, TryLine};
use crate::world::{Asked, explain_in};

/// At most one line that is allowed and one that is refused.
pub(super) fn lines(world: &World, mesh: &MeshFile, services: &[Service]) -> Vec<TryLine> {
    let calls = calls(world, mesh, services);
    let allowed = calls.iter().find_map(|call| call.allowed(world));
    // A workload that may not call the service at all says more than one that may not call this path.
    let refused = calls
        .iter()
        .find(|call| call.allowed(world).is_none())
        .map(Call::refused);
    allowed.into_iter().chain(refused).collect()
}

/// One workload that could call one HTTP port through its sidecar's proxy.
struct Call<'a> {
    from: &'a WorkloadName,
    source: SpiffeId,
    target: ServicePort,
    /// As the request names it.
    authority: String,
    requests: Vec<(String, String)>,
}

/// Each workload with each HTTP port that some workload of the mesh offers; its own services come last.
fn calls<'a>(world: &World, mesh: &'a MeshFile, services: &[Service]) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    for workload in &mesh.workloads {
        for service in services {
            for port in &service.ports {
                let is_http = matches!(port.protocol, Protocol::Http | Protocol::Http2);
                let is_offered = mesh.workloads.iter().any(|other| {
                    service.workloads.contains(&other.name) && other.ports.contains_key(&port.name)
                });
                if !is_http || !is_offered {
                    continue;
                }
                let target = ServicePort {
                    service: service.name.clone(),
                    port: port.name.clone(),
                };
                calls.push(Call {
                    from: &workload.name,
                    source: SpiffeId::for_workload(&mesh.trust_domain, &workload.name),
                    authority: authority(service, port.port),
                    requests: requests(world, service, &target),
                    target,
                });
            }
        }
    }
    let own = |call: &Call<'_>| {
        let mut offered = services
            .iter()
            .filter(|service| service.name == call.target.service);
        offered.any(|service| service.workloads.contains(call.from))
    };
    calls.sort_by_key(own);
    calls
}

fn authority(service: &Service, port: u16) -> String {
    let name = format!("{}.{}", service.name.name, service.name.namespace);
    match port {
        HTTP => name,
        other => format!("{name}:{other}"),
    }
}

/// Methods and paths that are likely to be answered: what the health check asks for, the root, what rules name.
fn requests(world: &World, service: &Service, target: &ServicePort) -> Vec<(String, String)> {
    let mut requests = Vec::new();
    if let Some(Probe::Http { path, .. }) = service.health.as_ref().map(|health| &health.probe) {
        requests.push((GET.to_owned(), path.clone()));
    }
    requests.push((GET.to_owned(), ROOT.to_owned()));
    let rules = world
        .rules
        .iter()
        .filter(|rule| rule.service == target.service && rule.matches_port(&target.port));
    for condition in rules.flat_map(|rule| rule.http.listed()) {
        let mut methods = vec![GET];
        methods.extend(
            condition
                .methods
                .listed()
                .iter()
                .map(|method| method.as_str()),
        );
        let mut paths: Vec<String> = condition
            .paths
            .listed()
            .iter()
            .map(|pattern| pattern.as_str().replace("**", ONE).replace('*', ONE))
            .collect();
        paths.push(ROOT.to_owned());
        for path in paths {
            requests.extend(
                methods
                    .iter()
                    .map(|&method| (method.to_owned(), path.clone())),
            );
        }
    }
    requests
}

impl Call<'_> {
    /// The first request that passes.
    fn allowed(&self, world: &World) -> Option<TryLine> {
        let no_headers: Vec<(String, String)> = Vec::new();
        let target = Target::Service(self.target.clone());
        let passes = |(method, path): &&(String, String)| {
            let asked = Asked {
                source: (&self.source).into(),
                target: &target,
                http: Some(HttpRequest {
                    method,
                    path,
                    authority: Some(&self.authority),
                    headers: &no_headers,
                    upgrade: None,
                    connect: false,
                }),
                address: None,
                now: Timestamp::now(),
            };
            explain_in(world, &asked).is_ok_and(|(_, explained)| explained.allowed)
        };
        let (method, path) = self.requests.iter().find(passes)?;
        Some(self.line(method, path, OK))
    }

    fn refused(&self) -> TryLine {
        self.line(GET, ROOT, FORBIDDEN)
    }

    fn line(&self, method: &str, path: &str, expect_status: u16) -> TryLine {
        TryLine {
            from: self.from.clone(),
            method: method.to_owned(),
            url: format!("http://{}{path}", self.authority),
            direct: false,
            expect_status,
        }
    }
}

const GET: &str = "GET";
const ROOT: &str = "/";
/// What a `*` of a path pattern may stand for.
const ONE: &str = "1";
const HTTP: u16 = 80;
/// What a program answers is its own business; this is what it says to a path that it has.
const OK: u16 = 200;
const FORBIDDEN: u16 = 403;

#[cfg(test)]
mod tests {
    use super::super::mesh_file;
    use super::super::resources::MeshResources;
    use super::*;

    const MESH: &str = "trustDomain: a.example\nresources: [r.yaml]\nworkloads:\n\
         - {name: web, namespace: x, command: [run], ports: [{name: http}]}\n\
         - {name: api, namespace: x, command: [run], ports: [{name: http}]}\n";

    const SERVICES: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: web, namespace: x}
spec: {workloads: [x/web], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: x}
spec: {workloads: [x/api], ports: [{name: http, port: 8080, protocol: http}]}
";

    fn suggested(rule: &str) -> Vec<(String, String, String, u16)> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("mesh.yaml", MESH);
        let rule = format!(
            "{SERVICES}---\napiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: r, namespace: x}}\nspec: {rule}\n"
        );
        write(
            "r.yaml",
            if rule.ends_with("spec: \n") {
                SERVICES
            } else {
                &rule
            },
        );
        let mesh = mesh_file::read(&folder.path().join("mesh.yaml")).expect("a mesh");
        let resources = MeshResources::read(&mesh.resources).expect("resources");
        let world = resources.world(&mesh.trust_domain);
        let lines = lines(&world, &mesh, &resources.services).into_iter();
        lines
            .map(|line| {
                (
                    line.from.to_string(),
                    line.method,
                    line.url,
                    line.expect_status,
                )
            })
            .collect()
    }

    #[test]
    fn a_path_of_the_rule_is_allowed_and_a_workload_without_a_rule_is_refused() {
        let told = suggested(
            "{to: {service: api}, from: [x/web], http: [{methods: [GET], paths: [\"/orders/*/lines/**\"]}]}",
        );
        let line = |from: &str, url: &str, status| {
            (from.to_owned(), "GET".to_owned(), url.to_owned(), status)
        };
        assert_eq!(
            told,
            [
                line("x/web", "http://api.x:8080/orders/1/lines/1", 200),
                line("x/api", "http://web.x/", 403),
            ]
        );
    }

    #[test]
    fn a_rule_without_http_conditions_allows_the_root() {
        let told = suggested("{to: {service: api}, from: [x/web]}");
        assert_eq!(told[0].2, "http://api.x:8080/");
    }

    #[test]
    fn a_rule_of_other_methods_is_asked_with_one_of_them() {
        let told = suggested(
            "{to: {service: api}, from: [x/web], http: [{methods: [POST], paths: [\"/jobs\"]}]}",
        );
        assert_eq!(
            (told[0].1.as_str(), told[0].2.as_str()),
            ("POST", "http://api.x:8080/jobs")
        );
    }

    #[test]
    fn without_a_rule_there_is_only_a_refusal() {
        let told = suggested("");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].3, 403);
    }

    #[test]
    fn a_rule_that_only_audits_allows_nothing() {
        let told = suggested("{to: {service: api}, from: [x/web], mode: Audit}");
        assert!(told.iter().all(|line| line.3 == 403), "{told:?}");
    }
}
