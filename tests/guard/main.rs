//! Holds what one request costs against `ceilings.yaml`. No figure depends on the machine's speed.

use weft_tests::guard::{CASES, Ceilings, Counter, as_ceilings};

#[test]
fn a_request_costs_no_more_than_its_ceilings() {
    let counter = Counter::build().unwrap();
    let ceilings = Ceilings::read().unwrap();
    let measured = CASES.map(|in_flight| (in_flight, counter.count(in_flight).unwrap()));
    let (mut over, mut far_below) = (Vec::new(), Vec::new());
    for (in_flight, figures) in measured {
        let found = ceilings.compare(in_flight, figures).unwrap();
        over.extend(found.over);
        far_below.extend(found.far_below);
    }
    let as_measured = as_ceilings(&measured);
    println!("a request costs, by requests in flight:\n{as_measured}");
    if !far_below.is_empty() {
        println!("far below its ceiling: lower it, or a loss of as much passes:");
        println!("{}", far_below.join("\n"));
    }
    assert!(
        over.is_empty(),
        "a request costs more than its ceiling and 5 %:\n{}\nIf that is on purpose, write this into {} and say why in the commit:\n{as_measured}",
        over.join("\n"),
        Ceilings::FILE,
    );
}
