//! Row 14: an identity is revoked or put under Quarantine, or its rule goes, while it is connected: whatever is open ends.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use tokio::net::TcpStream;
use weft_tests::{eventually, eventually_within};

use super::apps::App;
use super::learn::learning;
use super::open::{Kind, Open};
use super::shop::{Shop, rule, server_name, target};

#[tokio::test(flavor = "multi_thread")]
async fn row_14_the_servers_side_alone_cuts_everything_open_within_a_second() {
    let stage = Stage::start(&open_rules()).await;
    for (way, cut, undo) in ways("shop/web") {
        let open = stage.open_all(Side::Server, &Kind::ALL).await;
        stage.mesh(&cut).await;
        all_end(way, &open).await;
        for kind in Kind::ALL {
            let again = stage.try_open(Side::Server, kind).await;
            assert!(again.is_err(), "{way}: {kind:?} can be opened again");
        }
        stage.mesh(&undo).await;
    }
    // Given back each time: everything can be opened after the last one too.
    stage.open_all(Side::Server, &Kind::ALL).await;
}

/// The server's sidecar is stopped before the change comes, so that only the client's can cut.
#[tokio::test(flavor = "multi_thread")]
async fn row_14_the_clients_side_alone_cuts_everything_open_within_a_second() {
    let stage = Stage::start(&open_rules()).await;
    // What waits for its next request is the application's own connection: nothing of the server is open on it.
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::KeepAlive)
        .collect();
    for (way, cut, undo) in ways("shop/api") {
        let open = stage.open_all(Side::Client, &kinds).await;
        stage.shop.api.process.signal(Signal::STOP);
        stage.mesh(&cut).await;
        all_end(way, &open).await;
        stage.shop.api.process.signal(Signal::CONT);
        for kind in &kinds {
            let again = stage.try_open(Side::Client, *kind).await;
            assert!(again.is_err(), "{way}: {kind:?} can be opened again");
        }
        stage.mesh(&undo).await;
    }
    stage.open_all(Side::Client, &kinds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_learning_spares_nobody_who_is_revoked_or_under_quarantine() {
    let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
    let stage = Stage::start(&learning(in_an_hour)).await;
    for (way, cut, undo) in ways("shop/web").into_iter().take(2) {
        for side in [Side::Server, Side::Client] {
            let kinds = match side {
                Side::Server => &Kind::ALL[..],
                // What waits for its next request is the application's own connection.
                Side::Client => &[Kind::Tunnel, Kind::Response("/stream"), Kind::WebSocket],
            };
            let open = stage.open_all(side, kinds).await;
            stage.mesh(&cut).await;
            all_end(way, &open).await;
            for kind in kinds {
                let again = stage.try_open(side, *kind).await;
                assert!(again.is_err(), "{way}: {kind:?} can be opened again");
            }
            stage.mesh(&undo).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_removed_rule_ends_what_it_alone_allowed_and_nothing_else() {
    let rules = rule("first", "http", "{paths: [/stream/first, /stream/both]}")
        + &rule("second", "http", "{paths: [/stream/second, /stream/both]}")
        + &rule("raw-first", "raw", "")
        + &rule("raw-second", "raw", "")
        + &rule("rpc-first", "rpc", "");
    let stage = Stage::start(&rules).await;
    let cut = [Kind::Response("/stream/first"), Kind::Call];
    let kept = [
        Kind::Response("/stream/second"),
        Kind::Response("/stream/both"),
        Kind::Tunnel,
    ];
    for side in [Side::Server, Side::Client] {
        let (ends, goes_on) = (
            stage.open_all(side, &cut).await,
            stage.open_all(side, &kept).await,
        );
        let firsts = [
            "allow/shop/first",
            "allow/shop/raw-first",
            "allow/shop/rpc-first",
        ];
        stage.mesh(&[&["delete"][..], &firsts].concat()).await;
        all_end("the rule went", &ends).await;
        let before: Vec<u64> = goes_on.iter().map(Open::heard).collect();
        eventually("the others go on", || async {
            for (open, before) in goes_on.iter().zip(&before) {
                let moves = matches!(open.kind, Kind::Response(_));
                if open.has_ended() || moves && open.heard() <= *before {
                    return Err(open.kind);
                }
            }
            Ok(())
        })
        .await;
        stage.shop.mesh.apply(&rules).await;
    }
}

/// What is done to the workload, in words and in arguments, and how it is undone.
type Way = (&'static str, Vec<&'static str>, Vec<&'static str>);

fn ways(workload: &'static str) -> [Way; 3] {
    let rules = ["allow/shop/raw", "allow/shop/http", "allow/shop/rpc"];
    [
        (
            "revoked",
            vec!["identity", "revoke", workload],
            vec!["identity", "revoke", workload, "--undo"],
        ),
        (
            "under Quarantine",
            vec!["quarantine", workload],
            vec!["quarantine", workload, "--lift"],
        ),
        (
            "its rules went",
            [&["delete"][..], &rules].concat(),
            // Applied again from the standard input.
            vec!["apply", "-f", "-"],
        ),
    ]
}

fn open_rules() -> String {
    rule("raw", "raw", "")
        + &rule(
            "http",
            "http",
            "{paths: [/**], upgrades: [websocket]}, {paths: [/**]}",
        )
        + &rule("rpc", "rpc", "")
}

/// Which sidecars a connection goes through.
#[derive(Clone, Copy)]
enum Side {
    /// The server's alone.
    Server,
    /// Both; the client's is the one under test.
    Client,
}

struct Stage {
    shop: Shop,
    _apps: [App; 2],
}

impl Stage {
    async fn start(rules: &str) -> Self {
        let apps = [App::http().await, App::echo().await];
        let ports = [
            ("http", "http", apps[0].address),
            ("rpc", "grpc", apps[0].address),
            ("raw", "tcp", apps[1].address),
        ];
        Self {
            shop: Shop::start(&ports, rules).await,
            _apps: apps,
        }
    }

    async fn mesh(&self, arguments: &[&str]) {
        self.shop
            .mesh
            .meshctl_with(arguments, &open_rules())
            .await
            .ok();
    }

    async fn try_open(&self, side: Side, kind: Kind) -> io::Result<Open> {
        match side {
            Side::Server => {
                let svid = self.shop.svid();
                let name = server_name(kind.port());
                let stream = svid.connect(self.shop.api.inbound, &name, kind.alpn());
                kind.open(stream.await?).await
            }
            Side::Client => {
                let own = self.shop.web.upstream(&target(kind.port()));
                kind.open(TcpStream::connect(own).await?).await
            }
        }
    }

    /// Tries until each is open: what was forbidden may just have been given back, and whoever was turned away by the control
    /// plane comes again later and later.
    async fn open_all(&self, side: Side, kinds: &[Kind]) -> Vec<Open> {
        let limit = Duration::from_secs(60);
        join_all(kinds.iter().map(|kind| {
            eventually_within(limit, "it is served", move || self.try_open(side, *kind))
        }))
        .await
    }
}

/// Each must end within a second of the command that ends it; that it had not ended before is part of the claim.
async fn all_end(way: &str, open: &[Open]) {
    let told = Instant::now();
    let left = || -> Vec<Kind> {
        let left = open.iter().filter(|open| !open.has_ended());
        left.map(|open| open.kind).collect()
    };
    while !left().is_empty() && told.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(left(), [], "{way}: not cut within a second");
}
