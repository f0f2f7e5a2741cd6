//! The library judges the corpus that `meshctl policy test` and a real sidecar judge too.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use weft_identity::{
    DnsLabel, ServiceName, ServicePort, WorkloadName,
    document::{Origin, read, read_envelope},
};
use weft_policy::{
    ALLOW, AllowSpec, Carries, Case, EncodedSlashes, Outside, OutsidePort, POLICY_TEST,
    PolicyTestSpec, QUARANTINE, Quarantine, QuarantineSpec, Rule, ServiceFacts, World,
};

#[test]
fn the_library_judges_the_whole_corpus_as_expected() {
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    let (mut count, mut plaintext, mut not_over_sockets, mut wrong) = (0, 0, 0, Vec::new());
    for (file, world, cases) in corpus() {
        for (case, outcome) in cases.iter().zip(world.judge(&cases, now)) {
            count += 1;
            plaintext += usize::from(case.from_address.is_some());
            not_over_sockets += usize::from(!case.over_sockets);
            if let Some(mismatch) = outcome.mismatch {
                wrong.push(format!("{file}: {}: {mismatch}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 120, "only {count} cases");
    assert!(plaintext >= 20, "only {plaintext} cases of plaintext");
    assert!(
        not_over_sockets < 40,
        "{not_over_sockets} cases need no sidecar"
    );
}

#[test]
fn every_case_names_the_rule_that_allows_or_the_reason_that_refuses() {
    for (file, _, cases) in corpus() {
        for case in cases {
            let says_why = case.rule.is_some() != case.reason.is_some();
            assert!(says_why, "{file}: {}", case.name);
        }
    }
}

#[test]
fn one_mesh_can_hold_all_files_together() {
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    let mut files = corpus().into_iter();
    let (_, mut world, mut cases) = files.next().unwrap();
    for (file, other, more) in files {
        world.outside = world.outside.or(other.outside);
        let before = world.services.len();
        let added = other.services.len();
        world.services.extend(other.services);
        assert_eq!(world.services.len(), before + added, "{file} reuses a name");
        world.rules.extend(other.rules);
        world.quarantines.extend(other.quarantines);
        world.learning.extend(other.learning);
        cases.extend(more);
    }
    for (case, outcome) in cases.iter().zip(world.judge(&cases, now)) {
        assert_eq!(outcome.mismatch, None, "{}", case.name);
    }
}

fn corpus() -> Vec<(String, World, Vec<Case>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/policy");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> (String, World, Vec<Case>) {
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut world = World::empty("weft.local".parse().unwrap());
    let mut cases = Vec::new();
    let mut outside = Elsewhere::default();
    for (first_line, text) in documents(&fs::read_to_string(path).unwrap()) {
        let origin = Origin {
            file: file.clone(),
            first_line,
        };
        match read_envelope(&text, &origin).unwrap().kind.as_str() {
            ALLOW => {
                let document = read::<AllowSpec>(&text, &origin, ALLOW).unwrap();
                world
                    .rules
                    .push(Arc::new(Rule::from_document(&document).unwrap()));
            }
            QUARANTINE => {
                let document = read::<QuarantineSpec>(&text, &origin, QUARANTINE).unwrap();
                world
                    .quarantines
                    .push(Quarantine::from_document(&document).unwrap());
            }
            POLICY_TEST => {
                let document = read::<PolicyTestSpec>(&text, &origin, POLICY_TEST).unwrap();
                cases.extend(document.spec.cases.into_vec());
            }
            "Service" => {
                let document = read::<ServiceSpec>(&text, &origin, "Service").unwrap();
                let name = ServiceName {
                    namespace: document.metadata.namespace.unwrap(),
                    name: document.metadata.name,
                };
                if !document.spec.hosts.is_empty() {
                    outside.0.insert(name.clone(), document.spec.elsewhere());
                }
                world.services.insert(name, document.spec.facts());
            }
            "NamespaceSettings" => {
                let document = read::<Settings>(&text, &origin, "NamespaceSettings").unwrap();
                let until = document.spec.learn_until;
                world
                    .learning
                    .insert(document.metadata.namespace.unwrap(), until);
            }
            other => panic!("{file}: kind {other}"),
        }
    }
    if !outside.0.is_empty() {
        world.outside = Some(Arc::new(outside));
    }
    (file, world, cases)
}

fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line == "---" {
            documents.push((index + 2, String::new()));
        } else {
            let last = &mut documents.last_mut().unwrap().1;
            last.push_str(line);
            last.push('\n');
        }
    }
    documents
}

/// Of a namespace that learns; `catalog` owns the kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    #[serde(rename = "mode")]
    _mode: String,
    learn_until: Timestamp,
}

/// The parts of a `Service` that verdicts need; `catalog` owns the whole kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(default)]
    workloads: Vec<WorkloadName>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    allow_addresses: Vec<String>,
    ports: Vec<Port>,
    #[serde(default)]
    encoded_slashes: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    name: DnsLabel,
    port: u16,
    protocol: String,
}

impl ServiceSpec {
    fn elsewhere(&self) -> External {
        External {
            hosts: self.hosts.clone(),
            ranges: self.allow_addresses.clone(),
            ports: self.ports.clone(),
        }
    }

    fn facts(self) -> ServiceFacts {
        ServiceFacts {
            workloads: self.workloads,
            ports: self.ports.into_iter().map(|port| port.name).collect(),
            opaque_ports: Vec::new(),
            encoded_slashes: match self.encoded_slashes.as_str() {
                "keep" => EncodedSlashes::Keep,
                _ => EncodedSlashes::Refuse,
            },
        }
    }
}

/// External services as simply as the corpus needs them; the catalog, which this crate must not know, has the whole of it.
#[derive(Debug, Default)]
struct Elsewhere(BTreeMap<ServiceName, External>);

#[derive(Debug)]
struct External {
    hosts: Vec<String>,
    ranges: Vec<String>,
    ports: Vec<Port>,
}

impl External {
    fn precision(&self, host: &str) -> Option<usize> {
        let host = host.to_ascii_lowercase();
        let of = |pattern: &String| match pattern.strip_prefix('*') {
            None => (*pattern == host).then_some(usize::MAX),
            Some(below) => host.ends_with(below).then_some(below.len()),
        };
        self.hosts.iter().filter_map(of).max()
    }
}

impl Outside for Elsewhere {
    fn named(
        &self,
        host: &str,
        number: u16,
        is_open: &dyn Fn(&ServicePort) -> bool,
    ) -> Option<ServicePort> {
        let mut named: Vec<_> = self
            .0
            .iter()
            .filter_map(|(service, external)| {
                let port = external.ports.iter().find(|port| port.port == number)?;
                let target = ServicePort {
                    service: service.clone(),
                    port: port.name.clone(),
                };
                Some((external.precision(host)?, target))
            })
            .filter(|(_, target)| is_open(target))
            .collect();
        // stable, and the services come by name
        named.sort_by_key(|(precision, _)| std::cmp::Reverse(*precision));
        named.into_iter().next().map(|(_, target)| target)
    }

    fn port(&self, target: &ServicePort) -> Option<OutsidePort> {
        let ports = &self.0.get(&target.service)?.ports;
        let port = ports.iter().find(|port| port.name == target.port)?;
        Some(OutsidePort {
            number: port.port,
            carries: match port.protocol.as_str() {
                "http" => Carries::Http,
                "tls" => Carries::Tls,
                "tcp" => Carries::Bytes,
                other => panic!("protocol {other}"),
            },
        })
    }

    fn names(&self, target: &ServicePort, host: &str) -> bool {
        self.0[&target.service].precision(host).is_some()
    }

    fn only_host(&self, target: &ServicePort) -> Option<String> {
        match self.0.get(&target.service)?.hosts.as_slice() {
            [host] if !host.contains('*') => Some(host.clone()),
            _ => None,
        }
    }

    fn may_dial(&self, target: &ServicePort, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address.to_canonical() else {
            return false;
        };
        let is_listed = |range: &String| match range.strip_suffix(".0.0/16") {
            Some(beginning) => address.to_string().starts_with(&format!("{beginning}.")),
            None => *range == format!("{address}/32"),
        };
        let is_public = !address.is_private() && !address.is_link_local() && !address.is_loopback();
        is_public || self.0[&target.service].ranges.iter().any(is_listed)
    }
}
