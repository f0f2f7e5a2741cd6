//! An allow-list learned from the recorded traffic of a whole mesh, held against that traffic.

mod traffic {
    pub(crate) mod generator;
    pub(crate) mod mesh;
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{ServiceName, ServicePort, SpiffeId, TrustDomain, WorkloadName};
use weft_policy::{
    Basis, Connection, ConnectionVerdict, EncodedSlashes, Flow, FlowHost, FlowKey, FlowRequest,
    FoldedPath, HttpRequest, Judged, Lesson, NoHeaders, PolicySet, Proposal, Reason, Rule, Verdict,
    World, propose,
};

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/corpus/traffic/requests.tsv"
);
const DISTINCT_PATHS: usize = 5_000;

/// A request or a connection as it was made.
#[derive(Debug, Clone)]
struct Made {
    source: SpiffeId,
    target: ServicePort,
    /// `None`: bytes.
    method: Option<String>,
    /// Without its query; `None`: bytes and CONNECT.
    path: Option<String>,
    upgrade: Option<String>,
}

#[test]
fn the_recorded_traffic_is_what_the_generator_makes() {
    let made = traffic::generator::requests(DISTINCT_PATHS);
    if std::env::var_os("WEFT_WRITE_CORPUS").is_some() {
        std::fs::write(CORPUS, &made).unwrap();
    }
    let recorded = std::fs::read_to_string(CORPUS).unwrap();
    assert!(recorded == made, "run again with WEFT_WRITE_CORPUS=1");
    let made = read(&recorded);
    let services: BTreeSet<_> = made.iter().map(|made| &made.target.service).collect();
    let paths: BTreeSet<_> = made.iter().filter_map(|made| made.path.as_ref()).collect();
    assert_eq!((services.len(), paths.len()), (20, DISTINCT_PATHS));
}

#[test]
fn enforcing_what_was_learned_denies_nothing_that_was_observed() {
    let corpus = corpus();
    let proposal = learned(&corpus);
    assert!(proposal.left_out.is_empty(), "{:?}", proposal.left_out);
    let mesh = Mesh::enforcing(&proposal);
    let refused: Vec<_> = corpus.iter().filter(|made| !mesh.allows(made)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn what_was_learned_allows_no_source_service_port_and_method_that_was_not_observed() {
    let corpus = corpus();
    let mesh = Mesh::enforcing(&learned(&corpus));
    let tuple = |made: &Made| {
        let Made {
            source,
            target,
            method,
            ..
        } = made;
        (source.clone(), target.clone(), method.clone())
    };
    let observed: BTreeSet<_> = corpus.iter().map(tuple).collect();
    let whole: BTreeSet<_> = corpus
        .iter()
        .filter(|made| made.path.is_none())
        .map(|made| (made.source.clone(), made.target.clone()))
        .collect();
    let sources: BTreeSet<_> = corpus.iter().map(|made| &made.source).collect();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LINK",
    ];
    let by_target = by(&corpus, |made| made.target.clone());
    let mut judged = 0;
    for (target, made) in &by_target {
        // every path of the port, with every method, from every source
        let paths: BTreeSet<_> = made.iter().filter_map(|made| made.path.clone()).collect();
        let few: Vec<_> = paths
            .iter()
            .step_by(7)
            .cloned()
            .chain(["/".to_owned()])
            .collect();
        for source in &sources {
            let as_bytes = Made {
                source: (*source).clone(),
                target: target.clone(),
                method: None,
                path: None,
                upgrade: None,
            };
            let is_whole = whole.contains(&((*source).clone(), target.clone()));
            assert_eq!(mesh.allows(&as_bytes), is_whole, "{as_bytes:?}");
            for method in methods {
                if is_whole
                    || observed.contains(&(
                        (*source).clone(),
                        target.clone(),
                        Some(method.to_owned()),
                    ))
                {
                    continue;
                }
                for path in &few {
                    let probe = Made {
                        method: Some(method.to_owned()),
                        path: Some(path.clone()),
                        ..as_bytes.clone()
                    };
                    judged += 1;
                    assert!(!mesh.allows(&probe), "{probe:?}");
                }
            }
        }
    }
    assert!(judged > 50_000, "only {judged}");
}

#[test]
fn what_was_learned_is_short_and_has_no_catch_all() {
    let corpus = corpus();
    let proposal = learned(&corpus);
    let mut per_pair = BTreeMap::<_, usize>::new();
    let mut patterns = 0;
    for proposed in &proposal.rules {
        let rule = &proposed.rule;
        for source in rule.from.identities() {
            assert!(source.exact(&trust_domain()).is_some(), "{source}");
            let pair = (source.to_string(), rule.service.clone());
            *per_pair.entry(pair).or_default() += 1;
        }
        let is_whole = corpus.iter().any(|made| {
            made.path.is_none()
                && made.target.service == rule.service
                && rule.matches_port(&made.target.port)
        });
        assert!(is_whole || !rule.http.is_any(), "{}", rule.name);
        for pattern in rule
            .http
            .listed()
            .iter()
            .flat_map(|http| http.paths.listed())
        {
            patterns += 1;
            let has_word = pattern
                .as_str()
                .split('/')
                .any(|segment| !segment.is_empty() && !segment.contains('*'));
            assert!(has_word || pattern.as_str() == "/", "{pattern}");
        }
    }
    let observed: BTreeSet<_> = corpus
        .iter()
        .map(|made| (made.source.clone(), made.target.service.clone()))
        .collect();
    let most = per_pair.values().max().copied().unwrap_or_default();
    println!(
        "{} requests with {DISTINCT_PATHS} distinct paths, {} pairs: {} rules, at most {most} for a pair, {patterns} patterns",
        corpus.len(),
        observed.len(),
        proposal.rules.len(),
    );
    assert_eq!(per_pair.len(), observed.len());
    assert!(most <= 3);
    assert!(patterns < DISTINCT_PATHS / 20, "{patterns} patterns");
}

#[test]
fn paths_outside_the_structure_that_was_seen_are_denied() {
    let corpus = corpus();
    let mesh = Mesh::enforcing(&learned(&corpus));
    let seen: BTreeSet<_> = corpus.iter().filter_map(|made| made.path.clone()).collect();
    let mut table = BTreeMap::<&str, (usize, usize)>::new();
    for made in corpus.iter().filter(|made| made.path.is_some()) {
        for (kind, path) in probes(made.path.as_deref().unwrap_or_default()) {
            if seen.contains(&path) {
                continue;
            }
            let probe = Made {
                path: Some(path),
                ..made.clone()
            };
            let (denied, all) = table.entry(kind).or_default();
            *all += 1;
            *denied += usize::from(!mesh.allows(&probe));
        }
    }
    let (mut denied, mut all) = (0, 0);
    for (kind, (of_kind, tried)) in &table {
        println!("{kind}: {of_kind} of {tried} denied");
        denied += of_kind;
        all += tried;
    }
    println!("together: {denied} of {all} denied");
    assert_eq!(table["first segment"].0, table["first segment"].1);
    assert_eq!(table["case"].0, table["case"].1);
    assert!(denied * 100 >= all * 95, "{denied} of {all}");
}

/// Paths near one that was seen: `first segment` and `case` change a word that is part of the structure, `one deeper` and `cut`
/// the number of segments, `last word` what may be one thing among many.
fn probes(path: &str) -> Vec<(&'static str, String)> {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let (first, last) = (segments[0], segments[segments.len() - 1]);
    let rest = segments[1..].join("/");
    let before = segments[..segments.len() - 1].join("/");
    let mut probes = vec![
        ("first segment", format!("/unheard/{rest}")),
        ("case", format!("/{}/{rest}", first.to_uppercase())),
        ("one deeper", format!("/{}/unheard", path.trim_matches('/'))),
    ];
    if segments.len() > 1 {
        probes.push(("cut", format!("/{before}")));
        if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_lowercase()) {
            probes.push(("last word", format!("/{before}/unheard")));
        }
    }
    probes.retain(|(_, probe)| !probe.ends_with('/') || path.ends_with('/'));
    probes.retain(|(kind, probe)| *kind != "case" || probe != path);
    probes
}

fn corpus() -> Vec<Made> {
    read(&std::fs::read_to_string(CORPUS).unwrap())
}

fn read(text: &str) -> Vec<Made> {
    text.lines().map(Made::read).collect()
}

impl Made {
    fn read(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [source, target, method, path, upgrade] = fields.as_slice() else {
            panic!("not five fields: {line}");
        };
        let source: WorkloadName = source.parse().unwrap();
        let given = |text: &str| (text != "-").then(|| text.to_owned());
        Self {
            source: SpiffeId::for_workload(&trust_domain(), &source),
            target: target.parse().unwrap(),
            method: given(method),
            path: given(path.split('?').next().unwrap()),
            upgrade: given(upgrade),
        }
    }
}

fn trust_domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-29T00:00:00Z".parse().unwrap()
}

/// As sidecars in learn mode record it.
fn recorded(corpus: &[Made]) -> Vec<Flow> {
    let flow = |made: &Made| Flow {
        key: FlowKey {
            source: made.source.clone(),
            target: made.target.clone(),
            request: made.method.as_ref().map(|method| FlowRequest {
                method: method.as_str().into(),
                host: FlowHost::Named(made.target.service.name.as_str().into()),
                path: made
                    .path
                    .as_ref()
                    .map(|path| FoldedPath::fold(path, EncodedSlashes::Refuse, |_| false)),
                headers: Vec::new(),
                upgrade: made.upgrade.as_deref().map(Into::into),
                connect: made.path.is_none(),
            }),
            judged: Judged::Learned(Reason::NoRule),
        },
        count: 1,
        first_seen: now(),
        last_seen: now(),
    };
    corpus.iter().map(flow).collect()
}

fn learned(corpus: &[Made]) -> Proposal {
    let world = World::empty(trust_domain());
    let basis = Basis {
        world: &world,
        lesson: Lesson::default(),
        now: now(),
    };
    propose(&recorded(corpus), &basis)
}

/// What sidecars enforce.
struct Mesh(BTreeMap<ServiceName, PolicySet>);

impl Mesh {
    fn enforcing(proposal: &Proposal) -> Self {
        let rules: Vec<Arc<Rule>> = proposal
            .rules
            .iter()
            .map(|proposed| Arc::clone(&proposed.rule))
            .collect();
        let services: BTreeSet<_> = rules.iter().map(|rule| rule.service.clone()).collect();
        let compiled = services.into_iter().map(|service| {
            let set = PolicySet::compile(
                trust_domain(),
                &service,
                rules.iter().cloned(),
                EncodedSlashes::Refuse,
            );
            (service, set)
        });
        Self(compiled.collect())
    }

    fn allows(&self, made: &Made) -> bool {
        let set = &self.0[&made.target.service];
        let connection = Connection {
            source: (&made.source).into(),
            port: &made.target.port,
            quarantined: false,
        };
        let Some(method) = &made.method else {
            let verdict = set.decide_connection(&connection, now());
            return matches!(verdict, ConnectionVerdict::Allow(_));
        };
        let request = HttpRequest {
            method,
            path: made.path.as_deref().unwrap_or_default(),
            authority: Some(made.target.service.name.as_str()),
            headers: &NoHeaders,
            upgrade: made.upgrade.as_deref(),
            connect: made.path.is_none(),
        };
        matches!(
            set.decide_request(&connection, &request, now()),
            Verdict::Allow(_)
        )
    }
}

fn by<K: Ord>(corpus: &[Made], key: impl Fn(&Made) -> K) -> BTreeMap<K, Vec<&Made>> {
    let mut by = BTreeMap::<K, Vec<&Made>>::new();
    for made in corpus {
        by.entry(key(made)).or_default().push(made);
    }
    by
}
