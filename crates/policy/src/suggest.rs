//! The smallest rule that would allow a refused request, as a document to paste.
//!
//! Invariant: a suggestion was judged: with it the request passes.

use std::{fmt::Write as _, sync::Arc};

use weft_identity::{DnsLabel, RuleName, SpiffeId};

use crate::{
    address::AddressRange,
    explain::Question,
    grpc,
    http::HttpCondition,
    lists::{Match, NonEmpty},
    request::{Reason, Verdict},
    rule::{Mode, Rule},
    set::PolicySet,
    source::SourcePattern,
    sources::{Source, Sources},
};

pub(crate) fn suggested_yaml(
    set: &PolicySet,
    question: &Question<'_>,
    reason: Reason,
) -> Option<String> {
    match reason {
        Reason::NoRule | Reason::UpgradeNotAllowed => {}
        Reason::Quarantined
        | Reason::PathNotCanonical
        | Reason::Malformed
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => return None,
    }
    let rule = Rule {
        name: RuleName {
            namespace: question.target.service.namespace.clone(),
            name: free_name(set, question)?,
        },
        service: question.target.service.clone(),
        ports: Match::OneOf(NonEmpty::one(question.target.port.clone())),
        from: smallest_from(question),
        http: smallest_http(question)?,
        expires: None,
        mode: Mode::Enforce,
    };
    let yaml = to_yaml(&rule);
    let rules = set.rules().iter().cloned().chain([Arc::new(rule)]);
    let with_it = PolicySet::compile(
        question.trust_domain.clone(),
        set.service(),
        rules,
        question.encoded_slashes,
    );
    matches!(question.decide(&with_it), Verdict::Allow(_)).then_some(yaml)
}

/// Just this source.
fn smallest_from(question: &Question<'_>) -> Sources {
    match question.source {
        Source::Identity(id) => SourcePattern::for_id(id, question.trust_domain).into(),
        Source::Address(address) => NonEmpty::one(AddressRange::from(address)).into(),
    }
}

/// `None` when no pattern says just this request.
fn smallest_http(question: &Question<'_>) -> Option<Match<HttpCondition>> {
    let Some(request) = question.http.filter(|request| !request.connect) else {
        return Some(Match::Any);
    };
    let path = match question.folded {
        Some(folded) => folded.pattern()?,
        None if request.path.contains('*') => return None,
        None => request.path.parse().ok()?,
    };
    let upgrades = match request.upgrade {
        None => Match::Any,
        Some(offered) => {
            let named = offered.split(',').map(|name| name.trim().parse());
            Match::OneOf(NonEmpty::new(named.collect::<Result<_, _>>().ok()?)?)
        }
    };
    Some(Match::OneOf(NonEmpty::one(HttpCondition {
        methods: Match::OneOf(NonEmpty::one(request.method.parse().ok()?)),
        paths: Match::OneOf(NonEmpty::one(path)),
        upgrades,
        ..HttpCondition::default()
    })))
}

fn free_name(set: &PolicySet, question: &Question<'_>) -> Option<DnsLabel> {
    let workload = question.source.identity().and_then(SpiffeId::workload);
    let source = match (&workload, question.source) {
        (Some(workload), _) => workload.name.as_str(),
        (None, Source::Identity(_)) => "other",
        (None, Source::Address(_)) => "plaintext",
    };
    let service = question.target.service.name.as_str();
    let base: String = format!("{source}-to-{service}")
        .chars()
        .take(NAME_LENGTH)
        .collect();
    let base = base.trim_end_matches('-');
    let taken = |name: &str| {
        set.rules()
            .iter()
            .any(|rule| rule.name.name.as_str() == name)
    };
    let numbered = (2..NAMES_TRIED).map(|number| format!("{base}-{number}"));
    std::iter::once(base.to_owned())
        .chain(numbered)
        .find(|name| !taken(name))?
        .parse()
        .ok()
}

/// The document in the layout that people write by hand.
fn to_yaml(rule: &Rule) -> String {
    let mut yaml = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {}, namespace: {}}}\nspec:\n",
        quoted(&rule.name.name),
        quoted(&rule.name.namespace)
    );
    let ports = list(rule.ports.listed());
    let service = quoted(&rule.service.name);
    // writing to a String cannot fail
    let _ = writeln!(yaml, "  to: {{service: {service}, ports: {ports}}}");
    for (field, sources) in source_fields(&rule.from) {
        let _ = writeln!(yaml, "  {field}: {}", list(&sources));
    }
    for condition in rule.http.listed() {
        let mut parts = match grpc::of_http(&condition.methods, &condition.paths) {
            Some(named) => vec![format!("grpc: {}", list(named.as_slice()))],
            None => vec![
                format!("methods: {}", list(condition.methods.listed())),
                format!("paths: {}", list(condition.paths.listed())),
            ],
        };
        if !condition.upgrades.is_any() {
            parts.push(format!("upgrades: {}", list(condition.upgrades.listed())));
        }
        let _ = writeln!(yaml, "  http: [{{{}}}]", parts.join(", "));
    }
    yaml
}

/// The fields of a document that say whom a rule admits, each with what it lists.
pub(crate) fn source_fields(from: &Sources) -> impl Iterator<Item = (&'static str, Vec<String>)> {
    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(T::to_string).collect()
    }
    [
        ("from", texts(from.identities())),
        ("fromAddresses", texts(from.addresses())),
    ]
    .into_iter()
    .filter(|(_, listed)| !listed.is_empty())
}

pub(crate) fn list<T: ToString>(values: &[T]) -> String {
    let values: Vec<_> = values.iter().map(quoted).collect();
    format!("[{}]", values.join(", "))
}

/// Quoted where YAML could read something else than this text.
pub(crate) fn quoted<T: ToString>(value: &T) -> String {
    let text = value.to_string();
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-/".contains(&b))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// What some YAML reader takes for a boolean or for nothing.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
const NAME_LENGTH: usize = 58;
const NAMES_TRIED: usize = 1000;
