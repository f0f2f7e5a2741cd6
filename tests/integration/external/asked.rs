//! What `policy explain` foretells of a destination outside is what the sidecar does.

use super::{HOST, OTHER, WILD, World, rule};

#[tokio::test(flavor = "multi_thread")]
async fn explain_gives_the_verdict_that_the_sidecar_gave_outside_too() {
    let world = World::start().await;
    let gets = rule("  http: [{methods: [GET], paths: [/, /a]}]\n");
    world.apply(&gets).await;
    let [http, other] = [HOST, OTHER].map(|host| world.at(host, &world.http));
    for (authority, path, status, why) in [
        (&http, "/", 200, "shop/web-outside"),
        (&http, "/b", 403, "noRule"),
        (&http, "/a/../b", 400, "pathNotCanonical"),
        (&other, "/", 403, "unknownTarget"),
    ] {
        let answer = world.get(authority, path).await;
        assert_eq!(
            answer.status,
            status,
            "{authority}{path}: {}",
            answer.text()
        );
        let told = explained(&world, &[authority, "GET", path]).await;
        assert_eq!(told, why, "{authority}{path}");
    }
    // At the service's own listener every host of it may be asked for, and no other.
    for (host, status, why) in [(WILD, 200, "shop/web-outside"), (OTHER, 421, "misdirected")] {
        let answer = world.get_at_listener(host).await;
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        let asked = ["shop/outside:http", "GET", "/", "--host", host];
        assert_eq!(explained(&world, &asked).await, why, "{host}");
    }
    // Conditions on requests open no tunnel; without them, what is asked for is TLS.
    let tls = world.at(HOST, &world.tls);
    let opened = "shop/web-outside";
    for (conditions, begins, whys) in [
        (
            gets.as_str(),
            "HTTP/1.1 403",
            ["noRule", "upgradeNotAllowed"],
        ),
        (&rule(""), "HTTP/1.1 200", [opened, opened]),
    ] {
        world.apply(conditions).await;
        let (_, head) = world.connect(&tls).await;
        assert!(head.starts_with(begins), "{head}");
        for (asked, why) in [&[tls.as_str()][..], &[&tls, "CONNECT"]].iter().zip(whys) {
            assert_eq!(explained(&world, asked).await, why, "{asked:?}");
        }
    }
    // Only 127.0.0.1 is listed.
    for (address, why) in [
        ("127.0.0.1", "shop/web-outside"),
        ("127.0.0.2", "forbiddenAddress"),
        ("1.1.1.1", "shop/web-outside"),
    ] {
        let asked = [tls.as_str(), "--address", address];
        assert_eq!(explained(&world, &asked).await, why, "{address}");
    }
    let mesh_name = explain(&world, &["outside.shop:80"]).await;
    assert_eq!(mesh_name.code, 2, "{mesh_name:?}");
    assert!(
        mesh_name.stderr.contains("a name of the mesh"),
        "{mesh_name:?}"
    );
}

/// The rule that allows, or the reason that refuses.
async fn explained(world: &World, asked: &[&str]) -> String {
    let told = explain(world, asked).await.json();
    let why = if told["allowed"] == true {
        "rule"
    } else {
        "reason"
    };
    told[why].as_str().unwrap_or_default().to_owned()
}

async fn explain(world: &World, asked: &[&str]) -> weft_tests::Ran {
    let line = [&["policy", "explain", "-o", "json", "shop/web"], asked].concat();
    world.mesh.meshctl_with(&line, "").await
}
