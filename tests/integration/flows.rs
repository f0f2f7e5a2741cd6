//! What was judged is in the record: by which rule, folded, without anything secret, after a restart too, and told by none but a party.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_tests::backend::Backend;
use weft_tests::{Mesh, Svid, eventually};
use weft_wire::v1;

use crate::rows_data_path::shop::{LIMIT, Shop, rule, server_name, target};

const SECRET: &str = "sk4eC39HqLyjWDarjtT1zdp7dc";

#[tokio::test(flavor = "multi_thread")]
async fn allowed_and_denied_traffic_is_recorded_folded_and_survives_a_restart() {
    let (http, raw) = (Backend::http().await, Backend::tcp().await);
    let rules = rule(
        "reads-orders",
        "http",
        "{methods: [GET], paths: [/orders/**], headers: [{name: x-tier, exact: gold}]}",
    ) + &rule("reads-v2", "http", "{methods: [GET], paths: [/v2/404]}")
        + &rule("raw", "raw", "");
    let ports = [
        ("http", "http", http.address),
        ("raw", "tcp", raw.address),
        ("shut", "tcp", raw.address),
    ];
    let mut shop = Shop::start(&ports, &rules).await;
    let gold = [("Host", "api.shop"), ("x-tier", "gold")];
    let secret = format!("/orders/17/items?card={SECRET}");
    for path in [secret.as_str(), "/orders/18/items", "/v2/404"] {
        assert_eq!(ask(&shop, "GET", path, &gold).await, 200, "{path}");
    }
    // The client's own sidecar refuses this, and the server's what goes past it.
    let refused = format!("/orders/{SECRET}");
    let other = [("Host", "api.shop"), ("x-tier", SECRET)];
    assert_eq!(ask(&shop, "GET", &refused, &other).await, 403);
    straight(&shop, "POST", &format!("/v2/404?{SECRET}")).await;
    // Bytes: let in, and refused by either side.
    let mut bytes = shop.through("raw").await;
    bytes.write_all(b"hello").await.expect("a connection");
    let mut answer = [0; 5];
    bytes.read_exact(&mut answer).await.expect("an echo");
    let mut shut = shop.through("shut").await;
    let _ = shut.read(&mut answer).await;

    let told = until_told(
        &shop.mesh,
        &[
            "shop/web shop/api:http GET api.shop /orders/{number}/items gold:matched allowed shop/reads-orders 2",
            "shop/web shop/api:http GET api.shop /v2/404 gold:matched allowed shop/reads-v2 1",
            "shop/web shop/api:http GET api.shop /orders/{text} gold:differed denied noRule 1",
            "shop/web shop/api:http POST api.shop /v2/404 gold:absent denied noRule 1",
            "shop/web shop/api:raw allowed shop/raw 1",
            "shop/web shop/api:shut denied noRule 1",
        ],
    )
    .await;

    shop.mesh.restart_control_plane().await;
    assert_eq!(flows(&shop.mesh, &[]).await, told, "after a restart");

    // Filters.
    let count = async |more: &[&str]| flows(&shop.mesh, more).await.len();
    assert_eq!(count(&["--verdict", "denied"]).await, 3);
    assert_eq!(count(&["--verdict", "learned"]).await, 0);
    assert_eq!(count(&["--to", "shop/api:raw"]).await, 1);
    assert_eq!(count(&["--from", "shop/web"]).await, told.len());
    assert_eq!(count(&["--from", "shop/other"]).await, 0);
    assert_eq!(count(&["-n", "shop"]).await, told.len());
    assert_eq!(count(&["-n", "elsewhere"]).await, 0);
    let drawn = shop.mesh.meshctl(["graph", "--verdict", "allowed"]).await;
    let drawn = drawn.ok().stdout;
    assert!(drawn.starts_with("shop/web\n  → shop/api:http"), "{drawn}");

    assert_not_persisted(&shop.mesh);
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_told_yet_is_told_when_a_sidecar_drains() {
    let backend = Backend::http().await;
    let ports = [("http", "http", backend.address)];
    let mut shop = Shop::start(&ports, &rule("reads", "http", "{methods: [GET]}")).await;
    let host = [("Host", "api.shop")];
    let mut lines = Vec::new();
    // What is let in is told by the server's side, what the client's own refuses by that one.
    for (method, status, verdict) in [
        ("GET", 200, "allowed shop/reads"),
        ("POST", 403, "denied noRule"),
    ] {
        let line =
            |path: &str| format!("shop/web shop/api:http {method} api.shop {path} {verdict} 1");
        assert_eq!(ask(&shop, method, "/first", &host).await, status);
        lines.push(line("/first"));
        let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
        until_told(&shop.mesh, &expected).await;
        // It has just reported, and would again in some seconds.
        assert_eq!(ask(&shop, method, "/last", &host).await, status);
        lines.push(line("/last"));
        lines.sort_unstable();
        let draining = match status {
            200 => &mut shop.api.process,
            _ => &mut shop.web.process,
        };
        draining.terminate(LIMIT);
        assert_eq!(flows(&shop.mesh, &[]).await, lines);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_workload_cannot_report_others_flows_or_that_itself_was_let_in() {
    let backend = Backend::http().await;
    let ports = [("http", "http", backend.address)];
    let shop = Shop::start(&ports, &rule("all", "http", "")).await;
    let web = Svid::of_sidecar(&shop.web.runtime);
    let api = Svid::of_sidecar(&shop.api.runtime);
    let id = |workload: &str| {
        format!(
            "spiffe://{}/ns/shop/sa/{workload}",
            shop.mesh.trust_domain()
        )
    };
    let allowed = || v1::flow::Judged::Allowed("shop/all".to_owned());
    let denied = || v1::flow::Judged::Denied(v1::Reason::NoRule.into());
    let reported = [
        (&web, "web", allowed(), 0),
        (&web, "intruder", denied(), 0),
        (&web, "intruder", allowed(), 0),
        (&web, "web", denied(), 1),
        (&api, "intruder", denied(), 1),
    ];
    for (sequence, (svid, source, judged, accepted)) in (1..).zip(reported) {
        let report = v1::ReportFlowsRequest {
            run: 1,
            sequence,
            flows: vec![connection(&id(source), judged.clone())],
            loss: None,
        };
        let channel = svid.channel(shop.mesh.api);
        let mut client = v1::flows_client::FlowsClient::new(channel);
        let answer = client.report(report).await.expect("an answer");
        assert_eq!(
            answer.into_inner().accepted,
            accepted,
            "{source} {judged:?}"
        );
    }
    let told = flows(&shop.mesh, &["--since", "1h"]).await;
    assert!(
        told.iter().all(|flow| !flow.contains("allowed")),
        "nobody was let in: {told:?}"
    );
    // What was refused of a report is told.
    let listed = shop.mesh.meshctl(["flows", "-o", "json"]).await.ok().json();
    assert_eq!(listed["dropped"], 3, "{listed}");
    let warned = shop.mesh.meshctl(["flows"]).await.ok().stderr;
    let said = format!(
        "3 requests and connections are in no flow, 0 are told less exactly (reported by {})",
        id("web")
    );
    assert!(warned.contains(&said), "{warned}");
}

fn connection(source: &str, judged: v1::flow::Judged) -> v1::Flow {
    let now = std::time::SystemTime::now();
    v1::Flow {
        source: source.to_owned(),
        service: "shop/api".to_owned(),
        port: "http".to_owned(),
        traffic: Some(v1::flow::Traffic::Connection(v1::Any {})),
        judged: Some(judged),
        count: 1,
        first_seen: Some(now.into()),
        last_seen: Some(now.into()),
    }
}

async fn ask(shop: &Shop, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let upstream = shop.web.upstream(&target("http"));
    let answer = weft_tests::request(upstream, method, path, headers, b"").await;
    answer.expect("an answer").status
}

/// Past web's own sidecar.
async fn straight(shop: &Shop, method: &str, path: &str) {
    let mut stream = shop.straight("http", "http/1.1").await;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: API.shop:80\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 403"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(server_name("http").starts_with("http.api"));
}

/// Each flow on a line, in order.
async fn flows(mesh: &Mesh, more: &[&str]) -> Vec<String> {
    let arguments = [&["flows", "-o", "json"], more].concat();
    let listed = mesh.meshctl_with(&arguments, "").await.ok().json();
    let flows = listed["flows"].as_array().expect("a list");
    let mut lines: Vec<String> = flows.iter().map(line).collect();
    lines.sort_unstable();
    lines
}

fn line(flow: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let source = text(&flow["source"]);
    let source = source
        .rsplit("/ns/")
        .next()
        .unwrap_or_default()
        .replace("/sa/", "/");
    let mut parts = vec![source, text(&flow["target"])];
    let request = &flow["request"];
    if request.is_object() {
        parts.extend([&request["method"], &request["host"], &request["path"]].map(text));
        for header in request["headers"].as_array().into_iter().flatten() {
            let value = text(&header["condition"]["exact"]);
            parts.push(format!("{value}:{}", text(&header["seen"])));
        }
    }
    for (field, verdict) in [
        ("allowedBy", "allowed"),
        ("learned", "learned"),
        ("denied", "denied"),
    ] {
        if let Some(by) = flow[field].as_str() {
            parts.push(format!("{verdict} {by}"));
        }
    }
    parts.push(flow["count"].to_string());
    parts.join(" ")
}

async fn until_told(mesh: &Mesh, expected: &[&str]) -> Vec<String> {
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    expected.sort_unstable();
    eventually("the flows are told", || async {
        let told = flows(mesh, &[]).await;
        if told == expected {
            Ok(told)
        } else {
            Err(told)
        }
    })
    .await
}

/// Neither the query, nor the value of a header, nor a segment that could be a secret lies anywhere but in a sidecar's own log.
fn assert_not_persisted(mesh: &Mesh) {
    let mut scanned = 0;
    let mut folders = vec![mesh.folder().to_owned(), mesh.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|end| end != "log")
                && let Ok(content) = std::fs::read(&path)
            {
                scanned += usize::from(path.extension().is_some_and(|end| end == "redb"));
                let is_found = memchr::memmem::find(&content, SECRET.as_bytes()).is_some();
                assert!(!is_found, "{}", path.display());
            }
        }
    }
    assert!(scanned > 0, "the store was not scanned");
}
