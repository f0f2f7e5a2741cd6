//! Why is always answerable: what `policy explain` foretells is what sidecars do, and `why` leads from a refusal to the rule that is missing.

use serde_json::Value;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow_http, service};
use weft_tests::{KeepAlive, Mesh, Ran, Response, Sidecar, SidecarSpec, Svid, eventually, request};

#[tokio::test]
async fn explain_gives_the_verdict_and_the_rule_that_the_sidecars_gave() {
    let shop = Shop::start().await;
    let cases = [
        ("shop/web", "GET", "/orders/1", 200, "shop/readers"),
        ("shop/web", "POST", "/orders/1", 403, "noRule"),
        ("shop/web", "GET", "/admin", 403, "noRule"),
        (
            "shop/web",
            "GET",
            "/orders/../admin",
            400,
            "pathNotCanonical",
        ),
        ("shop/intruder", "GET", "/orders/1", 403, "noRule"),
    ];
    for (source, method, path, status, why) in cases {
        let case = format!("{source} {method} {path}");
        let answer = shop.ask(source, method, path).await;
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
        let arguments = [
            "policy", "explain", source, TARGET, method, path, "-o", "json",
        ];
        let ran = shop.mesh.meshctl(arguments).await;
        let explained = ran.json();
        if status == 200 {
            assert_eq!(
                (ran.code, &explained["allowed"]),
                (0, &Value::Bool(true)),
                "{case}"
            );
            assert_eq!(explained["rule"], why, "{case}");
            assert_eq!(shop.rules_named(), [why, why], "at both ends, {case}");
        } else {
            assert_eq!(
                (ran.code, &explained["allowed"]),
                (1, &Value::Bool(false)),
                "{case}"
            );
            assert_eq!(explained["reason"], why, "{case}");
            let told = shop.why(&answer.decision(), &["-o", "json"]).await.json();
            assert_eq!(told["reason"], why, "{case}");
        }
    }
}

#[tokio::test]
async fn a_refusal_at_the_client_leads_to_the_rule_that_lets_the_same_request_through() {
    let shop = Shop::start().await;
    let refused = shop.ask("shop/intruder", "GET", "/orders/1").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_tells_no_rule(&refused);

    let why = shop.why(&refused.decision(), &[]).await.stdout;
    for part in [
        INTRUDER,
        // Whoever may not call a service is not told its ports' names: its sidecar told the number alone.
        "shop/api:http",
        "GET /orders/{number}",
        "on the client side",
        "noRule",
        "shop/readers",
        "source",
    ] {
        assert!(why.contains(part), "{part} is missing in:\n{why}");
    }

    shop.mesh.apply(&shown_yaml(&why)).await;
    let passed = shop.ask("shop/intruder", "GET", "/orders/1").await;
    assert_eq!(passed.status, 200, "{}", passed.text());
    // Of the path only its shape was kept: that is what the rule allows, and no more.
    let alike = shop.ask("shop/intruder", "GET", "/orders/2").await;
    assert_eq!(alike.status, 200, "{}", alike.text());
    for (method, path) in [
        ("GET", "/orders/1/items"),
        ("GET", "/orders"),
        ("POST", "/orders/1"),
    ] {
        let other = shop.ask("shop/intruder", method, path).await;
        assert_eq!(other.status, 403, "{method} {path} is more than was asked");
    }
    let again = shop.why(&refused.decision(), &[]).await.stdout;
    assert!(again.contains("It would pass now"), "{again}");
}

#[tokio::test]
async fn what_was_refused_at_the_client_is_suggested_where_it_is_asked_for() {
    let shop = Shop::start().await;
    for path in ["/orders/1", "/orders/2"] {
        let refused = shop.ask("shop/intruder", "GET", path).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    let suggested = eventually("both refusals are in a flow", || async {
        let line = ["policy", "suggest", "--include-denied", "-n", "shop"];
        let ran = shop.mesh.meshctl(line).await.ok();
        match ran.stdout.contains("# Seen 2 times") {
            true => Ok(ran),
            false => Err(ran),
        }
    })
    .await;
    for part in [
        "to: {service: api, ports: [http]}",
        "from: [shop/intruder]",
        "methods: [GET]",
        "paths: [\"/orders/*\"]",
    ] {
        assert!(suggested.stdout.contains(part), "{part}: {suggested:?}");
    }
    let without = shop.mesh.meshctl(["policy", "suggest"]).await.ok();
    assert!(!without.stdout.contains("intruder"), "{without:?}");

    shop.mesh.apply(&suggested.stdout).await;
    let passed = shop.ask("shop/intruder", "GET", "/orders/3").await;
    assert_eq!(passed.status, 200, "{}", passed.text());
}

#[tokio::test]
async fn a_refusal_at_the_server_is_answered_too_and_outlives_the_control_plane() {
    let mut shop = Shop::start().await;
    let refused = shop.ask_past_its_sidecar("/orders/1").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_tells_no_rule(&refused);
    let id = refused.decision();
    let before = shop.why(&id, &["-o", "json"]).await.json();
    assert_eq!(before["side"], "server");
    assert_eq!(before["source"], INTRUDER);
    assert_eq!(before["now"]["nearest"][0]["rule"], "shop/readers");
    assert_eq!(before["now"]["nearest"][0]["failedCondition"], "source");

    shop.mesh.restart_control_plane().await;
    let after = shop.why(&id, &[]).await.stdout;
    assert!(
        after.contains("on the server side") && after.contains(INTRUDER),
        "{after}"
    );
    // A control plane that has just come back knows of no sidecar to wait for until it returns.
    shop.wait_until_connected().await;
    shop.mesh.apply(&shown_yaml(&after)).await;
    let passed = shop.ask_past_its_sidecar("/orders/1").await;
    assert_eq!(passed.status, 200, "{}", passed.text());
}

#[tokio::test]
async fn a_refusal_of_what_is_no_service_of_the_mesh_is_answered_too() {
    let shop = Shop::start().await;
    for (host, reason) in [
        ("example.com", "noRule"),
        ("www.example.com", "unknownTarget"),
        ("127.0.0.1:9000", "unknownTarget"),
    ] {
        let url = format!("http://{host}/orders/1");
        let refused = request(shop.web.proxy, "GET", &url, &[("Host", host)], b"").await;
        let refused = refused.expect("the proxy answers");
        assert_eq!(refused.status, 403, "{host}: {}", refused.text());
        let why = shop.why(&refused.decision(), &["-o", "json"]).await.json();
        assert_eq!(why["reason"], reason, "{why}");
        assert!(why.to_string().contains(host), "{why}");
    }
}

#[tokio::test]
async fn a_decision_that_nobody_made_is_said_to_be_unknown() {
    let mesh = Mesh::start().await;
    let ran = mesh.meshctl(["why", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("there is no decision 01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        "{ran:?}"
    );
    let ran = mesh.meshctl(["why", "nonsense"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("26 letters and digits"), "{ran:?}");
}

/// An api that web may read, and an intruder.
struct Shop {
    mesh: Mesh,
    api: Sidecar,
    web: Sidecar,
    intruder: Sidecar,
    _backend: Backend,
}

impl Shop {
    async fn start() -> Self {
        let mesh = Mesh::start().await;
        let conditions = "{methods: [GET, HEAD], paths: [\"/orders/**\"]}";
        let rule = allow_http("readers", TARGET, "shop/web", conditions);
        mesh.apply(&(service(TARGET, "http") + &rule)).await;
        let backend = Backend::http().await;
        let api = SidecarSpec::of("shop/api").app(TARGET, backend.address);
        let shop = Self {
            api: mesh.sidecar(api).await,
            web: mesh.sidecar(SidecarSpec::of("shop/web")).await,
            intruder: mesh.sidecar(SidecarSpec::of("shop/intruder")).await,
            mesh,
            _backend: backend,
        };
        eventually("the endpoint is known", || async {
            let view = weft_tests::get(&format!("http://{}/view", shop.web.admin)).await;
            let view = view.map_err(|error| error.to_string())?.json();
            let endpoints = view["outbound"][0]["endpoints"].as_array();
            endpoints
                .filter(|endpoints| !endpoints.is_empty())
                .map(|_| ())
                .ok_or_else(|| view.to_string())
        })
        .await;
        shop
    }

    /// Through the source's own sidecar.
    async fn ask(&self, source: &str, method: &str, path: &str) -> Response {
        let sidecar = match source {
            "shop/web" => &self.web,
            _ => &self.intruder,
        };
        let url = format!("http://api.shop{path}");
        request(sidecar.proxy, method, &url, &[("Host", "api.shop")], b"")
            .await
            .expect("the proxy answers")
    }

    /// As the intruder that dials the api itself.
    async fn ask_past_its_sidecar(&self, path: &str) -> Response {
        let svid = Svid::of_sidecar(&self.intruder.runtime);
        let name = "http.api.shop.test.example";
        let stream = svid.connect(self.api.inbound, name, "http/1.1").await;
        KeepAlive::new(stream.expect("the handshake succeeds"))
            .request("GET", path, &[("Host", "api.shop")])
            .await
            .expect("an answer")
    }

    async fn wait_until_connected(&self) {
        eventually("every sidecar reconnects", || async {
            let told = self.mesh.meshctl(["sidecars", "-o", "json"]).await.ok();
            let sidecars = told.json()["sidecars"].clone();
            let sidecars = sidecars.as_array().expect("a list");
            let connected = sidecars.iter().filter(|one| one["connected"] == true);
            if connected.count() == 3 {
                Ok(())
            } else {
                Err(told)
            }
        })
        .await;
    }

    /// Asks until the refusal has been reported.
    async fn why(&self, id: &str, more: &[&str]) -> Ran {
        let arguments: Vec<&str> = ["why", id].iter().chain(more).copied().collect();
        eventually("the decision is known", || async {
            let ran = self.mesh.meshctl_with(&arguments, "").await;
            if ran.code == 0 { Ok(ran) } else { Err(ran) }
        })
        .await
    }

    /// What the access logs of both ends name, web's first.
    fn rules_named(&self) -> Vec<String> {
        let named = |sidecar: &Sidecar| {
            let log = sidecar.process.log();
            let lines = log.lines().filter(|line| line.contains(" access: "));
            let rules = lines.filter_map(|line| line.split(" rule=").nth(1)?.split(' ').next());
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        let rules = [named(&self.web), named(&self.api)].concat();
        rules.into_iter().filter(|rule| !rule.is_empty()).collect()
    }
}

/// The document that `why` prints to be pasted, which ends what it prints.
fn shown_yaml(why: &str) -> String {
    let at = why
        .find("apiVersion:")
        .unwrap_or_else(|| panic!("no document in:\n{why}"));
    why[at..].to_owned()
}

#[track_caller]
fn assert_tells_no_rule(refused: &Response) {
    let body = refused.json();
    let mut fields: Vec<&String> = body.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(fields, ["decision", "error"], "{body}");
    assert!(!refused.text().contains("readers"), "{body}");
}

const TARGET: &str = "shop/api:http";
const INTRUDER: &str = "spiffe://test.example/ns/shop/sa/intruder";
