//! Makes a case on which the two disagree as small as it gets.

use crate::case::{Case, ConditionText, RuleText};

/// Takes away what can go while `disagrees` holds.
pub(crate) fn shrunk(mut case: Case, disagrees: impl Fn(&Case) -> bool) -> Case {
    while let Some(smaller) = smaller(&case).into_iter().find(|case| disagrees(case)) {
        case = smaller;
    }
    case
}

/// The case with one thing less, in every way.
fn smaller(case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |edit: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        edit(&mut case);
        cases.push(case);
    };
    for at in 0..case.rules.len() {
        add(&|case| drop(case.rules.remove(at)));
        for rule in smaller_rules(&case.rules[at]) {
            add(&|case| case.rules[at] = rule.clone());
        }
    }
    if case.quarantined {
        add(&|case| case.quarantined = false);
    }
    if case.learn_until.is_some() {
        add(&|case| case.learn_until = None);
    }
    if case.keep_slashes {
        add(&|case| case.keep_slashes = false);
    }
    if let Some(request) = &case.request {
        for at in 0..request.headers.len() {
            add(&|case| drop(case.request.as_mut().unwrap().headers.remove(at)));
        }
        if request.host.is_some() {
            add(&|case| case.request.as_mut().unwrap().host = None);
        }
        if request.upgrade.is_some() {
            add(&|case| case.request.as_mut().unwrap().upgrade = None);
        }
    }
    cases
}

fn smaller_rules(rule: &RuleText) -> Vec<RuleText> {
    let mut rules = Vec::new();
    let mut add = |edit: &dyn Fn(&mut RuleText)| {
        let mut rule = rule.clone();
        edit(&mut rule);
        rules.push(rule);
    };
    if rule.expires.is_some() {
        add(&|rule| rule.expires = None);
    }
    if rule.ports.is_some() {
        add(&|rule| rule.ports = None);
    }
    for from in &rule.from {
        if rule.from.len() + rule.addresses.len() > 1 {
            add(&|rule| (rule.from, rule.addresses) = (vec![from.clone()], Vec::new()));
        }
    }
    for range in &rule.addresses {
        if rule.from.len() + rule.addresses.len() > 1 {
            add(&|rule| (rule.from, rule.addresses) = (Vec::new(), vec![*range]));
        }
    }
    let Some(conditions) = &rule.http else {
        return rules;
    };
    add(&|rule| rule.http = None);
    for (at, condition) in conditions.iter().enumerate() {
        if conditions.len() > 1 {
            add(&|rule| drop(rule.http.as_mut().unwrap().remove(at)));
        }
        for condition in smaller_conditions(condition) {
            add(&|rule| rule.http.as_mut().unwrap()[at] = condition.clone());
        }
    }
    rules
}

fn smaller_conditions(condition: &ConditionText) -> Vec<ConditionText> {
    let with = |edit: fn(&mut ConditionText)| {
        let mut condition = condition.clone();
        edit(&mut condition);
        condition
    };
    let mut conditions = vec![
        with(|condition| condition.methods = None),
        with(|condition| condition.paths = None),
        with(|condition| condition.hosts = None),
        with(|condition| condition.headers = None),
        with(|condition| condition.upgrades = None),
        with(|condition| condition.grpc = None),
    ];
    for grpc in one_less(&condition.grpc) {
        conditions.push(ConditionText {
            grpc: Some(grpc),
            ..condition.clone()
        });
    }
    for paths in one_less(&condition.paths) {
        conditions.push(ConditionText {
            paths: Some(paths),
            ..condition.clone()
        });
    }
    for methods in one_less(&condition.methods) {
        conditions.push(ConditionText {
            methods: Some(methods),
            ..condition.clone()
        });
    }
    conditions.retain(|smaller| !smaller.is_empty() && parts(smaller) < parts(condition));
    conditions
}

/// The list without each of its values in turn, but never empty.
fn one_less<T: Clone>(list: &Option<Vec<T>>) -> Vec<Vec<T>> {
    let list = list.as_deref().unwrap_or_default();
    let without = |at| {
        let mut list = list.to_vec();
        list.remove(at);
        list
    };
    match list.len() {
        0 | 1 => Vec::new(),
        count => (0..count).map(without).collect(),
    }
}

fn parts(condition: &ConditionText) -> usize {
    condition.methods.as_ref().map_or(0, Vec::len)
        + condition.paths.as_ref().map_or(0, Vec::len)
        + condition.hosts.as_ref().map_or(0, Vec::len)
        + condition.headers.as_ref().map_or(0, Vec::len)
        + condition.upgrades.as_ref().map_or(0, Vec::len)
        + condition.grpc.as_ref().map_or(0, Vec::len)
}
