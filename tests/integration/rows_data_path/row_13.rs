//! Row 13: an address of an endpoint leads to somebody else, as after forged DNS or a reused address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use weft_tests::{Response, Sidecar, SidecarSpec, Svid, request};

use super::apps::App;
use super::shop::{Shop, metric, read_until, rule, target};

#[tokio::test(flavor = "multi_thread")]
async fn row_13_an_address_that_leads_to_another_identity_is_passed_over_and_never_a_denial() {
    let (http, raw) = (App::http().await, App::echo().await);
    let ports = [("http", "http", http.address), ("raw", "tcp", raw.address)];
    let rules = rule("all-http", "http", "") + &rule("all-raw", "raw", "");
    let mut shop = Shop::start(&ports, &rules).await;
    let neighbour = shop
        .mesh
        .sidecar(SidecarSpec::of("shop/neighbour").app(&target("http"), http.address))
        .await;
    let thief = Thief::with(Svid::of_sidecar(&neighbour.runtime)).await;
    let stranger = Thief::with(self_signed()).await;
    let plain = App::says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen").await;
    let taken_over = [
        ("another workload's sidecar", neighbour.inbound),
        ("another workload's SVID", thief.app.address),
        ("nobody's certificate", stranger.app.address),
        ("no TLS at all", plain.address),
    ];
    let mut moved = Vec::new();
    for (name, address) in taken_over {
        moved.push(registered_at(&shop, name, address, [&http, &raw]).await);
    }
    shop.wait_for_endpoints(1 + taken_over.len()).await;

    for round in 0..20 {
        let answer = ask(&shop).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "ok".into()),
            "{round}"
        );
        assert_eq!(
            echoed(&shop).await.as_deref(),
            Some(&b"ping"[..]),
            "{round}"
        );
    }
    let log = shop.web.process.log();
    for (name, address) in taken_over {
        let passed_over = format!("an endpoint is passed over address={address}");
        assert!(log.contains(&passed_over), "{name} was never tried\n{log}");
    }

    shop.api.process.kill();
    for round in 0..5 {
        let answer = ask(&shop).await;
        assert_eq!(answer.status, 503, "{round}: {}", answer.text());
        assert!(!answer.text().contains("decision"), "{}", answer.text());
        assert!(!answer.headers.contains_key("x-weft-decision"));
        assert_eq!(echoed(&shop).await, None, "{round}");
    }
    assert_eq!(metric(&shop.web, "weft_sidecar_refusals_total").await, 0);
    assert!(metric(&shop.web, "weft_sidecar_endpoint_failures_total").await >= 8);
    for thief in [&thief, &stranger] {
        assert!(thief.app.connections() > 0, "it was never dialled");
        assert_eq!(thief.learnt.load(Ordering::SeqCst), 0, "it got bytes");
    }
    let heard = plain.heard();
    assert!(
        !heard
            .windows(4)
            .any(|word| word == b"ping" || word == b"GET ")
    );
    drop(moved);
}

/// A healthy replica of the api whose registered address is no longer its own.
async fn registered_at(
    shop: &Shop,
    name: &str,
    address: SocketAddr,
    [http, raw]: [&App; 2],
) -> Sidecar {
    let inbound = json!({"listen": "127.0.0.1:0", "advertise": address.to_string()});
    let spec = SidecarSpec::of("shop/api")
        .instance(&name.replace([' ', '\''], "-"))
        .app(&target("http"), http.address)
        .app(&target("raw"), raw.address)
        .set("inbound", inbound);
    shop.mesh.sidecar(spec).await
}

async fn ask(shop: &Shop) -> Response {
    let own = shop.web.upstream(&target("http"));
    let answer = request(own, "GET", "/", &[("Host", "api.shop")], b"").await;
    answer.expect("its own sidecar answers")
}

async fn echoed(shop: &Shop) -> Option<Vec<u8>> {
    let mut stream: TcpStream = shop.through("raw").await;
    stream.write_all(b"ping").await.ok()?;
    read_until(&mut stream, b"ping").await.ok()
}

/// Whoever holds a key and a certificate that are good for something else, and counts what it is told.
struct Thief {
    app: App,
    learnt: Arc<AtomicU64>,
}

impl Thief {
    async fn with(svid: Svid) -> Self {
        let learnt: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&learnt);
        let app = App::each(move |socket| {
            let (svid, counted) = (svid.clone(), Arc::clone(&counted));
            async move {
                // It speaks whatever it is asked to speak.
                let mut config = (*svid.server_config("http/1.1")).clone();
                config.alpn_protocols.push(b"weft-tcp".to_vec());
                let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(socket).await
                else {
                    return;
                };
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    counted.fetch_add(read as u64, Ordering::SeqCst);
                }
            }
        })
        .await;
        Self { app, learnt }
    }
}

fn self_signed() -> Svid {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let name = "spiffe://test.example/ns/shop/sa/api"
        .try_into()
        .expect("a URI");
    params.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let certificate = params.self_signed(&key).expect("a certificate");
    Svid {
        chain: vec![certificate.der().clone()],
        key_pkcs8: key.serialize_der(),
    }
}
