//! Flows and rules to test with.

mod left_out;
mod properties;
mod rules;

use std::collections::BTreeMap;

use weft_identity::{ServicePort, SpiffeId};

use super::*;
use crate::canonical::EncodedSlashes;
use crate::flow::{FlowHost, FlowKey, FlowRequest, HeaderSeen, Judged};
use crate::header::{HeaderCondition, HeaderTest};
use crate::request::Reason;
use crate::rule::{Mode, Quarantine};
use crate::source::SourcePattern;
use crate::world::ServiceFacts;
use crate::{FoldedPath, HttpCondition, Match, NonEmpty};

fn time(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + minute * 60).unwrap()
}

fn id(text: &str) -> SpiffeId {
    format!("spiffe://weft.local/ns/shop/sa/{text}")
        .parse()
        .unwrap()
}

fn target(text: &str) -> ServicePort {
    text.parse().unwrap()
}

fn bytes(source: &str, to: &str) -> Flow {
    Flow {
        key: FlowKey {
            source: id(source),
            target: target(to),
            request: None,
            judged: Judged::Learned(Reason::NoRule),
        },
        count: 1,
        first_seen: time(0),
        last_seen: time(1),
    }
}

fn request(source: &str, to: &str, method: &str, path: &str) -> Flow {
    let mut flow = bytes(source, to);
    flow.key.request = Some(FlowRequest {
        method: method.into(),
        host: FlowHost::Named("api".into()),
        path: Some(path.parse().unwrap()),
        headers: Vec::new(),
        upgrade: None,
        connect: false,
    });
    flow
}

fn with(mut flow: Flow, edit: impl FnOnce(&mut FlowRequest)) -> Flow {
    edit(flow.key.request.as_mut().unwrap());
    flow
}

fn judged(mut flow: Flow, judged: Judged) -> Flow {
    flow.key.judged = judged;
    flow
}

fn connect(source: &str, to: &str) -> Flow {
    with(request(source, to, "CONNECT", "/"), |request| {
        request.path = None;
        request.connect = true;
    })
}

fn world(rules: Vec<Rule>) -> World {
    World {
        rules: rules.into_iter().map(Arc::new).collect(),
        ..World::empty("weft.local".parse().unwrap())
    }
}

fn rule(name: &str, from: &str, path: Option<&str>) -> Rule {
    Rule {
        name: format!("shop/{name}").parse().unwrap(),
        service: "shop/api".parse().unwrap(),
        ports: Match::Any,
        from: from.parse::<SourcePattern>().unwrap().into(),
        http: path.map_or(Match::Any, |path| {
            Match::OneOf(NonEmpty::one(HttpCondition {
                paths: Match::OneOf(NonEmpty::one(path.parse().unwrap())),
                ..HttpCondition::default()
            }))
        }),
        expires: None,
        mode: Mode::Enforce,
    }
}

fn propose_in(world: &World, flows: &[Flow]) -> Proposal {
    let basis = Basis {
        world,
        lesson: Lesson::default(),
        now: time(10),
    };
    propose(flows, &basis)
}

fn yaml(proposal: &Proposal) -> String {
    proposal.rules.iter().map(Proposed::to_yaml).collect()
}

/// Each rule in a line.
fn lines(proposal: &Proposal) -> Vec<String> {
    let line = |proposed: &Proposed| {
        let rule = &proposed.rule;
        let from: Vec<_> = rule.from.texts().collect();
        let ports: Vec<_> = rule.ports.listed().iter().map(|p| p.as_str()).collect();
        let mut text = format!(
            "{} {}:{} {}",
            rule.name.name.as_str(),
            rule.service.name.as_str(),
            ports.join(","),
            from.join(",")
        );
        for http in rule.http.listed() {
            let listed = |texts: Vec<String>| texts.join(",");
            text.push_str(&format!(
                " | {} {}",
                listed(
                    http.methods
                        .listed()
                        .iter()
                        .map(|m| m.to_string())
                        .collect()
                ),
                listed(http.paths.listed().iter().map(|p| p.to_string()).collect()),
            ));
            for host in http.hosts.listed() {
                text.push_str(&format!(" @{host}"));
            }
            for upgrade in http.upgrades.listed() {
                text.push_str(&format!(" ^{upgrade}"));
            }
        }
        text
    };
    proposal.rules.iter().map(line).collect()
}

fn reasons(proposal: &Proposal) -> Vec<NotProposed> {
    let why = |left: &LeftOut| left.why.clone();
    proposal.left_out.iter().map(why).collect()
}
