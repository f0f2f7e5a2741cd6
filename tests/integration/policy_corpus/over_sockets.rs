//! Real sidecars: each case is asked through the source's own sidecar, and again past it, straight at the server's inbound listener.
//!
//! Clients learn no rule, so which one decided is read in the sidecars' access logs. Cases of one source run one after
//! another: the lines about one source and target stand in the order of its cases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use weft_catalog::Protocol;
use weft_identity::{ServicePort, SpiffeId, WorkloadName};
use weft_policy::{Case, Expect, Outcome, OwnedSource};
use weft_tests::backend::Backend;
use weft_tests::{Mesh, MeshOptions, Sidecar, SidecarSpec, Svid, eventually, get};

use super::asking::{Answer, Client};
use super::corpus::{File, TRUST_DOMAIN, files, target};

#[tokio::test(flavor = "multi_thread")]
async fn real_sidecars_judge_every_case_as_the_library_does() {
    let (outside, files): (Vec<_>, Vec<_>) = files().into_iter().partition(File::leads_outside);
    let skipped: usize = outside.iter().map(|file| file.cases.len()).sum();
    println!(
        "{skipped} cases about destinations outside of the mesh go over no socket here, but in `external`"
    );
    assert!(skipped < 60, "{skipped} cases are not asked");
    tell_left_out(&files);
    let stage = Stage::set_up(&files).await;
    let asked: Vec<Vec<Asked<'_>>> = join_all(
        stage
            .sources
            .iter()
            .map(|source| source.ask_all(&stage, &files)),
    )
    .await;
    let count: usize = asked.iter().map(Vec::len).sum();
    assert!(count >= 120, "only {count} cases went over sockets");
    eventually("the access logs tell the same as the library", || async {
        let differences = stage.differences(&asked);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(differences)
        }
    })
    .await;
}

/// One mesh that holds the whole corpus.
pub(super) struct Stage {
    _mesh: Mesh,
    targets: BTreeMap<ServicePort, Target>,
    servers: BTreeMap<WorkloadName, Sidecar>,
    sources: Vec<Source>,
    _backends: [Backend; 2],
}

pub(super) struct Target {
    pub(super) protocol: Protocol,
    server: WorkloadName,
}

pub(super) struct Source {
    id: SpiffeId,
    workload: WorkloadName,
    pub(super) sidecar: Sidecar,
    is_quarantined: bool,
}

/// A case with what the library says and what both ways answered.
struct Asked<'c> {
    case: &'c Case,
    outcome: Outcome,
    through_own: Answer,
    straight: Answer,
}

/// A line of an access log.
#[derive(Debug, Default)]
struct Line {
    rule: Option<String>,
    /// Of a refusal, or of what passed only because its namespace learns.
    reason: Option<String>,
    learned: bool,
    decision: Option<String>,
}

impl Stage {
    async fn set_up(files: &[File]) -> Self {
        let options = MeshOptions {
            trust_domain: TRUST_DOMAIN.into(),
            ..MeshOptions::default()
        };
        let mesh = Mesh::start_with(options).await;
        let resources: String = files.iter().map(|file| file.resources.as_str()).collect();
        let soon = Timestamp::now() + SignedDuration::from_hours(1);
        let resources = resources.replace(END_OF_LEARNING, &soon.to_string());
        mesh.meshctl_with(&["apply", "-f", "-"], &resources)
            .await
            .ok();

        let backends = [Backend::http().await, Backend::tcp().await];
        let targets = targets(files);
        let names: BTreeSet<&WorkloadName> =
            targets.values().map(|target| &target.server).collect();
        let servers = join_all(
            names
                .iter()
                .map(|name| start_server(&mesh, name, &targets, &backends)),
        )
        .await;
        let sources = join_all(
            callers(files)
                .into_iter()
                .map(|(workload, called)| start_source(&mesh, files, workload, called)),
        )
        .await;
        let stage = Self {
            servers: names.into_iter().cloned().zip(servers).collect(),
            _mesh: mesh,
            targets,
            sources,
            _backends: backends,
        };
        join_all(stage.sources.iter().map(Source::wait_for_endpoints)).await;
        stage
    }

    pub(super) fn target(&self, name: &ServicePort) -> (&Target, &Sidecar) {
        let target = &self.targets[name];
        (target, &self.servers[&target.server])
    }

    /// Where sockets and library disagree.
    fn differences(&self, asked: &[Vec<Asked<'_>>]) -> Vec<String> {
        let mut found = Vec::new();
        let mut at_servers = BTreeMap::new();
        for server in self.servers.values() {
            at_servers.extend(access_lines(server, "server"));
        }
        for (source, asked) in self.sources.iter().zip(asked) {
            let mut at_source = access_lines(&source.sidecar, "client");
            for asked in asked {
                let key = (source.id.to_string(), asked.case.to.to_string());
                let mut at_server = || at_servers.get_mut(&key).and_then(VecDeque::pop_front);
                let mut told = at_source.get_mut(&key).and_then(VecDeque::pop_front);
                let passed = told
                    .as_ref()
                    .is_some_and(|line| line.reason.is_none() || line.learned);
                let learned_early = told.as_ref().is_some_and(|line| line.learned);
                let early = told.as_ref().and_then(|line| line.rule.clone());
                if passed {
                    told = at_server();
                }
                asked.compare("through its sidecar", &asked.through_own, told, &mut found);
                if asked.outcome.rule.is_some() && early != asked.rule() {
                    found.push(format!("{}: its own sidecar named {early:?}", asked.name()));
                }
                if (asked.outcome.verdict == Expect::Learn) != learned_early {
                    let name = asked.name();
                    found.push(format!(
                        "{name}: its own sidecar learned it: {learned_early}"
                    ));
                }
                let told = if source.is_quarantined {
                    refused_handshake(&at_servers)
                } else {
                    at_server()
                };
                asked.compare("past its sidecar", &asked.straight, told, &mut found);
            }
        }
        found
    }
}

impl Source {
    /// Until every service that it may call has an endpoint.
    async fn wait_for_endpoints(&self) {
        let page = format!("http://{}/view", self.sidecar.admin);
        eventually("the endpoints are known", || async {
            let view = get(&page).await.map_err(|error| error.to_string())?.json();
            let services = view["outbound"].as_array().expect("a list of services");
            let is_known = |service: &Value| service["endpoints"] != json!([]);
            if services.iter().all(is_known) {
                Ok(())
            } else {
                Err(view.to_string())
            }
        })
        .await;
    }

    async fn ask_all<'c>(&self, stage: &Stage, files: &'c [File]) -> Vec<Asked<'c>> {
        let mut client = Client::new(Svid::of_sidecar(&self.sidecar.runtime));
        let mut all = Vec::new();
        for file in files {
            let outcomes = file.world.judge(&file.cases, Timestamp::now());
            for (case, outcome) in file.cases.iter().zip(outcomes) {
                if caller(case).as_ref() == Some(&self.workload) {
                    let (target, server) = stage.target(target(case));
                    let own = self.sidecar.upstream(&case.to.to_string());
                    all.push(Asked {
                        through_own: client.through_own(own, target.protocol, case).await,
                        straight: client.straight(server.inbound, target.protocol, case).await,
                        case,
                        outcome,
                    });
                }
            }
        }
        all
    }
}

impl Asked<'_> {
    fn compare(&self, way: &str, answer: &Answer, told: Option<Line>, found: &mut Vec<String>) {
        let name = self.name();
        // Whoever asks is not told that it was learned; the access log is.
        let is_learned = self.outcome.verdict == Expect::Learn;
        let verdict = if is_learned {
            Expect::Allow
        } else {
            self.outcome.verdict
        };
        if answer.verdict != verdict {
            found.push(format!("{name}: {way}: {answer:?}, not {verdict:?}"));
        }
        let told = told.unwrap_or_default();
        let reason = self.outcome.reason.map(|reason| reason.as_str().to_owned());
        let rule = self.rule();
        if (&told.rule, &told.reason, told.learned) != (&rule, &reason, is_learned) {
            found.push(format!(
                "{name}: {way}: {told:?}, not {rule:?} {reason:?}; answered {answer:?}"
            ));
        }
        if answer.decision.is_some() && answer.decision != told.decision {
            found.push(format!(
                "{name}: {way}: {answer:?} is not the decision of {told:?}"
            ));
        }
    }

    fn rule(&self) -> Option<String> {
        self.outcome.rule.as_ref().map(ToString::to_string)
    }

    fn name(&self) -> String {
        let Case { name, to, .. } = self.case;
        format!("`{name}` ({} → {to})", self.case.source_text())
    }
}

/// The workload that asks, where a real connection can.
fn caller(case: &Case) -> Option<WorkloadName> {
    match case.source(&TRUST_DOMAIN.parse().expect("a trust domain")) {
        Ok(OwnedSource::Identity(id)) if case.over_sockets => id.workload(),
        Ok(_) | Err(_) => None,
    }
}

/// Says which cases are left to the others, and for which reason.
#[expect(clippy::print_stderr, reason = "what is left out is said")]
fn tell_left_out(files: &[File]) {
    let cases = || files.iter().flat_map(|file| &file.cases);
    let plaintext = cases().filter(|case| case.from_address.is_some()).count();
    let marked = cases().filter(|case| !case.over_sockets).count();
    eprintln!(
        "not asked over sockets: {plaintext} cases of plaintext sources, which no sidecar accepts yet; {marked} marked so"
    );
    assert!(plaintext > 0, "the corpus has no plaintext source");
}

/// Who asks whom.
fn callers(files: &[File]) -> BTreeMap<WorkloadName, BTreeSet<ServicePort>> {
    let mut callers: BTreeMap<WorkloadName, BTreeSet<ServicePort>> = BTreeMap::new();
    for case in files.iter().flat_map(|file| &file.cases) {
        if let Some(workload) = caller(case) {
            callers
                .entry(workload)
                .or_default()
                .insert(target(case).clone());
        }
    }
    callers
}

fn targets(files: &[File]) -> BTreeMap<ServicePort, Target> {
    let services = files.iter().flat_map(|file| &file.services);
    services
        .flat_map(|service| {
            service.ports.iter().map(|port| {
                let name = ServicePort {
                    service: service.name.clone(),
                    port: port.name.clone(),
                };
                let server = service.workloads[0].clone();
                let protocol = port.protocol;
                (name, Target { protocol, server })
            })
        })
        .collect()
}

async fn start_server(
    mesh: &Mesh,
    name: &WorkloadName,
    targets: &BTreeMap<ServicePort, Target>,
    [http, tcp]: &[Backend; 2],
) -> Sidecar {
    let mut spec = spec(name);
    for (port, target) in targets {
        if target.server == *name {
            let app = if target.protocol.is_http() { http } else { tcp };
            spec = spec.app(&port.to_string(), app.address);
        }
    }
    mesh.sidecar(spec).await
}

async fn start_source(
    mesh: &Mesh,
    files: &[File],
    workload: WorkloadName,
    called: BTreeSet<ServicePort>,
) -> Source {
    let mut spec = spec(&workload);
    for target in called {
        spec = spec.upstream(&target.to_string());
    }
    let trust_domain = TRUST_DOMAIN.parse().expect("a trust domain");
    let mut quarantines = files.iter().flat_map(|file| &file.world.quarantines);
    Source {
        id: SpiffeId::for_workload(&trust_domain, &workload),
        is_quarantined: quarantines.any(|quarantine| quarantine.workload == workload),
        sidecar: mesh.sidecar(spec).await,
        workload,
    }
}

/// As the corpus writes it.
const END_OF_LEARNING: &str = "2099-01-01T00:00:00Z";

fn spec(workload: &WorkloadName) -> SidecarSpec {
    SidecarSpec::of(&workload.to_string())
        .instance(&workload.to_string().replace('/', "-"))
        .set(
            "log",
            json!({"format": "json", "level": "info", "access": true}),
        )
}

type Lines = BTreeMap<(String, String), VecDeque<Line>>;

/// By source and target, in order.
fn access_lines(sidecar: &Sidecar, side: &str) -> Lines {
    let mut lines = Lines::new();
    for text in sidecar.process.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        if line["target"] != "access" || line["side"] != side {
            continue;
        }
        let field = |name: &str| line[name].as_str().map(str::to_owned);
        let key = (
            field("source").unwrap_or_default(),
            field("service").unwrap_or_default(),
        );
        lines.entry(key).or_default().push_back(Line {
            rule: field("rule").filter(|rule| !rule.is_empty()),
            reason: field("reason").or(field("learned")),
            learned: field("learned").is_some(),
            decision: field("decision"),
        });
    }
    lines
}

/// A peer that is refused in its handshake is known by its address alone.
fn refused_handshake(at_servers: &Lines) -> Option<Line> {
    let (_, lines) = at_servers
        .iter()
        .find(|((source, _), _)| source == "127.0.0.1")?;
    lines.front().map(|line| Line {
        reason: line.reason.clone(),
        ..Line::default()
    })
}
