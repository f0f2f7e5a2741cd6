use std::collections::HashMap;

use weft_wire::{rpc, v1};

use super::*;

/// A view with outbound services, each of some content, and the kinds of which there is one.
fn view(revision: u64, services: &[(&str, bool)]) -> View {
    let mut view = View::new(revision);
    for (name, content) in services {
        let outbound = v1::Outbound {
            service: (*name).to_owned(),
            keep_encoded_slashes: *content,
            ..v1::Outbound::default()
        };
        view.put(Kind::Outbound, name, Some(Item::new(&outbound)));
    }
    view.put(
        Kind::Revocations,
        "revocations",
        Some(Item::new(&v1::Revocations::default())),
    );
    view
}

fn request(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, reason: &str) -> DeltaDiscoveryRequest {
    let error = rpc::Status {
        message: reason.to_owned(),
        ..rpc::Status::default()
    };
    DeltaDiscoveryRequest {
        error_detail: Some(error),
        ..ack(response)
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

/// A client that follows everything it must, and has acknowledged this view.
fn settled(view: &View) -> Exchange {
    let mut exchange = Exchange::default();
    for kind in ENFORCED {
        exchange.receive(&request(kind)).unwrap();
        for response in exchange.answer(view) {
            exchange.receive(&ack(&response)).unwrap();
        }
    }
    assert_eq!(exchange.acknowledged(), view.revision);
    exchange
}

#[test]
fn a_first_request_is_answered_with_everything_even_if_that_is_nothing() {
    let mut exchange = Exchange::default();
    exchange.receive(&request(Kind::Inbound)).unwrap();
    let responses = exchange.answer(&view(7, &[]));
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].system_version_info, "7");
    assert!(responses[0].resources.is_empty());
    assert!(exchange.answer(&view(7, &[])).is_empty());
}

#[test]
fn only_what_differs_is_sent() {
    let mut exchange = settled(&view(1, &[("shop/a", false), ("shop/b", false)]));
    let responses = exchange.answer(&view(
        2,
        &[("shop/a", true), ("shop/b", false), ("shop/c", false)],
    ));
    assert_eq!(responses.len(), 1);
    assert_eq!(names(&responses[0]), ["shop/a", "shop/c"]);
    assert!(responses[0].removed_resources.is_empty());
}

#[test]
fn a_client_that_comes_back_is_sent_only_what_it_lacks() {
    let now = view(9, &[("shop/a", false), ("shop/b", true)]);
    let version = |name: &str| now.of(Kind::Outbound)[name].version.clone();
    let mut first = request(Kind::Outbound);
    first.initial_resource_versions = HashMap::from([
        ("shop/a".to_owned(), version("shop/a")),
        ("shop/b".to_owned(), "old".to_owned()),
        ("shop/gone".to_owned(), "old".to_owned()),
    ]);
    let mut exchange = Exchange::default();
    exchange.receive(&first).unwrap();
    let responses = exchange.answer(&now);
    assert_eq!(names(&responses[0]), ["shop/b"]);
    assert_eq!(responses[0].removed_resources, ["shop/gone"]);
}

#[test]
fn revocations_come_first_and_removals_before_additions() {
    let mut exchange = settled(&view(1, &[("shop/a", false)]));
    let mut next = view(2, &[]);
    let revoked = v1::Revocations {
        identities: vec!["spiffe://td/x".into()],
        ..Default::default()
    };
    next.put(Kind::Revocations, "revocations", Some(Item::new(&revoked)));
    next.put(
        Kind::Inbound,
        "shop/b",
        Some(Item::new(&v1::Inbound::default())),
    );
    let responses = exchange.answer(&next);
    let kinds: Vec<_> = responses
        .iter()
        .map(|response| Kind::of_type_url(&response.type_url))
        .collect();
    assert_eq!(
        kinds,
        [
            Some(Kind::Revocations),
            Some(Kind::Outbound),
            Some(Kind::Inbound)
        ]
    );
    assert_eq!(responses[1].removed_resources, ["shop/a"]);
}

#[test]
fn a_view_is_acknowledged_when_every_response_of_it_is() {
    let mut exchange = settled(&view(1, &[]));
    let mut next = view(2, &[("shop/a", false)]);
    next.put(
        Kind::Inbound,
        "shop/b",
        Some(Item::new(&v1::Inbound::default())),
    );
    let responses = exchange.answer(&next);
    assert_eq!(responses.len(), 2);
    exchange.receive(&ack(&responses[1])).unwrap();
    assert_eq!(exchange.acknowledged(), 1);
    exchange.receive(&ack(&responses[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 2);
}

/// As sidecars do: every kind is asked for before any answer is read.
fn asked_for_everything(view: &View) -> (Exchange, Vec<DeltaDiscoveryResponse>) {
    let mut exchange = Exchange::default();
    let mut responses = Vec::new();
    for kind in Kind::ALL {
        exchange.receive(&request(kind)).unwrap();
        responses.extend(exchange.answer(view));
    }
    (exchange, responses)
}

#[test]
fn a_first_view_is_acknowledged_only_when_every_kind_of_it_is() {
    let (mut exchange, responses) = asked_for_everything(&view(7, &[("shop/a", false)]));
    for response in &responses {
        assert_eq!(exchange.acknowledged(), 0, "{}", response.type_url);
        exchange.receive(&ack(response)).unwrap();
    }
    assert_eq!(exchange.acknowledged(), 7);
}

#[test]
fn a_first_view_of_which_a_kind_is_refused_is_not_acknowledged() {
    let (mut exchange, responses) = asked_for_everything(&view(7, &[("shop/a", false)]));
    for response in &responses {
        let answer = match Kind::of_type_url(&response.type_url) {
            Some(Kind::Outbound) => nack(response, ""),
            _ => ack(response),
        };
        exchange.receive(&answer).unwrap();
    }
    assert_eq!(exchange.acknowledged(), 0);
    assert_eq!(exchange.refused(), "it did not say why");
}

#[test]
fn a_kind_that_is_followed_later_holds_back_what_was_not_acknowledged_before() {
    let mut exchange = settled(&view(1, &[]));
    let second = exchange.answer(&view(2, &[("shop/a", false)]));
    exchange.receive(&request(Kind::Mesh)).unwrap();
    let first_of_mesh = exchange.answer(&view(2, &[("shop/a", false)]));
    exchange.receive(&ack(&second[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 1);
    exchange.receive(&ack(&first_of_mesh[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 2);
}

#[test]
fn an_older_view_is_acknowledged_while_a_newer_one_is_open() {
    let mut exchange = settled(&view(1, &[]));
    let second = exchange.answer(&view(2, &[("shop/a", false)]));
    let third = exchange.answer(&view(3, &[("shop/a", true)]));
    exchange.receive(&ack(&second[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 2);
    exchange.receive(&ack(&third[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 3);
}

#[test]
fn a_client_that_follows_less_than_it_must_acknowledges_nothing() {
    let mut exchange = Exchange::default();
    let view = view(4, &[]);
    exchange.receive(&request(Kind::Outbound)).unwrap();
    for response in exchange.answer(&view) {
        exchange.receive(&ack(&response)).unwrap();
    }
    assert_eq!(exchange.acknowledged(), 0);
}

#[test]
fn a_refused_resource_stays_unacknowledged_until_a_readable_one_is() {
    let mut exchange = settled(&view(1, &[("shop/a", false), ("shop/b", false)]));
    let bad = exchange.answer(&view(2, &[("shop/a", true), ("shop/b", true)]));
    exchange
        .receive(&nack(&bad[0], "shop/a: rules[0]: unknown\nfield"))
        .unwrap();
    assert_eq!(exchange.acknowledged(), 1);
    assert!(exchange.refused().contains("unknown\\nfield"));
    // It is not sent again by itself: that would be a loop.
    assert!(
        exchange
            .answer(&view(2, &[("shop/a", true), ("shop/b", true)]))
            .is_empty()
    );
    // Another resource does not heal it.
    let other = exchange.answer(&view(
        3,
        &[("shop/a", true), ("shop/b", true), ("shop/c", true)],
    ));
    exchange.receive(&ack(&other[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 1);
    // Its next state comes with everything that was refused along with it.
    let good = exchange.answer(&view(
        4,
        &[("shop/a", false), ("shop/b", true), ("shop/c", true)],
    ));
    assert_eq!(names(&good[0]), ["shop/a", "shop/b"]);
    exchange.receive(&ack(&good[0])).unwrap();
    assert_eq!(exchange.acknowledged(), 4);
    assert_eq!(exchange.refused(), "");
}

#[test]
fn names_are_subscribed_and_unsubscribed_one_by_one() {
    let now = view(1, &[("shop/a", false), ("shop/b", false)]);
    let mut exchange = Exchange::default();
    let mut first = request(Kind::Outbound);
    first.resource_names_subscribe = vec!["shop/a".into(), "shop/none".into()];
    exchange.receive(&first).unwrap();
    let responses = exchange.answer(&now);
    assert_eq!(names(&responses[0]), ["shop/a"]);
    assert_eq!(responses[0].removed_resources, ["shop/none"]);

    let mut second = request(Kind::Outbound);
    second.resource_names_subscribe = vec!["*".into()];
    exchange.receive(&second).unwrap();
    assert_eq!(names(&exchange.answer(&now)[0]), ["shop/b"]);

    let mut third = request(Kind::Outbound);
    third.resource_names_unsubscribe = vec!["*".into(), "shop/a".into()];
    exchange.receive(&third).unwrap();
    assert!(exchange.answer(&now).is_empty());
}

#[test]
fn a_client_that_never_answers_is_sent_a_bounded_number_of_responses() {
    let mut exchange = settled(&view(1, &[]));
    let sent: usize = (0..500u64)
        .map(|i| {
            exchange
                .answer(&view(2 + i, &[("shop/a", i % 2 == 0)]))
                .len()
        })
        .sum();
    assert_eq!(sent, OPEN_RESPONSES);
}

/// Names of the greatest length, of which none is of another number.
fn long_names(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|i| format!("{i:0>NAME_BYTES$}")).collect()
}

#[test]
fn a_client_that_asks_on_and_never_answers_is_kept_a_bounded_number_of_names() {
    let mut exchange = settled(&view(1, &[]));
    let asked = 1000;
    let mut kept = 0;
    for _ in 0..OPEN_RESPONSES {
        let mut again = request(Kind::Outbound);
        again.resource_names_subscribe = long_names(0..asked);
        exchange.receive(&again).unwrap();
        exchange.answer(&view(1, &[]));
        let open = exchange.open.values();
        kept = open.map(|open| bytes_of(&open.names)).sum();
    }
    assert!(kept <= OPEN_BYTES + asked * NAME_BYTES, "{kept}");
    assert_eq!(kept, exchange.open_bytes);
}

#[test]
fn answers_make_room_for_what_was_held_back() {
    let mut exchange = settled(&view(1, &[]));
    let mut many = request(Kind::Outbound);
    many.resource_names_subscribe = long_names(0..OPEN_BYTES / NAME_BYTES);
    exchange.receive(&many).unwrap();
    let first = exchange.answer(&view(1, &[]));
    assert!(exchange.answer(&view(2, &[("shop/a", true)])).is_empty());
    exchange.receive(&ack(&first[0])).unwrap();
    let next = exchange.answer(&view(2, &[("shop/a", true)]));
    assert_eq!(names(&next[0]), ["shop/a"]);
}

#[test]
fn row_11_what_a_client_may_say_is_bounded_in_each_part_and_as_a_whole() {
    let with = |name: String, version: String| DeltaDiscoveryRequest {
        initial_resource_versions: HashMap::from([(name, version)]),
        ..request(Kind::Outbound)
    };
    let refusal = |request| Exchange::default().receive(&request);
    let (name, version) = ("x".repeat(NAME_BYTES), "v".repeat(VERSION_BYTES));
    assert_eq!(refusal(with(name.clone(), version.clone())), Ok(()));
    assert_eq!(
        refusal(with(name.clone() + "x", version.clone())),
        Err(ExchangeError::LongName)
    );
    assert_eq!(
        refusal(with(name, version + "v")),
        Err(ExchangeError::LongVersion)
    );

    let mut exchange = Exchange::default();
    let third = SAID_BYTES / NAME_BYTES / 3;
    let mut told = Ok(());
    for kind in Kind::ALL {
        let mut many = request(kind);
        many.resource_names_subscribe = long_names(0..third);
        told = told.and_then(|()| exchange.receive(&many));
        assert_eq!(told.is_ok(), kind < Kind::Inbound, "{kind:?}");
    }
    assert_eq!(told, Err(ExchangeError::TooMuch));
}

#[test]
fn names_that_are_given_up_make_room_for_others() {
    let mut exchange = Exchange::default();
    let half = SAID_BYTES / NAME_BYTES / 2 + 1;
    for begin in 0..4 {
        let mut other = request(Kind::Outbound);
        other.resource_names_subscribe = long_names(begin * half..(begin + 1) * half);
        exchange.receive(&other).unwrap();
        let mut done = request(Kind::Outbound);
        done.resource_names_unsubscribe = other.resource_names_subscribe;
        exchange.receive(&done).unwrap();
    }
}

#[test]
fn a_large_view_is_split_into_messages_that_clients_take() {
    let mut large = view(1, &[]);
    for i in 0..40 {
        let outbound = v1::Outbound {
            service: "x".repeat(100_000),
            ..Default::default()
        };
        large.put(
            Kind::Outbound,
            &format!("shop/s{i}"),
            Some(Item::new(&outbound)),
        );
    }
    let mut exchange = Exchange::default();
    exchange.receive(&request(Kind::Outbound)).unwrap();
    let responses = exchange.answer(&large);
    assert!(responses.len() >= 4);
    assert_eq!(
        responses
            .iter()
            .map(|response| response.resources.len())
            .sum::<usize>(),
        40
    );
    for response in &responses {
        assert!(prost::Message::encoded_len(response) < 2 << 20);
    }
}

#[test]
fn row_16_requests_that_make_no_sense_are_refused_or_mean_nothing() {
    let mut exchange = settled(&view(1, &[]));
    let mut unknown = request(Kind::Outbound);
    unknown.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster\n".to_owned();
    assert!(
        matches!(exchange.receive(&unknown), Err(ExchangeError::UnknownType(text)) if !text.contains('\n'))
    );
    let mut stray = request(Kind::Outbound);
    stray.response_nonce = "no nonce of ours".to_owned();
    exchange.receive(&stray).unwrap();
    let mut long = request(Kind::Outbound);
    long.resource_names_subscribe = vec!["x".repeat(NAME_BYTES + 1)];
    assert_eq!(exchange.receive(&long), Err(ExchangeError::LongName));
}
