use weft_policy::NoHeaders;

use super::*;
use crate::config::Config;
use crate::fixture::{id, received, received_learning, rule, target};
use crate::flows::Judged;

fn enforced() -> Enforced {
    received(vec![rule("all", "  from: [shop/web]")]).enforced(false)
}

fn ask(enforced: &Enforced, authority: &str) -> Result<Permit, Refusal> {
    let request = HttpRequest {
        method: "GET",
        path: "/",
        authority: Some(authority),
        headers: &NoHeaders,
        upgrade: None,
        connect: false,
    };
    let source = id("shop/web");
    admit_request(
        enforced,
        Parties {
            side: Side::Server,
            source: &source,
            target: &target("http"),
        },
        &request,
        Timestamp::now(),
    )
}

#[test]
fn row_03_a_host_that_is_another_services_mesh_name_is_misdirected_and_others_pass() {
    let enforced = enforced();
    for authority in [
        "api.shop",
        "api.shop:80",
        "API.Shop.weft.local.",
        "example.com",
        "127.0.0.1:9000",
        "[::1]:80",
    ] {
        assert_eq!(
            ask(&enforced, authority)
                .map_err(|refusal| refusal.reason)
                .err(),
            None,
            "{authority}"
        );
    }
    for authority in [
        "orders.shop",
        "ORDERS.shop:80",
        "orders.shop.weft.local",
        "a.unknown.weft.local",
    ] {
        let refusal = ask(&enforced, authority).unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.status),
            (Reason::Misdirected, 421),
            "{authority}"
        );
    }
}

fn learning() -> Enforced {
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    received_learning(Vec::new(), until).enforced(false)
}

#[test]
fn sentences_51_and_54_learning_permits_without_a_rule_and_lifts_nothing_else() {
    let permit = ask(&learning(), "api.shop").unwrap();
    assert_eq!(permit.rule(), None);
    assert_eq!(permit.judged(), Judged::Learned(Reason::NoRule));
    let refused = |enforced: &Enforced, host: &str| ask(enforced, host).unwrap_err().reason;
    assert_eq!(refused(&learning(), "orders.shop"), Reason::Misdirected);
    let with = |change: &dyn Fn(&mut Enforced)| {
        let mut enforced = learning();
        change(&mut enforced);
        refused(&enforced, "api.shop")
    };
    let revocations = |e: &mut Enforced| std::sync::Arc::make_mut(&mut e.revocations).clone();
    assert_eq!(with(&|e| e.stale = true), Reason::Stale);
    assert_eq!(
        with(&|e| e.revocations_unreadable = true),
        Reason::PolicyUnreadable
    );
    assert_eq!(
        with(&|e| {
            let mut changed = revocations(e);
            changed.identities.insert(id("shop/web"));
            e.revocations = changed.into();
        }),
        Reason::Revoked
    );
    assert_eq!(
        with(&|e| {
            let mut changed = revocations(e);
            changed.quarantined.insert(id("shop/web"));
            e.revocations = changed.into();
        }),
        Reason::Quarantined
    );
    let web = id("shop/web");
    let unknown = Parties {
        side: Side::Server,
        source: &web,
        target: &target("other"),
    };
    let answer = admit_bytes(&learning(), unknown, Timestamp::now());
    assert_eq!(answer.unwrap_err().reason, Reason::UnknownTarget);
}

#[test]
fn stale_denies_everything_whatever_the_rules() {
    let mut enforced = enforced();
    enforced.stale = true;
    let refusal = ask(&enforced, "api.shop").unwrap_err();
    assert_eq!((refusal.reason, refusal.status), (Reason::Stale, 503));
}

fn config(apps: &str) -> Config {
    let text = format!(
        "{{workload: shop/api, instance: a, trustDomain: weft.local, runtime: /r, inbound: {{listen: '127.0.0.1:0'}}, \
         controlPlane: {{api: 'x:1', attestation: 'x:2'}}, apps: {apps}}}"
    );
    Config::from_raw(serde_saphyr::from_str(&text).unwrap()).unwrap()
}

#[test]
fn row_03_only_a_declared_port_that_the_server_name_names_is_a_target() {
    let enforced = enforced();
    let apps = "[{service: shop/api, port: raw, address: '127.0.0.2:7'}]";
    let found = inbound_target(&enforced, &config(apps), Some("http.api.shop.weft.local")).unwrap();
    assert_eq!(found.app.to_string(), "127.0.0.1:80");
    let found = inbound_target(&enforced, &config(apps), Some("raw.api.shop.weft.local")).unwrap();
    assert_eq!(found.app.to_string(), "127.0.0.2:7");
    for name in [
        Some("ssh.api.shop.weft.local"),
        Some("http.orders.shop.weft.local"),
        Some("http.api.shop.other.domain"),
        Some("api.shop"),
        None,
    ] {
        let refusal = inbound_target(&enforced, &config("[]"), name).unwrap_err();
        assert_eq!(refusal.reason, Reason::UnknownTarget, "{name:?}");
    }
}
