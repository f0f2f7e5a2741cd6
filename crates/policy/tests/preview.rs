//! The preview against the evaluator: what it says of a flow holds for every request that is recorded as that flow.

mod recorded;

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use recorded::{Meeting, Request, Scene, flow_of, some_scene, some_simple_scene};
use weft_policy::{Change, Connection, Flow, PolicySet, Reason, Ruling, Side, Verdict, preview};

/// What the sidecar in front of the service would say, of the connection or of the request on it.
fn real(
    side: &Side,
    scene: &Scene,
    request: Option<&Request>,
    reached: &str,
) -> Result<(), Reason> {
    let facts = &side.world.services[&scene.target.service];
    if !facts.ports.contains(&scene.target.port) {
        return Err(Reason::UnknownTarget);
    }
    let set = PolicySet::compile(
        side.world.trust_domain.clone(),
        &scene.target.service,
        side.world.rules.iter().cloned(),
        facts.encoded_slashes,
    )
    .learning(side.world.learn_until(&scene.target.service));
    let ends = [scene.source.workload(), reached.parse().ok()];
    let is_cut = |end: &Option<_>| {
        let mut quarantines = side.world.quarantines.iter();
        quarantines.any(|quarantine| Some(&quarantine.workload) == end.as_ref())
    };
    let connection = Connection {
        source: (&scene.source).into(),
        port: &scene.target.port,
        quarantined: ends.iter().any(is_cut),
    };
    let Some(request) = request else {
        return passes(set.decide_bytes(&connection, side.at));
    };
    passes(set.decide_request(&connection, &request.as_http(), side.at))
}

fn passes(verdict: Verdict<'_>) -> Result<(), Reason> {
    match verdict {
        Verdict::Allow(_) | Verdict::Learn(_) => Ok(()),
        Verdict::Deny(reason) => Err(reason),
    }
}

/// The rulings on both sides and the change; the preview tells only of what changes, so each side is also put against nothing.
fn judged(scene: &Scene, flow: &Flow) -> (Ruling, Ruling, Option<Change>) {
    let told = preview(&scene.before, &scene.after, [flow]);
    let change = told.changed.first().map(|changed| changed.change);
    (
        ruling(&scene.before, flow),
        ruling(&scene.after, flow),
        change,
    )
}

/// A side's ruling: what it would change where nothing was known before, or everything was refused.
fn ruling(side: &Side, flow: &Flow) -> Ruling {
    let mut closed = side.clone();
    closed.world.rules.clear();
    closed.world.learning.clear();
    let told = preview(&closed, side, [flow]);
    match told.changed.first() {
        Some(changed) => changed.after.clone(),
        // an empty mesh refuses, and so does this one
        None => Ruling::Denied(Reason::NoRule),
    }
}

fn check(scene: &Scene, meeting: &Meeting) -> Result<(Ruling, Option<Change>), TestCaseError> {
    let flow = flow_of(scene, meeting);
    let request = meeting.request.as_ref();
    let (before, after, change) = judged(scene, &flow);
    let was = real(&scene.before, scene, request, meeting.reached);
    let will_be = real(&scene.after, scene, request, meeting.reached);
    for (told, real) in [(&before, &was), (&after, &will_be)] {
        match told {
            Ruling::Allowed(_) | Ruling::Learned => {
                prop_assert!(real.is_ok(), "{told:?}, but {real:?}: {flow:?}")
            }
            Ruling::Denied(_) => prop_assert!(real.is_err(), "{told:?}, but allowed: {flow:?}"),
            Ruling::Unknown(_) => {}
        }
    }
    let happened = (was.is_ok(), will_be.is_ok());
    let possible: &[(bool, bool)] = match change {
        None => &[(true, true), (false, false)],
        Some(Change::Denied) => &[(true, false)],
        Some(Change::Allowed) => &[(false, true)],
        Some(Change::MayBeAllowed) => &[(true, true), (false, false), (false, true)],
        Some(Change::MayBeDenied) => &[(true, true), (false, false), (false, true), (true, false)],
    };
    prop_assert!(
        possible.contains(&happened),
        "{change:?}, but {happened:?}: {flow:?}"
    );
    Ok((after, change))
}

proptest! {
    #![proptest_config(Config { cases: 4_000, ..Config::default() })]

    #[test]
    fn sentence_101_what_is_said_of_a_flow_holds_for_every_request_that_folds_to_it((scene, meetings) in some_scene()) {
        for meeting in &meetings {
            check(&scene, meeting)?;
        }
    }

    #[test]
    fn sentence_103_nothing_is_unknown_where_the_record_has_all_that_the_rules_ask((scene, meetings) in some_simple_scene()) {
        for meeting in &meetings {
            let (after, change) = check(&scene, meeting)?;
            prop_assert!(!matches!(after, Ruling::Unknown(_)), "{after:?}: {meeting:?}");
            prop_assert!(!matches!(change, Some(Change::MayBeDenied | Change::MayBeAllowed)), "{change:?}");
        }
    }
}

#[test]
fn each_answer_is_given_often() {
    let mut runner = TestRunner::deterministic();
    let (mut rulings, mut changes) = (BTreeMap::new(), BTreeMap::new());
    let mut total = 0;
    for _ in 0..2_000 {
        let (scene, meetings) = some_scene().new_tree(&mut runner).unwrap().current();
        for meeting in &meetings {
            let (after, change) = check(&scene, meeting).unwrap();
            let word = match after {
                Ruling::Allowed(_) | Ruling::Learned => "allowed",
                Ruling::Denied(_) => "denied",
                Ruling::Unknown(_) => "unknown",
            };
            total += 1;
            *rulings.entry(word).or_insert(0) += 1;
            *changes.entry(change).or_insert(0) += 1;
        }
    }
    println!("{rulings:?} {changes:?}");
    for word in ["allowed", "denied", "unknown"] {
        assert!(rulings[word] * 10 > total, "{rulings:?} of {total}");
    }
    assert_eq!(changes.len(), 5, "{changes:?}");
    assert!(
        changes.values().all(|count| *count * 100 > total),
        "{changes:?}"
    );
}
