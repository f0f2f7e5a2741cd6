//! The corpus: `NAME.yaml` is what is imported, `NAME.requests.yaml` what its source says of some requests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Deserialize;
use weft_identity::{
    ServiceName, ServicePort, SpiffeId,
    document::{Origin, read_value},
};
use weft_policy::{
    Connection, ConnectionVerdict, EncodedSlashes, HttpRequest, PolicySet, Rule, SourcePattern,
    Verdict,
    import::{Import, ImportOptions, Importer, MeshPort, MeshService, NoteKind},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Whether the shop's workloads and services are given too.
    #[serde(default = "yes")]
    cluster: bool,
    requests: Vec<Request>,
    /// Notes that must be there, beside those that explain a refusal.
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    from: SourcePattern,
    to: ServicePort,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What the source's reference says.
    source: Expected,
    /// The kind of the note that explains why the rules say less.
    #[serde(default)]
    because: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

fn yes() -> bool {
    true
}

#[test]
fn no_import_allows_more_than_its_source_and_each_that_allows_less_says_why() {
    let (mut documents, mut requests, mut narrower, mut wrong) = (0, 0, 0, Vec::new());
    for path in inputs() {
        documents += 1;
        let name = path.display().to_string();
        let table = table(&path);
        let import = import(&path, table.cluster);
        let kinds: Vec<&str> = import.notes().map(|note| note.kind.as_str()).collect();
        for (index, request) in table.requests.iter().enumerate() {
            requests += 1;
            let allowed = judge(&import, request);
            let problem = match (request.source, allowed, &request.because) {
                (Expected::Deny, true, _) => Some("BROADER than the source".to_owned()),
                (Expected::Deny, false, None) | (Expected::Allow, true, None) => None,
                (Expected::Allow, false, Some(kind)) if kinds.contains(&kind.as_str()) => {
                    narrower += 1;
                    None
                }
                (Expected::Allow, false, because) => Some(format!(
                    "refused, and no note {because:?} says why; there are {kinds:?}"
                )),
                (_, _, Some(kind)) => Some(format!("`because: {kind}` explains nothing")),
            };
            wrong.extend(problem.map(|problem| format!("{name}: requests[{index}]: {problem}")));
        }
        for kind in &table.notes {
            if !kinds.contains(&kind.as_str()) {
                wrong.push(format!("{name}: no note {kind}; there are {kinds:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(documents >= 40, "only {documents} documents");
    assert!(requests >= 200, "only {requests} requests");
    assert!(
        narrower < requests / 3,
        "{narrower} of {requests} requests are refused that the source allows"
    );
}

#[test]
fn every_kind_of_note_is_made_by_some_document() {
    let mut made: Vec<NoteKind> = inputs()
        .iter()
        .flat_map(|path| {
            import(path, table(path).cluster)
                .notes()
                .map(|note| note.kind)
                .collect::<Vec<_>>()
        })
        .collect();
    made.sort();
    made.dedup();
    let missing: Vec<&NoteKind> = NoteKind::ALL
        .iter()
        .filter(|kind| !made.contains(kind))
        .collect();
    assert!(missing.is_empty(), "no document makes {missing:?}");
}

#[test]
fn every_rule_is_one_that_our_own_documents_can_hold() {
    for path in inputs() {
        let import = import(&path, table(&path).cluster);
        let mut names = std::collections::BTreeSet::new();
        for rule in import.rules() {
            rule.check().unwrap();
            assert!(
                names.insert(rule.name.clone()),
                "{}: {} stands twice",
                path.display(),
                rule.name
            );
            let document = rule.to_document();
            let text = serde_json::json!({
                "apiVersion": "weft.dev/v1", "kind": "Allow", "metadata": document.metadata, "spec": document.spec,
            });
            let origin = Origin::file("rule.json");
            let read = weft_identity::document::read(&text.to_string(), &origin, "Allow").unwrap();
            assert_eq!(Rule::from_document(&read).unwrap(), *rule);
        }
    }
}

fn judge(import: &Import, request: &Request) -> bool {
    let trust_domain = options().trust_domain;
    let rules = import.rules().cloned().map(Arc::new);
    let set = PolicySet::compile(
        trust_domain.clone(),
        &request.to.service,
        rules,
        EncodedSlashes::Refuse,
    );
    let source: SpiffeId = request.from.exact(&trust_domain).expect("one caller");
    let connection = Connection {
        source: (&source).into(),
        port: &request.to.port,
        quarantined: false,
    };
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    if request.method.is_none() {
        return matches!(
            set.decide_connection(&connection, now),
            ConnectionVerdict::Allow(_)
        );
    }
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let http = HttpRequest {
        method: request.method.as_deref().unwrap_or("GET"),
        path: request.path.as_deref().unwrap_or("/"),
        authority: Some(request.host.as_deref().unwrap_or("api.shop")),
        headers: &headers,
        upgrade: None,
        connect: request.method.as_deref() == Some("CONNECT"),
    };
    matches!(
        set.decide_request(&connection, &http, now),
        Verdict::Allow(_)
    )
}

pub(crate) fn options() -> ImportOptions {
    ImportOptions {
        trust_domain: "weft.local".parse().unwrap(),
        foreign_trust_domain: "cluster.local".to_owned(),
        default_namespace: "default".to_owned(),
        control_plane_namespace: "linkerd".to_owned(),
        root_namespace: "istio-system".to_owned(),
    }
}

fn import(path: &Path, with_cluster: bool) -> Import {
    let mut importer = Importer::default();
    if with_cluster {
        read_file(&mut importer, &folder().join("cluster.yaml"));
    }
    read_file(&mut importer, path);
    importer
        .convert(&options())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn read_file(importer: &mut Importer, path: &Path) {
    let file = path.display().to_string();
    for (first_line, text) in documents(&fs::read_to_string(path).unwrap()) {
        let origin = Origin {
            file: file.clone(),
            first_line,
        };
        if text.contains("apiVersion: weft.dev/v1") {
            importer.add_service(mesh_service(&text, &origin));
        } else {
            importer
                .read(&text, &origin)
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// What of a `Service` of ours an import needs; `catalog` owns the whole kind.
fn mesh_service(text: &str, origin: &Origin) -> MeshService {
    #[derive(Deserialize)]
    struct Spec {
        workloads: Vec<weft_identity::WorkloadName>,
        ports: Vec<Port>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Port {
        name: weft_identity::DnsLabel,
        port: u16,
        target_port: Option<u16>,
        protocol: String,
    }
    #[derive(Deserialize)]
    struct Metadata {
        namespace: weft_identity::DnsLabel,
        name: weft_identity::DnsLabel,
    }
    #[derive(Deserialize)]
    struct Document {
        metadata: Metadata,
        spec: Spec,
    }
    let document: Document = read_value(text, origin).unwrap();
    let ports = document.spec.ports.into_iter().map(|port| MeshPort {
        name: port.name,
        port: port.port,
        target_port: port.target_port.unwrap_or(port.port),
        is_http: port.protocol != "tcp",
    });
    MeshService {
        name: ServiceName {
            namespace: document.metadata.namespace,
            name: document.metadata.name,
        },
        workloads: document.spec.workloads,
        ports: ports.collect(),
    }
}

fn table(path: &Path) -> Table {
    let path = path.with_extension("requests.yaml");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    read_value(&text, &Origin::file(path.display().to_string()))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The documents to import, in order.
pub(crate) fn inputs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for source in ["kubernetes", "istio", "linkerd"] {
        for entry in fs::read_dir(folder().join(source)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".yaml") && !name.ends_with(".requests.yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/import")
}

pub(crate) fn documents(text: &str) -> Vec<(usize, String)> {
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
    let is_blank = |text: &str| {
        text.lines()
            .all(|line| line.trim().is_empty() || line.starts_with('#'))
    };
    documents.retain(|(_, text)| !is_blank(text));
    documents
}
