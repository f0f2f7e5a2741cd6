//! `policy preview` without a control plane: what it prints, to the letter.

use std::path::Path;
use std::process::{Command, Output};

const NOW: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}, {name: raw, port: 81, protocol: tcp}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec: {to: {service: api, ports: [http]}, from: [shop/web], http: [{paths: [\"/orders/**\", /health]}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: raw, namespace: shop}
spec: {to: {service: api, ports: [raw]}, from: [shop/web]}
";

const THEN: &str = "\
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec: {to: {service: api, ports: [http]}, from: [shop/web, shop/batch], http: [{methods: [GET], paths: [\"/orders/1*\", /health, /orders/list]}]}
";

fn flow(source: &str, traffic: &str, judged: &str, count: u32) -> String {
    format!(
        r#"{{"source": "spiffe://weft.local/ns/shop/sa/{source}", {traffic}, {judged}, "count": {count},
            "firstSeen": "2026-11-28T10:00:00Z", "lastSeen": "2026-11-28T11:00:00Z"}}"#
    )
}

fn http(method: &str, path: &str) -> String {
    format!(
        r#""target": "shop/api:http", "request": {{"method": "{method}", "host": "api.shop", "path": "{path}"}}"#
    )
}

fn preview(folder: &Path, more: &[&str]) -> Output {
    let allowed = r#""allowedBy": "shop/web""#;
    let denied = r#""denied": "noRule""#;
    let flows = [
        flow("web", &http("GET", "/orders/{number}"), allowed, 4200),
        flow("web", &http("GET", "/orders/list"), allowed, 10),
        flow("web", &http("POST", "/orders/list"), allowed, 3),
        flow("web", &http("GET", "/orders/"), allowed, 1),
        flow("batch", &http("GET", "/health"), denied, 5),
        flow("batch", &http("GET", "/admin"), denied, 5),
        flow(
            "web",
            r#""target": "shop/api:raw""#,
            r#""allowedBy": "shop/raw""#,
            2,
        ),
    ];
    let record = format!("{{\"flows\": [{}], \"folded\": 1}}", flows.join(","));
    for (name, text) in [
        ("flows.json", record.as_str()),
        ("now.yaml", NOW),
        ("then.yaml", THEN),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let files = [
        "--flows",
        "flows.json",
        "--against",
        "now.yaml",
        "-f",
        "then.yaml",
    ];
    Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(["policy", "preview"])
        .args(files)
        .args(more)
        .env_remove("WEFT_CONTEXT")
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn what_changes_is_grouped_by_caller_and_service_with_what_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let told = preview(folder.path(), &[]);
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "\
NEWLY DENIED: 2 flows, 4 requests or connections
  shop/web → shop/api:http
    POST /orders/list   3   2026-11-28T11:00:00Z   shop/web edited
    GET /orders/        1   2026-11-28T11:00:00Z   shop/web edited
UNKNOWN: 1 flow, 4200 requests or connections
  shop/web → shop/api:http
    GET /orders/{number}   4200   2026-11-28T11:00:00Z   shop/web edited; unknown: path of shop/web: paths are recorded by their shape
NEWLY ALLOWED: 1 flow, 5 requests or connections
  shop/batch → shop/api:http
    GET /health   5   2026-11-28T11:00:00Z   shop/web edited
unchanged: 3 flows (2 allowed, 1 denied)
record: 1 request is told less exactly than it came
",
        "{told:?}"
    );
    assert_eq!(told.status.code(), Some(0));
}

#[test]
fn a_pipeline_is_stopped_by_what_is_cut_and_by_what_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let told = preview(folder.path(), &["--fail-on-deny", "-o", "json"]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["mayCut"], true);
    assert_eq!(told["unknown"]["lines"][0]["mayCut"], true);
    assert_eq!(
        told["newlyDenied"]["lines"][0]["before"],
        "allowed by shop/web"
    );
    assert_eq!(told["newlyDenied"]["lines"][0]["after"], "denied: noRule");
    assert_eq!(told["record"]["folded"], 1);
}
