use std::sync::LazyLock;

use proptest::prelude::*;
use weft_policy::{FlowHost, FlowRequest, HttpRequest, NoHeaders};
use weft_wire::v1;

use super::*;
use crate::fixture::{id, received, target};

static NOTHING: LazyLock<Enforced> = LazyLock::new(|| received(Vec::new()).enforced(false));

fn flows() -> (Flows, Arc<WorkerFlows>) {
    let flows = Flows::new(Arc::default(), 1);
    let worker = flows.of_worker();
    (flows, worker)
}

fn get<'a>(path: &'a str, host: Option<&'a str>) -> HttpRequest<'a> {
    HttpRequest {
        method: "GET",
        path,
        authority: host,
        headers: &NoHeaders,
        upgrade: None,
        connect: false,
    }
}

fn count(worker: &WorkerFlows, recent: &mut Recent, source: &SpiffeId, request: &HttpRequest<'_>) {
    let asked = Asked {
        source,
        target: &target("http"),
        request,
        judged: Judged::Denied(Reason::NoRule),
        enforced: &NOTHING,
        side: Side::Server,
    };
    worker.request(recent, &asked, Timestamp::now());
}

/// Everything that there is to report, and how much of it was lost.
fn reported(flows: &Flows) -> (Vec<weft_policy::Flow>, v1::FlowLoss) {
    let (mut told, mut loss) = (Vec::new(), v1::FlowLoss::default());
    while let Some(report) = flows.next_report(Timestamp::now()) {
        assert!(report.flows.len() <= 500);
        let read = |flow: &v1::Flow| weft_policy::Flow::try_from(flow).unwrap();
        told.extend(report.flows.iter().map(read));
        let lost = report.loss.unwrap();
        loss.dropped += lost.dropped;
        loss.folded += lost.folded;
        flows.answered();
    }
    (told, loss)
}

fn request(flow: &weft_policy::Flow) -> &FlowRequest {
    flow.key.request.as_ref().unwrap()
}

fn path(flow: &weft_policy::Flow) -> &str {
    request(flow).path.as_ref().unwrap().as_str()
}

/// A word of its own for each number, which no folding takes for an identifier.
fn word(number: usize) -> String {
    let digits = number.to_string().into_bytes();
    let letter = |digit: &u8| char::from(b"aeiouybdgt"[usize::from(digit - b'0')]);
    digits.iter().map(letter).collect()
}

#[test]
fn equal_requests_are_one_flow_that_is_told_once_and_then_by_what_is_new() {
    let (flows, worker) = flows();
    let (mut recent, web) = (Recent::default(), id("shop/web"));
    for path in ["/orders/1?card=4111", "/orders/1?card=4111", "/orders/2"] {
        count(&worker, &mut recent, &web, &get(path, Some("API.shop:80")));
    }
    let (told, loss) = reported(&flows);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].count, path(&told[0])), (3, "/orders/{number}"));
    assert_eq!(request(&told[0]).host, FlowHost::Named("api.shop".into()));
    assert_eq!(loss, v1::FlowLoss::default());
    assert!(flows.next_report(Timestamp::now()).is_none());
    count(
        &worker,
        &mut recent,
        &web,
        &get("/orders/2", Some("api.shop")),
    );
    let (told, _) = reported(&flows);
    assert_eq!((told.len(), told[0].count), (1, 1));
}

#[test]
fn whatever_differs_in_what_rules_ask_is_a_flow_of_its_own() {
    let (flows, worker) = flows();
    let (mut recent, web, batch) = (Recent::default(), id("shop/web"), id("shop/batch"));
    let base = get("/a", Some("x"));
    count(&worker, &mut recent, &web, &base);
    for other in [
        HttpRequest {
            method: "POST",
            ..base
        },
        HttpRequest { path: "/b", ..base },
        HttpRequest {
            authority: None,
            ..base
        },
        HttpRequest {
            authority: Some("y"),
            ..base
        },
        HttpRequest {
            upgrade: Some("websocket"),
            ..base
        },
        HttpRequest {
            connect: true,
            ..base
        },
        HttpRequest {
            connect: true,
            path: "",
            ..base
        },
    ] {
        count(&worker, &mut recent, &web, &other);
        count(&worker, &mut recent, &web, &base);
    }
    count(&worker, &mut Recent::default(), &batch, &base);
    worker.connection(&web, &target("raw"), Judged::Denied(Reason::NoRule));
    worker.connection(&web, &target("raw"), Judged::Denied(Reason::Quarantined));
    let rule: RuleName = "shop/web".parse().unwrap();
    worker.connection(&web, &target("raw"), Judged::Allowed(&rule));
    let (told, _) = reported(&flows);
    let mut counts: Vec<u64> = told.iter().map(|flow| flow.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8]);
}

#[test]
fn conditions_of_the_ports_rules_are_told_and_no_value() {
    let (flows, worker) = flows();
    let rule = crate::fixture::rule(
        "gold",
        "  from: [shop/web]\n  http: [{headers: [{name: x-tier, exact: gold}], paths: [/v/404/*]}]",
    );
    let received = received(vec![rule]);
    let enforced = received.enforced(false);
    let (mut recent, web) = (Recent::default(), id("shop/web"));
    for tier in ["silver", "silver", "gold", "s3cret"] {
        let headers = vec![("X-Tier".to_owned(), tier.to_owned())];
        let request = HttpRequest {
            headers: &headers,
            ..get("/v/404/405", None)
        };
        let asked = Asked {
            source: &web,
            target: &target("http"),
            request: &request,
            judged: Judged::Denied(Reason::NoRule),
            enforced: &enforced,
            side: Side::Server,
        };
        worker.request(&mut recent, &asked, Timestamp::now());
    }
    let (mut told, _) = reported(&flows);
    told.sort_by_key(|flow| flow.count);
    let seen = |flow: &weft_policy::Flow| {
        let (condition, seen) = &request(flow).headers[0];
        (condition.to_string(), seen.as_str())
    };
    assert_eq!(told.len(), 2);
    assert_eq!(seen(&told[0]), ("x-tier: gold".to_owned(), "matched"));
    assert_eq!(seen(&told[1]), ("x-tier: gold".to_owned(), "differed"));
    assert_eq!(path(&told[1]), "/v/404/{number}");
}

#[test]
fn row_11_a_flood_of_paths_is_told_less_exactly_and_costs_others_nothing() {
    let (flows, worker) = flows();
    let (mut recent, web, batch) = (Recent::default(), id("shop/web"), id("shop/batch"));
    let rule: RuleName = "shop/web".parse().unwrap();
    for number in 0..20_000 {
        let path = format!("/{}/{}", word(number % 100), word(number));
        count(&worker, &mut recent, &web, &get(&path, Some(&word(number))));
    }
    // The same caller's other verdict, and another caller, are as exact as ever.
    let ordinary = get("/exact/path", Some("api.shop"));
    let allowed = Asked {
        source: &web,
        target: &target("http"),
        request: &ordinary,
        judged: Judged::Allowed(&rule),
        enforced: &NOTHING,
        side: Side::Server,
    };
    worker.request(&mut recent, &allowed, Timestamp::now());
    count(&worker, &mut recent, &batch, &ordinary);
    let entries = worker.table().len();
    assert!(entries <= 256 + 64 + 32 + 32 + 2, "{entries}");
    let (told, loss) = reported(&flows);
    let exact: Vec<_> = told
        .iter()
        .filter(|flow| path(flow) == "/exact/path")
        .collect();
    assert_eq!(exact.len(), 2);
    let folded = told.iter().filter(|flow| path(flow).ends_with("{rest}"));
    let folded: u64 = folded.map(|flow| flow.count).sum();
    assert!(folded > 19_000, "{folded}");
    assert_eq!((loss.folded, loss.dropped), (folded, 0));
    assert!(
        told.iter()
            .any(|flow| request(flow).host == FlowHost::Folded)
    );
    assert_eq!(told.iter().map(|flow| flow.count).sum::<u64>(), 20_002);
}

#[test]
fn row_11_methods_that_nobody_knows_fill_no_more_than_their_callers_part() {
    let (flows, worker) = flows();
    let (mut recent, web) = (Recent::default(), id("shop/web"));
    for number in 0..5000 {
        let method = word(number);
        let request = HttpRequest {
            method: &method,
            ..get("/", None)
        };
        count(&worker, &mut recent, &web, &request);
    }
    assert_eq!(worker.table().len(), ENTRIES / 4);
    count(&worker, &mut recent, &id("shop/batch"), &get("/", None));
    assert_eq!(worker.table().len(), ENTRIES / 4 + 1);
    let (told, loss) = reported(&flows);
    let sum: u64 = told.iter().map(|flow| flow.count).sum();
    assert_eq!((sum + loss.dropped, loss.folded), (5001, 0));
    // What no log should show is in no flow.
    let long = "X".repeat(100);
    for request in [
        HttpRequest {
            method: &long,
            ..get("/", None)
        },
        HttpRequest {
            method: "G T",
            ..get("/", None)
        },
        HttpRequest {
            upgrade: Some("a\nb"),
            ..get("/", None)
        },
    ] {
        count(&worker, &mut recent, &web, &request);
    }
    assert_eq!(reported(&flows).1.dropped, 3);
}

#[test]
fn a_report_is_the_same_until_it_is_answered() {
    let (flows, worker) = flows();
    let (mut recent, web) = (Recent::default(), id("shop/web"));
    count(&worker, &mut recent, &web, &get("/a", None));
    let first = flows.next_report(Timestamp::now()).unwrap();
    count(&worker, &mut recent, &web, &get("/a", None));
    assert_eq!(flows.next_report(Timestamp::now()).unwrap(), first);
    flows.answered();
    let second = flows.next_report(Timestamp::now()).unwrap();
    assert_eq!(
        (second.run, second.sequence),
        (first.run, first.sequence + 1)
    );
    assert_eq!((first.flows[0].count, second.flows[0].count), (1, 1));
}

#[test]
fn what_is_idle_is_forgotten_once_it_is_told_and_nobody_may_count_it_any_more() {
    let (flows, worker) = flows();
    let (mut recent, web) = (Recent::default(), id("shop/web"));
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    count(&worker, &mut recent, &web, &get("/kept", None));
    count(&worker, &mut Recent::default(), &web, &get("/left", None));
    worker.table().forget_idle(later);
    assert_eq!(worker.table().len(), 2, "they were not told");
    reported(&flows);
    worker.table().forget_idle(later);
    assert_eq!(worker.table().len(), 1, "a connection may count the other");
    count(&worker, &mut recent, &web, &get("/kept", None));
    assert_eq!(reported(&flows).0[0].count, 1);
    drop(recent);
    worker.table().forget_idle(later);
    assert_eq!(worker.table().len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_verdict_is_in_a_flow_as_it_was_or_counted_as_dropped(
        requests in proptest::collection::vec(
            (0..3_usize, "[A-Z]{1,2}|\\PC{0,40}", "(/[a-z0-9]{0,3}){0,4}|\\PC{0,8}", proptest::option::of("[a-zA-Z]{1,3}|\\PC{0,4}"), any::<bool>()),
            0..600,
        ),
    ) {
        let flows = Flows::new(Arc::default(), 1000);
        let worker = flows.of_worker();
        let rule: RuleName = "shop/web".parse().unwrap();
        let sources = ["shop/a", "shop/b", "shop/c"].map(id);
        let mut recents = [(); 3].map(|()| Recent::default());
        let mut allowed = 0;
        for (of, method, path, host, is_allowed) in &requests {
            let request = HttpRequest { method, ..get(path, host.as_deref()) };
            let asked = Asked {
                source: &sources[*of],
                target: &target("http"),
                request: &request,
                judged: if *is_allowed { Judged::Allowed(&rule) } else { Judged::Denied(Reason::NoRule) },
                enforced: &NOTHING,
                side: Side::Server,
            };
            allowed += u64::from(*is_allowed);
            worker.request(&mut recents[*of], &asked, Timestamp::now());
        }
        prop_assert!(worker.table().len() <= ENTRIES_AT_LEAST);
        let (told, loss) = reported(&flows);
        let sum: u64 = told.iter().map(|flow| flow.count).sum();
        prop_assert_eq!(sum + loss.dropped, requests.len() as u64);
        let is_allowed = |flow: &&weft_policy::Flow| matches!(flow.key.judged, weft_policy::Judged::Allowed(_));
        let told_allowed: u64 = told.iter().filter(is_allowed).map(|flow| flow.count).sum();
        prop_assert!(told_allowed <= allowed && told_allowed + loss.dropped >= allowed);
    }
}
