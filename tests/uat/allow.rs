//! `meshctl allow`: a rule in one line that ends by itself, found again by the same command.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use weft_tests::Mesh;

const SERVICE: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
";

async fn mesh() -> Mesh {
    let mesh = Mesh::start().await;
    mesh.meshctl_with(&["apply", "-f", "-"], SERVICE).await.ok();
    mesh
}

async fn rule(mesh: &Mesh, name: &str) -> Value {
    let key = format!("allow/shop/{name}");
    mesh.meshctl(["get", &key, "-o", "json"]).await.ok().json()
}

fn ends(rule: &Value) -> Timestamp {
    let text = rule["resource"]["spec"]["expires"].as_str();
    text.expect("an end").parse().expect("a time")
}

#[tokio::test]
async fn one_line_lets_one_source_in_and_the_same_line_again_only_moves_the_end() {
    let mesh = mesh().await;
    let line = [
        "allow",
        "shop/web",
        "shop/api:http",
        "--methods",
        "GET,HEAD",
        "--paths",
        "/orders/**",
        "--for",
        "2h",
    ];
    let made = mesh.meshctl(line).await.ok().stdout;
    for part in [
        "kind: Allow",
        "name: web-to-api",
        "Allow/shop/web-to-api created",
        "`meshctl delete allow/shop/web-to-api`",
    ] {
        assert!(made.contains(part), "{part} in:\n{made}");
    }
    let explained = |path: &'static str| {
        let asked = [
            "policy",
            "explain",
            "shop/web",
            "shop/api:http",
            "GET",
            path,
        ];
        let mesh = &mesh;
        async move { mesh.meshctl(asked).await.code }
    };
    assert_eq!(explained("/orders/1").await, 0);
    assert_eq!(explained("/admin").await, 1);

    let first = rule(&mesh, "web-to-api").await;
    let left = ends(&first).duration_since(Timestamp::now());
    assert!(left > SignedDuration::from_mins(119) && left < SignedDuration::from_mins(121));

    // a shorter wish takes nothing away, a longer one is granted
    let mut shorter = line;
    shorter[8] = "1h";
    let kept = mesh.meshctl(shorter).await.ok().stdout;
    assert!(kept.contains("Allow/shop/web-to-api unchanged"), "{kept}");
    assert_eq!(ends(&rule(&mesh, "web-to-api").await), ends(&first));
    let mut longer = line;
    longer[8] = "3d";
    let moved = mesh.meshctl(longer).await.ok().stdout;
    assert!(moved.contains("Allow/shop/web-to-api updated"), "{moved}");
    assert!(ends(&rule(&mesh, "web-to-api").await) > ends(&first));

    // what grants something else has another name
    let other = ["allow", "shop/web", "shop/api", "--forever", "-o", "json"];
    let other = mesh.meshctl(other).await.ok().json();
    assert_eq!(other["changes"][0]["name"], "web-to-api-2");
    let second = rule(&mesh, "web-to-api-2").await;
    assert_eq!(second["resource"]["spec"]["expires"], Value::Null);
    mesh.audited("apply", "ok", &["Allow/shop/web-to-api-2"])
        .await;
}

#[tokio::test]
async fn what_is_not_said_clearly_or_has_a_taken_name_changes_nothing() {
    let mesh = mesh().await;
    for (code, line) in [
        (2, &["allow", "shop/web", "shop/api"][..]),
        (
            2,
            &["allow", "shop/web", "shop/api", "--for", "2h", "--forever"],
        ),
        (2, &["allow", "shop/web", "api", "--for", "2h"]),
        (2, &["allow", "web", "shop/api", "--for", "2h"]),
        (2, &["allow", "shop/web", "shop/api", "--for", "0s"]),
        (
            2,
            &[
                "allow",
                "shop/web",
                "shop/api",
                "--for",
                "2h",
                "--methods",
                "get",
            ],
        ),
        (
            0,
            &["allow", "shop/web", "shop/api", "--for", "2h", "--dry-run"],
        ),
    ] {
        let ran = mesh.meshctl_with(line, "").await;
        assert_eq!(ran.code, code, "{line:?}: {ran:?}");
    }
    let rules = mesh
        .meshctl(["get", "allow", "-o", "json"])
        .await
        .ok()
        .stdout;
    assert!(!rules.contains("web-to-api"), "{rules}");

    let named = [
        "allow", "shop/web", "shop/api", "--for", "2h", "--name", "night",
    ];
    mesh.meshctl(named).await.ok();
    let mut taken = named;
    taken[1] = "shop/batch";
    let refused = mesh.meshctl(taken).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("Allow/shop/night exists"),
        "{}",
        refused.stderr
    );
    let check = mesh.meshctl(["check"]).await.ok().stdout;
    assert!(check.contains("Allow/shop/night expires in "), "{check}");
}
