//! Rules and names: nothing is reached or even looked up without a rule, and operators can ask why.

use weft_tests::eventually;

use super::{HOST, OTHER, WILD, World, is_closed, rule};

#[tokio::test(flavor = "multi_thread")]
async fn row_19_without_a_rule_nothing_outside_is_reached_and_no_name_is_looked_up() {
    let world = World::start().await;
    let refused = world.get(&world.at(HOST, &world.http), "/").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let id = refused.decision();
    for app in [&world.http, &world.tls, &world.echo] {
        let (_, head) = world.connect(&world.at(HOST, app)).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    }
    assert_eq!(world.get_at_listener(HOST).await.status, 403);
    for port in ["tls", "raw"] {
        let listener = world.web.upstream(&format!("shop/outside:{port}"));
        assert!(is_closed(listener).await, "{port}");
    }
    assert_eq!(world.dns.asked(), [""; 0]);
    let why = world.why(&id).await;
    assert!(
        why.contains("unknownTarget") || why.contains("noRule"),
        "{why}"
    );

    world.apply(&rule("")).await;
    for (host, path) in [(HOST, "/one"), (WILD, "/two")] {
        let passed = world.get(&world.at(host, &world.http), path).await;
        assert_eq!((passed.status, passed.text()), (200, "ok".into()), "{host}");
        assert!(world.dns.asked().contains(&host.to_owned()));
    }
    let passed = world.get_at_listener(HOST).await;
    assert_eq!(passed.status, 200, "{}", passed.text());
    // What the service does not name is not looked up either.
    let refused = world.get(&world.at(OTHER, &world.http), "/").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let (_, head) = world
        .connect(&world.at("wild.outside.test", &world.tls))
        .await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let asked = world.dns.asked();
    assert!(
        asked
            .iter()
            .all(|name| [HOST, WILD].contains(&name.as_str())),
        "{asked:?}"
    );
    let log = world.web.process.log();
    let recorded = log.lines().any(|line| {
        line.contains("shop/outside:http")
            && line.contains("status=200")
            && line.contains("shop/web-outside")
    });
    assert!(recorded, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_shows_what_a_rule_opens_and_explain_foretells_the_verdict() {
    let world = World::start().await;
    let view = async || {
        let page = weft_tests::get(&format!("http://{}/view", world.web.admin)).await;
        page.expect("its admin answers").json()["outbound"].clone()
    };
    assert_eq!(view().await, serde_json::json!([]));
    let only_get = "  http: [{methods: [GET], paths: [/open, /open/**]}]\n";
    world
        .apply(&rule(&format!("{only_get}  mode: Enforce\n")))
        .await;
    let seen = view().await;
    assert_eq!(seen[0]["service"], "shop/outside", "{seen}");
    assert_eq!(seen[0]["hosts"][0], HOST, "{seen}");
    for (method, path, code, status) in [
        ("GET", "/open/1", 0, 200),
        ("GET", "/closed", 1, 403),
        ("POST", "/open", 1, 403),
        ("GET", "/open/../closed", 1, 400),
    ] {
        let target = format!("http://{}{path}", world.at(HOST, &world.http));
        let host = world.at(HOST, &world.http);
        let answer =
            weft_tests::request(world.web.proxy, method, &target, &[("Host", &host)], b"").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let arguments = [
            "policy",
            "explain",
            "shop/web",
            "shop/outside:http",
            method,
            path,
            "-o",
            "json",
        ];
        let ran = world.mesh.meshctl(arguments).await;
        assert_eq!(ran.code, code, "{method} {path}: {}", ran.stdout);
        if status != 200 {
            let told = world.why(&answer.decision()).await;
            assert!(
                told.contains("shop/outside") && told.contains("on the client side"),
                "{told}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_mesh_names_are_refused_and_overlaps_and_unjudged_conditions_are_warned_of()
{
    let world = World::start().await;
    for host in ["api.shop", "api.shop.test.example", "'*.shop.test.example'"] {
        let documents = world.service(host);
        let ran = world
            .mesh
            .meshctl_with(&["apply", "-f", "-"], &documents)
            .await;
        assert_ne!(ran.code, 0, "{host}");
        assert!(
            ran.stderr.contains("is a name of this mesh"),
            "{}",
            ran.stderr
        );
    }
    let other = world
        .service("'*.outside.test'")
        .replace("name: outside", "name: second");
    let ran = world.apply(&other).await;
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        told.contains("also") && told.contains("shop/outside"),
        "{told}"
    );
    let ran = world.apply(&rule("  http: [{methods: [GET]}]\n")).await;
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("cannot be judged on port `tls`"), "{told}");
    assert!(told.contains("cannot be judged on port `raw`"), "{told}");
    // The more precise one is meant, whatever else a wildcard allows.
    world.apply(&super::rule_at("second", "")).await;
    let status = async |host: &str| {
        let authority = world.at(host, &world.http);
        let target = format!("http://{authority}/");
        let answer = weft_tests::request(
            world.web.proxy,
            "POST",
            &target,
            &[("Host", &authority)],
            b"",
        )
        .await;
        answer.expect("an answer").status
    };
    eventually("both are known", || async {
        let found = (status(HOST).await, status(OTHER).await);
        if found == (403, 200) {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
}
