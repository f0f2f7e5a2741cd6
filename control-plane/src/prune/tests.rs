use std::sync::mpsc;

use weft_identity::{JoinToken, Serial};

use super::*;
use crate::lineages;
use crate::revocations::{self, Wanted};
use crate::store::{RevocationTarget, VolatileBackend};
use crate::tokens;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn serial(number: u16, ends: Timestamp) -> StoredSerial {
    StoredSerial {
        serial: Serial::new(&[&[1], &number.to_be_bytes()[..]].concat()),
        lineage: "l".into(),
        identity: "spiffe://weft.local/ns/shop/sa/api".parse().unwrap(),
        not_after: ends,
    }
}

/// Serials of which every other one ends at 10 and the rest at 20, each revoked.
async fn revoked_serials(store: &Store, count: u16) {
    let write = store.write(move |tx| {
        for number in 0..count {
            let known = serial(number, at(10 + i64::from(number % 2) * 10));
            let key = known.serial.to_string();
            tx.put_record(Table::Serials, key.as_bytes(), &known)?;
            let wanted = Wanted {
                target: RevocationTarget::Serial(key),
                reason: "stolen".into(),
                actor: "ada".into(),
                now: at(0),
            };
            revocations::revoke(tx, wanted)?;
        }
        Ok::<_, StoreError>(())
    });
    write.await.unwrap();
}

fn counts(store: &Store) -> [usize; 2] {
    let read = store.read().unwrap();
    let rows = |table| {
        read.rows(table, Bound::Unbounded, usize::MAX)
            .unwrap()
            .len()
    };
    [Table::Serials, Table::Revocations].map(rows)
}

#[tokio::test]
async fn what_has_ended_is_forgotten_in_bounded_transactions_and_nothing_else_is() {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    revoked_serials(&store, 1000).await;
    let mut watch = store.watch();
    all(&store, at(10)).await.unwrap();
    assert_eq!(counts(&store), [1000, 1000], "they are valid to the end");
    all(&store, at(15)).await.unwrap();
    assert_eq!(counts(&store), [500, 1000], "revocations stay a day longer");
    all(&store, at(15 + 24 * 3600)).await.unwrap();
    assert_eq!(counts(&store), [0, 500]);
    let mut commits = 0;
    while let Some(commit) = watch.try_next() {
        commits += 1;
        assert!(commit.unwrap().changes.len() <= PAGE);
    }
    assert!(commits > 1);
}

#[tokio::test]
async fn looking_waits_for_no_writer_and_holds_none() {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    revoked_serials(&store, 300).await;
    let (go_on, waits) = mpsc::channel::<()>();
    let (has_begun, begun) = tokio::sync::oneshot::channel();
    let busy = store.write(move |_| {
        let _ = has_begun.send(());
        let _ = waits.recv();
        Ok::<_, StoreError>(())
    });
    let looks = async {
        begun.await.unwrap();
        // Nothing has ended yet, so nothing is to be written.
        ended::<StoredSerial>(&store, at(0)).await.unwrap();
        ended::<Revocation>(&store, at(0)).await.unwrap();
        drop(go_on);
    };
    let both = async { tokio::join!(busy, looks) };
    let (written, ()) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("the look waits for the writer");
    written.unwrap();
}

#[tokio::test]
async fn what_was_replaced_since_the_look_stays() {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    revoked_serials(&store, 2).await;
    let keys = [0, 1].map(|number| serial(number, at(0)).serial.to_string().into_bytes());
    let write = store.write(move |tx| forget::<StoredSerial>(tx, &keys, at(15)));
    write.await.unwrap();
    let read = store.read().unwrap();
    let known = |number| lineages::serial(&read, &serial(number, at(0)).serial).unwrap();
    assert!(known(0).is_none() && known(1).is_some());
}

#[tokio::test]
async fn expired_tokens_are_forgotten() {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    let trust_domain: weft_identity::TrustDomain = "weft.local".parse().unwrap();
    let write = store.write(move |tx| {
        for (secret, ends) in [(1, 10), (2, 20)] {
            let token = JoinToken::new([secret; 32], [0; 32], trust_domain.clone());
            let id = "spiffe://weft.local/ns/shop/sa/api".parse().unwrap();
            tokens::create(tx, &token, id, at(ends))?;
        }
        Ok::<_, StoreError>(())
    });
    write.await.unwrap();
    all(&store, at(15)).await.unwrap();
    let read = store.read().unwrap();
    let left = read.rows(Table::Tokens, Bound::Unbounded, 10).unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn nothing_is_forgotten_by_a_clock_that_leapt_ahead() {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    revoked_serials(&store, 10).await;
    let reading = |second, running| Reading {
        wall: at(second),
        running: Duration::from_secs(running),
    };
    let mut clocks = Clocks::new(reading(0, 1000));
    let year = 365 * 24 * 3600;
    let leapt = look(&store, &mut clocks, reading(year, 1060)).await;
    leapt.unwrap();
    assert_eq!(counts(&store), [10, 10]);
    let right = look(&store, &mut clocks, reading(15, 1015)).await;
    right.unwrap();
    assert_eq!(counts(&store), [5, 10]);
}
