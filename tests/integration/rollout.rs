//! A change is acknowledged, not assumed: `apply --wait`, its speed, a sidecar that is silent, and applying twice.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use weft_tests::documents::{allow, allow_http, service};
use weft_tests::{Mesh, SidecarSpec};

#[tokio::test]
async fn an_edit_is_enforced_by_all_affected_sidecars_within_fifty_milliseconds() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("shop/api:http", "http")).await;
    let _web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let _api = mesh.sidecar(SidecarSpec::of("shop/api")).await;
    let _other = mesh.sidecar(SidecarSpec::of("shop/other")).await;

    let mut took = Vec::new();
    for edit in 0..50 {
        let rule = allow_http(
            "web",
            "shop/api:http",
            "shop/web",
            &format!("{{paths: [\"/edit/{edit}\"]}}"),
        );
        let began = Instant::now();
        let ran = mesh.apply(&rule).await;
        took.push((enforced_in(&ran.stdout), began.elapsed()));
        assert!(
            ran.stdout.contains("2/2"),
            "web and api are affected, nobody else: {}",
            ran.stdout
        );
    }
    took.sort();
    let (median, whole_command) = took[took.len() / 2];
    println!("median of 50 edits: enforced in {median:?} (the whole command: {whole_command:?})");
    assert!(median < Duration::from_millis(50), "{took:?}");
}

#[tokio::test]
async fn a_silent_sidecar_is_named_at_the_timeout() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("shop/api:http", "http")).await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").instance("web-7"))
        .await;
    let _api = mesh.sidecar(SidecarSpec::of("shop/api")).await;
    web.process.signal(Signal::STOP);
    let rule = allow("web", "shop/api:http", "shop/web");
    let ran = mesh
        .meshctl_with(&["apply", "-f", "-", "--wait", "--timeout", "2s"], &rule)
        .await;
    web.process.signal(Signal::CONT);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout.contains("1/2") && ran.stdout.contains("web-7"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn applying_again_names_who_was_silent_the_first_time() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("shop/api:http", "http")).await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").instance("web-7"))
        .await;
    let _api = mesh.sidecar(SidecarSpec::of("shop/api")).await;
    web.process.signal(Signal::STOP);
    let rule = allow("web", "shop/api:http", "shop/web");
    let apply = async |timeout| {
        let arguments = ["apply", "-f", "-", "--wait", "--timeout", timeout];
        mesh.meshctl_with(&arguments, &rule).await
    };
    assert_eq!(apply("1s").await.code, 1);
    // Somebody else's revision, of which web sees nothing.
    let unrelated = allow("other", "shop/other:http", "shop/other");
    mesh.meshctl_with(&["apply", "-f", "-"], &unrelated)
        .await
        .ok();
    let again = apply("1s").await;
    web.process.signal(Signal::CONT);
    assert!(again.stdout.contains("unchanged"), "{again:?}");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stdout.contains("web-7"), "{again:?}");
    let heard = apply("10s").await.ok();
    assert!(heard.stdout.contains("unchanged"), "{heard:?}");
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_says_so() {
    let mesh = Mesh::start().await;
    let documents = service("shop/api:http", "http") + &allow("web", "shop/api:http", "shop/web");
    let first = mesh
        .meshctl_with(&["apply", "-f", "-"], &documents)
        .await
        .ok();
    assert!(first.stdout.contains("created"), "{}", first.stdout);
    assert_eq!(
        mesh.meshctl_with(&["diff", "-f", "-"], &documents)
            .await
            .code,
        0
    );
    let before = revision(&mesh).await;
    let second = mesh
        .meshctl_with(&["apply", "-f", "-"], &documents)
        .await
        .ok();
    assert!(
        second.stdout.contains("unchanged") && !second.stdout.contains("updated"),
        "{}",
        second.stdout
    );
    assert_eq!(revision(&mesh).await, before, "no revision was made");
    let edited = documents.replace("shop/web", "shop/webs");
    let diff = mesh.meshctl_with(&["diff", "-f", "-"], &edited).await;
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(
        diff.stdout.contains("+") && diff.stdout.contains("shop/webs"),
        "{}",
        diff.stdout
    );
}

#[tokio::test]
async fn pruning_touches_only_its_own_set() {
    let mesh = Mesh::start().await;
    let (a, b) = (
        allow("a", "shop/api:http", "shop/web"),
        allow("b", "shop/api:http", "shop/web"),
    );
    mesh.meshctl_with(&["apply", "-f", "-"], &service("shop/api:http", "http"))
        .await
        .ok();
    mesh.meshctl_with(&["apply", "-f", "-", "--set", "one"], &format!("{a}{b}"))
        .await
        .ok();
    mesh.meshctl_with(
        &["apply", "-f", "-", "--set", "two"],
        &allow("c", "shop/api:http", "shop/web"),
    )
    .await
    .ok();
    let pruned = mesh
        .meshctl_with(&["apply", "-f", "-", "--set", "one", "--prune"], &a)
        .await
        .ok();
    assert!(pruned.stdout.contains("deleted"), "{}", pruned.stdout);
    let left = mesh
        .meshctl(["get", "allow", "-n", "shop", "-o", "json"])
        .await
        .ok()
        .stdout;
    assert!(
        left.contains("\"a\"") && left.contains("\"c\"") && !left.contains("\"b\""),
        "{left}"
    );
}

async fn revision(mesh: &Mesh) -> u64 {
    let sidecars = mesh.meshctl(["sidecars", "-o", "json"]).await.ok().json();
    sidecars["revision"].as_u64().expect("a revision")
}

/// The time in "enforced by 2/2 sidecars in 12 ms".
fn enforced_in(told: &str) -> Duration {
    let time = told
        .split(" in ")
        .nth(1)
        .unwrap_or_else(|| panic!("no time in {told}"));
    let number: f64 = time
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no number in {told}"));
    Duration::from_secs_f64(number / 1000.0)
}
