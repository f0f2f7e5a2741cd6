//! The HTTP conditions of one source, as a tree of path segments: a request meets only the conditions whose path it has.
//!
//! Invariant: a request walks each branch at most once, so no path costs more than the patterns are long together.

use std::{collections::BTreeMap, sync::Arc};

use smol_str::SmolStr;

use super::{
    alternatives::{Alternative, Alternatives, Search},
    table::{Keyed, Table},
};
use crate::{
    lists::Match,
    path::{Segment, match_segment},
    rule::Rule,
};

/// Laid out as a search reads it, and so is what it holds.
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
        let mut tree = Tree::default();
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
                        .for_each(|pattern| tree.end_of(pattern.segments()).add(alternative)),
                }
            }
        }
        Self {
            any: (!any.is_empty()).then(|| Box::new(any)),
            root: tree.branch(String::new()),
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

/// A [`Branch`] in the making, with one segment to each step.
#[derive(Default)]
struct Tree<'p> {
    here: Alternatives,
    rest: Alternatives,
    literal: BTreeMap<&'p str, Self>,
    any: Option<Box<Self>>,
    part: BTreeMap<&'p str, Self>,
}

impl<'p> Tree<'p> {
    /// Where a pattern ends that goes on so from here.
    fn end_of(&mut self, segments: impl Iterator<Item = Segment<'p>>) -> &mut Alternatives {
        let mut tree = self;
        for segment in segments {
            tree = match segment {
                Segment::Rest => return &mut tree.rest,
                Segment::Any => tree.any.get_or_insert_default(),
                Segment::Literal(text) => tree.literal.entry(text).or_default(),
                Segment::Part(text) => tree.part.entry(text).or_default(),
            };
        }
        &mut tree.here
    }

    /// `text` are the segments that led here from where patterns last parted. Where all go on alike, they part later.
    fn branch(mut self, mut text: String) -> Branch {
        let goes_on = self.any.is_some()
            || !self.rest.is_empty()
            || !self.literal.is_empty()
            || !self.part.is_empty();
        let parts = !self.here.is_empty()
            || self.any.is_some()
            || !self.rest.is_empty()
            || self.literal.len() > 1
            || !self.part.is_empty();
        if !parts && let Some((segment, only)) = self.literal.pop_first() {
            text.push('/');
            text.push_str(segment);
            return only.branch(text);
        }
        Branch {
            text: text.into(),
            here: std::mem::take(&mut self.here),
            more: goes_on.then(|| Box::new(self.more())),
        }
    }

    fn more(self) -> More {
        let literal = self.literal.into_iter();
        let literal = literal.map(|(segment, tree)| Box::new(tree.branch(format!("/{segment}"))));
        let part = self.part.into_iter();
        let part = part.map(|(part, tree)| (part.into(), tree.branch(String::new())));
        More {
            rest: self.rest,
            any: self.any.map(|tree| tree.branch(String::new())),
            literal: Table::new(literal.collect()),
            part: part.collect(),
        }
    }
}
