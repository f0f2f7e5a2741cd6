//! Decisions of Weft's policy beside those of the `cedar-policy` crate, on the same rules and requests.

#![expect(clippy::print_stdout, reason = "its tables are what it is run for")]

mod cedar;
mod corpus;
mod measured;

use std::{
    alloc::System,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use criterion::Criterion;
use jiff::Timestamp;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use weft_identity::ServiceName;
use weft_policy::{
    Connection, EncodedSlashes, HttpRequest, Match, NonEmpty, PolicySet, Rule, Source,
    SourcePattern, Sources, Verdict,
};

use crate::{
    cedar::{Cedar, policy, written},
    corpus::{Asked, Corpus, now},
    measured::{Caches, Figures, Run, timed_whole},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static NOW: LazyLock<Timestamp> = LazyLock::new(now);

fn main() {
    let corpus = Corpus::drawn();
    let sets = compiled(&corpus);
    let cedar = Cedar::compiled(&corpus);
    let asked: Vec<_> = corpus
        .asked
        .iter()
        .map(|asked| (&sets[&asked.service], asked))
        .collect();
    agree(&asked, &cedar);

    println!("| what | Weft | Cedar | ratio |\n| --- | ---: | ---: | ---: |");
    for (name, only_crowded) in [("crowded service", true), ("all services", false)] {
        let is_wanted = |asked: &Asked| !only_crowded || asked.service == corpus.crowded;
        let some: Vec<_> = asked
            .iter()
            .filter(|(_, asked)| is_wanted(asked))
            .map(|(set, asked)| (*set, (*asked).clone()))
            .collect();
        let prepared = some.iter().map(|(_, asked)| cedar.prepared(asked));
        let prepared: Vec<_> = prepared.take(CEDAR_QUESTIONS).collect();
        for (manner, caches) in [("in turn", Caches::AsLeft), ("again", Caches::Warmed)] {
            let weft = Run {
                allocator: ALLOCATOR,
                rounds: 40,
                caches,
            };
            let weft = weft.figures(
                &some,
                |(set, asked)| (*set, asked.fresh()),
                |(set, asked)| decide(set, asked).is_some(),
            );
            let cedar = Run {
                allocator: ALLOCATOR,
                rounds: 3,
                caches,
            };
            let cedar = cedar.figures(&prepared, Clone::clone, cedar::Prepared::is_allowed);
            assert_eq!(weft.allocations, 0.0, "a decision allocates nothing");
            table(&format!("{name}, {manner}"), &weft, &cedar);
        }
    }
    edits(&corpus, &sets, &cedar);

    let mut criterion = Criterion::default().configure_from_args();
    let mut turn = asked.iter().cycle();
    criterion.bench_function("decide/weft", |bench| {
        bench.iter(|| turn.next().map(|(set, asked)| decide(set, asked).is_some()))
    });
    let prepared: Vec<_> = corpus
        .asked
        .iter()
        .take(CEDAR_QUESTIONS)
        .map(|asked| cedar.prepared(asked))
        .collect();
    let mut turn = prepared.iter().cycle();
    criterion.bench_function("decide/cedar", |bench| {
        bench.iter(|| turn.next().map(|asked| asked.is_allowed()))
    });
    criterion.final_summary();
}

fn compiled(corpus: &Corpus) -> BTreeMap<ServiceName, PolicySet> {
    let sets = corpus.rules.iter();
    sets.map(|(service, rules)| (service.clone(), corpus::compile(service, rules)))
        .collect()
}

fn decide<'s>(set: &'s PolicySet, asked: &Asked) -> Option<&'s Arc<Rule>> {
    let connection = Connection {
        source: Source::Identity(&asked.source),
        port: &asked.port,
        quarantined: false,
    };
    let request = HttpRequest {
        method: asked.method,
        path: asked.path(),
        authority: Some(asked.host()),
        headers: asked,
        upgrade: None,
        connect: false,
    };
    match set.decide_request(&connection, &request, *NOW) {
        Verdict::Allow(rule) => Some(rule),
        Verdict::Learn(_) | Verdict::Deny(_) => None,
    }
}

/// Both give every request the same answer, by the same rule.
fn agree(asked: &[(&PolicySet, &Asked)], cedar: &Cedar) {
    for (set, asked) in asked {
        let ours = decide(set, asked).map(|rule| rule.name.to_string());
        let (theirs, errors) = cedar.prepared(asked).first();
        let question = format!("{} {} by {}", asked.method, asked.path(), asked.source);
        assert_eq!((&ours, errors), (&theirs, 0), "{question}");
    }
    println!("Both gave the same answers to {} requests.\n", asked.len());
}

fn table(service: &str, weft: &Figures, cedar: &Figures) {
    let line = |what: &str, ours: f64, theirs: f64| {
        let ratio = ours / theirs;
        println!("| {service}: {what} | {ours:.1} | {theirs:.1} | {ratio:.5} |");
    };
    line("median ns", weft.median, cedar.median);
    line("p99 ns", weft.p99, cedar.p99);
    line("allocations", weft.allocations, cedar.allocations);
}

/// Compiling all rules, and changing one of the crowded service.
fn edits(corpus: &Corpus, sets: &BTreeMap<ServiceName, PolicySet>, cedar: &Cedar) {
    let line = |what: &str, ours: Duration, theirs: Duration| {
        let (ours, theirs) = (ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3);
        println!(
            "| {what} | {ours:.3} | {theirs:.3} | {:.5} |",
            ours / theirs
        );
    };
    let texts = corpus.rules.values().map(|rules| {
        let texts = rules
            .iter()
            .map(|rule| (rule.name.to_string(), written(rule)));
        texts.collect::<Vec<_>>()
    });
    let texts: Vec<_> = texts.collect();
    line(
        "compile, all: ms",
        timed_whole(11, || compiled(corpus)),
        timed_whole(3, || {
            texts
                .iter()
                .map(|texts| cedar::parsed(texts))
                .collect::<Vec<_>>()
        }),
    );
    let (set, mut rules) = (
        &sets[&corpus.crowded],
        corpus.rules[&corpus.crowded].clone(),
    );
    let changed = rules.last_mut().expect("it is crowded");
    let mut rule = (**changed).clone();
    rule.from = Sources::from("ns1/w1".parse::<SourcePattern>().expect("a source"));
    rule.ports = Match::OneOf(NonEmpty::one("http".parse().expect("a port")));
    let (name, text) = (rule.name.to_string(), written(&rule));
    *changed = Arc::new(rule);
    line(
        "edit of one: ms",
        timed_whole(101, || {
            set.updated(rules.iter().cloned(), EncodedSlashes::Refuse)
        }),
        timed_whole(101, || {
            let mut set = cedar.set(&corpus.crowded).clone();
            let gone = set.remove_static(cedar_policy::PolicyId::new(&name));
            gone.expect("it was there");
            set.add(policy(&name, &text)).expect("it is gone");
            set
        }),
    );
}

/// Cedar is asked fewer, so that the run stays short.
const CEDAR_QUESTIONS: usize = 400;
