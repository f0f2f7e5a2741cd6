//! What grows by itself is bounded, and nobody's share pushes out another's.

use super::*;

#[tokio::test]
async fn the_audit_record_is_bounded_and_counts_what_it_dropped() {
    on_each_storage(|store| async move {
        for i in 0..80 {
            store
                .write(move |tx| tx.audit(entry(&format!("s{i}"))))
                .await
                .unwrap();
        }
        let read = store.read().unwrap();
        assert_eq!(
            (read.audit_count().unwrap(), read.audit_dropped().unwrap()),
            (64, 16)
        );
        let newest = read.audit_newest(3).unwrap();
        let sequences: Vec<_> = newest.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, [78, 79, 80]);
        assert_eq!(read.audit_after(79, 10).unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_decision_is_updated_by_its_reporter_alone_and_forgotten_after_a_day() {
    on_each_storage(|store| async move {
        let decision = |reporter: &str, count| v1::Decision {
            id: "01J".into(),
            reported_by: reporter.into(),
            count,
            ..Default::default()
        };
        let now = Timestamp::from_second(1_000_000).unwrap();
        let reports = vec![
            decision("web-1", 1),
            decision("intruder-1", 99),
            decision("web-1", 2),
        ];
        let written = store
            .write(move |tx| tx.put_decisions(now, reports))
            .await
            .unwrap();
        assert_eq!(written.value, 2);
        assert_eq!(
            store
                .read()
                .unwrap()
                .decision("01J")
                .unwrap()
                .unwrap()
                .count,
            2
        );
        let later = now + jiff::SignedDuration::from_hours(25);
        store
            .write(move |tx| tx.put_decisions(later, Vec::new()))
            .await
            .unwrap();
        assert!(store.read().unwrap().decision("01J").unwrap().is_none());
    })
    .await;
}

fn renewal(number: u64) -> AuditEntry {
    AuditEntry {
        action: "renew",
        ..entry(&format!("r{number}"))
    }
}

fn subjects(store: &Store, action: &str) -> Vec<String> {
    let records = store.read().unwrap().audit_newest(1000).unwrap();
    records
        .into_iter()
        .filter(|record| record.action == action)
        .map(|record| record.subject)
        .collect()
}

#[tokio::test]
async fn routine_renewals_do_not_push_out_what_operators_did() {
    on_each_storage(|store| async move {
        for i in 0..20 {
            let applied = entry(&format!("s{i}"));
            store.write(move |tx| tx.audit(applied)).await.unwrap();
        }
        for i in 0..500 {
            store.write(move |tx| tx.audit(renewal(i))).await.unwrap();
        }
        let (applied, renewed) = (subjects(&store, "apply"), subjects(&store, "renew"));
        assert_eq!((applied.len(), renewed.len()), (20, 44));
        assert_eq!((&*applied[0], &*renewed[0]), ("s0", "r456"));

        // What others leave is routine's; its half is its own.
        for i in 20..200 {
            let applied = entry(&format!("s{i}"));
            store.write(move |tx| tx.audit(applied)).await.unwrap();
        }
        let (applied, renewed) = (subjects(&store, "apply"), subjects(&store, "renew"));
        assert_eq!(applied.len() + renewed.len(), 64);
        assert_eq!(applied.last().unwrap(), "s199");
        for i in 500..600 {
            store.write(move |tx| tx.audit(renewal(i))).await.unwrap();
        }
        let (applied, renewed) = (subjects(&store, "apply"), subjects(&store, "renew"));
        assert_eq!((applied.len(), renewed.len()), (32, 32));
        let read = store.read().unwrap();
        assert_eq!(
            (read.audit_count().unwrap(), read.audit_dropped().unwrap()),
            (64, 800 - 64)
        );
    })
    .await;
}

#[tokio::test]
async fn a_transaction_drops_surplus_records_once_at_its_end() {
    on_each_storage(|store| async move {
        for round in 1..=3u64 {
            let written = store.write(move |tx| {
                for i in 0..100 {
                    tx.audit(entry(&format!("s{i}")))?;
                }
                tx.rows(Table::Audit, std::ops::Bound::Unbounded, usize::MAX)
            });
            let within = written.await.unwrap().value.len();
            assert_eq!(within, if round == 1 { 100 } else { 164 });
            let read = store.read().unwrap();
            assert_eq!(read.audit_newest(1000).unwrap().len(), 64);
            assert_eq!(read.audit_count().unwrap(), 64);
            assert_eq!(read.audit_dropped().unwrap(), round * 100 - 64);
        }
    })
    .await;
}

fn decision(reporter: &str, number: u64) -> v1::Decision {
    v1::Decision {
        id: format!("{reporter}-{number}"),
        reported_by: reporter.into(),
        count: 1,
        ..Default::default()
    }
}

async fn report(store: &Store, decisions: Vec<v1::Decision>) {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let write = store.write(move |tx| tx.put_decisions(now, decisions));
    write.await.unwrap();
}

fn kept(store: &Store, reporter: &str, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let read = store.read().unwrap();
    let is_kept = |number: &u64| {
        let id = decision(reporter, *number).id;
        read.decision(&id).unwrap().is_some()
    };
    numbers.filter(is_kept).collect()
}

#[tokio::test]
async fn row_11_a_reporter_pushes_out_its_own_decisions_and_nobody_elses() {
    on_each_storage(|store| async move {
        report(&store, vec![decision("web", 0)]).await;
        // A name that begins like another's.
        report(&store, vec![decision("web2", 0), decision("we", 0)]).await;
        for round in 0..20 {
            let flood = (0..25).map(|i| decision("web", 1 + round * 25 + i));
            report(&store, flood.collect()).await;
        }
        assert_eq!(kept(&store, "web2", 0..1), [0]);
        assert_eq!(kept(&store, "we", 0..1), [0]);
        assert_eq!(kept(&store, "web", 0..501), (481..501).collect::<Vec<_>>());

        // All together are bounded too, and the counts agree with what is there.
        for reporter in 0..20 {
            let flood = (0..20).map(|i| decision(&format!("w{reporter}"), i));
            report(&store, flood.collect()).await;
        }
        let read = store.read().unwrap();
        let rows = |table| {
            read.rows(table, std::ops::Bound::Unbounded, 10_000)
                .unwrap()
        };
        assert_eq!(rows(Table::Decisions).len(), 200);
        assert_eq!(rows(Table::DecisionOrder).len(), 200);
        let (own, counts): (Vec<_>, Vec<_>) = rows(Table::DecisionReporters)
            .into_iter()
            .partition(|(key, _)| key.contains(&0));
        let counted: u64 = counts
            .iter()
            .map(|(_, value)| u64::from_be_bytes(value.as_slice().try_into().unwrap()))
            .sum();
        assert_eq!((own.len(), counts.len(), counted), (200, 10, 200));
    })
    .await;
}
