use super::*;

/// By both clocks; the host had booted at 900.
fn at(second: i64) -> Moment {
    moment(second, second - 900)
}

fn moment(wall: i64, since_boot: i64) -> Moment {
    Moment {
        wall: Timestamp::from_second(wall).unwrap(),
        since_boot: Duration::from_secs(since_boot.try_into().unwrap()),
    }
}

fn snapshot() -> Snapshot<'static> {
    let resource = Stored {
        type_url: weft_wire::type_url::INBOUND.into(),
        name: "shop/api".into(),
        version: "3".into(),
        value: vec![1, 2, 3].into(),
    };
    Snapshot {
        heard: at(1000),
        written: at(1001),
        revision: 9,
        resources: vec![resource],
    }
}

fn key() -> MacKey {
    MacKey::derive(b"private key", "boot", "host")
}

#[test]
fn a_snapshot_comes_back_as_it_was_also_under_the_key_before_the_last_renewal() {
    let (sealed, seal) = snapshot().seal(&key());
    let newer = MacKey::derive(b"renewed key", "boot", "host");
    let kept = MacKey::from_text(&key().to_text()).unwrap();
    let keys = [newer, kept];
    assert_eq!(Snapshot::open(&sealed, None, &keys).unwrap(), snapshot());
    let later = hearing(seal).seal(&key());
    let heard = Snapshot::open(&sealed, Some(&later), &keys).unwrap();
    assert_eq!((heard.heard, heard.written), (at(1060), at(1061)));
    assert_eq!(heard.resources, snapshot().resources);
}

#[test]
fn row_18_a_hearing_of_another_snapshot_says_nothing_about_this_one() {
    let (sealed, seal) = snapshot().seal(&key());
    let mut other = snapshot();
    other.revision += 1;
    let (other, other_seal) = other.seal(&key());
    let hearing = |of| hearing(of).seal(&key());
    let opened = |content, hearing: Vec<u8>| {
        Snapshot::open(content, Some(&hearing), &[key()])
            .unwrap()
            .heard
    };
    assert_eq!(opened(&sealed, hearing(seal)), at(1060));
    assert_eq!(opened(&sealed, hearing(other_seal)), at(1000));
    assert_eq!(opened(&other, hearing(other_seal)), at(1060));
}

#[test]
fn row_18_an_edited_or_foreign_hearing_refuses_the_snapshot() {
    let (sealed, seal) = snapshot().seal(&key());
    let genuine = hearing(seal).seal(&key());
    let refused = |hearing: &[u8]| Snapshot::open(&sealed, Some(hearing), &[key()]).is_err();
    assert!(!refused(&genuine));
    for at in 0..genuine.len() {
        let mut edited = genuine.clone();
        edited[at] ^= 1;
        assert!(refused(&edited), "byte {at}");
        assert!(refused(&genuine[..at]), "cut at {at}");
    }
    let elsewhere = MacKey::derive(b"private key", "another boot", "host");
    assert!(refused(&hearing(seal).seal(&elsewhere)));
    // A snapshot is no hearing, nor the other way round.
    assert!(refused(&sealed));
    let (under_own_key, _) = key().seal(&hearing(seal));
    assert!(refused(&under_own_key));
    assert!(Snapshot::open(&genuine, None, &[key()]).is_err());
}

fn hearing(of: Seal) -> Hearing {
    Hearing {
        heard: at(1060),
        written: at(1061),
        of,
    }
}

#[test]
fn row_18_an_edited_snapshot_is_refused_whichever_byte_was_edited() {
    let (sealed, _) = snapshot().seal(&key());
    for at in 0..sealed.len() {
        let mut edited = sealed.clone();
        edited[at] ^= 1;
        assert_eq!(
            Snapshot::open(&edited, None, &[key()]),
            Err(SnapshotError::Mac),
            "byte {at}"
        );
    }
    for cut in 0..sealed.len() {
        assert!(
            Snapshot::open(&sealed[..cut], None, &[key()]).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn row_18_a_snapshot_of_another_boot_host_or_workload_is_refused() {
    let (sealed, _) = snapshot().seal(&key());
    for other in [
        MacKey::derive(b"private key", "another boot", "host"),
        MacKey::derive(b"private key", "boot", "another host"),
        MacKey::derive(b"another key", "boot", "host"),
        MacKey::derive(b"private key", "boothost", ""),
    ] {
        assert_eq!(
            Snapshot::open(&sealed, None, &[other]),
            Err(SnapshotError::Mac)
        );
    }
}

#[test]
fn row_18_a_snapshot_older_than_max_stale_or_from_the_future_is_refused() {
    let max_stale = Duration::from_secs(90);
    assert_eq!(snapshot().check_age(max_stale, at(1090)), Ok(()));
    assert_eq!(snapshot().check_age(max_stale, at(1091)), Err(too_old()));
    for earlier in [at(900), moment(1002, 99)] {
        let future = SnapshotError::Future {
            written_at: at(1001).wall,
        };
        assert_eq!(snapshot().check_age(max_stale, earlier), Err(future));
    }
}

#[test]
fn row_18_a_wall_clock_that_is_set_back_or_a_host_that_slept_wins_no_time() {
    let max_stale = Duration::from_secs(90);
    // Set back by 100 s: 91 s after the control plane was heard the wall clock says that this is still to come.
    let set_back = moment(991, 191);
    assert!(at(1000).is_stale(max_stale, set_back));
    assert_eq!(at(1000).silence(set_back), Duration::from_secs(91));
    assert!(!at(1000).is_stale(max_stale, moment(990, 190)));
    assert_eq!(
        snapshot().check_age(max_stale, moment(960, 191)),
        Err(too_old())
    );
    // A clock that stood still while the wall's went on.
    assert!(at(1000).is_stale(max_stale, moment(1091, 101)));
}

fn too_old() -> SnapshotError {
    SnapshotError::TooOld {
        heard_at: at(1000).wall,
    }
}
