//! Row 15: line ends, escape sequences and bytes that are no text, in whatever a peer chooses and somebody reads later.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use weft_tests::{Ran, Svid, eventually, frames};
use weft_wire::v1;
use weft_wire::v1::decisions_client::DecisionsClient;
use weft_wire::v1::registration_client::RegistrationClient;

use super::apps::App;
use super::open::Io;
use super::row_12::client_hello;
use super::shop::{Shop, exchange, read_until, rule};

#[tokio::test(flavor = "multi_thread")]
async fn row_15_no_line_of_a_text_log_can_be_forged() {
    let mut stage = Stage::start("text").await;
    stage.attack().await;
    for log in stage.logs().await {
        for line in log.lines() {
            assert_printable(line);
            // Every line begins with the time, and the level comes second.
            let mut words = line.split_whitespace();
            let time = words
                .next()
                .and_then(|word| word.parse::<jiff::Timestamp>().ok());
            let level = words.next().unwrap_or_default();
            let is_ours = time.is_some() && ["DEBUG", "INFO", "WARN", "ERROR"].contains(&level);
            assert!(is_ours, "a forged line: {line:?}");
        }
    }
    stage.shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_no_line_of_a_json_log_can_be_forged() {
    let mut stage = Stage::start("json").await;
    stage.attack().await;
    for log in stage.logs().await {
        for line in log.lines() {
            assert_printable(line);
            let event: Result<Value, _> = serde_json::from_str(line);
            let event = event.unwrap_or_else(|error| panic!("{error}: {line:?}"));
            assert!(
                event["timestamp"].is_string() && event["forged"].is_null(),
                "{line}"
            );
        }
    }
    stage.shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_operators_are_shown_no_control_character_that_a_peer_chose() {
    let stage = Stage::start("text").await;
    let mut ids = stage.attack().await;
    assert!(ids.len() >= 3, "{ids:?}");
    // A workload's own SVID may report whatever it likes to have been refused.
    ids.insert(report(&stage.shop).await);
    for id in &ids {
        let why = eventually("the decision is known", || async {
            let ran = stage.shop.mesh.meshctl(["why", id]).await;
            if ran.code == 0 { Ok(ran) } else { Err(ran) }
        })
        .await;
        assert_shown_safely(&why);
        let told = stage
            .shop
            .mesh
            .meshctl(["why", id, "-o", "json"])
            .await
            .ok();
        assert_shown_safely(&told);
        told.json();
    }
    let whole = stage.shop.mesh.meshctl(["why", REPORTED]).await.ok().stdout;
    assert!(
        whole.contains("forged"),
        "what was reported is shown, escaped: {whole}"
    );

    register(&stage.shop).await;
    for arguments in [
        &["audit", "tail"][..],
        &["sidecars"],
        &["endpoints"],
        &["services"],
        &["identity", "list"],
    ] {
        let ran = stage.shop.mesh.meshctl_with(arguments, "").await.ok();
        assert_shown_safely(&ran);
    }
    for sidecar in [&stage.shop.api, &stage.shop.web] {
        for page in ["/view", "/metrics", "/ready", "/live", "/%0d%0aforged"] {
            let answer = weft_tests::get(&format!("http://{}{page}", sidecar.admin)).await;
            let text = answer.expect("its admin answers").text();
            text.lines().for_each(assert_printable);
            assert!(!text.contains("forged"), "{page}: {text}");
        }
    }
}

struct Stage {
    shop: Shop,
    _app: App,
}

impl Stage {
    async fn start(format: &str) -> Self {
        let app = App::http().await;
        let ports = [("http", "http", app.address), ("rpc", "http2", app.address)];
        let rules = rule("http", "http", "{paths: [/a]}") + &rule("rpc", "rpc", "");
        let keys = json!({"log": {"format": format, "level": "debug", "access": true}});
        Self {
            shop: Shop::start_with(&ports, &rules, keys).await,
            _app: app,
        }
    }

    /// Every field that a peer fills, with everything that a field can be filled with; the decisions that came of it.
    async fn attack(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for evil in EVIL {
            for request in requests(evil) {
                for stream in self.entrances().await {
                    let answer = exchange(stream, &request).await;
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    ids.extend(decision(&answer));
                }
            }
            for fields in fields(evil) {
                let head = frames::frame(frames::HEADERS, 5, 1, &fields);
                let goodbye = frames::frame(frames::GOAWAY, 0, 0, &[0; 8]);
                let bytes = [frames::opening(), head, goodbye].concat();
                exchange(self.shop.straight("rpc", "h2").await, &bytes).await;
                exchange(self.shop.through("rpc").await, &bytes).await;
            }
            for name in [evil, &[b"http.api.shop", evil, b".test.example"].concat()] {
                let socket = TcpStream::connect(self.shop.api.inbound).await;
                exchange(socket.expect("it accepts"), &client_hello(name)).await;
            }
            let svid = self.shop.svid();
            if let Ok(alpn) = std::str::from_utf8(evil) {
                let refused = svid.connect(self.shop.api.inbound, "a.b.c.d", alpn).await;
                assert!(refused.is_err(), "nobody speaks {alpn:?}");
                self.pose_as(alpn).await;
            }
            let admin = TcpStream::connect(self.shop.api.admin).await;
            let request = [
                b"GET /",
                evil,
                b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ];
            exchange(admin.expect("it accepts"), &request.concat()).await;
        }
        ids
    }

    async fn entrances(&self) -> [Box<dyn Io>; 3] {
        let proxy = TcpStream::connect(self.shop.web.proxy).await;
        [
            Box::new(self.shop.straight("http", "http/1.1").await),
            Box::new(self.shop.through("http").await),
            Box::new(proxy.expect("it accepts")),
        ]
    }

    /// A certificate whose names hold it.
    async fn pose_as(&self, evil: &str) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        let id = format!("spiffe://test.example/ns/shop/sa/{evil}");
        let Ok(id) = id.try_into() else { return };
        params.subject_alt_names = vec![rcgen::SanType::URI(id)];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, evil);
        let certificate = params.self_signed(&key).expect("a certificate");
        let svid = Svid {
            chain: vec![certificate.der().clone()],
            key_pkcs8: key.serialize_der(),
        };
        let name = super::shop::server_name("http");
        if let Ok(stream) = svid.connect(self.shop.api.inbound, &name, "http/1.1").await {
            exchange(stream, b"").await;
        }
    }

    /// What both sidecars wrote, once the last thing asked is among it.
    async fn logs(&self) -> [String; 2] {
        let last = "/the-last-thing-asked";
        let mut stream = self.shop.straight("http", "http/1.1").await;
        let request = format!("GET {last} HTTP/1.1\r\nHost: api.shop\r\n\r\n");
        let asked = tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes());
        asked.await.expect("it is read");
        read_until(&mut stream, b"}").await.expect("an answer");
        eventually("the log is written", || async {
            let logs = [&self.shop.api, &self.shop.web].map(|sidecar| sidecar.process.log());
            // Without that, nothing of the attack would be seen here.
            let is_whole = logs[0].contains(last) && logs.iter().all(|log| log.contains("forged"));
            is_whole.then_some(logs).ok_or(())
        })
        .await
    }
}

/// What each is to do: begin a line, end one, drive a terminal, end a JSON string, be no UTF-8 at all.
const EVIL: [&[u8]; 10] = [
    b"\nforged",
    b"\r\nforged: 1",
    b"\rforged",
    b"\x1b[2Jforged",
    b"\x08\x08\x08\x7fforged",
    b"\xc2\x9b2Jforged",
    b"\xff\xfeforged",
    b"\xed\xa0\x80forged",
    b"\",\"forged\":\"",
    b"%0d%0aforged",
];

/// It as path, query, method, Host, target's authority, header name and value, Connection, Upgrade and Expect.
fn requests(evil: &[u8]) -> Vec<Vec<u8>> {
    let templates: [&[u8]; 10] = [
        b"GET /? HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
        b"GET /a?q=? HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
        b"GET? /a HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop?\r\nConnection: close\r\n\r\n",
        b"GET http://api.shop?/b HTTP/1.1\r\nHost: api.shop?\r\nConnection: close\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop\r\nX?: y\r\nConnection: close\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop\r\nX-A: y?\r\nConnection: close\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\nConnection: ?\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop\r\nConnection: close, upgrade\r\nUpgrade: ?\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: api.shop\r\nExpect: ?\r\nConnection: close\r\n\r\n",
    ];
    let fill = |template: &[u8]| {
        let parts: Vec<&[u8]> = template.split(|byte| *byte == b'?').collect();
        // The query keeps its own question mark.
        match parts.as_slice() {
            [path, query, rest] if path.ends_with(b"/a") => {
                [path, &b"?"[..], query, evil, rest].concat()
            }
            parts => parts.join(evil),
        }
    };
    templates.into_iter().map(fill).collect()
}

/// The same over HTTP/2, where nothing but a length ends a field.
fn fields(evil: &[u8]) -> Vec<Vec<u8>> {
    let block = |method: &[u8], path: &[u8], authority: &[u8], value: &[u8]| {
        frames::block(&[
            (":method", method),
            (":scheme", b"http"),
            (":path", path),
            (":authority", authority),
            ("x-a", value),
        ])
    };
    vec![
        block(&[b"GET", evil].concat(), b"/a", b"api.shop", b"y"),
        block(b"GET", &[b"/", evil].concat(), b"api.shop", b"y"),
        block(b"GET", b"/a", &[b"api.shop", evil].concat(), b"y"),
        block(b"GET", b"/a", b"api.shop", evil),
    ]
}

fn decision(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("\"decision\":\"")?;
    Some(rest.split('"').next()?.to_owned())
}

/// Web tells of a refusal in its own words.
async fn report(shop: &Shop) -> String {
    let evil = "\r\n\x1b[2J\u{9b}\u{2028}\u{202e}forged";
    let decision = v1::Decision {
        id: REPORTED.to_owned(),
        side: v1::Side::Client.into(),
        source: "spiffe://test.example/ns/shop/sa/web".to_owned(),
        service: "shop/api".to_owned(),
        port: "http".to_owned(),
        method: format!("GET{evil}"),
        path: format!("/{evil}"),
        host: format!("api{evil}"),
        detail: format!("because{evil}"),
        reason: v1::Reason::NoRule.into(),
        count: 1,
        ..v1::Decision::default()
    };
    let mut client = DecisionsClient::new(shop.svid().channel(shop.mesh.api));
    let decisions = vec![decision];
    let answer = client
        .report(v1::ReportDecisionsRequest { decisions })
        .await;
    answer.expect("it is taken");
    REPORTED.to_owned()
}

/// A workload that calls itself by names that drive a terminal is not entered.
async fn register(shop: &Shop) {
    for evil in ["web\nforged", "web\x1b[2Jforged", "web\u{9b}forged"] {
        let request = v1::RegisterRequest {
            instance: evil.to_owned(),
            ..v1::RegisterRequest::default()
        };
        let mut client = RegistrationClient::new(shop.svid().channel(shop.mesh.api));
        let refused = match client.register(tokio_stream::once(request)).await {
            Ok(answers) => answers.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        let told = refused.expect_err(evil).message().to_owned();
        assert_printable(&told);
    }
}

#[track_caller]
fn assert_shown_safely(ran: &Ran) {
    for line in ran.stdout.lines().chain(ran.stderr.lines()) {
        assert_printable(line);
        assert!(!line.trim_start().starts_with("forged"), "{line}");
    }
}

/// Nothing that ends a line or drives a terminal, and nothing that was no text.
#[track_caller]
fn assert_printable(line: &str) {
    let unsafe_ones = ['\u{2028}', '\u{2029}', '\u{202e}'];
    let is_unsafe = |character: char| character.is_control() || unsafe_ones.contains(&character);
    assert!(!line.chars().any(is_unsafe), "{line:?}");
}

const REPORTED: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
