//! `apply` does not cut live traffic unasked: what sidecars reported is looked at before anything is changed.

use std::time::SystemTime;

use weft_tests::Mesh;
use weft_tests::documents::{allow, allow_http, service};
use weft_wire::v1;
use weft_wire::v1::flows_client::FlowsClient;

use crate::rows_trust::join;

const TARGET: &str = "shop/api:http";
/// What a terminal takes for it at the beginning of a line.
const END_OF_INPUT: &str = "\u{4}";

/// A mesh in which shop/web called shop/api, as the latter's sidecar tells.
async fn with_traffic() -> Mesh {
    let mesh = Mesh::start().await;
    let documents = service(TARGET, "http") + &allow("web", TARGET, "shop/web");
    mesh.meshctl_with(&["apply", "-f", "-"], &documents)
        .await
        .ok();
    let now = prost_types::Timestamp::from(SystemTime::now());
    let request = v1::FlowRequest {
        method: "GET".to_owned(),
        host: Some(v1::flow_request::Host::NoHost(v1::Any {})),
        path: Some(v1::flow_request::Path::FoldedPath(
            "/orders/{number}".to_owned(),
        )),
        ..Default::default()
    };
    let flow = v1::Flow {
        source: format!("spiffe://{}/ns/shop/sa/web", mesh.trust_domain()),
        service: "shop/api".to_owned(),
        port: "http".to_owned(),
        traffic: Some(v1::flow::Traffic::Request(request)),
        judged: Some(v1::flow::Judged::Allowed("shop/web".to_owned())),
        count: 12,
        first_seen: Some(now),
        last_seen: Some(now),
    };
    let api = join(&mesh, "shop/api").await;
    let report = v1::ReportFlowsRequest {
        run: 1,
        sequence: 1,
        flows: vec![flow],
        loss: None,
    };
    let answer = FlowsClient::new(api.channel(mesh.api)).report(report).await;
    assert_eq!(answer.expect("it is taken").into_inner().accepted, 1);
    mesh
}

async fn is_allowed(mesh: &Mesh) -> bool {
    let asked = ["policy", "explain", "shop/web", TARGET, "GET", "/orders/1"];
    mesh.meshctl(asked).await.code == 0
}

#[tokio::test]
async fn an_apply_that_would_cut_live_traffic_changes_nothing_unless_it_is_meant() {
    let mesh = with_traffic().await;
    let narrower = allow_http("web", TARGET, "shop/web", "{paths: [/health]}");
    for line in [
        &["apply", "-f", "-"][..],
        &["apply", "-f", "-", "--fail-on-deny"],
        &["apply", "-f", "-", "--dry-run", "--fail-on-deny"],
    ] {
        let refused = mesh.meshctl_with(line, &narrower).await;
        assert_eq!(refused.code, 1, "{line:?}: {refused:?}");
        assert!(is_allowed(&mesh).await, "{line:?} changed something");
        let told = format!("{}{}", refused.stdout, refused.stderr);
        for part in [
            "NEWLY DENIED: 1 flow, 12",
            "shop/web → shop/api:http",
            "GET /orders/{number}",
            "shop/web edited",
        ] {
            assert!(told.contains(part), "{part} in:\n{told}");
        }
    }
    let refused = mesh.meshctl_with(&["apply", "-f", "-"], &narrower).await;
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);

    let dry = mesh
        .meshctl_with(&["apply", "-f", "-", "--dry-run", "-o", "json"], &narrower)
        .await
        .ok()
        .json();
    assert_eq!(dry["preview"]["newlyDenied"]["count"], 12);
    let diff = mesh.meshctl_with(&["diff", "-f", "-"], &narrower).await;
    assert_eq!(diff.code, 1);
    assert!(diff.stdout.contains("NEWLY DENIED"), "{}", diff.stdout);

    // what cuts nothing is applied without a question, and what is meant too
    let wider = allow_http("more", TARGET, "shop/web", "{paths: [/health]}");
    mesh.meshctl_with(&["apply", "-f", "-"], &wider).await.ok();
    assert!(is_allowed(&mesh).await);
    mesh.meshctl_with(&["apply", "-f", "-", "--yes"], &narrower)
        .await
        .ok();
    assert!(!is_allowed(&mesh).await);
}

#[tokio::test]
async fn a_person_is_asked_before_live_traffic_is_cut_and_only_yes_is_yes() {
    let mesh = with_traffic().await;
    let narrower = allow_http("web", TARGET, "shop/web", "{paths: [/health]}");
    std::fs::write(mesh.folder().join("narrower.yaml"), narrower).expect("written");
    for (keys, is_yes) in [
        ("n\n", false),
        ("\n", false),
        ("yes please\n", false),
        (END_OF_INPUT, false),
        ("y\n", true),
    ] {
        let mut terminal = mesh.meshctl_on_terminal(&["apply", "-f", "narrower.yaml"]);
        terminal.shows("Apply it? [y/N] ").await;
        assert!(is_allowed(&mesh).await, "{keys:?}: it did not wait");
        terminal.press(keys);
        let (code, screen) = terminal.end().await;
        assert_eq!(code, i32::from(!is_yes), "{keys:?}: {screen}");
        assert!(screen.contains("NEWLY DENIED: 1 flow, 12"), "{screen}");
        let told = screen.contains("nothing was changed");
        assert_eq!(told, !is_yes, "{keys:?}: {screen}");
        assert_eq!(is_allowed(&mesh).await, !is_yes, "{keys:?}: {screen}");
    }
}

#[tokio::test]
async fn a_removed_member_of_a_set_is_looked_at_too() {
    let mesh = with_traffic().await;
    let documents = service(TARGET, "http") + &allow("web", TARGET, "shop/web");
    mesh.meshctl_with(&["apply", "-f", "-", "--set", "shop"], &documents)
        .await
        .ok();
    let without = service(TARGET, "http");
    let line = ["apply", "-f", "-", "--set", "shop", "--prune"];
    let refused = mesh.meshctl_with(&line, &without).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("shop/web removed"), "{refused:?}");
    assert!(is_allowed(&mesh).await);
}

#[tokio::test]
async fn quarantine_and_delete_do_not_ask_and_say_what_they_cut() {
    let mesh = with_traffic().await;
    let preview = [
        "policy",
        "preview",
        "--revoke",
        "shop/web",
        "--fail-on-deny",
    ];
    assert_eq!(mesh.meshctl(preview).await.code, 1);
    let cut = mesh.meshctl(["quarantine", "shop/web"]).await.ok();
    assert!(cut.stderr.contains("this cuts 1 live flow"), "{cut:?}");
    mesh.meshctl(["quarantine", "shop/web", "--lift"])
        .await
        .ok();
    let deleted = mesh.meshctl(["delete", "allow/shop/web"]).await.ok();
    assert!(deleted.stderr.contains("shop/web removed"), "{deleted:?}");
    assert!(!is_allowed(&mesh).await);
}

#[tokio::test]
async fn who_is_revoked_already_is_cut_before_and_after() {
    let mesh = with_traffic().await;
    let narrower = allow_http("web", TARGET, "shop/web", "{paths: [/health]}");
    let wider = allow_http("more", TARGET, "shop/web", "{paths: [/health]}");
    let preview = async |documents: &str, more: &[&str]| {
        let line = [&["policy", "preview", "-f", "-", "--fail-on-deny"], more].concat();
        mesh.meshctl_with(&line, documents).await
    };
    assert_eq!(preview(&narrower, &[]).await.code, 1);

    mesh.meshctl(["identity", "revoke", "shop/web"]).await.ok();
    for more in [&[][..], &["--revoke", "shop/web"]] {
        for documents in [&narrower, &wider] {
            let told = preview(documents, more).await.ok().stdout;
            let unchanged = "unchanged: 1 flow (0 allowed, 1 denied)";
            assert!(told.starts_with(unchanged), "{more:?}: {told}");
        }
    }
    let again = preview(&wider, &["--revoke", "shop/web"]).await.stderr;
    assert!(again.contains("is revoked already"), "{again}");
    // nothing live is cut, so nothing is asked
    mesh.meshctl_with(&["apply", "-f", "-"], &narrower)
        .await
        .ok();

    // lifted, it matters again what the rules say
    mesh.meshctl(["identity", "revoke", "shop/web", "--undo"])
        .await
        .ok();
    let opened = preview(&allow("web", TARGET, "shop/web"), &[]).await.ok();
    assert!(
        opened.stdout.starts_with("NEWLY ALLOWED: 1 flow"),
        "{opened:?}"
    );
}
