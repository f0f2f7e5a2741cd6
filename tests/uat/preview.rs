//! `meshctl policy preview` with traffic from a file: what an edit would cut, and its exit codes.

use std::path::Path;

use weft_tests::Mesh;

const MESH: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec: {to: {service: api, ports: [http]}, from: [shop/web], http: [{paths: [\"/orders/**\", /health]}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: night, namespace: shop}
spec: {to: {service: api}, from: [shop/batch], expires: 2099-01-01T00:00:00Z}
";

fn flow(source: &str, path: &str, count: u32) -> String {
    format!(
        r#"{{"source": "spiffe://test.example/ns/shop/sa/{source}", "target": "shop/api:http",
            "request": {{"method": "GET", "host": "api.shop", "path": "{path}"}}, "allowedBy": "shop/web", "count": {count},
            "firstSeen": "2026-11-28T10:00:00Z", "lastSeen": "2026-11-28T11:00:00Z"}}"#
    )
}

fn traffic(folder: &Path) -> String {
    let flows = [
        flow("web", "/orders/{number}", 4200),
        flow("web", "/health", 7),
        flow("batch", "/orders/{number}", 30),
    ];
    let file = folder.join("flows.json");
    let text = format!("{{\"flows\": [{}], \"dropped\": 3}}", flows.join(","));
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[tokio::test]
async fn a_preview_says_what_an_edit_cuts_and_what_the_record_cannot_tell() {
    let mesh = Mesh::start().await;
    mesh.meshctl_with(&["apply", "-f", "-"], MESH).await.ok();
    let flows = traffic(mesh.folder());
    let preview = |more: &[&str], edit: &str| {
        let mut line = vec!["policy", "preview", "--flows", &flows];
        line.extend(more);
        let (line, edit) = (
            line.into_iter().map(str::to_owned).collect::<Vec<_>>(),
            edit.to_owned(),
        );
        let mesh = &mesh;
        async move {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            mesh.meshctl_with(&line, &edit).await
        }
    };
    let narrower = MESH.replace("[\"/orders/**\", /health]", "[\"/orders/17\", /health]");
    let told = preview(&["-f", "-"], &narrower).await.ok().stdout;
    assert_eq!(
        told,
        "\
UNKNOWN: 1 flow, 4200 requests or connections
  shop/web → shop/api:http
    GET /orders/{number}   4200   2026-11-28T11:00:00Z   shop/web edited; unknown: path of shop/web: paths are recorded by their shape
unchanged: 2 flows (2 allowed, 0 denied)
record: it is incomplete: 3 requests or connections are in no flow
"
    );
    let fails = preview(&["-f", "-", "--fail-on-deny"], &narrower).await;
    assert_eq!(fails.code, 1, "what is unknown counts as denied");

    let same = preview(&["-f", "-", "--fail-on-deny"], MESH).await;
    assert_eq!(same.code, 0, "{same:?}");

    let deleted = preview(&["--delete", "allow/shop/web", "-o", "json"], "")
        .await
        .ok()
        .json();
    assert_eq!(deleted["mayCut"], true);
    assert_eq!(deleted["newlyDenied"]["flows"], 2);
    assert_eq!(deleted["newlyDenied"]["count"], 4207);
    assert_eq!(
        deleted["newlyDenied"]["lines"][0]["because"][0],
        "shop/web removed"
    );

    let later = preview(&["--at", "2099-01-01T00:00:00Z"], "")
        .await
        .ok()
        .stdout;
    assert!(
        later.contains("shop/night expires at 2099-01-01T00:00:00Z"),
        "{later}"
    );

    let revoked = preview(&["--revoke", "shop/web", "--fail-on-deny"], "").await;
    assert_eq!(revoked.code, 1, "{revoked:?}");
    assert!(revoked.stdout.contains("the source revoked"), "{revoked:?}");

    let quarantine = "apiVersion: weft.dev/v1\nkind: Quarantine\nmetadata: {name: cut, namespace: shop}\nspec: {workload: shop/api}\n";
    let cut = preview(&["-f", "-"], quarantine).await.ok().stdout;
    assert!(cut.starts_with("NEWLY DENIED: 3 flows"), "{cut}");
    assert!(cut.contains("shop/api quarantined"), "{cut}");

    for wrong in [
        &[][..],
        &["-f", "missing.yaml"],
        &["--delete", "web"],
        &["--at", "soon"],
    ] {
        assert_eq!(preview(wrong, "").await.code, 2, "{wrong:?}");
    }
}
