use super::*;

fn refused<'a>(source: Peer<'a>, path: &'a str) -> Refused<'a> {
    Refused {
        side: Side::Server,
        source,
        service: "shop/api",
        port: "http",
        method: "GET",
        path,
        host: "",
        upgrade: "",
        reason: Reason::NoRule,
        revision: 7,
        detail: "",
    }
}

/// A word of its own for each number.
fn word(number: usize) -> String {
    let digits = format!("{number}").into_bytes();
    let letters = digits
        .iter()
        .map(|digit| char::from(b"aeiouybdgt"[usize::from(digit - b'0')]));
    letters.collect()
}

fn decisions() -> Decisions {
    Decisions::new(Arc::new(Metrics::default()))
}

#[test]
fn equal_refusals_share_an_id_and_a_count() {
    let decisions = decisions();
    let web: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
    let first = decisions.refuse(&refused(Peer::Verified(&web), "/orders/1?token=secret"));
    let second = decisions.refuse(&refused(Peer::Verified(&web), "/orders/2"));
    let other = decisions.refuse(&refused(Peer::Verified(&web), "/orders/open"));
    assert_eq!(first, second);
    assert_ne!(first, other);
    let mut unreported = decisions.unreported("api-1");
    unreported.sort_by_key(|(_, count, _)| *count);
    assert_eq!(unreported.len(), 2);
    assert_eq!(unreported[1].2.count, 2);
    assert_eq!(unreported[1].2.path, "/orders/{number}");
    decisions.mark_reported(
        unreported
            .into_iter()
            .map(|(key, count, _)| (key, count))
            .collect(),
    );
    assert!(decisions.unreported("api-1").is_empty());
}

#[test]
fn row_11_floods_of_refusals_keep_within_the_table() {
    let decisions = decisions();
    let web: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
    decisions.refuse(&refused(Peer::Verified(&web), "/kept"));
    for n in 0..5_000_u32 {
        let address = IpAddr::from(n.to_be_bytes());
        decisions.refuse(&refused(Peer::Unauthenticated(address), ""));
    }
    assert_eq!(decisions.table().entries.len(), UNAUTHENTICATED_LIMIT + 1);
    for n in 0..5_000 {
        decisions.refuse(&refused(Peer::Verified(&web), &format!("/{}", word(n))));
    }
    assert_eq!(decisions.table().entries.len(), TABLE_LIMIT);
    assert_eq!(decisions.table().order.len(), TABLE_LIMIT);
}

#[test]
fn long_and_identifying_segments_are_folded_and_short_ones_stay() {
    for (path, folded) in [
        ("/orders/1?card=4111", "/orders/{number}"),
        ("/t/aVeryLongTokenWithoutAnyDigitsInItAtAll", "/t/{text}"),
        (
            "/a/../t/aVeryLongTokenWithoutAnyDigitsInItAtAll?x",
            "/a/../t/~",
        ),
        ("", ""),
    ] {
        assert_eq!(super::folded(path), folded);
    }
    assert!(super::folded(&"/ä".repeat(10_000)).len() <= 256);
}

#[test]
fn an_id_is_a_ulid() {
    // The time of the specification's example, and no randomness.
    let id = DecisionId::from_parts(1_469_918_176_385, [0; 10]);
    assert_eq!(id.as_str(), "01ARYZ6S410000000000000000");
    assert_eq!(
        DecisionId::from_parts(u64::MAX, [255; 10]).as_str(),
        "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    );
}
