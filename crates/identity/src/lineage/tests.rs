use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn serial(number: u8) -> Serial {
    Serial::new(&[number])
}

fn generation(number: u8) -> Generation {
    Generation {
        serial: serial(number),
        key_fingerprint: [number; 32],
        not_after: at(1000),
    }
}

fn lineage() -> Lineage {
    Lineage::begin(
        "spiffe://weft.local/ns/shop/sa/web".parse().unwrap(),
        generation(1),
        at(0),
    )
}

fn renew(lineage: &mut Lineage, presented: u8, key: u8) -> LineageVerdict {
    lineage.renew(&serial(presented), &[key; 32], at(10))
}

#[test]
fn each_renewal_moves_the_lineage_on() {
    let mut lineage = lineage();
    for number in 1..20 {
        assert_eq!(
            renew(&mut lineage, number, number + 1),
            LineageVerdict::Issue { revokes: None }
        );
        lineage.issued(generation(number + 1));
    }
    assert_eq!(lineage.current().serial, serial(19));
    assert_eq!(lineage.live_serials(), [serial(19), serial(18), serial(20)]);
}

#[test]
fn a_retry_with_the_same_key_repeats_the_answer() {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(generation(2));
    assert_eq!(
        renew(&mut lineage, 1, 2),
        LineageVerdict::Repeat { serial: serial(2) }
    );
    assert_eq!(lineage.seen_in_use(&serial(2)), Seen::MovedOn);
    assert_eq!(lineage.seen_in_use(&serial(2)), Seen::NothingNew);
    assert_eq!(
        renew(&mut lineage, 1, 2),
        LineageVerdict::Repeat { serial: serial(2) }
    );
    assert_eq!(lineage.state(), State::Active);
}

#[test]
fn a_retry_with_another_key_revokes_the_unused_successor() {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(generation(2));
    assert_eq!(
        renew(&mut lineage, 1, 3),
        LineageVerdict::Issue {
            revokes: Some(serial(2))
        }
    );
    lineage.issued(generation(3));
    assert_eq!(
        renew(&mut lineage, 3, 4),
        LineageVerdict::Issue { revokes: None }
    );
}

/// The thief renews from the owner's SVID again after the owner did, and before the owner's first connection.
fn taken_over() -> Lineage {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(generation(2));
    renew(&mut lineage, 1, 66);
    lineage.issued(generation(66));
    lineage
}

#[test]
fn row_06_an_svid_whose_place_another_one_took_freezes_the_lineage_when_it_is_used() {
    for thief_is_first in [true, false] {
        for renews in [true, false] {
            let mut lineage = taken_over();
            if thief_is_first {
                assert_eq!(lineage.seen_in_use(&serial(66)), Seen::MovedOn);
            }
            if renews {
                assert_eq!(
                    renew(&mut lineage, 2, 3),
                    LineageVerdict::Freeze(ParallelUse::Superseded)
                );
            } else {
                assert_eq!(
                    lineage.seen_in_use(&serial(2)),
                    Seen::Frozen(ParallelUse::Superseded)
                );
            }
            assert_eq!(lineage.state(), State::Frozen);
            assert_eq!(
                renew(&mut lineage, 66, 67),
                LineageVerdict::Refused(Refusal::Frozen)
            );
            assert_eq!(lineage.seen_in_use(&serial(2)), Seen::NothingNew);
        }
    }
}

#[test]
fn row_06_renewing_from_an_svid_whose_successor_is_in_use_freezes_the_lineage() {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(generation(2));
    lineage.seen_in_use(&serial(2));
    assert_eq!(
        renew(&mut lineage, 1, 9),
        LineageVerdict::Freeze(ParallelUse::LeftBehind)
    );
    assert_eq!(lineage.state(), State::Frozen);
    for presented in [1, 2, 9] {
        assert_eq!(
            renew(&mut lineage, presented, 4),
            LineageVerdict::Refused(Refusal::Frozen)
        );
    }
}

#[test]
fn row_06_a_thief_who_renews_first_is_found_when_the_owner_renews() {
    let mut lineage = lineage();
    assert_eq!(
        renew(&mut lineage, 1, 66),
        LineageVerdict::Issue { revokes: None }
    );
    lineage.issued(generation(66));
    renew(&mut lineage, 66, 67);
    assert_eq!(
        renew(&mut lineage, 1, 2),
        LineageVerdict::Freeze(ParallelUse::LeftBehind)
    );
}

#[test]
fn row_06_an_svid_of_an_older_generation_freezes_the_lineage() {
    let mut lineage = lineage();
    for number in 1..4 {
        renew(&mut lineage, number, number + 1);
        lineage.issued(generation(number + 1));
    }
    assert_eq!(
        renew(&mut lineage, 1, 2),
        LineageVerdict::Freeze(ParallelUse::LeftBehind)
    );
}

#[test]
fn a_key_serves_one_generation_only() {
    assert_eq!(
        renew(&mut lineage(), 1, 1),
        LineageVerdict::Refused(Refusal::KeyReused)
    );
}

#[test]
fn an_expired_successor_is_not_repeated() {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(Generation {
        not_after: at(5),
        ..generation(2)
    });
    assert_eq!(
        renew(&mut lineage, 1, 2),
        LineageVerdict::Issue {
            revokes: Some(serial(2))
        }
    );
}

#[test]
fn a_revoked_lineage_issues_no_more_and_names_what_is_alive() {
    let mut lineage = lineage();
    renew(&mut lineage, 1, 2);
    lineage.issued(generation(2));
    assert_eq!(lineage.revoke(), [serial(1), serial(2)]);
    assert_eq!(
        renew(&mut lineage, 1, 3),
        LineageVerdict::Refused(Refusal::Revoked)
    );
}

#[test]
fn row_06_whoever_renews_with_ever_new_keys_freezes_the_lineage_after_a_few() {
    let mut lineage = lineage();
    let mut revoked = Vec::new();
    for key in 2..60 {
        match renew(&mut lineage, 1, key) {
            LineageVerdict::Issue { revokes } => {
                revoked.extend(revokes);
                lineage.issued(generation(key));
            }
            LineageVerdict::Freeze(why) => assert_eq!(why, ParallelUse::EverNewKeys),
            other => assert_eq!(other, LineageVerdict::Refused(Refusal::Frozen)),
        }
    }
    assert_eq!(lineage.state(), State::Frozen);
    assert_eq!(revoked, [serial(2), serial(3), serial(4)]);
}

#[test]
fn the_record_survives_the_store() {
    let lineage = taken_over();
    let json = serde_json::to_string(&lineage).unwrap();
    assert_eq!(serde_json::from_str::<Lineage>(&json).unwrap(), lineage);
}
