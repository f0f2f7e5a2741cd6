//! The mesh file: what a person wrote, and the same as what `up` needs. All problems of a file are told together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use weft_daemon::ConfigProblems;
use weft_identity::document::{self, Origin};
use weft_identity::{DnsLabel, ServicePort, TrustDomain, WorkloadName};

use super::placeholders;

/// A mesh file that can be started.
#[derive(Debug)]
pub(super) struct MeshFile {
    pub(super) trust_domain: TrustDomain,
    /// Resource files, as absolute paths.
    pub(super) resources: Vec<PathBuf>,
    pub(super) workloads: Vec<Workload>,
    pub(super) try_lines: Vec<TryLine>,
    /// The folder that commands run in and relative paths start from.
    pub(super) folder: PathBuf,
}

/// One workload: a program, run `replicas` times, each beside a sidecar of its own.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) name: WorkloadName,
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) replicas: u16,
    /// Names of the ports that the program listens on; 0: any free number.
    pub(super) ports: BTreeMap<DnsLabel, u16>,
    pub(super) upstreams: Vec<ServicePort>,
}

/// A line that is printed for people to paste.
#[derive(Debug, Clone)]
pub(super) struct TryLine {
    pub(super) from: WorkloadName,
    pub(super) method: String,
    pub(super) url: String,
    /// Past the sidecar, straight to the workload's own port.
    pub(super) direct: bool,
    pub(super) expect_status: u16,
}

impl Workload {
    /// The names of its replicas: `web` for one, `api-1`, `api-2` for more.
    pub(super) fn instances(&self) -> Vec<String> {
        match self.replicas {
            1 => vec![self.name.name.to_string()],
            many => (1..=many)
                .map(|number| format!("{}-{number}", self.name.name))
                .collect(),
        }
    }
}

/// Reads and checks a mesh file.
pub(super) fn read(path: &Path) -> anyhow::Result<MeshFile> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let raw: RawMesh = document::read_value(&text, &Origin::file(shown.to_string()))?;
    let absolute = std::path::absolute(path)?;
    let folder = absolute.parent().map(Path::to_owned).unwrap_or_default();
    let mut problems = ConfigProblems::new();
    let mesh = raw.check(folder, &mut problems);
    if problems.is_empty() {
        Ok(mesh)
    } else {
        Err(problems).with_context(|| shown.to_string())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMesh {
    trust_domain: TrustDomain,
    #[serde(default)]
    resources: Vec<PathBuf>,
    workloads: Vec<RawWorkload>,
    #[serde(default, rename = "try")]
    try_lines: Vec<RawTry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawWorkload {
    name: DnsLabel,
    namespace: DnsLabel,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default = "one")]
    replicas: u16,
    #[serde(default)]
    ports: Vec<RawPort>,
    #[serde(default)]
    upstreams: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPort {
    name: DnsLabel,
    #[serde(default)]
    port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTry {
    from: WorkloadName,
    url: String,
    #[serde(default)]
    direct: bool,
    expect_status: u16,
}

fn one() -> u16 {
    1
}

impl RawMesh {
    fn check(self, folder: PathBuf, problems: &mut ConfigProblems) -> MeshFile {
        let mut workloads = Vec::new();
        let mut instances = BTreeSet::new();
        for raw in self.workloads {
            let workload = raw.check(problems);
            for instance in workload.instances() {
                if !instances.insert(instance.clone()) {
                    problems.wrong("workloads", &instance, "two replicas would have this name");
                }
            }
            workloads.push(workload);
        }
        let mut try_lines = Vec::new();
        for (index, raw) in self.try_lines.into_iter().enumerate() {
            if !workloads.iter().any(|workload| workload.name == raw.from) {
                let key = format!("try[{index}].from");
                problems.wrong(&key, raw.from.to_string(), "no workload has this name");
            }
            try_lines.push(TryLine {
                from: raw.from,
                method: "GET".to_owned(),
                url: raw.url,
                direct: raw.direct,
                expect_status: raw.expect_status,
            });
        }
        MeshFile {
            trust_domain: self.trust_domain,
            resources: self
                .resources
                .into_iter()
                .map(|path| folder.join(path))
                .collect(),
            workloads,
            try_lines,
            folder,
        }
    }
}

impl RawWorkload {
    fn check(self, problems: &mut ConfigProblems) -> Workload {
        let name = WorkloadName {
            namespace: self.namespace,
            name: self.name,
        };
        let key = |field: &str| format!("workloads[{name}].{field}");
        if self.command.is_empty() {
            problems.wrong(key("command"), "[]", "name a program and its arguments");
        }
        if self.replicas == 0 || self.replicas > MAX_REPLICAS {
            problems.wrong(
                key("replicas"),
                self.replicas.to_string(),
                format!("use 1 to {MAX_REPLICAS}"),
            );
        }
        let mut ports = BTreeMap::new();
        for port in self.ports {
            if port.port != 0 && self.replicas > 1 {
                problems.wrong(
                    key("ports"),
                    port.port.to_string(),
                    "replicas on one host cannot share a number; leave it out",
                );
            }
            if ports.insert(port.name.clone(), port.port).is_some() {
                problems.wrong(
                    key("ports"),
                    port.name.to_string(),
                    "this name is listed twice",
                );
            }
        }
        let workload = Workload {
            name: name.clone(),
            command: self.command,
            env: self.env,
            replicas: self.replicas,
            ports,
            upstreams: self.upstreams,
        };
        for text in workload.command.iter().chain(workload.env.values()) {
            if let Err(problem) = placeholders::check(text, &workload) {
                problems.wrong(key("command"), text.clone(), problem.to_string());
            }
        }
        workload
    }
}

const MAX_REPLICAS: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<MeshFile> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("mesh.yaml");
        std::fs::write(&path, text)?;
        read(&path)
    }

    #[test]
    fn the_example_can_be_read() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop/mesh.yaml");
        let mesh = read(&example).expect("the example is valid");
        assert_eq!(mesh.workloads.len(), 5);
        assert_eq!(mesh.workloads[1].instances(), ["api-1", "api-2"]);
    }

    #[test]
    fn all_problems_of_a_file_are_told_together() {
        let text = "trustDomain: a.example\nworkloads:\n\
                    - {name: a, namespace: x, command: [], replicas: 0}\n\
                    - {name: b, namespace: x, command: [run, \"{port.http}\"]}\n\
                    try: [{from: x/c, url: \"http://b.x/\", expectStatus: 200}]\n";
        let told = format!("{:#}", read_text(text).expect_err("four problems"));
        for part in ["x/a].command", "x/a].replicas", "{port.http}", "x/c"] {
            assert!(told.contains(part), "{part} in: {told}");
        }
    }

    #[test]
    fn a_misspelt_field_is_told_with_its_place() {
        let text = "trustDomain: a.example\nworkloads:\n- {name: a, namespace: x, comand: [run]}\n";
        let told = format!("{:#}", read_text(text).expect_err("a misspelt field"));
        assert!(told.contains(":3:") && told.contains("command"), "{told}");
    }
}
