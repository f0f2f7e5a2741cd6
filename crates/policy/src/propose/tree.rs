//! Paths as a tree of segments, in which many that are alike become one pattern.
//!
//! Invariants: a method stands at a pattern only if it was seen at a path that the pattern matches; words become `*` only
//! below a word, so that no pattern is without one.

use std::collections::{BTreeMap, BTreeSet};

use crate::fold::{FoldedPath, FoldedSegment};

/// Methods, each with the protocols that its requests offered to switch to.
pub(super) type Verbs = BTreeMap<Box<str>, BTreeSet<Box<str>>>;

#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What was seen at the path that ends here.
    verbs: Verbs,
    /// What was seen anywhere below.
    below: Verbs,
    words: BTreeMap<Box<str>, Tree>,
    star: Option<Box<Tree>>,
}

/// What trees have in common that differ in words alone.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    verbs: Verbs,
    below: Verbs,
    /// Of what follows a final `/`, and of all words.
    words: BTreeSet<(bool, Shape)>,
    star: Option<Box<Shape>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Follows<'t> {
    Method(&'t str, &'t BTreeSet<Box<str>>),
    Below(&'t str, &'t BTreeSet<Box<str>>),
    Word(&'t str),
    Kind,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Feature<'t> {
    Same(Follows<'t>),
    Word(bool, Option<Shape>),
}

impl Tree {
    pub(super) fn add(&mut self, path: &FoldedPath, method: &str, upgrades: &[&str]) {
        let mut tree = self;
        let mut verbs_of: fn(&mut Tree) -> &mut Verbs = |tree| &mut tree.verbs;
        for segment in path.segments() {
            match segment {
                FoldedSegment::Literal(word) => tree = tree.words.entry(word.into()).or_default(),
                FoldedSegment::Kind(_) => tree = tree.star.get_or_insert_default(),
                FoldedSegment::Rest => verbs_of = |tree| &mut tree.below,
            }
        }
        let offered = verbs_of(tree).entry(method.into()).or_default();
        offered.extend(upgrades.iter().map(|upgrade| Box::from(*upgrade)));
    }

    /// The fewest patterns for what was added.
    pub(super) fn patterns(mut self) -> Vec<(String, Verbs)> {
        self.fold(false);
        let mut patterns = Vec::new();
        self.list(&mut String::new(), &mut patterns);
        patterns
    }

    /// `anchored`: a word leads here.
    fn fold(&mut self, anchored: bool) {
        if anchored {
            self.merge_alike();
        }
        for (word, tree) in &mut self.words {
            tree.fold(anchored || !word.is_empty());
        }
        if let Some(star) = &mut self.star {
            star.fold(anchored);
        }
        if anchored {
            self.absorb();
        }
    }

    /// Where many words are followed by the same, with the same methods, the word is one thing among many.
    fn merge_alike(&mut self) {
        let mut common = BTreeMap::<Follows<'_>, usize>::new();
        for follows in self.plain_words().flat_map(|(_, tree)| tree.follows()) {
            *common.entry(follows).or_default() += 1;
        }
        // what follows several words may be missing after others that were not seen as often
        common.retain(|_, words| *words >= SEVERAL_WORDS);
        let mut alike = BTreeMap::<BTreeSet<Feature<'_>>, Vec<Box<str>>>::new();
        for (word, tree) in self.plain_words() {
            let own = tree
                .follows()
                .filter(|follows| !common.contains_key(follows));
            let features = own.map(|follows| tree.feature(follows)).collect();
            alike.entry(features).or_default().push(word.clone());
        }
        let many = alike.into_values().filter(|words| words.len() > FEW_WORDS);
        let merged: Vec<Box<str>> = many.flatten().collect();
        for word in merged {
            if let Some(tree) = self.words.remove(&word) {
                self.star.get_or_insert_default().merge(tree);
            }
        }
    }

    /// Without what follows a final `/`.
    fn plain_words(&self) -> impl Iterator<Item = (&Box<str>, &Tree)> {
        self.words.iter().filter(|(word, _)| !word.is_empty())
    }

    /// What comes next: methods, words, kinds.
    fn follows(&self) -> impl Iterator<Item = Follows<'_>> {
        let methods = self.verbs.iter();
        let below = self.below.iter();
        methods
            .map(|(method, upgrades)| Follows::Method(method, upgrades))
            .chain(below.map(|(method, upgrades)| Follows::Below(method, upgrades)))
            .chain(self.words.keys().map(|word| Follows::Word(word)))
            .chain(self.star.iter().map(|_| Follows::Kind))
    }

    /// A word that is not common counts as any other word with the same after it.
    fn feature<'t>(&'t self, follows: Follows<'t>) -> Feature<'t> {
        match follows {
            Follows::Word(word) => {
                Feature::Word(word.is_empty(), self.words.get(word).map(Tree::shape))
            }
            Follows::Method(..) | Follows::Below(..) | Follows::Kind => Feature::Same(follows),
        }
    }

    /// Drops what a wider pattern beside it says already.
    fn absorb(&mut self) {
        let below = &self.below;
        if !below.is_empty() {
            self.words.retain(|_, tree| !tree.is_within(below));
            if self.star.as_ref().is_some_and(|star| star.is_within(below)) {
                self.star = None;
            }
        }
        if let Some(star) = &self.star {
            self.words
                .retain(|word, tree| word.is_empty() || !star.covers(tree));
        }
    }

    fn merge(&mut self, other: Self) {
        extend(&mut self.verbs, other.verbs);
        extend(&mut self.below, other.below);
        for (word, tree) in other.words {
            self.words.entry(word).or_default().merge(tree);
        }
        if let Some(star) = other.star {
            self.star.get_or_insert_default().merge(*star);
        }
    }

    fn shape(&self) -> Shape {
        let words = self.words.iter();
        Shape {
            verbs: self.verbs.clone(),
            below: self.below.clone(),
            words: words
                .map(|(word, tree)| (word.is_empty(), tree.shape()))
                .collect(),
            star: self.star.as_ref().map(|star| Box::new(star.shape())),
        }
    }

    /// Whether all that `other` says, this says.
    fn covers(&self, other: &Self) -> bool {
        let covers_child = |tree: &Tree, same: Option<&Tree>, star: Option<&Tree>| {
            tree.is_within(&self.below)
                || same.is_some_and(|same| same.covers(tree))
                || star.is_some_and(|star| star.covers(tree))
        };
        let star = self.star.as_deref();
        includes(&self.verbs, &other.verbs)
            && includes(&self.below, &other.below)
            && other.words.iter().all(|(word, tree)| {
                let star = star.filter(|_| !word.is_empty());
                covers_child(tree, self.words.get(word), star)
            })
            && other
                .star
                .as_deref()
                .is_none_or(|tree| covers_child(tree, None, star))
    }

    /// Whether nothing but `verbs` was seen here and below.
    fn is_within(&self, verbs: &Verbs) -> bool {
        includes(verbs, &self.verbs)
            && includes(verbs, &self.below)
            && self.words.values().all(|tree| tree.is_within(verbs))
            && self.star.as_ref().is_none_or(|star| star.is_within(verbs))
    }

    fn list(&self, path: &mut String, patterns: &mut Vec<(String, Verbs)>) {
        if !self.verbs.is_empty() {
            patterns.push((path.clone(), self.verbs.clone()));
        }
        if !self.below.is_empty() {
            patterns.push((format!("{path}/**"), self.below.clone()));
        }
        let words = self.words.iter().map(|(word, tree)| (&**word, tree));
        let star = self.star.iter().map(|star| ("*", &**star));
        for (segment, tree) in words.chain(star) {
            let length = path.len();
            path.push('/');
            path.push_str(segment);
            tree.list(path, patterns);
            path.truncate(length);
        }
    }
}

fn extend(verbs: &mut Verbs, others: Verbs) {
    for (method, upgrades) in others {
        verbs.entry(method).or_default().extend(upgrades);
    }
}

fn includes(wide: &Verbs, narrow: &Verbs) -> bool {
    narrow.iter().all(|(method, upgrades)| {
        wide.get(method)
            .is_some_and(|known| upgrades.is_subset(known))
    })
}

/// So many words at one place are read as a list of what there is; more are things of one kind.
const FEW_WORDS: usize = 16;
/// What was seen after so many words is no particularity of one.
const SEVERAL_WORDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns<'a>(requests: impl IntoIterator<Item = (&'a str, String)>) -> Vec<String> {
        let mut tree = Tree::default();
        for (method, path) in requests {
            tree.add(&path.parse().unwrap(), method, &[]);
        }
        let text = |(pattern, verbs): (String, Verbs)| {
            let methods: Vec<_> = verbs.keys().map(|method| &**method).collect();
            format!("{} {pattern}", methods.join(","))
        };
        tree.patterns().into_iter().map(text).collect()
    }

    fn words(count: usize) -> impl Iterator<Item = String> {
        let letter = |at: usize| char::from(b'a' + u8::try_from(at).unwrap());
        (0..count).map(move |at| format!("w{}{}", letter(at / 26), letter(at % 26)))
    }

    #[test]
    fn kinds_become_a_star_and_words_stay() {
        let requests = [
            ("GET", "/orders"),
            ("POST", "/orders"),
            ("GET", "/orders/{number}"),
            ("GET", "/orders/{uuid}/items/{hash}"),
            ("GET", "/orders/"),
            ("GET", "/"),
        ];
        assert_eq!(
            patterns(requests.map(|(method, path)| (method, path.to_owned()))),
            [
                "GET /",
                "GET,POST /orders",
                "GET /orders/",
                "GET /orders/*",
                "GET /orders/*/items/*",
            ]
        );
    }

    #[test]
    fn few_words_are_listed_and_many_alike_are_one_star() {
        let few = words(FEW_WORDS).map(|word| ("GET", format!("/blog/{word}")));
        assert_eq!(patterns(few).len(), FEW_WORDS);
        let many = words(FEW_WORDS + 1).map(|word| ("GET", format!("/blog/{word}")));
        assert_eq!(patterns(many), ["GET /blog/*"]);
    }

    #[test]
    fn words_of_the_first_segment_are_never_one_star() {
        let many = || words(100).map(|word| ("GET", format!("/{word}")));
        assert_eq!(patterns(many()).len(), 100);
        let below_a_kind = words(100).map(|word| ("GET", format!("/{{uuid}}/{word}")));
        assert_eq!(patterns(below_a_kind).len(), 100);
    }

    #[test]
    fn words_with_other_methods_are_not_alike() {
        let many = words(FEW_WORDS + 1).map(|word| ("GET", format!("/users/{word}")));
        let me = [("DELETE", "/users/me".to_owned())];
        assert_eq!(
            patterns(many.chain(me)),
            ["DELETE /users/me", "GET /users/*"]
        );
    }

    #[test]
    fn words_over_words_fold_although_each_was_seen_with_few() {
        let pages = words(FEW_WORDS + 1).flat_map(|topic| {
            words(3).map(move |page| ("GET", format!("/docs/{topic}/x{topic}{page}")))
        });
        assert_eq!(patterns(pages), ["GET /docs/*/*"]);
    }

    #[test]
    fn words_of_one_kind_need_not_have_been_seen_with_everything() {
        let requests = words(FEW_WORDS + 4).enumerate().flat_map(|(at, org)| {
            let repo = |name: &str| {
                (
                    "GET",
                    format!("/orgs/{org}/repos/{name}{org}/tree/{{hash}}"),
                )
            };
            let hook = ("POST", format!("/orgs/{org}/hooks/{{number}}"));
            match at % 3 {
                0 => vec![repo("one"), repo("two")],
                1 => vec![hook],
                _ => vec![repo("one"), repo("two"), hook],
            }
        });
        assert_eq!(
            patterns(requests),
            ["POST /orgs/*/hooks/*", "GET /orgs/*/repos/*/tree/*"]
        );
    }

    #[test]
    fn a_word_with_something_of_its_own_stays_among_many() {
        let many = words(FEW_WORDS + 1).map(|word| ("GET", format!("/v1/{word}/{{number}}")));
        let own = [
            ("POST", "/v1/payments/{number}".to_owned()),
            ("PUT", "/v1/payments/refund".to_owned()),
        ];
        assert_eq!(
            patterns(many.chain(own)),
            [
                "PUT /v1/payments/refund",
                "POST /v1/payments/*",
                "GET /v1/*/*"
            ]
        );
    }

    #[test]
    fn what_a_wider_pattern_says_is_not_said_again() {
        let requests = [
            ("GET", "/orders/{number}"),
            ("GET", "/orders/latest"),
            ("POST", "/orders/import"),
            ("GET", "/deep/a/{rest}"),
            ("GET", "/deep/a/b/c"),
            ("GET", "/deep/a"),
        ];
        assert_eq!(
            patterns(requests.map(|(method, path)| (method, path.to_owned()))),
            [
                "GET /deep/a",
                "GET /deep/a/**",
                "POST /orders/import",
                "GET /orders/*",
            ]
        );
    }
}
