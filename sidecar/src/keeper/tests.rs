use weft_wire::v1;

use super::*;
use crate::fixture::{API, received, response};
use crate::two_sidecars::Authority;

#[tokio::test]
async fn row_18_a_partitioned_sidecar_turns_stale_although_its_wall_clock_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(folder.path()).unwrap();
    let sidecar = Authority::new().sidecar(API, "").await;
    let readiness = Readiness::default();
    let mut received = received(Vec::new());
    let max_stale = Duration::from_secs(20);
    assert!(
        received
            .take(response(2, &[("mesh", mesh(max_stale))]))
            .is_empty()
    );
    let mut keeper = Keeper::new(Arc::clone(&sidecar), runtime, readiness, received);
    keeper.set_connected(true);
    keeper.set_connected(false);
    let is_stale = || sidecar.current.load().stale;
    assert!(!is_stale());

    let hour = Duration::from_secs(3600);
    let now = Moment::now();
    let silent_for = |silence| Moment {
        wall: now.wall + hour,
        since_boot: now.since_boot.checked_sub(silence).unwrap(),
    };
    keeper.heard = Some(silent_for(max_stale / 2));
    assert!(keeper.until_due() <= max_stale / 2 + JUST_AFTER);
    keeper.keep();
    assert!(!is_stale());
    keeper.heard = Some(silent_for(max_stale + Duration::from_secs(1)));
    keeper.keep();
    assert!(is_stale());
}

#[tokio::test]
async fn row_18_a_host_that_slept_has_heard_nobody_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(folder.path()).unwrap();
    let sidecar = Authority::new().sidecar(API, "").await;
    let mut received = received(Vec::new());
    let max_stale = Duration::from_secs(600);
    assert!(
        received
            .take(response(2, &[("mesh", mesh(max_stale))]))
            .is_empty()
    );
    let mut keeper = Keeper::new(
        Arc::clone(&sidecar),
        runtime,
        Readiness::default(),
        received,
    );
    keeper.set_connected(true);
    let before = keeper.heard.unwrap();
    let after = |sleep| Moment {
        wall: before.wall + sleep,
        since_boot: before.since_boot + sleep,
    };
    keeper.note_hearing(after(Duration::from_secs(3600)));
    assert_eq!(keeper.heard, Some(before));
    assert!(keeper.is_stale(after(Duration::from_secs(3600))));
    // A connection that is still there a while later is alive.
    let naps = (1..=4).map(|nap| Duration::from_secs(3600) + LONGEST_NAP * nap);
    let last = naps
        .inspect(|sleep| keeper.note_hearing(after(*sleep)))
        .last();
    assert_eq!(keeper.heard, last.map(after));
}

#[tokio::test]
async fn row_18_a_part_of_a_view_does_not_end_a_silence() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(folder.path()).unwrap();
    let sidecar = Authority::new().sidecar(API, "").await;
    let mut keeper = Keeper::new(
        Arc::clone(&sidecar),
        runtime,
        Readiness::default(),
        received(Vec::new()),
    );
    keeper.apply(response(3, &[("mesh", mesh(Duration::from_secs(600)))]));
    assert!(sidecar.current.load().stale);
    keeper.set_connected(true);
    assert!(!sidecar.current.load().stale);
}

#[tokio::test]
async fn while_nothing_changes_only_the_hearing_is_written_and_the_next_process_believes_it() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(folder.path()).unwrap();
    let sidecar = Authority::new().sidecar(API, "").await;
    let new_keeper = |received| {
        Keeper::new(
            Arc::clone(&sidecar),
            runtime.clone(),
            Readiness::default(),
            received,
        )
    };
    let mut keeper = new_keeper(received(Vec::new()));
    keeper.apply(response(2, &[("mesh", mesh(Duration::from_secs(600)))]));
    keeper.set_connected(true);
    let write = |keeper: &mut Keeper, after: Duration| {
        let now = Moment::now();
        let later = Moment {
            wall: now.wall - after,
            since_boot: now.since_boot - after,
        };
        keeper.heard = Some(later);
        keeper.write_snapshot(now);
        later
    };
    let seconds = Duration::from_secs;
    write(&mut keeper, seconds(30));
    let whole = runtime.read_snapshot().unwrap();
    assert!(runtime.read_hearing().is_err());
    let heard = write(&mut keeper, seconds(20));
    assert_eq!(runtime.read_snapshot().unwrap(), whole);
    let restored = || {
        let mut keeper = new_keeper(received(Vec::new()));
        keeper.restore(None);
        keeper.heard
    };
    assert_eq!(restored(), Some(heard));

    // A change is written whole, and what was heard before it is told by no second file.
    keeper.apply(response(3, &[("mesh", mesh(Duration::from_secs(601)))]));
    let heard = write(&mut keeper, seconds(10));
    assert_ne!(runtime.read_snapshot().unwrap(), whole);
    assert!(runtime.read_hearing().is_err());
    assert_eq!(restored(), Some(heard));

    // row 18: an edited hearing refuses the snapshot as an edited snapshot does.
    let heard = write(&mut keeper, seconds(5));
    assert_eq!(restored(), Some(heard));
    let mut edited = runtime.read_hearing().unwrap();
    let last = edited.len() - 1;
    edited[last] ^= 1;
    runtime.write_hearing(&edited).unwrap();
    assert_eq!(restored(), None);
}

fn mesh(max_stale: Duration) -> v1::MeshSettings {
    let duration = |length: Duration| length.try_into().ok();
    v1::MeshSettings {
        schema: 1,
        ttl: duration(Duration::from_secs(3600)),
        renew_every: duration(Duration::from_secs(600)),
        max_stale: duration(max_stale),
    }
}
