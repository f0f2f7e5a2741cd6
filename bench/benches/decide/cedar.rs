//! The same rules as Cedar policies, one for each rule, and one policy set for each service as Weft has.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, Request, RestrictedExpression,
};
use weft_identity::ServiceName;
use weft_policy::{
    HeaderLookup, HeaderTest, HeaderValue, HttpCondition, PathPattern, Rule, SourcePattern,
};

use crate::corpus::{Asked, Corpus, now, trust_domain};

pub(crate) struct Cedar(BTreeMap<ServiceName, PolicySet>);

/// All that Cedar needs, made before the clock runs.
#[derive(Clone)]
pub(crate) struct Prepared<'c> {
    policies: &'c PolicySet,
    request: Request,
    entities: Entities,
}

impl Cedar {
    pub(crate) fn compiled(corpus: &Corpus) -> Self {
        let sets = corpus.rules.iter().map(|(service, rules)| {
            let rules = rules
                .iter()
                .map(|rule| (rule.name.to_string(), written(rule)));
            (service.clone(), parsed(&rules.collect::<Vec<_>>()))
        });
        Self(sets.collect())
    }

    pub(crate) fn set(&self, service: &ServiceName) -> &PolicySet {
        &self.0[service]
    }

    pub(crate) fn prepared(&self, asked: &Asked) -> Prepared<'_> {
        let principal = uid("Workload", asked.source.as_str());
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let mut context = vec![
            ("path".to_owned(), text(asked.path())),
            ("host".to_owned(), text(asked.host())),
            (
                "now".to_owned(),
                RestrictedExpression::new_long(now().as_second()),
            ),
        ];
        if let HeaderValue::One(tenant) = asked.lookup(TENANT) {
            let tenant = std::str::from_utf8(tenant).expect("it is a part of a text");
            context.push((TENANT.to_owned(), text(tenant)));
        }
        let request = Request::new(
            principal.clone(),
            uid("Action", asked.method),
            uid("Port", asked.port.as_str()),
            Context::from_pairs(context).expect("each key once"),
            None,
        );
        let (namespace, name) = asked
            .source
            .workload_parts()
            .expect("callers are workloads");
        let attributes = HashMap::from([
            ("domain".to_owned(), text(asked.source.trust_domain_str())),
            ("namespace".to_owned(), text(namespace)),
            ("name".to_owned(), text(name)),
        ]);
        let principal = Entity::new(principal, attributes, HashSet::new());
        let principal = principal.expect("attributes are texts");
        Prepared {
            policies: &self.0[&asked.service],
            request: request.expect("there is no schema to offend"),
            entities: Entities::from_entities([principal], None).expect("one entity"),
        }
    }
}

impl Prepared<'_> {
    pub(crate) fn is_allowed(&self) -> bool {
        let answer = Authorizer::new().is_authorized(&self.request, self.policies, &self.entities);
        answer.decision() == Decision::Allow
    }

    /// The first by name of the policies that allow, and what failed.
    pub(crate) fn first(&self) -> (Option<String>, usize) {
        let answer = Authorizer::new().is_authorized(&self.request, self.policies, &self.entities);
        let reasons = answer.diagnostics().reason().map(ToString::to_string);
        (reasons.min(), answer.diagnostics().errors().count())
    }
}

/// Named policies as a set.
pub(crate) fn parsed(policies: &[(String, String)]) -> PolicySet {
    let mut set = PolicySet::new();
    for (name, text) in policies {
        set.add(policy(name, text)).expect("each name once");
    }
    set
}

pub(crate) fn policy(name: &str, text: &str) -> Policy {
    Policy::parse(Some(PolicyId::new(name)), text).expect("written so that it can be read")
}

/// A rule in Cedar's language. What its scope can say stands there, since Cedar looks at the scope first.
pub(crate) fn written(rule: &Rule) -> String {
    let mut conditions = Vec::new();
    let principal = match rule.from.identities() {
        [SourcePattern::Exact(id)] => format!("principal == Workload::\"{id}\""),
        [one] => match one.exact(&trust_domain()) {
            Some(id) => format!("principal == Workload::\"{id}\""),
            None => {
                conditions.push(source(one));
                "principal".to_owned()
            }
        },
        several => {
            conditions.push(any(several.iter().map(source)));
            "principal".to_owned()
        }
    };
    let resource = match rule.ports.listed() {
        [] => "resource".to_owned(),
        [port] => format!("resource == Port::\"{port}\""),
        several => {
            let ports = several
                .iter()
                .map(|port| format!("resource == Port::\"{port}\""));
            conditions.push(any(ports));
            "resource".to_owned()
        }
    };
    if let Some(expires) = rule.expires {
        conditions.push(format!("context.now < {}", expires.as_second()));
    }
    if !rule.http.is_any() {
        conditions.push(any(rule.http.listed().iter().map(condition)));
    }
    let mut text = format!("permit({principal}, action, {resource})");
    if !conditions.is_empty() {
        let _ = write!(text, " when {{ {} }}", conditions.join(" && "));
    }
    text + ";"
}

fn source(pattern: &SourcePattern) -> String {
    match pattern.exact(&trust_domain()) {
        Some(id) => format!("principal == Workload::\"{id}\""),
        None => {
            let domain = format!("principal.domain == \"{}\"", trust_domain());
            let text = pattern.to_string();
            match text.split_once('/') {
                None => domain,
                Some((namespace, name)) => format!(
                    "({domain} && principal.namespace == \"{namespace}\" && principal.name like \"{name}\")"
                ),
            }
        }
    }
}

fn condition(condition: &HttpCondition) -> String {
    let mut parts = Vec::new();
    if !condition.methods.is_any() {
        let methods = condition.methods.listed().iter();
        let actions: Vec<_> = methods
            .map(|method| format!("Action::\"{method}\""))
            .collect();
        parts.push(format!("[{}].contains(action)", actions.join(", ")));
    }
    if !condition.paths.is_any() {
        parts.push(any(condition.paths.listed().iter().map(path)));
    }
    if !condition.hosts.is_any() {
        let hosts = condition.hosts.listed().iter();
        parts.push(any(
            hosts.map(|host| format!("context.host like \"{host}\""))
        ));
    }
    for header in condition.headers.listed() {
        let HeaderTest::Exact(value) = &header.test else {
            unreachable!("the corpus has no other tests");
        };
        let name = &header.name;
        parts.push(format!(
            "context has \"{name}\" && context[\"{name}\"] == \"{value}\""
        ));
    }
    format!("({})", parts.join(" && "))
}

/// Cedar's `*` goes on over `/`: what must be one segment is said by what it must not be like.
fn path(pattern: &PathPattern) -> String {
    let text = pattern.as_str();
    if pattern.is_literal() {
        return format!("context.path == \"{text}\"");
    }
    let like = |text: &str| format!("context.path like \"{text}\"");
    match text.strip_suffix("**") {
        Some(_) => like(&text.replace("**", "*")),
        None => {
            let wide = text.replace('*', "*/*");
            let empty = text.replace('*', "");
            format!(
                "({} && !({}) && context.path != \"{empty}\")",
                like(text),
                like(&wide)
            )
        }
    }
}

fn any(alternatives: impl Iterator<Item = String>) -> String {
    format!("({})", alternatives.collect::<Vec<_>>().join(" || "))
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a name");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

const TENANT: &str = "x-tenant";
