//! What DENY and CUSTOM policies refuse, as sets that are never smaller than what the source refuses.

use super::{Action, Condition, Key, Operation, Rule, Source, callers::Callers, convert::Policy};
use crate::{
    header::{HeaderCondition, HeaderTest},
    http::HostPattern,
    import::{
        cluster::{Speaks, TargetPort},
        grants::{Named, Refusal},
        meta::Holds,
        paths::PathTest,
        text::{Part, Texts},
    },
    path::PathPattern,
    source::SourcePattern,
};

/// One source and one operation of a refusing rule, on one port.
pub(super) struct Refused {
    callers: Callers,
    methods: Texts,
    paths: Vec<PathTest>,
    not_paths: Vec<PathTest>,
    hosts: bool,
    headers: Vec<(String, Texts)>,
}

/// What a policy refuses on a port; nothing for one that refuses nothing.
pub(super) fn refused(
    policy: &Policy,
    port: &TargetPort,
    foreign_trust_domain: &str,
) -> Vec<Refused> {
    match policy.spec.action {
        Action::Deny | Action::Custom => {}
        Action::Allow | Action::Audit => return Vec::new(),
    }
    let mut refused = Vec::new();
    for rule in &policy.spec.rules {
        if ports_hold(&[], &[], &rule.when, port, policy.by_service_port()) == Holds::No {
            continue;
        }
        for operation in operations(rule) {
            if ports_hold_of(operation, port, policy.by_service_port()) == Holds::No {
                continue;
            }
            for source in sources(rule) {
                let callers =
                    Callers::new(source, &rule.when, &policy.namespace, foreign_trust_domain);
                refused.push(Refused::new(callers, operation, &rule.when, port));
            }
        }
    }
    refused
}

pub(super) fn sources(rule: &Rule) -> Vec<Option<&Source>> {
    if rule.from.is_empty() {
        return vec![None];
    }
    rule.from.iter().map(|from| Some(&from.source)).collect()
}

fn operations(rule: &Rule) -> Vec<Option<&Operation>> {
    if rule.to.is_empty() {
        return vec![None];
    }
    rule.to.iter().map(|to| Some(&to.operation)).collect()
}

fn ports_hold_of(operation: Option<&Operation>, port: &TargetPort, by_service_port: bool) -> Holds {
    operation.map_or(Holds::Yes, |operation| {
        let numbers =
            |list: &[super::Number]| list.iter().map(|number| number.0).collect::<Vec<_>>();
        ports_hold(
            &numbers(&operation.ports),
            &numbers(&operation.not_ports),
            &[],
            port,
            by_service_port,
        )
    })
}

/// Whether a port is meant, as it is numbered on the pods behind it.
pub(super) fn ports_hold(
    ports: &[u16],
    not_ports: &[u16],
    when: &[Condition],
    port: &TargetPort,
    by_service_port: bool,
) -> Holds {
    let mut lists = vec![(ports.to_vec(), not_ports.to_vec())];
    for condition in when
        .iter()
        .filter(|condition| condition.key == Key::DestinationPort)
    {
        let read = |values: &[String]| {
            values
                .iter()
                .filter_map(|value| value.parse().ok())
                .collect::<Vec<u16>>()
        };
        lists.push((read(&condition.values), read(&condition.not_values)));
    }
    let meant = |number: u16| {
        lists.iter().all(|(any_of, none_of)| {
            (any_of.is_empty() || any_of.contains(&number)) && !none_of.contains(&number)
        })
    };
    let mut numbers: Vec<u16> = port.on.iter().map(|(_, number)| *number).collect();
    if by_service_port {
        // a waypoint may see either number
        numbers.push(port.port);
    }
    if numbers.iter().all(|number| meant(*number)) {
        Holds::Yes
    } else if numbers.iter().any(|number| meant(*number)) {
        Holds::Unknown
    } else {
        Holds::No
    }
}

impl Refused {
    fn new(
        callers: Callers,
        operation: Option<&Operation>,
        when: &[Condition],
        port: &TargetPort,
    ) -> Self {
        let mut refused = Self {
            callers,
            methods: Texts::default(),
            paths: Vec::new(),
            not_paths: Vec::new(),
            hosts: false,
            headers: Vec::new(),
        };
        // of bytes, what HTTP has counts as matching
        if port.speaks == Speaks::Bytes {
            return refused;
        }
        if let Some(operation) = operation {
            let read = |list: &[String]| list.iter().map(|text| PathTest::new(text)).collect();
            refused.methods = Texts::new(&operation.methods, &operation.not_methods);
            refused.paths = read(&operation.paths);
            refused.not_paths = read(&operation.not_paths);
            refused.hosts = !operation.hosts.is_empty() || !operation.not_hosts.is_empty();
        }
        for condition in when {
            if let Key::Header(name) = &condition.key {
                let texts = Texts::new(&condition.values, &condition.not_values);
                refused.headers.push((name.to_ascii_lowercase(), texts));
            }
        }
        refused
    }
}

impl Refusal for Refused {
    fn source(&self, pattern: &SourcePattern) -> Holds {
        self.callers.holds(pattern)
    }

    fn method(&self, method: &str) -> Holds {
        self.methods.holds(&Part::Whole(method.to_owned()))
    }

    fn path(&self, pattern: &PathPattern) -> Holds {
        let named = if self.paths.is_empty() {
            Holds::Yes
        } else {
            Holds::any(self.paths.iter().map(|test| test.holds(pattern)))
        };
        named.and(Holds::any(self.not_paths.iter().map(|test| test.holds(pattern))).not())
    }

    fn host(&self, _: &HostPattern) -> Holds {
        if self.hosts {
            Holds::Unknown
        } else {
            Holds::Yes
        }
    }

    fn headers(&self, headers: &[HeaderCondition]) -> Holds {
        Holds::all(self.headers.iter().map(|(name, texts)| {
            let named = headers.iter().filter(|header| header.name.as_str() == name);
            let parts = named.map(|header| match &header.test {
                HeaderTest::Exact(value) => Part::Whole(value.clone()),
                HeaderTest::Prefix(prefix) => Part::Begins(prefix.clone()),
                HeaderTest::Present => Part::Begins(String::new()),
            });
            // conditions on one header must all hold, so that one which lies outside is enough
            let outside = parts
                .into_iter()
                .any(|part| texts.holds(&part) == Holds::No);
            if outside { Holds::No } else { Holds::Unknown }
        }))
    }

    fn names(&self) -> Named {
        Named {
            methods: !self.methods.is_any(),
            paths: !self.paths.is_empty() || !self.not_paths.is_empty(),
            hosts: self.hosts,
            headers: !self.headers.is_empty(),
        }
    }
}
