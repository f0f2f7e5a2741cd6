//! The HTTP conditions of one source, as a tree of path segments: a request meets only the conditions whose path it has.
//!
//! Invariant: a request walks each branch at most once, so no path costs more than the patterns are long together.

use std::{collections::BTreeMap, sync::Arc};

use smol_str::SmolStr;

use super::{
    Index,
    alternatives::{Alternative, Methods, Search},
    lasting::Lasting,
};
use crate::{
    lists::Match,
    path::{PathPattern, Segment, match_segment},
    rule::Rule,
};

#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Conditions that state no path.
    any: Option<Box<Methods>>,
    /// The segments, each with the `/` before it, with which all patterns begin: most paths end here.
    common: SmolStr,
    /// Where they go on.
    root: Branch,
}

impl Paths {
    pub(super) fn compile(rules: &[Arc<Rule>]) -> Self {
        let patterns = || {
            let conditions = rules.iter().flat_map(|rule| rule.http.listed());
            conditions.flat_map(|condition| condition.paths.listed())
        };
        let common = common_segments(patterns());
        let mut paths = Self {
            common: common.iter().flat_map(|segment| ["/", *segment]).collect(),
            ..Self::default()
        };
        for (place, rule) in rules.iter().enumerate() {
            for (index, condition) in rule.http.listed().iter().enumerate() {
                let alternative = Alternative {
                    place,
                    index,
                    lasting: Lasting::of(rule),
                };
                match &condition.paths {
                    Match::Any => {
                        let any = paths.any.get_or_insert_default();
                        any.add(condition, alternative);
                    }
                    Match::OneOf(patterns) => patterns.iter().for_each(|pattern| {
                        let own = pattern.segments().skip(common.len());
                        paths.root.end_of(own).add(condition, alternative);
                    }),
                }
            }
        }
        paths
    }

    pub(super) fn search(&self, search: &mut Search<'_>) {
        if let Some(any) = &self.any {
            search.methods(any);
        }
        match search.request.path.strip_prefix(&*self.common) {
            None => {}
            Some("") => search.methods(&self.root.here),
            Some(own) => {
                if let Some(own) = own.strip_prefix('/') {
                    self.root.search(own, search);
                }
            }
        }
    }
}

fn common_segments<'p>(mut patterns: impl Iterator<Item = &'p PathPattern>) -> Vec<&'p str> {
    let literal = |segment| match segment {
        Segment::Literal(text) => Some(text),
        Segment::Any | Segment::Part(_) | Segment::Rest => None,
    };
    let Some(first) = patterns.next() else {
        return Vec::new();
    };
    let mut common: Vec<_> = first.segments().map_while(literal).collect();
    for pattern in patterns {
        let segments = pattern.segments().map_while(literal).zip(&common);
        let shared = segments.take_while(|(own, common)| own == *common).count();
        common.truncate(shared);
    }
    common
}

/// Where patterns that begin with the same segments go on.
#[derive(Debug, Default)]
struct Branch {
    /// Patterns that end here.
    here: Methods,
    /// Patterns of which the rest is `**`.
    rest: Option<Box<Methods>>,
    literal: Index<SmolStr, Self>,
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
                Segment::Rest => return branch.rest.get_or_insert_default(),
                Segment::Any => branch.any.get_or_insert_default(),
                Segment::Literal(text) => branch.literal.entry(text.into()).or_default(),
                Segment::Part(text) => branch.part.entry(text.into()).or_default(),
            };
        }
        &mut branch.here
    }

    /// `path` is what comes after the `/` before this branch.
    fn search(&self, path: &str, search: &mut Search<'_>) {
        if let Some(rest) = &self.rest {
            search.methods(rest);
        }
        let (segment, after) = first_segment(path);
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

/// A segment, and what comes after the `/` that ends it.
fn first_segment(path: &str) -> (&str, Option<&str>) {
    // segments are short: a plain loop finds the end sooner than a search made for long texts
    let end = path.bytes().position(|byte| byte == b'/');
    let split = end.and_then(|end| Some((path.get(..end)?, path.get(end + 1..)?)));
    split.map_or((path, None), |(segment, after)| (segment, Some(after)))
}
