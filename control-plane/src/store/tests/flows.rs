//! Flows add up by the hour, are bounded, and what was lost is told.

use std::ops::Bound;

use jiff::SignedDuration;
use weft_policy::Flow;

use super::*;

const NOW: i64 = 1_000_000 * 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// A flow of its own for each number.
fn flow(number: u64, last_seen: Timestamp) -> Flow {
    let time = Some(weft_wire::write_timestamp(last_seen));
    let message = v1::Flow {
        source: format!("spiffe://weft.local/ns/shop/sa/w{number}"),
        service: "shop/api".into(),
        port: "http".into(),
        traffic: Some(v1::flow::Traffic::Connection(v1::Any {})),
        judged: Some(v1::flow::Judged::Allowed("shop/all".into())),
        count: 2,
        first_seen: time,
        last_seen: time,
    };
    Flow::try_from(&message).unwrap()
}

fn report(reporter: &str, sequence: u64, flows: Vec<Flow>) -> FlowReport {
    FlowReport {
        reporter: reporter.into(),
        run: 7,
        sequence,
        flows,
        sidecar: Loss::default(),
        refused: 0,
    }
}

async fn put(store: &Store, now: Timestamp, report: FlowReport) -> u32 {
    let written = store.write(move |tx| tx.put_flows(now, report)).await;
    let written: Result<_, StoreError> = written;
    written.unwrap().value
}

fn counts(store: &Store, since: Option<Timestamp>) -> Vec<u64> {
    let flows = store.read().unwrap().flows(since, None, 10_000).unwrap();
    flows.into_iter().map(|(_, flow)| flow.count).collect()
}

fn lost(store: &Store) -> u64 {
    let losses = store.read().unwrap().flow_losses(None, 10_000).unwrap();
    let dropped = |loss: &Option<v1::FlowLoss>| loss.unwrap_or_default().dropped;
    losses
        .iter()
        .map(|loss| dropped(&loss.sidecar) + dropped(&loss.control_plane))
        .sum()
}

#[tokio::test]
async fn equal_flows_add_up_within_their_hour_and_a_report_counts_once() {
    on_each_storage(|store| async move {
        assert_eq!(
            put(&store, at(0), report("api", 1, vec![flow(1, at(0))])).await,
            1
        );
        // Sent again: its answer was lost.
        assert_eq!(
            put(&store, at(1), report("api", 1, vec![flow(1, at(0))])).await,
            0
        );
        assert_eq!(counts(&store, None), [2]);
        put(&store, at(9), report("api", 2, vec![flow(1, at(9))])).await;
        assert_eq!(counts(&store, None), [4]);
        put(&store, at(3600), report("api", 3, vec![flow(1, at(3600))])).await;
        assert_eq!(counts(&store, None), [4, 2]);
        assert_eq!(counts(&store, Some(at(3601))), [2]);
        let flows = store.read().unwrap().flows(None, None, 1).unwrap();
        let times = [&flows[0].1.first_seen, &flows[0].1.last_seen];
        assert_eq!(times.map(|time| time.unwrap().seconds), [NOW, NOW + 9]);
        // Another process of the same workload has numbers of its own.
        let other = FlowReport {
            run: 8,
            ..report("api", 1, vec![flow(1, at(3600))])
        };
        assert_eq!(put(&store, at(3600), other).await, 1);
        assert_eq!(counts(&store, None), [4, 4]);
    })
    .await;
}

#[tokio::test]
async fn flows_are_kept_for_a_day_and_losses_as_long() {
    on_each_storage(|store| async move {
        let lossy = FlowReport {
            sidecar: Loss {
                dropped: 5,
                folded: 6,
            },
            refused: 7,
            ..report("api", 1, vec![flow(1, at(0))])
        };
        put(&store, at(0), lossy).await;
        let told = store.read().unwrap().flow_losses(None, 10).unwrap();
        let loss = |dropped, folded| Some(v1::FlowLoss { dropped, folded });
        assert_eq!(
            told,
            [v1::ReporterLoss {
                reporter: "api".into(),
                hour: Some(weft_wire::write_timestamp(at(0))),
                sidecar: loss(5, 6),
                control_plane: loss(7, 0),
            }]
        );
        let almost = at(24 * 3600);
        store.write(move |tx| tx.prune_flows(almost)).await.unwrap();
        assert_eq!(counts(&store, None).len(), 1);
        let later = at(25 * 3600);
        store.write(move |tx| tx.prune_flows(later)).await.unwrap();
        assert!(counts(&store, None).is_empty());
        assert!(
            store
                .read()
                .unwrap()
                .flow_losses(None, 10)
                .unwrap()
                .is_empty()
        );
        // What comes later than that is not kept, and said.
        put(&store, later, report("api", 2, vec![flow(1, at(0))])).await;
        assert!(counts(&store, None).is_empty());
        assert_eq!(lost(&store), 2);
    })
    .await;
}

#[tokio::test]
async fn row_11_a_reporters_flood_pushes_out_its_own_flows_alone_and_is_counted() {
    on_each_storage(|store| async move {
        put(&store, at(0), report("web", 1, vec![flow(0, at(0))])).await;
        // In one hour: no more than its share of an hour.
        put(
            &store,
            at(0),
            report("api", 1, (0..50).map(|n| flow(n, at(0))).collect()),
        )
        .await;
        assert_eq!(counts(&store, None).len(), 1 + 20);
        assert_eq!(lost(&store), 30 * 2);
        // Over many hours: no more than its share in all.
        for hour in 1..10_u64 {
            let now = at(i64::try_from(hour).unwrap() * 3600);
            let flows = (0..20).map(|n| flow(n, now)).collect();
            put(&store, now, report("api", 1 + hour, flows)).await;
        }
        let now = at(9 * 3600);
        assert_eq!(counts(&store, None).len(), 1 + 40);
        assert_eq!(counts(&store, Some(now)).len(), 20, "the newest are kept");
        assert_eq!(
            counts(&store, None).iter().sum::<u64>() + lost(&store),
            2 + 50 * 2 + 9 * 40
        );
    })
    .await;
}

#[tokio::test]
async fn row_11_many_reporters_together_push_out_the_oldest_hour_and_runs_are_bounded() {
    on_each_storage(|store| async move {
        for reporter in 0..30_u64 {
            let now = at(i64::try_from(reporter).unwrap() * 60);
            let flows = (0..20).map(|n| flow(n, now)).collect();
            put(&store, now, report(&format!("r{reporter}"), 1, flows)).await;
        }
        assert!(counts(&store, None).len() <= 400);
        for run in 0..100 {
            let report = FlowReport {
                run,
                ..report("many", 1, Vec::new())
            };
            put(&store, at(i64::try_from(run).unwrap()), report).await;
        }
        let runs = || {
            let reader = store.read().unwrap();
            let rows = reader
                .rows(Table::FlowRuns, Bound::Unbounded, 1000)
                .unwrap();
            rows.into_iter()
                .filter(|(key, _)| key.starts_with(b"many\0"))
                .count()
        };
        assert_eq!(runs(), 10);
        let later = at(0) + SignedDuration::from_hours(30);
        store
            .write(move |tx| tx.prune_flow_runs(later))
            .await
            .unwrap();
        assert_eq!(runs(), 0);
    })
    .await;
}
