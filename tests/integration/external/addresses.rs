//! Whatever DNS says, an external host never leads into the mesh, to this host or to a cloud's metadata, unless the service lists it.

use super::{HOST, OTHER, World, echoes, free, rule};

#[tokio::test(flavor = "multi_thread")]
async fn row_13_a_host_that_comes_to_lead_somewhere_else_is_judged_by_its_address() {
    let world = World::open().await;
    let authority = world.at(HOST, &world.http);
    world.dns.set(HOST, &["127.0.0.1"], 0);
    assert_eq!(world.get(&authority, "/").await.status, 200);
    for address in [
        "127.0.0.2",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.2",
        "64:ff9b::7f00:1",
        "fd00:ec2::254",
        "fe80::1",
    ] {
        world.dns.set(HOST, &[address], 0);
        let refused = world.get(&authority, "/").await;
        assert_eq!(refused.status, 403, "{address}: {}", refused.text());
        assert!(!refused.text().contains(address), "{}", refused.text());
        let log = world.web.process.log();
        let told = format!("decision={} ", refused.decision());
        let line = log
            .lines()
            .find(|line| line.contains(&told) && line.contains("detail="));
        let line = line.unwrap_or_else(|| panic!("{told} is not in\n{log}"));
        assert!(line.contains("reason=\"forbiddenAddress\""), "{line}");
        let (_, head) = world.connect(&world.at(HOST, &world.tls)).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{address}: {head}");
    }
    let why = world.why(&world.decision("forbiddenAddress").await).await;
    assert!(
        why.contains("forbiddenAddress") && why.contains("allowAddresses"),
        "{why}"
    );
    // Of several addresses those that may be are dialled.
    world.dns.set(HOST, &["127.0.0.2", "127.0.0.1", "::1"], 0);
    let passed = world.get(&authority, "/").await;
    assert_eq!(passed.status, 200, "{}", passed.text());
    // That nobody answers is no refusal.
    world.dns.set(HOST, &[], 0);
    let failed = world.get(&authority, "/").await;
    assert_eq!(failed.status, 503, "{}", failed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_the_mesh_itself_is_never_outside_whatever_is_listed() {
    let world = World::open().await;
    let nobody = free().await;
    let service = world.service_at(HOST, "0.0.0.0/0, '::/0'");
    for (what, address, status) in [
        ("the control plane", world.mesh.api, 403),
        ("its attestation", world.mesh.attestation, 403),
        ("the sidecar's admin", world.web.admin, 403),
        ("the sidecar's proxy", world.web.proxy, 403),
        ("the sidecar's inbound", world.web.inbound, 403),
        ("its listener", world.web.upstream("shop/outside:http"), 403),
        ("an app", world.http.address, 200),
        ("nobody", nobody, 503),
    ] {
        let port = format!("name: http, port: {}", world.http.address.port());
        let moved = service.replace(&port, &format!("name: http, port: {}", address.port()));
        world.apply(&moved).await;
        let answer = world.get(&format!("{HOST}:{}", address.port()), "/").await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
    // Not even all addresses are a cloud's metadata.
    world.apply(&service).await;
    world
        .dns
        .set("metadata.outside.test", &["169.254.169.254"], 0);
    let hosts = format!("{HOST}, metadata.outside.test");
    world
        .apply(&(world.service_at(&hosts, "0.0.0.0/0") + &rule("")))
        .await;
    let refused = world
        .get(&world.at("metadata.outside.test", &world.http), "/")
        .await;
    assert_eq!(refused.status, 403, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_after_its_host_was_resolved_is_recorded_as_refused() {
    let world = World::open().await;
    let (http, tls) = (world.at(HOST, &world.http), world.at(HOST, &world.tls));
    world.dns.set(HOST, &["10.0.0.1"], 0);
    assert_eq!(world.get(&http, "/").await.status, 403);
    let (_, head) = world.connect(&tls).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");

    world.dns.set(HOST, &["127.0.0.1"], 0);
    assert_eq!(world.get(&http, "/").await.status, 200);
    let (stream, _) = world.connect(&tls).await;
    let mut passed = world.handshake(stream, HOST).await.expect("a handshake");
    assert!(echoes(&mut passed).await);
    // The CONNECT was answered, and then its TLS was for another host.
    let (stream, head) = world.connect(&tls).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(world.handshake(stream, OTHER).await.is_err());
    // That nobody answers is no verdict: the rules let it pass.
    world.dns.set(HOST, &[], 0);
    assert_eq!(world.get(&http, "/").await.status, 503);

    let expected = [
        "CONNECT shop/outside:tls allowed shop/web-outside 1",
        "CONNECT shop/outside:tls denied forbiddenAddress 1",
        "CONNECT shop/outside:tls denied misdirected 1",
        "GET shop/outside:http allowed shop/web-outside 2",
        "GET shop/outside:http denied forbiddenAddress 1",
    ];
    weft_tests::eventually("all of it is recorded", || async {
        let told = flows(&world).await;
        if told == expected { Ok(()) } else { Err(told) }
    })
    .await;
}

/// Each flow on a line, in order.
async fn flows(world: &World) -> Vec<String> {
    let listed = world
        .mesh
        .meshctl(["flows", "-o", "json"])
        .await
        .ok()
        .json();
    let line = |flow: &serde_json::Value| {
        let verdicts = [("allowedBy", "allowed"), ("denied", "denied")];
        let verdict = verdicts
            .iter()
            .find_map(|(field, word)| Some(format!("{word} {}", flow[field].as_str()?)));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} {} {} {}",
            text(&flow["request"]["method"]),
            text(&flow["target"]),
            verdict.unwrap_or_default(),
            flow["count"]
        )
    };
    let mut lines: Vec<String> = listed["flows"]
        .as_array()
        .expect("a list")
        .iter()
        .map(line)
        .collect();
    lines.sort_unstable();
    lines
}
