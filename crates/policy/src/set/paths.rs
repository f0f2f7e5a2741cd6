//! The HTTP conditions of one source, as a tree of path segments: a request meets only the conditions whose path it has.
//!
//! Invariant: a request walks each branch at most once, so no path costs more than the patterns are long together.

use std::{collections::HashMap, sync::Arc};

use smol_str::SmolStr;

use super::{
    alternatives::{Alternative, Alternatives, Search},
    table::{Keyed, Table},
};
use crate::{
    lists::Match,
    path::{PathPattern, Segment, match_segment},
    rule::Rule,
};

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Paths {
    /// Conditions that state no path.
    any: Option<Box<Alternatives>>,
    root: Branch,
}

/// Where patterns that begin alike part.
#[derive(Debug, Default)]
#[repr(C)]
struct Branch {
    /// The segments, each with the `/` before it, that all of them have up to here.
    text: SmolStr,
    /// Patterns that end here.
    here: Alternatives,
    more: Option<Box<More>>,
}

/// Patterns that go on.
#[derive(Debug)]
#[repr(C)]
struct More {
    /// Of which the rest is `**`.
    rest: Alternatives,
    /// With `*` as the next segment.
    any: Option<Branch>,
    /// By their next segment.
    literal: Table<Box<Branch>>,
    /// With a `*` in it.
    part: Box<[(Box<str>, Branch)]>,
}

impl Paths {
    pub(super) fn compile(rules: &[Arc<Rule>]) -> Self {
        let mut any = Alternatives::default();
        let mut tree = Tree::new();
        for (place, rule) in rules.iter().enumerate() {
            for (index, condition) in rule.http.listed().iter().enumerate() {
                let alternative = Alternative {
                    rule,
                    place,
                    condition,
                    index,
                };
                match &condition.paths {
                    Match::Any => any.add(alternative),
                    Match::OneOf(patterns) => patterns
                        .iter()
                        .for_each(|pattern| tree.add(pattern, alternative)),
                }
            }
        }
        Self {
            any: (!any.is_empty()).then(|| Box::new(any)),
            root: tree.branch(),
        }
    }

    pub(super) fn search<'s>(&'s self, search: &mut Search<'s, '_>) {
        if let Some(any) = &self.any {
            search.alternatives(any);
        }
        self.root.search(search.request.path, search);
    }
}

impl Branch {
    /// `path` is what is left of the request's: nothing, or it begins with a `/`.
    fn search<'s>(&'s self, path: &str, search: &mut Search<'s, '_>) {
        let Some(path) = path.strip_prefix(&*self.text) else {
            return;
        };
        if path.is_empty() {
            return search.alternatives(&self.here);
        }
        if let Some(more) = &self.more
            && let Some(segments) = path.strip_prefix('/')
        {
            more.search(path, segments, search);
        }
    }
}

impl More {
    /// `segments` are those of `path`, which begins with a `/`.
    fn search<'s>(&'s self, path: &str, segments: &str, search: &mut Search<'s, '_>) {
        search.alternatives(&self.rest);
        let (segment, after) = first_segment(segments);
        if let Some(branch) = self.literal.get(segment.as_bytes()) {
            branch.search(path, search);
        }
        if let Some(branch) = self.any.as_ref().filter(|_| !segment.is_empty()) {
            branch.search(after, search);
        }
        for (part, branch) in &self.part {
            if match_segment(part, segment) {
                branch.search(after, search);
            }
        }
    }
}

impl Keyed for Branch {
    /// The first segment.
    fn key(&self) -> &[u8] {
        let text = self.text.strip_prefix('/').unwrap_or_default();
        first_segment(text).0.as_bytes()
    }
}

/// The first of some segments, and what comes after it: nothing, or it begins with a `/`.
fn first_segment(segments: &str) -> (&str, &str) {
    // segments are short: a plain loop finds the end sooner than a search made for long texts
    let end = segments.bytes().position(|byte| byte == b'/');
    let split = end.and_then(|end| segments.split_at_checked(end));
    split.unwrap_or((segments, ""))
}

/// The branches in the making, one for each segment. Nothing here calls itself: a pattern may have a thousand segments.
struct Tree<'p> {
    /// Each after the one that leads to it.
    nodes: Vec<Node<'p>>,
    /// Where a segment leads from a node.
    steps: HashMap<(usize, Segment<'p>), usize>,
}

#[derive(Default)]
struct Node<'p> {
    /// The node that leads here, and by which segment. Nothing leads to the root.
    from: Option<(usize, Segment<'p>)>,
    here: Alternatives,
    rest: Alternatives,
    any: Option<Branch>,
    literal: Vec<Draft<'p>>,
    part: Vec<(Box<str>, Branch)>,
}

/// A [`Branch`] to which segments may be added in front.
struct Draft<'p> {
    /// From the last to the first.
    segments: Vec<&'p str>,
    here: Alternatives,
    more: Option<Box<More>>,
}

impl<'p> Tree<'p> {
    fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            steps: HashMap::new(),
        }
    }

    fn add(&mut self, pattern: &'p PathPattern, alternative: Alternative<'_>) {
        let mut at = 0;
        let mut is_open = false;
        for segment in pattern.segments() {
            if segment == Segment::Rest {
                is_open = true;
                break;
            }
            let step = (at, segment);
            at = *self.steps.entry(step).or_insert_with(|| {
                self.nodes.push(Node {
                    from: Some(step),
                    ..Node::default()
                });
                self.nodes.len() - 1
            });
        }
        if let Some(node) = self.nodes.get_mut(at) {
            let end = if is_open {
                &mut node.rest
            } else {
                &mut node.here
            };
            end.add(alternative);
        }
    }

    /// The root. Each node is ready when those are to which it leads.
    fn branch(mut self) -> Branch {
        while let Some(mut node) = self.nodes.pop() {
            let from = node.from.take();
            let mut draft = node.draft();
            let from = from.and_then(|(at, segment)| Some((self.nodes.get_mut(at)?, segment)));
            match from {
                None => return draft.branch(),
                Some((from, Segment::Literal(text))) => {
                    draft.segments.push(text);
                    from.literal.push(draft);
                }
                Some((from, Segment::Part(text))) => {
                    from.part.push((text.into(), draft.branch()));
                }
                // `**` leads nowhere: see `add`
                Some((from, Segment::Any | Segment::Rest)) => from.any = Some(draft.branch()),
            }
        }
        // not reached: the last node is the root, to which nothing leads
        Branch::default()
    }
}

impl<'p> Node<'p> {
    fn draft(mut self) -> Draft<'p> {
        let goes_on_otherwise =
            !self.rest.is_empty() || self.any.is_some() || !self.part.is_empty();
        if self.here.is_empty()
            && !goes_on_otherwise
            && self.literal.len() == 1
            && let Some(only) = self.literal.pop()
        {
            // all patterns go on alike: they part later
            return only;
        }
        let goes_on = goes_on_otherwise || !self.literal.is_empty();
        let literal = self.literal.into_iter();
        let more = More {
            rest: self.rest,
            any: self.any,
            literal: Table::new(literal.map(|draft| Box::new(draft.branch())).collect()),
            part: self.part.into(),
        };
        Draft {
            segments: Vec::new(),
            here: self.here,
            more: goes_on.then(|| Box::new(more)),
        }
    }
}

impl Draft<'_> {
    fn branch(self) -> Branch {
        let segments = self.segments.iter().rev();
        Branch {
            text: segments.flat_map(|segment| ["/", *segment]).collect(),
            here: self.here,
            more: self.more,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::{collection::vec, prelude::*, sample::select};
    use weft_identity::document::{Origin, read};

    use super::{super::methods::Methods, *};
    use crate::{
        documents::ALLOW,
        request::{HttpRequest, NoHeaders},
    };

    /// Paths and patterns of few different segments, so that they often begin alike.
    fn path(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
        vec(select(segments), 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let end = select(vec!["", "", "/", "/**"]);
        let body = path(&["a", "b", "ab", "a", "*", "a*", "*b"]);
        prop_oneof![
            (body, end).prop_map(|(body, end)| body + end),
            Just("/**".to_owned()),
            Just("/".to_owned()),
        ]
    }

    /// Rules of one source, each with some patterns.
    fn rules(patterns: &[Vec<String>]) -> Vec<Arc<Rule>> {
        let rules = patterns.iter().enumerate().map(|(number, patterns)| {
            let yaml = format!(
                "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: r{number}, namespace: shop}}\nspec: {{to: {{service: api}}, from: [shop/web], http: [{{paths: {patterns:?}}}]}}\n"
            );
            let document = read(&yaml, &Origin::file("f"), ALLOW).unwrap();
            Arc::new(Rule::from_document(&document).unwrap())
        });
        rules.collect()
    }

    fn get(path: &str) -> HttpRequest<'_> {
        HttpRequest {
            method: "GET",
            path,
            authority: None,
            headers: &NoHeaders,
            upgrade: None,
            connect: false,
        }
    }

    /// The place of the first rule that allows the path.
    fn found(paths: &Paths, path: &str) -> Option<usize> {
        let request = get(path);
        let mut search = Search {
            request: &request,
            method: Methods::one(request.method),
            now: Timestamp::UNIX_EPOCH,
            first: None,
            but_upgrade: false,
        };
        paths.search(&mut search);
        search.first.map(|found| found.place)
    }

    #[test]
    fn the_longest_patterns_need_little_stack() {
        let ladder = (1..=1024).map(|depth| "/*".repeat(depth)).collect();
        let forked = || vec!["/a".repeat(1024), "/a".repeat(1023) + "/b"];
        let cases = [
            (vec!["/*".repeat(1024)], "/a".repeat(1024), Some(0)),
            (vec!["/*a".repeat(682)], "/ba".repeat(682), Some(0)),
            (forked(), "/a".repeat(1023) + "/b", Some(0)),
            (forked(), "/a".repeat(1023) + "/c", None),
            (ladder, "/a".repeat(700), Some(0)),
        ];
        let cases = cases.map(|(patterns, path, expected)| (rules(&[patterns]), path, expected));
        let compile = move || {
            for (rules, path, expected) in &cases {
                assert_eq!(found(&Paths::compile(rules), path), *expected);
            }
        };
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        thread.spawn(compile).unwrap().join().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn the_first_rule_of_which_a_pattern_matches_is_found(
            patterns in vec(vec(pattern(), 1..4), 0..6),
            asked in vec(path(&["a", "b", "ab", "aab", "c", ""]), 1..30),
        ) {
            let rules = rules(&patterns);
            let paths = Paths::compile(&rules);
            for path in &asked {
                let request = get(path);
                let matches = |rule: &Arc<Rule>| rule.http.listed()[0].matches(&request);
                let first = rules.iter().position(matches);
                prop_assert_eq!(found(&paths, path), first, "{}", path);
            }
        }
    }
}
