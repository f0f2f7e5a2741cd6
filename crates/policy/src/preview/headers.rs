//! What the record of a request says about a header: conditions that rules had then, and how they came out.
//!
//! Invariant: `Yes` and `No` hold for every value that the record leaves possible.

use super::tri::Tri;
use crate::flow::HeaderSeen;
use crate::header::{HeaderCondition, HeaderName, HeaderTest};

/// The record of one request.
pub(super) type Seen = [(HeaderCondition, HeaderSeen)];

/// Whether the request carried the header more than once.
pub(super) fn is_repeated(name: &HeaderName, seen: &Seen) -> Tri {
    match of(name, seen).next() {
        None => Tri::Unknown,
        Some((_, HeaderSeen::Many)) => Tri::Yes,
        Some((_, HeaderSeen::Absent | HeaderSeen::Matched | HeaderSeen::Differed)) => Tri::No,
    }
}

/// Whether the request met `condition`.
pub(super) fn header_matches(condition: &HeaderCondition, seen: &Seen) -> Tri {
    let mut answer = Tri::Unknown;
    for (told, outcome) in of(&condition.name, seen) {
        let told = match outcome {
            HeaderSeen::Absent | HeaderSeen::Many => return Tri::No,
            HeaderSeen::Matched => if_matched(&told.test, &condition.test),
            HeaderSeen::Differed => if_differed(&told.test, &condition.test),
        };
        if told != Tri::Unknown {
            answer = told;
        }
    }
    answer
}

/// What a value that met `told` does to `asked`.
fn if_matched(told: &HeaderTest, asked: &HeaderTest) -> Tri {
    match (told, asked) {
        // it was there, once
        (_, HeaderTest::Present) => Tri::Yes,
        (HeaderTest::Exact(value), HeaderTest::Exact(asked)) => Tri::from(value == asked),
        (HeaderTest::Exact(value), HeaderTest::Prefix(asked)) => {
            Tri::from(value.starts_with(asked.as_str()))
        }
        (HeaderTest::Prefix(start), HeaderTest::Prefix(asked)) => {
            if start.starts_with(asked.as_str()) {
                Tri::Yes
            } else if asked.starts_with(start.as_str()) {
                Tri::Unknown
            } else {
                Tri::No
            }
        }
        (HeaderTest::Prefix(start), HeaderTest::Exact(asked)) => {
            if asked.starts_with(start.as_str()) {
                Tri::Unknown
            } else {
                Tri::No
            }
        }
        (HeaderTest::Present, HeaderTest::Exact(_) | HeaderTest::Prefix(_)) => Tri::Unknown,
    }
}

/// What a value that was there once and did not meet `told` does to `asked`.
fn if_differed(told: &HeaderTest, asked: &HeaderTest) -> Tri {
    match (told, asked) {
        (_, HeaderTest::Present) => Tri::Yes,
        (HeaderTest::Exact(told), HeaderTest::Exact(asked)) if told == asked => Tri::No,
        // all that begins with `asked` would have begun with `told`
        (HeaderTest::Prefix(told), HeaderTest::Exact(asked) | HeaderTest::Prefix(asked))
            if asked.starts_with(told.as_str()) =>
        {
            Tri::No
        }
        (
            HeaderTest::Exact(_) | HeaderTest::Prefix(_) | HeaderTest::Present,
            HeaderTest::Exact(_) | HeaderTest::Prefix(_),
        ) => Tri::Unknown,
    }
}

fn of<'a>(
    name: &'a HeaderName,
    seen: &'a Seen,
) -> impl Iterator<Item = &'a (HeaderCondition, HeaderSeen)> {
    seen.iter()
        .filter(move |(condition, _)| condition.name == *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use HeaderSeen::{Absent, Differed, Many, Matched};

    fn condition(test: &HeaderTest) -> HeaderCondition {
        HeaderCondition {
            name: "x-tenant".parse().unwrap(),
            test: test.clone(),
        }
    }

    #[test]
    fn a_condition_is_decided_by_what_the_record_leaves_possible() {
        use Tri::{No, Unknown, Yes};
        let exact = |value: &str| HeaderTest::Exact(value.to_owned());
        let prefix = |value: &str| HeaderTest::Prefix(value.to_owned());
        let present = HeaderTest::Present;
        for (told, outcome, asked, answer) in [
            (exact("blue"), Matched, exact("blue"), Yes),
            (exact("blue"), Matched, exact("red"), No),
            (exact("blue"), Matched, prefix("bl"), Yes),
            (exact("blue"), Matched, prefix("re"), No),
            (exact("blue"), Matched, present.clone(), Yes),
            (exact("blue"), Differed, exact("blue"), No),
            (exact("blue"), Differed, exact("red"), Unknown),
            (exact("blue"), Differed, prefix("bl"), Unknown),
            (exact("blue"), Differed, present.clone(), Yes),
            (prefix("bl"), Matched, prefix("b"), Yes),
            (prefix("bl"), Matched, prefix("blu"), Unknown),
            (prefix("bl"), Matched, prefix("re"), No),
            (prefix("bl"), Matched, exact("blue"), Unknown),
            (prefix("bl"), Matched, exact("red"), No),
            (prefix("bl"), Differed, exact("blue"), No),
            (prefix("bl"), Differed, prefix("blu"), No),
            (prefix("bl"), Differed, prefix("b"), Unknown),
            (present.clone(), Matched, exact("blue"), Unknown),
            (present.clone(), Matched, present.clone(), Yes),
            (present.clone(), Absent, exact("blue"), No),
            (exact("blue"), Absent, present.clone(), No),
            (exact("blue"), Many, exact("blue"), No),
            (present.clone(), Many, present, No),
        ] {
            let seen = [(condition(&told), outcome)];
            let got = header_matches(&condition(&asked), &seen);
            assert_eq!(got, answer, "{told:?} {outcome:?}, {asked:?}?");
        }
        assert_eq!(header_matches(&condition(&exact("blue")), &[]), Unknown);
    }

    #[test]
    fn several_answers_are_read_together() {
        let prefix = HeaderTest::Prefix("bl".to_owned());
        let exact = HeaderTest::Exact("blue".to_owned());
        let seen = [(condition(&prefix), Matched), (condition(&exact), Differed)];
        assert_eq!(header_matches(&condition(&exact), &seen), Tri::No);
        assert_eq!(header_matches(&condition(&prefix), &seen), Tri::Yes);
        assert_eq!(is_repeated(&"x-tenant".parse().unwrap(), &seen), Tri::No);
        assert_eq!(
            is_repeated(&"x-other".parse().unwrap(), &seen),
            Tri::Unknown
        );
    }
}
