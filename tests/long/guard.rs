//! Whether what the guard counts is the same each time: a ceiling says nothing about a figure that wanders.

use weft_tests::guard::{CASES, Counter, as_ceilings, spread};

#[test]
fn what_a_request_costs_is_the_same_within_2_percent_over_10_runs() {
    let counter = Counter::build().unwrap();
    for in_flight in CASES {
        let runs: Vec<_> = (0..10).map(|_| counter.count(in_flight).unwrap()).collect();
        for figures in &runs {
            print!("{}", as_ceilings(&[(in_flight, *figures)]));
        }
        for (what, apart) in spread(&runs) {
            println!(
                "{in_flight} in flight: {what} within {:.3} %",
                apart * 100.0
            );
            assert!(apart <= 0.02, "{what} wander at {in_flight} in flight");
        }
    }
}
