//! Two implementations of docs/POLICY.md agree: the one that the product runs, and a naive one, on policies and requests drawn at
//! random. Each kind of verdict and each sentence that can decide one comes up often enough to mean something.

mod case;
mod draw;
mod naive;
mod shrink;

use std::collections::BTreeMap;

use weft_policy::Reason;

use crate::{
    case::{Answer, Case, Told},
    draw::Draw,
    naive::{DECIDING, SILENT, answer, answer_without},
};

#[test]
fn two_implementations_agree_on_100_000_cases() {
    let tally = Tally::of(0..100_000, 16);
    tally.assert_balanced();
}

/// `cargo test --release -p weft-policy --test agreement -- --ignored --nocapture`
#[test]
#[ignore = "minutes; see docs/POLICY.md"]
fn two_implementations_agree_on_a_million_cases_and_every_sentence_decides_a_thousand() {
    let halves = [0..500_000, 500_000..1_000_000];
    let threads = halves.map(|cases| std::thread::spawn(|| Tally::of(cases, 1)));
    let [mut tally, other] = threads.map(|thread| thread.join().unwrap());
    tally.add(other);
    eprintln!("{tally:#?}");
    tally.assert_balanced();
}

#[test]
fn a_disagreement_is_found_and_made_small() {
    let disagrees = |case: &Case| answer(case) != answer_without(case, Some("24 none"));
    let found = (0..100_000).map(drawn).find(disagrees).unwrap();
    let small = shrink::shrunk(found, disagrees);
    assert_eq!(small.rules.len(), 1, "{small:#?}");
    let conditions = small.rules[0].http.as_ref().unwrap();
    let paths = conditions[0].paths.as_ref().unwrap();
    assert_eq!((conditions.len(), paths.len()), (1, 1), "{small:#?}");
}

#[test]
fn every_sentence_of_the_verdict_decides_or_is_said_to_be_silent() {
    let number = |text: &str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
    let mut numbers: Vec<_> = DECIDING
        .iter()
        .copied()
        .chain(SILENT.iter().map(|(sentence, _)| *sentence))
        .map(number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let verdict = (1..=38).chain([40, 45]).chain(50..=54).chain(71..=76);
    assert_eq!(numbers, verdict.collect::<Vec<_>>());
}

/// What came up.
#[derive(Debug, Default)]
struct Tally {
    kinds: BTreeMap<&'static str, usize>,
    /// Cases of which every sentence was tried.
    tried: usize,
    decided: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Judges cases by both; for every `nth` it tries which sentences decide.
    fn of(cases: std::ops::Range<u64>, nth: u64) -> Self {
        let mut tally = Self::default();
        let mut set = drawn(cases.start).compiled();
        for seed in cases {
            let case = drawn(seed);
            let wanted = answer(&case);
            // compiled, and edited from what was there before: both must agree with the sentences
            set = set
                .updated(case.parsed(), case.slashes())
                .learning(case.learn_until());
            if case.answer(&case.compiled()) != wanted || case.answer(&set) != wanted {
                fail(seed, case);
            }
            *tally.kinds.entry(kind(&wanted)).or_default() += 1;
            if seed % nth == 0 {
                tally.tried += 1;
                for sentence in DECIDING {
                    let decides = answer_without(&case, Some(sentence)) != wanted;
                    *tally.decided.entry(sentence).or_default() += usize::from(decides);
                }
            }
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (sentence, count) in other.decided {
            *self.decided.entry(sentence).or_default() += count;
        }
    }

    fn assert_balanced(&self) {
        let all: usize = self.kinds.values().sum();
        for (kind, _, percent) in KINDS {
            let count = self.kinds.get(kind).copied().unwrap_or_default();
            assert!(count * 100 >= all * percent, "{kind}: {self:#?}");
        }
        // a thousand of a million
        assert!(
            self.decided
                .values()
                .all(|count| count * 1_000 >= self.tried),
            "{self:#?}"
        );
    }
}

/// Kinds of verdicts, with the part of a hundred seeds whose turn each is, and the least part that each has.
const KINDS: [(&str, u64, usize); 4] = [
    ("allow", 31, 30),
    ("deny", 31, 30),
    ("error400", 31, 30),
    ("learn", 7, 5),
];

/// The case of a seed: of a few, the first of the kind whose turn it is.
fn drawn(seed: u64) -> Case {
    let mut turn = seed % 100;
    let kind_of_turn = KINDS.iter().find(|(_, part, _)| {
        let is_its = turn < *part;
        turn = turn.saturating_sub(*part);
        is_its
    });
    let (wanted, ..) = kind_of_turn.unwrap();
    let mut draw = match *wanted {
        "error400" => Draw::seeded(seed, 70, 20),
        "learn" => Draw::seeded(seed, 25, 90),
        _ => Draw::seeded(seed, 4, 20),
    };
    let mut case = draw.case();
    for _ in 0..40 {
        if kind(&answer(&case)) == *wanted {
            break;
        }
        case = draw.case();
    }
    case
}

fn kind(answer: &Answer) -> &'static str {
    match &answer.verdict {
        Told::Allow(_) => "allow",
        Told::Learn(_) => "learn",
        Told::Deny(Reason::PathNotCanonical | Reason::Malformed) => "error400",
        Told::Deny(_) => "deny",
    }
}

fn fail(seed: u64, case: Case) -> ! {
    let small = shrink::shrunk(case, |case| case.answer(&case.compiled()) != answer(case));
    let (product, naive) = (small.answer(&small.compiled()), answer(&small));
    panic!("seed {seed}: the product says {product:?}, the sentences {naive:?}, of {small:#?}");
}
