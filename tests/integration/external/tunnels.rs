//! What is open to the world outside ends when its rule, its host or its address goes.

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;

use super::{HOST, WILD, World, echoes, ends, rule};

/// A tunnel of each kind, over CONNECT and over a listener.
struct Open {
    raw: TcpStream,
    tls: tokio_rustls::client::TlsStream<TcpStream>,
    listener: tokio_rustls::client::TlsStream<TcpStream>,
}

impl Open {
    async fn through(world: &World) -> Self {
        let (raw, head) = world.connect(&world.at(HOST, &world.echo)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let (tls, _) = world.connect(&world.at(HOST, &world.tls)).await;
        let tls = world.handshake(tls, HOST).await.expect("a handshake");
        let listener = TcpStream::connect(world.web.upstream("shop/outside:tls")).await;
        let listener = listener.expect("it accepts");
        let listener = world.handshake(listener, HOST).await.expect("a handshake");
        let mut open = Self { raw, tls, listener };
        assert!(open.passes().await);
        open
    }

    async fn passes(&mut self) -> bool {
        echoes(&mut self.raw).await
            && echoes(&mut self.tls).await
            && echoes(&mut self.listener).await
    }

    async fn have_ended(mut self) -> bool {
        ends(&mut self.raw).await
            && ends(self.tls.get_mut().0).await
            && ends(self.listener.get_mut().0).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_tunnels_outside_are_cut_when_what_allowed_them_goes() {
    let world = World::open().await;
    let hosts = format!("{HOST}, '*.wild.outside.test'");
    let whole = world.service(&hosts) + &rule("");
    for (what, change) in [
        ("HTTP conditions", rule("  http: [{methods: [GET]}]\n")),
        (
            "other ports",
            rule("").replace("service: outside}", "service: outside, ports: [http]}"),
        ),
        ("another caller", rule("").replace("shop/web", "shop/other")),
        ("another host", world.service("'*.wild.outside.test'")),
        ("another address", world.service_at(&hosts, "127.0.0.2/32")),
    ] {
        world.apply(&whole).await;
        let mut open = Open::through(&world).await;
        // What changes nothing for them cuts nothing.
        world
            .apply(&world.service(&format!("{hosts}, new.outside.test")))
            .await;
        assert!(open.passes().await, "{what}");
        world.apply(&change).await;
        assert!(open.have_ended().await, "{what}");
    }
    world.apply(&whole).await;
    let open = Open::through(&world).await;
    world
        .mesh
        .meshctl(["quarantine", "shop/web", "--reason", "test"])
        .await
        .ok();
    assert!(open.have_ended().await, "quarantine");
    let (_, head) = world.connect(&world.at(WILD, &world.tls)).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_expires_takes_its_tunnels_with_it() {
    let world = World::start().await;
    let expires = Timestamp::now() + SignedDuration::from_secs(6);
    world
        .apply(&rule(&format!("  expires: {expires:.0}\n")))
        .await;
    let open = Open::through(&world).await;
    assert!(open.have_ended().await);
    assert!(
        Timestamp::now() + SignedDuration::from_secs(1) >= expires,
        "too early"
    );
}
