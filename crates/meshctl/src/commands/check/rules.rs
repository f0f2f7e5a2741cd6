//! What to say about the rules: those that end, that have ended, and that are tried out on nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weft_catalog::Service;
use weft_identity::{SpiffeId, TrustDomain};
use weft_policy::{Mode, Rule, SourcePattern};
use weft_wire::Spec;

use super::Finding;
use super::facts::Facts;
use super::judge::{ok, warning};
use crate::moments::{rough, shown};

pub(super) fn rules(facts: &Facts) -> Vec<Finding> {
    let mut rules: Vec<&Arc<Rule>> = Vec::new();
    let (mut services, mut cut) = (Vec::new(), 0);
    for resource in &facts.resources {
        match &resource.spec {
            Spec::Allow(rule) => rules.push(rule),
            Spec::Service(service) => services.push(service),
            Spec::Quarantine(_) => cut += 1,
            Spec::Mesh(_) | Spec::NamespaceSettings(_) => {}
        }
    }
    let known = workloads(facts, &services);
    let ends: Vec<_> = rules.iter().filter_map(|rule| ends(rule, facts)).collect();
    let plaintext: Vec<_> = rules
        .iter()
        .filter_map(|rule| lets_nothing_in(rule))
        .collect();
    let idle: Vec<_> = rules
        .iter()
        .filter_map(|rule| tried_on_nothing(rule, &services, &known, facts))
        .collect();
    let quarantined = match cut {
        0 => String::new(),
        _ => format!(", {cut} quarantined"),
    };
    let text = format!(
        "{} rules, {} expired or expiring{quarantined}",
        rules.len(),
        ends.len()
    );
    let mut findings = vec![ok(AREA, text)];
    findings.extend(shortened(ends, "more rules expired or expire soon"));
    findings.extend(shortened(plaintext, "more rules are about plaintext alone"));
    findings.extend(shortened(idle, "more rules in Audit mode match nothing"));
    findings
}

/// Whether a rule has ended or soon will.
pub(super) fn ends_soon(rule: &Rule, now: Timestamp) -> bool {
    rule.expires
        .is_some_and(|expires| expires.duration_since(now) < WARNS)
}

fn ends(rule: &Rule, facts: &Facts) -> Option<Finding> {
    let expires = rule.expires?;
    let left = expires.duration_since(facts.now);
    let name = &rule.name;
    let used = match facts.carried.as_ref().and_then(|carried| carried.get(name)) {
        None => String::new(),
        Some(0) => "; nothing used it in the last day".to_owned(),
        Some(1) => "; one request or connection used it in the last day".to_owned(),
        Some(count) => format!("; {count} requests or connections used it in the last day"),
    };
    if !left.is_positive() {
        return Some(warning(
            AREA,
            format!("Allow/{name} expired at {}{used}", shown(Some(expires))),
            format!(
                "it grants nothing; `meshctl delete allow/{name}` or `meshctl edit allow {name}`"
            ),
        ));
    }
    ends_soon(rule, facts.now).then(|| {
        warning(
            AREA,
            format!("Allow/{name} expires in {}{used}", rough(left)),
            format!("`meshctl edit allow {name}` if it shall live on"),
        )
    })
}

/// A rule about plaintext alone, which no sidecar accepts yet.
fn lets_nothing_in(rule: &Rule) -> Option<Finding> {
    rule.from.are_addresses_only().then(|| {
        warning(
            AREA,
            format!(
                "Allow/{} has `fromAddresses` and no `from`: no sidecar accepts plaintext yet, so that it lets nothing in",
                rule.name
            ),
            "who has a verified identity is named in `from`".to_owned(),
        )
    })
}

/// A rule that is in Audit mode to be watched, and that nothing could ever match.
fn tried_on_nothing(
    rule: &Rule,
    services: &[&Service],
    known: &BTreeSet<SpiffeId>,
    facts: &Facts,
) -> Option<Finding> {
    let is_said_already = rule.from.are_addresses_only();
    if rule.mode != Mode::Audit || rule.is_expired(facts.now) || is_said_already {
        return None;
    }
    let problem = match services.iter().find(|it| it.name == rule.service) {
        None => format!("there is no service {}", rule.service),
        Some(service) => {
            let has_port = service.ports.iter().any(|it| rule.matches_port(&it.name));
            if !has_port {
                format!("{} has none of its ports", rule.service)
            } else if !may_have_source(rule, known, facts) {
                "no workload is known that it names".to_owned()
            } else {
                return None;
            }
        }
    };
    Some(warning(
        AREA,
        format!(
            "Allow/{} is in Audit mode and matches nothing: {problem}",
            rule.name
        ),
        format!("`meshctl edit allow {}`", rule.name),
    ))
}

/// Whom it names of other trust domains cannot be known here.
fn may_have_source(rule: &Rule, known: &BTreeSet<SpiffeId>, facts: &Facts) -> bool {
    let own = trust_domain(facts);
    rule.from
        .identities()
        .iter()
        .any(|from| match (from, &own) {
            (_, None) => true,
            (SourcePattern::Exact(id), Some(own)) if !id.is_in(own) => true,
            (_, Some(own)) => known.iter().any(|id| from.matches(id, own)),
        })
}

/// Who offers a service or runs a sidecar.
fn workloads(facts: &Facts, services: &[&Service]) -> BTreeSet<SpiffeId> {
    let running = facts
        .sidecars
        .iter()
        .filter_map(|it| it.spiffe_id.parse().ok());
    let mut known: BTreeSet<SpiffeId> = running.collect();
    if let Some(own) = trust_domain(facts) {
        let offering = services.iter().flat_map(|service| &service.workloads);
        known.extend(offering.map(|workload| SpiffeId::for_workload(&own, workload)));
    }
    known
}

fn trust_domain(facts: &Facts) -> Option<TrustDomain> {
    facts.status.trust_domain.parse().ok()
}

fn shortened(mut findings: Vec<Finding>, what: &str) -> Vec<Finding> {
    let more = findings.len().saturating_sub(NAMED_LIMIT);
    findings.truncate(NAMED_LIMIT);
    if more > 0 {
        let hint = "`meshctl get allow` lists them all".to_owned();
        findings.push(warning(AREA, format!("{more} {what}"), hint));
    }
    findings
}

const AREA: &str = "policy";
const WARNS: SignedDuration = SignedDuration::from_hours(7 * 24);
const NAMED_LIMIT: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::judge::tests::facts;
    use super::*;
    use crate::documents;

    fn told(rules: &str) -> Vec<String> {
        let mut facts = facts();
        facts.status.trust_domain = "weft.local".to_owned();
        for placed in documents::parse("x", rules).unwrap().resources {
            facts.resources.push(placed.value);
        }
        let findings = rules_of(&facts);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    fn rules_of(facts: &Facts) -> Vec<Finding> {
        super::rules(facts)
    }

    fn rule(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
        )
    }

    #[test]
    fn rules_that_end_are_named_a_week_before() {
        let at = |name, time| {
            let spec = format!("to: {{service: api}}, from: [shop/web], expires: {time}");
            rule(name, &spec)
        };
        // now is 2027-01-15T08:00:00Z
        let rules = at("past", "2027-01-15T08:00:00Z")
            + &at("soon", "2027-01-22T07:59:59Z")
            + &at("later", "2027-01-22T08:00:00Z");
        assert_eq!(
            told(&rules),
            [
                "3 rules, 2 expired or expiring",
                "Allow/shop/past expired at 2027-01-15T08:00:00Z",
                "Allow/shop/soon expires in 6d 23h",
            ]
        );
    }

    #[test]
    fn a_rule_that_ends_is_told_with_what_used_it() {
        let spec = "to: {service: api}, from: [shop/web], expires: 2027-01-16T08:00:00Z";
        let text = rule("a", spec) + &rule("b", spec);
        let mut facts = facts();
        for placed in documents::parse("x", &text).unwrap().resources {
            facts.resources.push(placed.value);
        }
        let carried = [("shop/a", 12), ("shop/b", 0)];
        let carried = carried.map(|(name, count)| (name.parse().unwrap(), count));
        facts.carried = Some(carried.into());
        let told: Vec<_> = rules_of(&facts).into_iter().map(|it| it.text).collect();
        assert_eq!(
            told[1..],
            [
                "Allow/shop/a expires in 1d; 12 requests or connections used it in the last day",
                "Allow/shop/b expires in 1d; nothing used it in the last day",
            ]
        );
    }

    #[test]
    fn many_are_counted_rather_than_named() {
        let spec = "to: {service: api}, from: [shop/web], expires: 2020-01-01T00:00:00Z";
        let rules: String = (0..13).map(|n| rule(&format!("r{n}"), spec)).collect();
        let told = told(&rules);
        assert_eq!(told.len(), 1 + NAMED_LIMIT + 1, "{told:?}");
        assert_eq!(told[11], "3 more rules expired or expire soon");
    }

    #[test]
    fn a_rule_about_plaintext_alone_lets_nothing_in_and_is_told_once() {
        let alone = "to: {service: api}, fromAddresses: [10.1.0.0/16]";
        let both = "to: {service: api}, from: [shop/api], fromAddresses: [10.1.0.0/16]";
        let rules =
            rule("a", alone) + &rule("b", &format!("{alone}, mode: Audit")) + &rule("c", both);
        let nothing = |name: &str| {
            format!(
                "Allow/shop/{name} has `fromAddresses` and no `from`: no sidecar accepts plaintext yet, so that it lets nothing in"
            )
        };
        assert_eq!(told(&rules)[1..], [nothing("a"), nothing("b")]);
    }

    #[test]
    fn an_audit_rule_that_nothing_can_match_is_told() {
        let rules = rule("a", "to: {service: aip}, from: [shop/api], mode: Audit")
            + &rule(
                "b",
                "to: {service: api, ports: [grpc]}, from: [shop/api], mode: Audit",
            )
            + &rule("c", "to: {service: api}, from: [shop/wbe], mode: Audit")
            + &rule("d", "to: {service: api}, from: [\"shop/a*\"], mode: Audit")
            + &rule(
                "e",
                "to: {service: api}, from: [\"spiffe://partner.example/ns/a/sa/b\"], mode: Audit",
            )
            + &rule("f", "to: {service: api}, from: [shop/wbe]");
        let nothing = |name: &str, why: &str| {
            format!("Allow/shop/{name} is in Audit mode and matches nothing: {why}")
        };
        assert_eq!(
            told(&rules),
            [
                "6 rules, 0 expired or expiring".to_owned(),
                nothing("a", "there is no service shop/aip"),
                nothing("b", "shop/api has none of its ports"),
                nothing("c", "no workload is known that it names"),
            ]
        );
    }
}
