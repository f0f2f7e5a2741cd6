//! Row 3: a server name or a `Host` that names a service which the endpoint or the rule does not cover.

use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, Recorder, SidecarSpec};

use super::attack::{HTTP, Shop, WAYS, Way, exchange, get_http2, http2, status, straight};
use crate::rows_trust::join;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
/// No name at all: TLS has no place for an address.
const NO_NAME: &str = "127.0.0.1";

/// web may call all of api, and orders; nothing lets it call admin.
fn rules() -> String {
    [
        "shop/api:http",
        "shop/api:h2",
        "shop/api:raw",
        "shop/orders:http",
    ]
    .map(|target| {
        let name = target
            .split_once('/')
            .expect("a namespace")
            .1
            .replace(':', "-");
        allow(&name, target, "shop/web")
    })
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_a_server_name_that_the_endpoint_or_the_rule_does_not_cover_is_refused() {
    let shop = Shop::open(&rules()).await;
    let probes = shop.raw.count();
    let names = [
        (
            "a service that the workload does not offer",
            "http.orders.shop.test.example",
        ),
        (
            "a service that nobody has declared",
            "http.nothing.shop.test.example",
        ),
        ("another namespace", "http.api.other.test.example"),
        (
            "an offered service that no rule covers",
            "http.admin.shop.test.example",
        ),
        ("an undeclared port", "ssh.api.shop.test.example"),
        ("a port by its number", "8080.api.shop.test.example"),
        ("another trust domain", "http.api.shop.other.example"),
        ("no port", "api.shop.test.example"),
        ("a label too many", "a.http.api.shop.test.example"),
        ("an outside name", "example.com"),
        ("no name, where there are several", NO_NAME),
    ];
    for (what, name) in names {
        let answer = straight(&shop.svid, shop.api.inbound, name, REQUEST).await;
        assert_eq!(
            status(&answer),
            Some(403),
            "{what}: {:?}",
            String::from_utf8_lossy(&answer)
        );
        let stream = shop.svid.connect(shop.api.inbound, name, "h2").await;
        let mut sender = http2(stream.expect("a good handshake")).await;
        assert_eq!(
            get_http2(&mut sender, "http://api.shop/", None).await,
            403,
            "{what}"
        );
        let stream = shop.svid.connect(shop.api.inbound, name, "weft-tcp").await;
        assert_eq!(
            exchange(stream.expect("a good handshake"), b"\0bytes").await,
            b"",
            "{what}"
        );
    }
    assert_eq!(shop.http.text(), "");
    assert_eq!((shop.h2.count(), shop.raw.count()), (0, probes));
    let answer = straight(&shop.svid, shop.api.inbound, HTTP, REQUEST).await;
    assert_eq!(status(&answer), Some(200), "its own name");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_an_offered_service_that_no_rule_covers_answers_like_one_that_does_not_exist() {
    let shop = Shop::open(&rules()).await;
    let hosts = ["admin.shop", "nothing.shop", "api.shop", "example.com"];
    let mut requests = hosts.map(with_host).to_vec();
    requests.push(b"GET /a/../b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec());
    requests.push(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec());
    for request in requests {
        let mut answers = Vec::new();
        for service in ["admin", "nothing"] {
            let name = format!("http.{service}.shop.test.example");
            let answer = straight(&shop.svid, shop.api.inbound, &name, &request).await;
            answers.push(without_decision(&answer));
        }
        let request = String::from_utf8_lossy(&request);
        assert_eq!(answers[0], answers[1], "{request}");
        assert!(!answers[0].starts_with("HTTP/1.1 421"), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_without_a_server_name_the_only_port_of_a_workload_is_meant() {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("shop/one:http", "http") + &allow("one", "shop/one:http", "shop/web")))
        .await;
    let backend = Recorder::start().await;
    let one = SidecarSpec::of("shop/one")
        .app("shop/one:http", backend.address)
        .app("shop/two:http", backend.address);
    let one = mesh.sidecar(one).await;
    let (web, other) = (
        join(&mesh, "shop/web").await,
        join(&mesh, "shop/other").await,
    );
    let answer = straight(&web, one.inbound, NO_NAME, REQUEST).await;
    assert_eq!(status(&answer), Some(200));
    assert_eq!(backend.requests(), 1);
    // It is a target like any other: rules hold for it.
    let answer = straight(&other, one.inbound, NO_NAME, REQUEST).await;
    assert_eq!(status(&answer), Some(403));

    // A second service, which web may call as well, and it could be either.
    let two = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: two, namespace: shop}\n\
         spec: {workloads: [shop/one], ports: [{name: http, port: 80, targetPort: 8080, protocol: http}]}\n";
    mesh.apply(&(two.to_owned() + &allow("two", "shop/two:http", "shop/web")))
        .await;
    let answer = straight(&web, one.inbound, NO_NAME, REQUEST).await;
    assert_eq!(status(&answer), Some(403));
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_a_host_of_another_service_is_misdirected_and_any_other_passes_unchanged() {
    let shop = Shop::open(&rules()).await;
    for way in WAYS {
        for host in MISDIRECTED {
            let answer = shop.send(way, &with_host(host)).await;
            assert_eq!(status(&answer), Some(421), "{host} {way:?}");
            // The same in the request's target.
            let absolute =
                format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = shop.send(way, absolute.as_bytes()).await;
            assert_eq!(status(&answer), Some(421), "http://{host}/ {way:?}");
        }
        assert_eq!(shop.http.text(), "", "{way:?}");
        for host in UNCHANGED {
            let answer = shop.send(way, &with_host(host)).await;
            assert_eq!(status(&answer), Some(200), "{host} {way:?}");
            let heard = shop.http.text();
            let line = format!("\r\nHost: {host}\r\n");
            assert!(heard.contains(&line), "{host} {way:?}: {heard}");
            shop.http.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_an_authority_of_another_service_is_misdirected_over_http2_too() {
    let shop = Shop::open(&rules()).await;
    for way in WAYS {
        let (mut sender, before) = (shop.http2(way, "h2").await, shop.h2.count());
        for host in MISDIRECTED {
            let uri = format!("http://{host}/");
            assert_eq!(
                get_http2(&mut sender, &uri, None).await,
                421,
                "{host} {way:?}"
            );
        }
        // One name in the authority, another in `Host`.
        for host in ["example.com", "admin.shop"] {
            let code = get_http2(&mut sender, "http://api.shop/", Some(host)).await;
            assert_eq!(code, 400, "{host} {way:?}");
        }
        assert_eq!(shop.h2.count(), before, "{way:?}");
        for host in UNCHANGED {
            let uri = format!("http://{host}/");
            assert_eq!(
                get_http2(&mut sender, &uri, None).await,
                200,
                "{host} {way:?}"
            );
            assert_eq!(shop.h2.last().target, uri, "{way:?}");
        }
    }
    // HTTP/2 that becomes HTTP/1.1 on its way to the application.
    let mut sender = shop.http2(Way::Straight, "http").await;
    assert_eq!(
        get_http2(&mut sender, "http://admin.shop/", None).await,
        421
    );
    assert_eq!(shop.http.text(), "");
    assert_eq!(
        get_http2(&mut sender, "http://example.com/", None).await,
        200
    );
    assert!(
        shop.http
            .text()
            .to_ascii_lowercase()
            .contains("\r\nhost: example.com\r\n")
    );
}

/// Spellings of services that are not the API.
const MISDIRECTED: [&str; 8] = [
    "admin.shop",
    "ADMIN.Shop:80",
    "admin.shop.",
    "admin.shop.test.example",
    "Admin.shop.TEST.example.:443",
    "orders.shop",
    "nothing.shop",
    "api.other.test.example",
];

/// The API itself in any spelling, and what is no name of the mesh.
const UNCHANGED: [&str; 9] = [
    "api.shop",
    "API.shop:80",
    "api.shop.test.example",
    "example.com",
    "admin.example.com:8080",
    "localhost",
    "admin",
    "127.0.0.1:9",
    "[::1]:80",
];

/// Each refusal has an id of its own.
fn without_decision(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer).into_owned();
    let id = text
        .split("x-weft-decision: ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    text.replace(id.expect("a decision"), "ID")
}

fn with_host(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}
