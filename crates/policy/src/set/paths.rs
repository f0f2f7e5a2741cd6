//! The HTTP conditions of one source, as a tree of path segments: a request meets only the conditions whose path it has.
//!
//! Invariant: a request walks each branch at most once, so no path costs more than the patterns are long together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    alternatives::{Alternative, Methods, Search},
    lasting::Lasting,
};
use crate::{
    lists::Match,
    path::{Segment, match_segment},
    rule::Rule,
};

#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Conditions that state no path.
    any: Methods,
    root: Branch,
}

impl Paths {
    pub(super) fn compile(rules: &[Arc<Rule>]) -> Self {
        let mut paths = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            for (index, condition) in rule.http.listed().iter().enumerate() {
                let alternative = Alternative {
                    place,
                    index,
                    lasting: Lasting::of(rule),
                };
                match &condition.paths {
                    Match::Any => paths.any.add(condition, alternative),
                    Match::OneOf(patterns) => patterns.iter().for_each(|pattern| {
                        let end = paths.root.end_of(pattern.segments());
                        end.add(condition, alternative);
                    }),
                }
            }
        }
        paths
    }

    pub(super) fn search(&self, search: &mut Search<'_>) {
        search.methods(&self.any);
        if let Some(path) = search.request.path.strip_prefix('/') {
            self.root.search(path, search);
        }
    }
}

/// Where patterns that begin with the same segments go on.
#[derive(Debug, Default)]
struct Branch {
    /// Patterns that end here.
    here: Methods,
    /// Patterns of which the rest is `**`.
    rest: Methods,
    literal: HashMap<Box<str>, Self>,
    /// `*` as a whole segment.
    any: Option<Box<Self>>,
    /// Segments with a `*` in them.
    part: BTreeMap<Box<str>, Self>,
}

impl Branch {
    /// Where a pattern ends that goes on so from here.
    fn end_of<'p>(&mut self, segments: impl Iterator<Item = Segment<'p>>) -> &mut Methods {
        let mut branch = self;
        for segment in segments {
            branch = match segment {
                Segment::Rest => return &mut branch.rest,
                Segment::Any => branch.any.get_or_insert_default(),
                Segment::Literal(text) => branch.literal.entry(text.into()).or_default(),
                Segment::Part(text) => branch.part.entry(text.into()).or_default(),
            };
        }
        &mut branch.here
    }

    /// `path` is what comes after the `/` before this branch.
    fn search(&self, path: &str, search: &mut Search<'_>) {
        search.methods(&self.rest);
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        let mut go_on = |branch: &Self| match after {
            Some(after) => branch.search(after, search),
            None => search.methods(&branch.here),
        };
        if let Some(branch) = self.literal.get(segment) {
            go_on(branch);
        }
        if let Some(branch) = self.any.as_ref().filter(|_| !segment.is_empty()) {
            go_on(branch);
        }
        for (part, branch) in &self.part {
            if match_segment(part, segment) {
                go_on(branch);
            }
        }
    }
}
