//! What the rules of one port can ask of a request, so that a flow must tell it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use weft_identity::DnsLabel;

use crate::canonical::EncodedSlashes;
use crate::flow::{HEADER_LIMIT, HeaderSeen};
use crate::fold::FoldedPath;
use crate::header::HeaderCondition;
use crate::path::Segment;
use crate::request::HeaderLookup;
use crate::rule::Rule;

/// Of every rule for the port, whatever its mode, and expired or not: whoever looks at a flow later may judge by any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowTerms {
    headers: Arc<[HeaderCondition]>,
    /// Segments of paths that rules spell out and that would be folded else.
    literals: HashSet<Box<str>>,
    slashes: EncodedSlashes,
}

impl FlowTerms {
    pub fn of<'r>(
        rules: impl IntoIterator<Item = &'r Arc<Rule>>,
        port: &DnsLabel,
        slashes: EncodedSlashes,
    ) -> Self {
        let mut headers = BTreeSet::new();
        let mut literals = HashSet::new();
        for rule in rules.into_iter().filter(|rule| rule.matches_port(port)) {
            for condition in rule.http.listed() {
                headers.extend(condition.headers.listed());
                let patterns = condition.paths.listed().iter();
                literals.extend(patterns.flat_map(|pattern| {
                    pattern.segments().filter_map(|segment| match segment {
                        Segment::Literal(literal) => Some(Box::from(literal)),
                        Segment::Any | Segment::Part(_) | Segment::Rest => None,
                    })
                }));
            }
        }
        Self {
            headers: bounded(headers),
            literals,
            slashes,
        }
    }

    pub fn headers(&self) -> &Arc<[HeaderCondition]> {
        &self.headers
    }

    /// How each condition comes out.
    pub fn seen(&self, headers: &dyn HeaderLookup) -> impl Iterator<Item = HeaderSeen> {
        self.headers
            .iter()
            .map(move |condition| HeaderSeen::of(condition, headers))
    }

    /// Folds a path, but for the segments that rules spell out.
    pub fn fold_into(&self, folded: &mut String, path: &str) {
        FoldedPath::fold_into(folded, path, self.slashes, |segment| {
            self.literals.contains(segment)
        });
    }
}

/// As many as a flow tells of, in number and in length.
fn bounded(headers: BTreeSet<&HeaderCondition>) -> Arc<[HeaderCondition]> {
    let mut left = HEADER_BYTES;
    let fits = |condition: &&HeaderCondition| {
        let length = condition.to_string().len();
        let fits = length <= left;
        left -= if fits { length } else { 0 };
        fits
    };
    headers
        .into_iter()
        .filter(fits)
        .take(HEADER_LIMIT)
        .cloned()
        .collect()
}

/// What all conditions of a flow may take.
const HEADER_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use weft_identity::document::{self, Origin};

    use super::*;

    fn rule(name: &str, spec: &str) -> Arc<Rule> {
        let text = format!(
            "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  {spec}\n"
        );
        let document = document::read(&text, &Origin::file("it.yaml"), "Allow").unwrap();
        Arc::new(Rule::from_document(&document).unwrap())
    }

    fn terms(port: &str) -> FlowTerms {
        let rules = [
            rule(
                "a",
                "{to: {service: api, ports: [http]}, from: [shop/web], http: [{paths: [/v2/404/*], headers: [{name: x-tier, exact: gold}]}]}",
            ),
            rule(
                "b",
                "{to: {service: api, ports: [other]}, from: [shop/web], http: [{headers: [{name: x-other, present: true}]}]}",
            ),
            rule(
                "c",
                "{to: {service: api}, from: [shop/web], mode: Audit, http: [{headers: [{name: x-tier, exact: gold}, {name: x-canary, present: true}]}]}",
            ),
        ];
        FlowTerms::of(&rules, &port.parse().unwrap(), EncodedSlashes::Refuse)
    }

    #[test]
    fn the_conditions_of_a_ports_rules_are_told_once_each_whatever_their_mode() {
        let names = |port| {
            let headers = terms(port).headers;
            let texts: Vec<String> = headers.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        assert_eq!(names("http"), "x-canary present, x-tier: gold");
        assert_eq!(
            names("other"),
            "x-canary present, x-other present, x-tier: gold"
        );
    }

    #[test]
    fn headers_come_out_as_conditions_say_and_no_value_is_kept() {
        let headers = vec![
            ("X-Tier".to_owned(), "silver".to_owned()),
            ("x-canary".to_owned(), "1".to_owned()),
            ("x-canary".to_owned(), "2".to_owned()),
        ];
        let seen: Vec<_> = terms("http").seen(&headers).collect();
        assert_eq!(seen, [HeaderSeen::Many, HeaderSeen::Differed]);
    }

    #[test]
    fn what_a_rule_spells_out_is_not_folded() {
        let mut folded = String::new();
        terms("http").fold_into(&mut folded, "/v2/404/405");
        assert_eq!(folded, "/v2/404/{number}");
        terms("other").fold_into(&mut folded, "/v2/404/405");
        assert_eq!(folded, "/v2/{number}/{number}");
    }

    #[test]
    fn a_port_with_too_many_conditions_tells_the_first_that_fit() {
        let conditions: Vec<String> = (0..100)
            .map(|n| format!("{{name: x-h{n:03}, exact: {}}}", "v".repeat(50)))
            .collect();
        let rule = rule(
            "many",
            &format!(
                "{{to: {{service: api}}, from: [shop/web], http: [{{headers: [{}]}}]}}",
                conditions.join(", ")
            ),
        );
        let terms = FlowTerms::of([&rule], &"http".parse().unwrap(), EncodedSlashes::Refuse);
        assert_eq!(terms.headers().len(), HEADER_LIMIT);
    }
}
