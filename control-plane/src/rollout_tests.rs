use super::wait::Progress;
use super::*;

fn key(workload: &str, instance: &str) -> SidecarKey {
    let id = format!("spiffe://weft.local/ns/shop/sa/{workload}")
        .parse()
        .unwrap();
    SidecarKey {
        id,
        instance: instance.to_owned(),
    }
}

fn announced(policy_schema: u32) -> Announced {
    Announced {
        version: "test".to_owned(),
        policy_schema,
    }
}

/// A view that changed with this revision, and long before.
struct ChangedAt(u64);

impl Required for ChangedAt {
    fn has_changed(&self, after: u64, until: u64) -> bool {
        after < self.0.min(until)
    }
}

fn connect(rollouts: &Rollouts, key: &SidecarKey) -> Tracked {
    connect_with(rollouts, key, 5)
}

fn connect_with(rollouts: &Rollouts, key: &SidecarKey, changed_at: u64) -> Tracked {
    rollouts
        .connect(key.clone(), announced(1), ChangedAt(changed_at))
        .unwrap()
}

/// How a revision that changed the view of this sidecar's identity comes along.
fn progress(rollouts: &Rollouts, key: &SidecarKey, revision: u64) -> Progress {
    let mut goal = rollouts.goal(revision);
    goal.touched = vec![key.id.clone()];
    rollouts.progress(&mut goal)
}

#[test]
fn progress_names_who_has_not_acknowledged() {
    let rollouts = Rollouts::new(false);
    let (one, two) = (key("web", "web-1"), key("web", "web-2"));
    let (first, second) = (connect(&rollouts, &one), connect(&rollouts, &two));
    first.heard(5, String::new());
    second.heard(4, "rules[0]: unreadable".to_owned());
    let progress = progress(&rollouts, &one, 5);
    assert_eq!(
        (progress.affected, progress.acknowledged, progress.awaited),
        (2, 1, 1)
    );
    assert_eq!(progress.pending[0].instance, "web-2");
    assert_eq!(progress.pending[0].nack, "rules[0]: unreadable");
    assert!(progress.pending[0].last_heard.is_some());
}

#[test]
fn a_sidecar_that_lacks_an_earlier_change_counts_and_goes_on_counting() {
    let rollouts = Rollouts::new(false);
    let behind = key("web", "web-1");
    let stream = connect_with(&rollouts, &behind, 5);
    stream.heard(4, String::new());
    let mut goal = rollouts.goal(6);
    let progress = rollouts.progress(&mut goal);
    assert_eq!((progress.affected, progress.acknowledged), (1, 0));
    stream.heard(5, String::new());
    let progress = rollouts.progress(&mut goal);
    assert_eq!((progress.affected, progress.acknowledged), (1, 1));
    let progress = rollouts.progress(&mut rollouts.goal(6));
    assert_eq!(progress.affected, 0, "it lacks nothing any more");
}

#[test]
fn a_sidecar_that_comes_meanwhile_counts_whatever_it_had() {
    let rollouts = Rollouts::new(false);
    let (before, meanwhile) = (key("web", "web-1"), key("web", "web-2"));
    let _before = connect_with(&rollouts, &before, 0);
    let mut goal = rollouts.goal(6);
    let _meanwhile = connect_with(&rollouts, &meanwhile, 0);
    let progress = rollouts.progress(&mut goal);
    assert_eq!((progress.affected, progress.acknowledged), (1, 1));
}

#[test]
fn of_too_many_the_one_that_was_lost_longest_ago_is_forgotten_first() {
    let rollouts = Rollouts::new(false);
    let instance = |i: usize| key("web", &i.to_string());
    let mut streams: Vec<_> = (0..SIDECARS_PER_IDENTITY)
        .map(|i| connect(&rollouts, &instance(i)))
        .collect();
    drop(streams.remove(7));
    drop(streams.remove(3));
    let (one, another) = (
        connect(&rollouts, &key("web", "one more")),
        connect(&rollouts, &key("web", "another")),
    );
    let known = rollouts.snapshot();
    assert!(!known.contains_key(&instance(3)) && !known.contains_key(&instance(7)));
    assert_eq!(known.len(), SIDECARS_PER_IDENTITY);
    assert!(rollouts.shared.lock().gone.is_empty());
    drop((one, another));
}

#[test]
fn a_sidecar_that_refuses_something_does_not_count_as_enforcing() {
    let rollouts = Rollouts::new(false);
    let web = key("web", "web-1");
    let stream = connect(&rollouts, &web);
    stream.heard(5, String::new());
    stream.heard(5, "rules[0]: unreadable".to_owned());
    let progress = progress(&rollouts, &web, 5);
    assert_eq!((progress.affected, progress.acknowledged), (1, 0));
    assert_eq!(progress.pending[0].nack, "rules[0]: unreadable");
}

#[test]
fn only_sidecars_of_affected_identities_count() {
    let rollouts = Rollouts::new(false);
    let _web = connect(&rollouts, &key("web", "web-1"));
    // A name that continues another one is another identity.
    let web_2 = connect(&rollouts, &key("web-2", "x"));
    web_2.heard(5, String::new());
    let progress = progress(&rollouts, &key("web", ""), 6);
    assert_eq!(progress.affected, 1);
}

#[test]
fn a_lost_sidecar_is_named_and_waited_for_only_as_long_as_it_may_be_coming_back() {
    let rollouts = Rollouts::new(false);
    let lost = key("web", "web-1");
    drop(connect(&rollouts, &lost));
    let progress = progress(&rollouts, &lost, 1);
    assert_eq!(
        (progress.affected, progress.acknowledged, progress.awaited),
        (1, 0, 1)
    );
    let sidecar = rollouts.snapshot().remove(&lost).unwrap();
    assert!(!sidecar.may_answer(Timestamp::now() + RETURN_GRACE));
    assert_eq!(progress.pending[0].instance, "web-1");
}

#[test]
fn a_sidecar_that_left_is_soon_forgotten() {
    let rollouts = Rollouts::new(false);
    let left = key("web", "web-1");
    connect(&rollouts, &left).end(Ended::Left);
    assert_eq!(progress(&rollouts, &left, 1).awaited, 1);
    rollouts
        .shared
        .lock()
        .forget_gone(Timestamp::now() + LEFT_KEPT);
    assert_eq!(progress(&rollouts, &left, 1).affected, 0);
}

#[test]
fn a_lost_sidecar_is_forgotten_after_a_while_unless_it_came_back() {
    let rollouts = Rollouts::new(false);
    let (gone, back) = (key("web", "web-1"), key("web", "web-2"));
    drop(connect(&rollouts, &gone));
    drop(connect(&rollouts, &back));
    let _stream = connect(&rollouts, &back);
    let later = Timestamp::now() + LOST_KEPT;
    rollouts.shared.lock().forget_gone(later);
    assert_eq!(rollouts.snapshot().into_keys().collect::<Vec<_>>(), [back]);
}

#[test]
fn the_late_end_of_an_old_stream_does_not_end_the_new_one() {
    let rollouts = Rollouts::new(false);
    let web = key("web", "web-1");
    let old = connect(&rollouts, &web);
    let new = connect(&rollouts, &web);
    new.heard(3, String::new());
    old.heard(9, "old".to_owned());
    drop(old);
    let progress = progress(&rollouts, &web, 3);
    assert_eq!((progress.acknowledged, progress.awaited), (1, 0));
}

#[test]
fn the_end_of_an_old_stream_after_its_sidecar_was_forgotten_does_not_end_the_new_one() {
    let rollouts = Rollouts::new(false);
    let web = key("web", "web-1");
    let older = connect(&rollouts, &web);
    connect(&rollouts, &web).end(Ended::Left);
    rollouts
        .shared
        .lock()
        .forget_gone(Timestamp::now() + LEFT_KEPT);
    let _new = connect(&rollouts, &web);
    drop(older);
    assert!(rollouts.snapshot()[&web].lost_at.is_none());
}

#[test]
fn a_connected_sidecar_that_cannot_read_a_schema_is_named() {
    let rollouts = Rollouts::new(false);
    let (old, new) = (key("web", "old"), key("web", "new"));
    let _old = rollouts
        .connect(old.clone(), announced(1), ChangedAt(5))
        .unwrap();
    let _new = rollouts.connect(new, announced(2), ChangedAt(5)).unwrap();
    assert_eq!(rollouts.cannot_read(1, [&old.id]), None);
    assert_eq!(rollouts.cannot_read(2, [&old.id]), Some(old.clone()));
    drop(_old);
    assert_eq!(rollouts.cannot_read(2, [&old.id]), None);
}

#[test]
fn one_identity_cannot_fill_the_list() {
    let rollouts = Rollouts::new(false);
    let streams: Vec<_> = (0..SIDECARS_PER_IDENTITY)
        .map(|i| connect(&rollouts, &key("web", &i.to_string())))
        .collect();
    assert!(
        rollouts
            .connect(key("web", "one more"), announced(1), ChangedAt(5))
            .is_err()
    );
    assert!(
        rollouts
            .connect(key("api", "one more"), announced(1), ChangedAt(5))
            .is_ok()
    );
    drop(streams);
}
