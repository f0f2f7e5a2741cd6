//! `policy suggest` and `policy coverage` without a control plane.

use std::path::Path;
use std::process::{Command, Output};

const RULES: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: all, namespace: shop}
spec: {to: {service: api}, from: [\"shop/w*\"]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: old, namespace: shop}
spec: {to: {service: api}, from: [shop/old], http: [{paths: [/old]}]}
";

fn flow(source: &str, method: &str, path: &str, judged: &str) -> String {
    format!(
        r#"{{"source": "spiffe://weft.local/ns/shop/sa/{source}", "target": "shop/api:http",
            "request": {{"method": "{method}", "host": "api.shop", "path": "{path}"}}, {judged}, "count": 3,
            "firstSeen": "2026-11-28T10:00:00Z", "lastSeen": "2026-11-28T11:00:00Z"}}"#
    )
}

fn meshctl(folder: &Path, arguments: &[&str]) -> Output {
    let flows = [
        flow(
            "web",
            "GET",
            "/orders/{number}",
            r#""allowedBy": "shop/all""#,
        ),
        flow("batch", "GET", "/orders/{number}", r#""learned": "noRule""#),
        flow("batch", "PUT", "/orders/{number}", r#""learned": "noRule""#),
        flow("batch", "GET", "/{uuid}", r#""learned": "noRule""#),
        flow("eve", "GET", "/orders/{number}", r#""denied": "noRule""#),
    ];
    let record = format!("{{\"flows\": [{}], \"dropped\": 4}}", flows.join(","));
    std::fs::write(folder.join("flows.json"), record).unwrap();
    std::fs::write(folder.join("rules.yaml"), RULES).unwrap();
    Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("WEFT_CONTEXT")
        .env("HOME", folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const OFFLINE: [&str; 4] = ["-f", "flows.json", "--rules", "rules.yaml"];

#[test]
fn the_answer_is_documents_alone_and_remarks_go_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let suggest: Vec<_> = ["policy", "suggest"].into_iter().chain(OFFLINE).collect();
    let output = meshctl(folder.path(), &suggest);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "# Seen 3 times, first 2026-11-28T10:00:00Z, last 2026-11-28T11:00:00Z, 1 different paths:
#   3 × GET /orders/{number}
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: batch-to-api, namespace: shop}
spec:
  to: {service: api, ports: [http]}
  from: [shop/batch]
  http:
    - methods: [GET]
      paths: [\"/orders/*\"]
---
# Seen 3 times, first 2026-11-28T10:00:00Z, last 2026-11-28T11:00:00Z, 1 different paths:
#   3 × PUT /orders/{number}
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: batch-to-api-write, namespace: shop}
spec:
  to: {service: api, ports: [http]}
  from: [shop/batch]
  http:
    - methods: [PUT]
      paths: [\"/orders/*\"]
"
    );
    let remarks = text(&output.stderr);
    for remark in [
        "4 requests and connections are in no flow",
        "1 flows are allowed by the rules already",
        "1 refused flows are not in it",
        "could not fold 3 × spiffe://weft.local/ns/shop/sa/batch → shop/api:http GET /{uuid}",
    ] {
        assert!(remarks.contains(remark), "{remark}: {remarks}");
    }
    // the documents are read as any others are, and allow what they claim
    std::fs::write(folder.path().join("learned.yaml"), &output.stdout).unwrap();
    let explain = ["policy", "explain", "-f", "learned.yaml", "shop/batch"];
    for (request, code) in [("PUT", 0), ("DELETE", 1)] {
        let asked = ["shop/api:http", request, "/orders/17"];
        let arguments: Vec<_> = explain.into_iter().chain(asked).collect();
        let answer = meshctl(folder.path(), &arguments);
        assert_eq!(answer.status.code(), Some(code), "{}", text(&answer.stderr));
    }
}

#[test]
fn from_scratch_and_refused_flows_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--from-scratch", "--include-denied"];
    let arguments: Vec<_> = ["policy", "suggest"]
        .into_iter()
        .chain(OFFLINE)
        .chain(more)
        .collect();
    let output = text(&meshctl(folder.path(), &arguments).stdout);
    assert!(output.contains("name: many-to-api,"), "{output}");
    assert!(
        output.contains("from: [shop/batch, shop/eve, shop/web]"),
        "{output}"
    );
}

#[test]
fn coverage_shows_what_is_unused_and_what_is_only_broadly_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let coverage: Vec<_> = ["policy", "coverage"].into_iter().chain(OFFLINE).collect();
    let json: Vec<_> = coverage.iter().copied().chain(["-o", "json"]).collect();
    let output = meshctl(folder.path(), &json);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (all, old) = (&report["rules"][0], &report["rules"][1]);
    assert_eq!(report["dropped"], 4);
    assert_eq!((&all["used"], &all["onlyBroad"]), (&3.into(), &3.into()));
    assert_eq!(
        all["broad"],
        serde_json::json!(["source prefix", "no http conditions"])
    );
    assert!(
        all["narrower"][0]
            .as_str()
            .unwrap()
            .contains("from: [shop/web]")
    );
    assert_eq!(old["state"], "unused");
    let people = text(&meshctl(folder.path(), &coverage).stdout);
    assert!(people.contains("# Narrower than shop/all"), "{people}");
}
