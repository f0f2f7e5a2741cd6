//! Learn mode over real sockets: what no rule allows passes and is marked, until its end and not a moment longer.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use weft_tests::{Forge, KeepAlive, Svid, eventually, eventually_within, get};

use super::apps::App;
use super::open::{Kind, Open};
use super::shop::{LIMIT, Shop, exchange, metric, rule, server_name, target};

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_allows_passes_both_sidecars_and_is_marked() {
    let stage = Stage::start(&learning(hours(1))).await;
    stage.open_all(&Kind::ALL).await;
    for sidecar in [&stage.shop.web, &stage.shop.api] {
        assert!(metric(sidecar, LEARNED).await >= 5);
        let log = sidecar.process.log();
        assert!(log.contains(r#""learned":"noRule""#), "{log}");
        assert!(!log.contains(r#""reason":"#), "nothing was refused: {log}");
    }

    // What a rule allows is by the rule, and counts as that.
    let before = metric(&stage.shop.api, LEARNED).await;
    stage.shop.mesh.apply(&rule("raw", "raw", "")).await;
    stage.open_all(&[Kind::Tunnel]).await;
    assert_eq!(metric(&stage.shop.api, LEARNED).await, before);

    // A name of another service is no matter of rules, nor is what contradicts itself as HTTP.
    let (own, other) = (("Host", "api.shop"), ("Host", "orders.shop"));
    for (hosts, path, status) in [
        (&[own][..], "/a/../b", 200),
        (&[other], "/", 421),
        (&[own, other], "/", 400),
    ] {
        let listener = stage.shop.web.upstream(&target("http"));
        let answer = weft_tests::request(listener, "GET", path, hosts, b"").await;
        assert_eq!(
            answer.expect("an answer").status,
            status,
            "{hosts:?} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_told_that_everything_passes_and_until_when() {
    let stage = Stage::start("").await;
    let until = hours(1);
    let mesh = &stage.shop.mesh;
    let said = format!("everything passes in shop until {until}");
    let applied = mesh.apply(&learning(until)).await;
    assert!(applied.stderr.contains(&said), "{applied:?}");
    mesh.audited(
        "apply",
        "ok",
        &["NamespaceSettings/shop/settings", &until.to_string()],
    )
    .await;
    let checked = mesh.meshctl(["check"]).await.ok();
    assert!(checked.stdout.contains(&said), "{checked:?}");

    let asked = [
        "policy",
        "explain",
        "shop/web",
        "shop/api:http",
        "GET",
        "/a",
    ];
    let explained = mesh.meshctl(asked).await.ok().stdout;
    for part in [
        &format!("by learn mode until {until}; no rule allows it"),
        "noRule",
        "from: [shop/web]",
    ] {
        assert!(
            explained.contains(part),
            "{part} is missing in:\n{explained}"
        );
    }

    for (document, problem) in [
        ("{mode: learn}".to_owned(), "learn mode needs an end"),
        (
            format!("{{mode: strict, learnUntil: {until}}}"),
            "only learn mode has an end",
        ),
        (
            "{mode: permissive}".to_owned(),
            "needs transparent interception",
        ),
        (
            format!("{{mode: learn, learnUntil: {}}}", hours(31 * 24)),
            "at most 30 days",
        ),
    ] {
        let refused = mesh
            .meshctl_with(&["apply", "-f", "-"], &settings(&document))
            .await;
        assert_ne!(refused.code, 0, "{document}");
        assert!(refused.stderr.contains(problem), "{document}: {refused:?}");
    }
    let got = ["get", "namespacesettings", "shop", "-o", "json"];
    let got = mesh.meshctl(got).await.ok().stdout;
    assert!(
        got.contains(&until.to_string()),
        "the refused changed nothing: {got}"
    );
}

/// Rows 01 and 12: learning opens a namespace to the workloads of the mesh, and to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn row_12_strangers_are_refused_in_learn_mode_too() {
    let mut stage = Stage::start(&learning(hours(1))).await;
    let inbound = stage.shop.api.inbound;
    let get = b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";
    let plain = TcpStream::connect(inbound).await.expect("it accepts");
    let answer = exchange(plain, get).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    let strangers: [(&str, Svid); 2] = [
        (
            "test.example",
            Forge::new("test.example").sign("spiffe://test.example/ns/shop/sa/web", |_| {}),
        ),
        (
            "partner.example",
            Forge::new("partner.example").sign("spiffe://partner.example/ns/shop/sa/web", |_| {}),
        ),
    ];
    for (domain, stranger) in strangers {
        // In TLS 1.3 the client is done before it is refused: what counts is that it gets no answer.
        if let Ok(stream) = stranger
            .connect(inbound, &server_name("http"), "http/1.1")
            .await
        {
            let answer = KeepAlive::new(stream)
                .request("GET", "/", &[("Host", "api.shop")])
                .await;
            assert!(answer.is_err(), "a root that says {domain}: {answer:?}");
        }
    }
    // An operator's certificate is of the trust domain, but no workload's.
    let operator = Svid::of_operator(&stage.shop.mesh.context());
    if let Ok(stream) = operator
        .connect(inbound, &server_name("http"), "http/1.1")
        .await
    {
        let answer = KeepAlive::new(stream)
            .request("GET", "/", &[("Host", "api.shop")])
            .await;
        let status = answer.map(|answer| answer.status).unwrap_or(403);
        assert_eq!(status, 403, "an operator");
    }
    assert_eq!(metric(&stage.shop.api, LEARNED).await, 0);
    stage.shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_the_end_of_learning_cuts_what_is_open_with_the_control_plane_dead() {
    let mut stage = Stage::start(&learning(hours(1))).await;
    let open = stage.open_all(&KINDS).await;
    let until = Timestamp::now() + SignedDuration::from_secs(10);
    stage.shop.mesh.apply(&learning(until)).await;
    stage.shop.mesh.control_plane.kill();
    all_live(&open);
    sleep_until(until - SignedDuration::from_millis(700)).await;
    all_live(&open);
    sleep_until(until).await;
    all_end(&open).await;
    for kind in KINDS {
        assert!(stage.try_open(kind).await.is_err(), "{kind:?} passes yet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_an_edit_back_to_strict_cuts_within_its_rollout() {
    let stage = Stage::start(&(learning(hours(1)) + &rule("raw", "raw", ""))).await;
    let ends: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| *kind != Kind::Tunnel)
        .collect();
    let learned = stage.open_all(&ends).await;
    let ruled = stage.open_all(&[Kind::Tunnel]).await;
    stage.shop.mesh.apply(&settings("{mode: strict}")).await;
    all_end(&learned).await;
    all_live(&ruled);
    assert_eq!(
        stage.ports_seen().await,
        ["raw"],
        "it sees no more than it may call"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_restarts_into_learning_without_the_control_plane_and_out_of_it_at_the_end() {
    let mut stage = Stage::start(&learning(hours(1))).await;
    let until = Timestamp::now() + SignedDuration::from_secs(20);
    stage.shop.mesh.apply(&learning(until)).await;
    // The snapshot is written a moment after what it keeps.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.shop.mesh.control_plane.kill();
    stage.shop.api.restart().await;
    stage.shop.api.wait_until_ready().await;
    let open = vec![stage.straight(Kind::Tunnel).await.expect("it learns yet")];
    assert!(Timestamp::now() < until, "the test came too late");
    sleep_until(until).await;
    all_end(&open).await;
    assert!(stage.straight(Kind::Tunnel).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn views_shrink_when_learning_ends() {
    let stage = Stage::start(&learning(hours(1))).await;
    assert_eq!(stage.ports_seen().await, ["http", "rpc", "raw"]);
    let until = Timestamp::now() + SignedDuration::from_secs(3);
    stage.shop.mesh.apply(&learning(until)).await;
    eventually("the view is empty", || async {
        let seen = stage.ports_seen().await;
        if seen.is_empty() { Ok(()) } else { Err(seen) }
    })
    .await;
    assert!(Timestamp::now() >= until);
}

struct Stage {
    shop: Shop,
    _apps: [App; 2],
}

impl Stage {
    async fn start(documents: &str) -> Self {
        let apps = [App::http().await, App::echo().await];
        let ports = [
            ("http", "http", apps[0].address),
            ("rpc", "grpc", apps[0].address),
            ("raw", "tcp", apps[1].address),
        ];
        let keys = json!({"log": {"format": "json", "level": "info", "access": true}});
        Self {
            shop: Shop::start_with(&ports, documents, keys).await,
            _apps: apps,
        }
    }

    /// Through both sidecars.
    async fn try_open(&self, kind: Kind) -> io::Result<Open> {
        let own = self.shop.web.upstream(&target(kind.port()));
        kind.open(TcpStream::connect(own).await?).await
    }

    /// Past web's own.
    async fn straight(&self, kind: Kind) -> io::Result<Open> {
        let name = server_name(kind.port());
        let svid = self.shop.svid();
        let stream = svid.connect(self.shop.api.inbound, &name, kind.alpn());
        kind.open(stream.await?).await
    }

    async fn open_all(&self, kinds: &[Kind]) -> Vec<Open> {
        join_all(
            kinds.iter().map(|kind| {
                eventually_within(LIMIT * 4, "it is served", move || self.try_open(*kind))
            }),
        )
        .await
    }

    /// The ports of the api that web sees.
    async fn ports_seen(&self) -> Vec<String> {
        let view = get(&format!("http://{}/view", self.shop.web.admin)).await;
        let view = view.expect("its admin answers").json();
        let services = view["outbound"].as_array().expect("a list of services");
        let ports = services.iter().flat_map(|service| {
            let ports = service["ports"].as_array().expect("a list of ports");
            ports.iter().map(|port| match port {
                Value::String(name) => name.clone(),
                port => port["name"].as_str().expect("a name").to_owned(),
            })
        });
        ports.collect()
    }
}

fn all_live(open: &[Open]) {
    let ended: Vec<Kind> = (open.iter().filter(|open| open.has_ended()))
        .map(|open| open.kind)
        .collect();
    assert_eq!(ended, [], "ended too early");
}

/// Each must end within a second from now.
async fn all_end(open: &[Open]) {
    let told = Instant::now();
    let left = || -> Vec<Kind> {
        let left = open.iter().filter(|open| !open.has_ended());
        left.map(|open| open.kind).collect()
    };
    while !left().is_empty() && told.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(left(), [], "not cut within a second");
}

async fn sleep_until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

fn hours(hours: i64) -> Timestamp {
    let whole = Timestamp::now() + SignedDuration::from_hours(hours);
    Timestamp::from_second(whole.as_second()).expect("it is a time")
}

pub(super) fn learning(until: Timestamp) -> String {
    settings(&format!("{{mode: learn, learnUntil: {until}}}"))
}

fn settings(spec: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1\nkind: NamespaceSettings\nmetadata: {{name: settings, namespace: shop}}\nspec: {spec}\n"
    )
}

/// An application's connection that waits for its next request is its own: nothing of the mesh is open on it.
const KINDS: [Kind; 4] = [
    Kind::Tunnel,
    Kind::Response("/stream"),
    Kind::WebSocket,
    Kind::Call,
];
const LEARNED: &str = "weft_sidecar_learned_total{reason=\"no_rule\"}";
