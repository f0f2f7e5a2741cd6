use jiff::SignedDuration;
use weft_wire::{unpack, write_timestamp};

use super::*;
use crate::fixture::{Mesh, allow, allow_spec, id, learning, quarantine, resource, service};

fn outbound(view: &View, name: &str) -> v1::Outbound {
    unpack(&view.of(Kind::Outbound)[name].any).unwrap()
}

fn revocations(mesh: &Mesh, workload: &str) -> v1::Revocations {
    unpack(&mesh.view(workload).of(Kind::Revocations)["revocations"].any).unwrap()
}

#[tokio::test]
async fn a_view_holds_only_what_its_identity_may_call() {
    let mut mesh = Mesh::shop().await;
    mesh.offer("api", Some("api")).await;
    mesh.offer("orders", Some("orders")).await;
    assert_eq!(mesh.seen("web", Kind::Outbound), ["shop/api"]);
    assert_eq!(mesh.seen("api", Kind::Outbound), ["shop/orders"]);
    assert!(mesh.seen("intruder", Kind::Outbound).is_empty());
    assert_eq!(mesh.seen("api", Kind::Inbound), ["shop/api"]);
    assert!(mesh.seen("web", Kind::Inbound).is_empty());
}

#[tokio::test]
async fn an_outbound_resource_has_only_opened_ports_and_the_rules_that_match() {
    let mut mesh = Mesh::shop().await;
    mesh.put([allow(
        "many",
        "api",
        &["shop/we*", "shop/batch", "spiffe://partner.example/x"],
    )])
    .await;
    mesh.put([allow("others", "api", &["shop/batch"])]).await;
    mesh.offer("api", Some("api")).await;
    let api = outbound(&mesh.view("web"), "shop/api");
    assert_eq!(
        api.ports
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>(),
        ["http"]
    );
    assert_eq!(
        api.rules
            .iter()
            .map(|rule| rule.name.as_str())
            .collect::<Vec<_>>(),
        ["shop/many", "shop/web-api"]
    );
    assert_eq!(api.rules[0].allow.as_ref().unwrap().from, ["shop/we*"]);
    assert_eq!(api.endpoints.len(), 1);
    // The server's side knows all of them.
    let inbound: v1::Inbound = unpack(&mesh.view("api").of(Kind::Inbound)["shop/api"].any).unwrap();
    assert_eq!(inbound.rules.len(), 3);
    assert_eq!(inbound.rules[0].allow.as_ref().unwrap().from.len(), 3);
    assert_eq!(inbound.ports.len(), 2);
}

#[tokio::test]
async fn addresses_of_a_rule_are_told_to_whom_it_protects_and_to_no_caller() {
    let mut mesh = Mesh::shop().await;
    let by_address = |name: &str, from: &[&str]| {
        let mut resource = allow(name, "api", from);
        if let Some(v1::resource::Spec::Allow(spec)) = &mut resource.spec {
            spec.schema = weft_policy::ADDRESSES_SCHEMA;
            spec.from_addresses = vec!["10.1.0.0/16".to_owned()];
        }
        resource
    };
    mesh.put([
        by_address("both", &["shop/batch"]),
        by_address("plain", &[]),
    ])
    .await;
    mesh.offer("api", Some("api")).await;
    let rules = |rules: Vec<v1::NamedRule>| {
        let told = rules.into_iter().map(|rule| {
            let allow = rule.allow.unwrap();
            (rule.name, allow.schema, allow.from_addresses.len())
        });
        told.filter(|(name, ..)| name.ends_with("both") || name.ends_with("plain"))
            .collect::<Vec<_>>()
    };
    let caller = outbound(&mesh.view("batch"), "shop/api");
    assert_eq!(rules(caller.rules), [("shop/both".to_owned(), 1, 0)]);
    let inbound: v1::Inbound = unpack(&mesh.view("api").of(Kind::Inbound)["shop/api"].any).unwrap();
    let whole = [
        ("shop/both".to_owned(), 4, 1),
        ("shop/plain".to_owned(), 4, 1),
    ];
    assert_eq!(rules(inbound.rules), whole);
    // An address is no identity that the rule would open the service to.
    mesh.put([by_address("both", &[])]).await;
    assert!(
        !mesh
            .view("batch")
            .of(Kind::Outbound)
            .contains_key("shop/api")
    );
}

#[tokio::test]
async fn one_rule_edit_among_500_identities_touches_only_those_that_it_concerns() {
    let mut mesh = Mesh::shop().await;
    for i in 0..250 {
        mesh.put([service(&format!("s{i}"), &[&format!("shop/w{i}")])])
            .await;
        mesh.put([allow(
            &format!("r{i}"),
            &format!("s{i}"),
            &[&format!("shop/c{i}")],
        )])
        .await;
    }
    let ids = (0..250).flat_map(|i| [id(&format!("w{i}")), id(&format!("c{i}"))]);
    let subscriptions: Vec<Subscription> = ids.map(|id| mesh.views.subscribe(&id)).collect();
    assert_eq!(mesh.views.connected(), 500);

    let before = mesh.views.recomputed();
    mesh.put([allow("r7", "s7", &["shop/c7", "shop/c8"])]).await;
    // c7 and c8 may call it, w7 offers it.
    assert_eq!(mesh.views.recomputed() - before, 3);
    // What c7 may know of the rule is what it knew already.
    assert_eq!(
        mesh.views.touched_by(mesh.views.revision()),
        [id("c8"), id("w7")]
    );

    let before = mesh.views.recomputed();
    mesh.offer("w9", Some("s9")).await;
    assert_eq!(mesh.views.recomputed() - before, 1);
    assert_eq!(mesh.views.touched_by(mesh.views.revision()), [id("c9")]);
    drop(subscriptions);
    assert_eq!(mesh.views.connected(), 0);
}

#[tokio::test]
async fn a_view_kept_up_to_date_is_the_view_computed_anew() {
    let mut mesh = Mesh::shop().await;
    let workloads = ["web", "api", "orders", "intruder"];
    let mut kept: Vec<Subscription> = workloads
        .map(|workload| mesh.views.subscribe(&id(workload)))
        .into();
    mesh.offer("api", Some("api")).await;
    mesh.put([allow("any", "orders", &["shop/*"])]).await;
    mesh.put([service("api", &["shop/api", "shop/web"])]).await;
    mesh.put([quarantine("q", "shop/intruder")]).await;
    mesh.delete("Allow", "web-api").await;
    mesh.put([allow("any", "api", &["shop/orders", "shop/intruder"])])
        .await;
    mesh.put([learning(in_an_hour())]).await;
    mesh.delete("Service", "orders").await;
    mesh.put([service("late", &["shop/late"])]).await;
    mesh.offer("late", Some("late")).await;
    mesh.revoke("api").await;
    let anew = Views::new(
        World::load(&crate::fixture::trust_domain(), &mesh.store.read().unwrap()).unwrap(),
    );
    for (workload, kept) in workloads.iter().zip(&mut kept) {
        let (kept, anew) = (kept.current(), anew.subscribe(&id(workload)).current());
        for kind in Kind::ALL {
            let versions = |view: &View| -> Vec<(String, String)> {
                view.of(kind)
                    .iter()
                    .map(|(name, item)| (name.clone(), item.version.clone()))
                    .collect()
            };
            assert_eq!(versions(&kept), versions(&anew), "{workload} {kind:?}");
        }
    }
}

#[tokio::test]
async fn audit_rules_open_nothing_but_the_server_hears_of_them() {
    let mut mesh = Mesh::shop().await;
    let mut audit = allow_spec("api", &["shop/intruder"]);
    audit.mode = v1::Mode::Audit.into();
    mesh.put([resource("trial", v1::resource::Spec::Allow(audit))])
        .await;
    assert!(mesh.seen("intruder", Kind::Outbound).is_empty());
    let inbound: v1::Inbound = unpack(&mesh.view("api").of(Kind::Inbound)["shop/api"].any).unwrap();
    assert_eq!(inbound.rules.len(), 2);
}

#[tokio::test]
async fn a_rule_that_expires_closes_what_it_opened() {
    let mut mesh = Mesh::shop().await;
    let mut web = mesh.views.subscribe(&id("web"));
    let expires = Timestamp::now() + SignedDuration::from_secs(3600);
    let mut spec = allow_spec("orders", &["shop/web"]);
    spec.expires = Some(write_timestamp(expires));
    mesh.put([resource("brief", v1::resource::Spec::Allow(spec))])
        .await;
    assert_eq!(web.current().of(Kind::Outbound).len(), 2);
    assert_eq!(mesh.views.next_expiry(), Some(expires));
    mesh.views.expire(expires);
    assert_eq!(
        web.current().of(Kind::Outbound).keys().collect::<Vec<_>>(),
        ["shop/api"]
    );
    assert_eq!(mesh.views.next_expiry(), None);
}

#[tokio::test]
async fn a_quarantined_identity_calls_nothing_and_is_named_to_whoever_may_meet_it() {
    let mut mesh = Mesh::shop().await;
    mesh.offer("api", Some("api")).await;
    let streams =
        ["web", "api", "orders", "intruder"].map(|workload| mesh.views.subscribe(&id(workload)));
    mesh.put([quarantine("q", "shop/api")]).await;
    assert!(mesh.seen("api", Kind::Outbound).is_empty());
    // web sees its endpoint, orders has a rule for it, intruder never meets it.
    for (workload, is_told) in [
        ("web", true),
        ("orders", true),
        ("api", true),
        ("intruder", false),
    ] {
        assert_eq!(
            !revocations(&mesh, workload).quarantined.is_empty(),
            is_told,
            "{workload}"
        );
    }
    mesh.delete("Quarantine", "q").await;
    assert_eq!(mesh.seen("api", Kind::Outbound), ["shop/orders"]);
    assert!(revocations(&mesh, "web").quarantined.is_empty());
    drop(streams);
}

#[tokio::test]
async fn a_revocation_reaches_whoever_may_meet_the_identity_and_no_one_else() {
    let mut mesh = Mesh::shop().await;
    let streams =
        ["web", "api", "orders", "intruder"].map(|workload| mesh.views.subscribe(&id(workload)));
    mesh.revoke("web").await;
    assert_eq!(
        revocations(&mesh, "api").identities,
        [id("web").to_string()]
    );
    assert_eq!(revocations(&mesh, "api").serials.len(), 1);
    assert!(revocations(&mesh, "orders").identities.is_empty());
    assert!(revocations(&mesh, "orders").serials.is_empty());
    assert!(mesh.seen("web", Kind::Outbound).is_empty());
    assert_eq!(
        mesh.views.touched_by(mesh.views.revision()),
        [id("api"), id("web")]
    );
    drop(streams);
}

#[tokio::test]
async fn a_service_that_comes_after_its_rule_is_seen_then() {
    let mut mesh = Mesh::new();
    let mut web = mesh.views.subscribe(&id("web"));
    mesh.put([allow("web-api", "api", &["shop/web"])]).await;
    assert!(web.current().of(Kind::Outbound).is_empty());
    mesh.put([service("api", &["shop/api"])]).await;
    assert_eq!(web.current().of(Kind::Outbound).len(), 1);
    mesh.delete("Service", "api").await;
    assert!(web.current().of(Kind::Outbound).is_empty());
}

#[tokio::test]
async fn an_endpoint_of_an_identity_that_may_no_longer_offer_the_service_goes() {
    let mut mesh = Mesh::shop().await;
    mesh.offer("api", Some("api")).await;
    assert_eq!(outbound(&mesh.view("web"), "shop/api").endpoints.len(), 1);
    mesh.put([service("api", &["shop/api-next"])]).await;
    assert!(outbound(&mesh.view("web"), "shop/api").endpoints.is_empty());
}

#[tokio::test]
async fn it_is_known_between_which_revisions_a_view_changed() {
    let mut mesh = Mesh::shop().await;
    let web = mesh.views.subscribe(&id("web"));
    let first = mesh.views.revision();
    mesh.put([allow("api-api", "api", &["shop/api"])]).await;
    mesh.put([allow("web-orders", "orders", &["shop/web"])])
        .await;
    let changed = mesh.views.revision();
    mesh.put([allow("other", "api", &["shop/other"])]).await;
    let last = mesh.views.revision();
    assert!(!web.has_changed(first, changed - 1));
    assert!(web.has_changed(first, changed) && web.has_changed(first, last));
    assert!(!web.has_changed(changed, last));
    assert!(web.has_changed(0, first), "its first view is new to it");
    // Everything before is forgotten.
    let world = World::clone(&mesh.views.world());
    mesh.views.replace(world);
    assert!(web.has_changed(first, changed));
}

#[tokio::test]
async fn a_change_that_leaves_a_view_as_it_was_asks_nothing_of_its_sidecars() {
    let mut mesh = Mesh::shop().await;
    let _web = mesh.views.subscribe(&id("web"));
    let required = mesh.views.required(&id("web"));
    mesh.put([allow("web-api", "api", &["shop/web", "shop/other"])])
        .await;
    assert_eq!(mesh.views.required(&id("web")), required);
    assert!(mesh.views.touched_by(mesh.views.revision()).is_empty());
}

#[tokio::test]
async fn sentence_56_where_a_namespace_learns_every_local_workload_sees_all_of_it() {
    let mut mesh = Mesh::shop().await;
    mesh.offer("api", Some("api")).await;
    let others = [
        "spiffe://partner.example/ns/shop/sa/web",
        "spiffe://weft.local/operator/admin",
    ]
    .map(|id| id.parse::<SpiffeId>().unwrap());
    let streams: Vec<Subscription> = others.iter().map(|id| mesh.views.subscribe(id)).collect();
    let mut intruder = mesh.views.subscribe(&id("intruder"));
    let until = in_an_hour();
    mesh.put([learning(until)]).await;
    let seen = intruder.current();
    assert_eq!(seen.of(Kind::Outbound).len(), 2);
    let api = outbound(&seen, "shop/api");
    assert_eq!((api.ports.len(), api.endpoints.len()), (2, 1));
    assert!(api.rules.is_empty(), "rules of others are not told");
    assert_eq!(
        (api.schema, api.learn_until),
        (2, Some(write_timestamp(until)))
    );
    let inbound: v1::Inbound = unpack(&mesh.view("api").of(Kind::Inbound)["shop/api"].any).unwrap();
    assert_eq!(inbound.learn_until, Some(write_timestamp(until)));
    for mut stream in streams {
        assert!(stream.current().of(Kind::Outbound).is_empty());
    }
    // Who comes later sees it too, and so is what comes later.
    assert_eq!(mesh.seen("late", Kind::Outbound).len(), 2);
    mesh.put([service("more", &["shop/more"])]).await;
    assert_eq!(intruder.current().of(Kind::Outbound).len(), 3);
    mesh.delete("Service", "more").await;
    assert_eq!(intruder.current().of(Kind::Outbound).len(), 2);

    mesh.delete("NamespaceSettings", "settings").await;
    assert!(intruder.current().of(Kind::Outbound).is_empty());
    assert_eq!(mesh.views.next_expiry(), None);
    let inbound: v1::Inbound = unpack(&mesh.view("api").of(Kind::Inbound)["shop/api"].any).unwrap();
    assert_eq!((inbound.schema, inbound.learn_until), (1, None));
}

#[tokio::test]
async fn views_shrink_at_the_end_of_learning_and_cost_those_that_saw_it() {
    let mut mesh = Mesh::shop().await;
    let mut web = mesh.views.subscribe(&id("web"));
    let mut intruder = mesh.views.subscribe(&id("intruder"));
    let until = in_an_hour();
    mesh.put([learning(until)]).await;
    assert_eq!(mesh.views.next_expiry(), Some(until));
    let before = mesh.views.recomputed();
    mesh.views.expire(until - SignedDuration::from_millis(1));
    assert_eq!(mesh.views.recomputed(), before);
    mesh.views.expire(until);
    // Two services for each of two that saw them.
    assert_eq!(mesh.views.recomputed() - before, 4);
    assert!(intruder.current().of(Kind::Outbound).is_empty());
    let api = outbound(&web.current(), "shop/api");
    assert_eq!((api.ports.len(), api.learn_until), (1, None));
    assert_eq!(mesh.views.next_expiry(), None);
    // From then on a service is nobody's business but theirs whom rules name.
    mesh.put([service("more", &["shop/more"])]).await;
    assert!(intruder.current().of(Kind::Outbound).is_empty());
}

#[tokio::test]
async fn row_14_whoever_offers_what_learns_is_told_of_everyone_who_is_distrusted() {
    let mut mesh = Mesh::shop().await;
    let streams = ["api", "orders", "intruder"].map(|workload| mesh.views.subscribe(&id(workload)));
    mesh.put([learning(in_an_hour())]).await;
    mesh.put([quarantine("q", "shop/intruder")]).await;
    mesh.revoke("web").await;
    for offering in ["api", "orders"] {
        let told = revocations(&mesh, offering);
        assert_eq!(told.quarantined, [id("intruder").to_string()], "{offering}");
        assert_eq!(told.identities, [id("web").to_string()], "{offering}");
    }
    assert!(mesh.seen("intruder", Kind::Outbound).is_empty());
    drop(streams);
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(3600)
}
