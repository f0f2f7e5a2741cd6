//! Folding: what of a path may be recorded, with every segment that names one thing among many replaced by its kind.
//!
//! Invariants: no query and no segment that could be a secret is left; folding depends on a segment alone, so equal paths fold
//! equally and a segment that stands as it is was not one of a kind; what is folded has a bounded length.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::canonical::{EncodedSlashes, is_canonical};
use crate::path::PathPattern;
use crate::pattern::{PatternError, string_form};

/// A folded path: `/orders/{number}/items`. Only [`FoldedPath::fold`] and its own text make one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FoldedPath(Box<str>);

/// One segment of a folded path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FoldedSegment<'a> {
    Literal(&'a str),
    Kind(Kind),
    /// Any number of segments, at the end.
    Rest,
}

/// What stood where a segment was folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Digits alone.
    Number,
    /// `2026-11-29`, and with a time.
    Date,
    /// 8-4-4-4-12 hexadecimal digits.
    Uuid,
    /// Hexadecimal digits, 7 or more with a digit among them, or 16 and more.
    Hash,
    /// Anything else that is not a plain word: it may be a name, an address or a secret.
    Text,
    /// Holds an encoded slash.
    EncodedSlash,
}

impl FoldedPath {
    /// Folds `path` as it came on the wire. `keeps` says which segments stay as they are although they look like one of a kind:
    /// those that a rule spells out, which are no secret.
    pub fn fold(path: &str, slashes: EncodedSlashes, keeps: impl Fn(&str) -> bool) -> Self {
        let mut folded = String::with_capacity(path.len().min(LENGTH_LIMIT));
        Self::fold_into(&mut folded, path, slashes, keeps);
        Self(folded.into())
    }

    /// The same into a buffer that is used again, for those who only compare.
    pub fn fold_into(
        folded: &mut String,
        path: &str,
        slashes: EncodedSlashes,
        keeps: impl Fn(&str) -> bool,
    ) {
        folded.clear();
        let path = path.split(['?', '#']).next().unwrap_or_default();
        if !is_canonical(path, slashes) {
            folded.push_str(NOT_CANONICAL);
            return;
        }
        for (place, segment) in path.split('/').skip(1).enumerate() {
            let segment = match Kind::of(segment) {
                Some(kind) if !keeps(segment) || segment.starts_with('{') => kind.as_str(),
                Some(_) | None => segment,
            };
            if place == SEGMENT_LIMIT || folded.len() + segment.len() > LENGTH_LIMIT {
                folded.push('/');
                folded.push_str(REST);
                break;
            }
            folded.push('/');
            folded.push_str(segment);
        }
    }

    /// The same, told less exactly: its first segments, and `{rest}` for all others. What is no longer than that, or was not
    /// canonical, stays.
    pub fn first_segments(folded: &str, count: usize) -> Cow<'_, str> {
        if folded == NOT_CANONICAL || folded == "/" {
            return folded.into();
        }
        let is_rest = |end: usize| folded.get(end + 1..) == Some(REST);
        match folded.match_indices('/').nth(count) {
            Some((end, _)) if !is_rest(end) => {
                let first = folded.get(..=end).unwrap_or_default();
                format!("{first}{REST}").into()
            }
            Some(_) | None => folded.into(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path was not in canonical form: then nothing else of it is recorded.
    pub fn is_not_canonical(&self) -> bool {
        *self.0 == *NOT_CANONICAL
    }

    /// Whether anything stands for something else.
    pub fn is_folded(&self) -> bool {
        self.segments()
            .any(|segment| !matches!(segment, FoldedSegment::Literal(_)))
    }

    /// None for a path that was not canonical; `/` has one, which is empty.
    pub fn segments(&self) -> impl Iterator<Item = FoldedSegment<'_>> {
        self.0.split('/').skip(1).map(FoldedSegment::of)
    }
}

impl FoldedPath {
    /// The narrowest pattern that matches every path which folds to this; `None` where no pattern says that.
    pub fn pattern(&self) -> Option<PathPattern> {
        let mut pattern = String::with_capacity(self.0.len());
        for segment in self.segments() {
            pattern.push('/');
            match segment {
                FoldedSegment::Literal(literal) if literal.contains('*') => return None,
                FoldedSegment::Literal(literal) => pattern.push_str(literal),
                FoldedSegment::Kind(_) => pattern.push('*'),
                FoldedSegment::Rest => pattern.push_str("**"),
            }
        }
        pattern.parse().ok()
    }

    /// One path that folds to this, for those who must judge a concrete one; `None`: it was not canonical.
    pub fn instance(&self) -> Option<String> {
        if self.is_not_canonical() {
            return None;
        }
        let mut path = String::with_capacity(self.0.len());
        for segment in self.segments() {
            path.push('/');
            path.push_str(match segment {
                FoldedSegment::Literal(literal) => literal,
                FoldedSegment::Kind(kind) => kind.instance(),
                FoldedSegment::Rest => "rest",
            });
        }
        Some(path)
    }
}

impl<'a> FoldedSegment<'a> {
    fn of(text: &'a str) -> Self {
        match Kind::named(text) {
            Some(kind) => Self::Kind(kind),
            None if text == REST => Self::Rest,
            None => Self::Literal(text),
        }
    }
}

impl Kind {
    /// The kind that `segment` is folded to; `None`: a plain word, which stays.
    pub fn of(segment: &str) -> Option<Self> {
        let bytes = segment.as_bytes();
        let kind = if segment.is_empty() {
            return None;
        } else if has_encoded_slash(bytes) {
            Self::EncodedSlash
        } else if bytes.iter().all(u8::is_ascii_digit) {
            if is_compact_date(segment) {
                Self::Date
            } else {
                Self::Number
            }
        } else if is_date(bytes) {
            Self::Date
        } else if is_uuid(bytes) {
            Self::Uuid
        } else if is_hash(bytes) {
            Self::Hash
        } else if is_word(bytes) {
            return None;
        } else {
            Self::Text
        };
        Some(kind)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "{number}",
            Self::Date => "{date}",
            Self::Uuid => "{uuid}",
            Self::Hash => "{hash}",
            Self::Text => "{text}",
            Self::EncodedSlash => "{encodedSlash}",
        }
    }

    /// A segment that folds to this, and that nobody is likely to have spelt out in a rule.
    fn instance(self) -> &'static str {
        match self {
            Self::Number => "314159265358979",
            Self::Date => "1903-02-01",
            Self::Uuid => "0123abcd-0000-0000-0000-00000000dcba",
            Self::Hash => "0123456789abcdef0123456789abcdef",
            Self::Text => "x0q1z2y3",
            Self::EncodedSlash => "x0q1%2Fz2y3",
        }
    }

    fn named(text: &str) -> Option<Self> {
        [
            Self::Number,
            Self::Date,
            Self::Uuid,
            Self::Hash,
            Self::Text,
            Self::EncodedSlash,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

impl FromStr for FoldedPath {
    type Err = PatternError;

    /// Accepts only what [`FoldedPath::fold`] could have made.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem| PatternError::new("a folded path", text, problem);
        if text == NOT_CANONICAL {
            return Ok(Self(text.into()));
        }
        if text.len() > LENGTH_LIMIT + REST.len() + 1 {
            return Err(error("it is too long"));
        }
        let Some(body) = text.strip_prefix('/') else {
            return Err(error("it must begin with `/`"));
        };
        let mut count = 0;
        let mut ended = false;
        for segment in body.split('/') {
            count += 1;
            if ended || count > SEGMENT_LIMIT + 1 {
                return Err(error("it has too many segments"));
            }
            match FoldedSegment::of(segment) {
                FoldedSegment::Rest => ended = true,
                FoldedSegment::Kind(_) => {}
                FoldedSegment::Literal(literal) => {
                    if literal.starts_with('{') {
                        return Err(error("there is no such kind of segment"));
                    }
                }
            }
        }
        let plain: String = text.replace(['{', '}'], "");
        if !is_canonical(&plain, EncodedSlashes::Keep) {
            return Err(error("it is not in canonical form"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FoldedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(FoldedPath, "a path with what names one thing folded");

fn has_encoded_slash(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| {
        matches!(
            window,
            [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']
        )
    })
}

/// A word as people write it in routes: letters, now and then a digit or a mark, no mixture that could be a key.
fn is_word(bytes: &[u8]) -> bool {
    if bytes.len() > WORD_LIMIT
        || !bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~:".contains(byte))
    {
        return false;
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits <= DIGITS_IN_A_WORD
        && bytes
            .split(|byte| b"-_.~:".contains(byte))
            .all(|part| !is_mixed(part) && !is_unspeakable(part))
}

/// Whether letters and digits alternate, or cases do more often than from word to word: `getUserById` and `oauth2` do not.
fn is_mixed(part: &[u8]) -> bool {
    let pairs = || part.iter().zip(part.iter().skip(1));
    let starts_with_digit = usize::from(part.first().is_some_and(u8::is_ascii_digit));
    let runs_of_digits = starts_with_digit
        + pairs()
            .filter(|(a, b)| !a.is_ascii_digit() && b.is_ascii_digit())
            .count();
    let risings = pairs()
        .filter(|(a, b)| a.is_ascii_lowercase() && b.is_ascii_uppercase())
        .count();
    runs_of_digits > 1 || risings * 3 > part.len()
}

/// Whether it has more consonants in a row than words have: random letters do, soon.
fn is_unspeakable(part: &[u8]) -> bool {
    let mut run = 0;
    part.iter().any(|byte| {
        let is_consonant = byte.is_ascii_alphabetic() && !b"aeiouyAEIOUY".contains(byte);
        run = if is_consonant { run + 1 } else { 0 };
        run > CONSONANTS_IN_A_ROW
    })
}

fn is_compact_date(segment: &str) -> bool {
    let part = |range: std::ops::Range<usize>| {
        segment
            .get(range)
            .and_then(|digits| digits.parse::<u32>().ok())
    };
    segment.len() == 8
        && part(0..4).is_some_and(|year| (1900..2100).contains(&year))
        && part(4..6).is_some_and(|month| (1..=12).contains(&month))
        && part(6..8).is_some_and(|day| (1..=31).contains(&day))
}

/// `2026-11`, `2026-11-29`, and what may follow of a time.
fn is_date(bytes: &[u8]) -> bool {
    let shape = |shape: &[u8]| {
        bytes.len() >= shape.len()
            && shape.iter().zip(bytes).all(|(wanted, byte)| match wanted {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    match bytes.len() {
        7 => shape(b"0000-00"),
        10 => shape(b"0000-00-00"),
        11..=40 => {
            shape(b"0000-00-00T00")
                && bytes
                    .iter()
                    .skip(11)
                    .all(|byte| byte.is_ascii_digit() || b":.+-Z".contains(byte))
        }
        _ => false,
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `decade` and `facade` are words; seven with a digit among them is how short commits are written.
fn is_hash(bytes: &[u8]) -> bool {
    let has_digit = bytes.iter().any(u8::is_ascii_digit);
    bytes.iter().all(u8::is_ascii_hexdigit)
        && (bytes.len() >= LONG_HASH || (bytes.len() >= SHORT_HASH && has_digit))
}

/// Stands for the whole of a path that is not canonical.
const NOT_CANONICAL: &str = "{notCanonical}";
const REST: &str = "{rest}";
const WORD_LIMIT: usize = 32;
const DIGITS_IN_A_WORD: usize = 4;
const CONSONANTS_IN_A_ROW: usize = 6;
const SHORT_HASH: usize = 7;
const LONG_HASH: usize = 16;
const SEGMENT_LIMIT: usize = 16;
const LENGTH_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(path: &str) -> String {
        FoldedPath::fold(path, EncodedSlashes::Refuse, |_| false).to_string()
    }

    #[test]
    fn segments_fold_to_their_kind_and_words_stay() {
        for (path, folded) in [
            ("/", "/"),
            ("/orders/", "/orders/"),
            ("/orders/17?card=4111", "/orders/{number}"),
            ("/v1/users/2026-11-29", "/v1/users/{date}"),
            ("/log/20261129/x", "/log/{date}/x"),
            ("/at/2026-11-29T10:00:00Z", "/at/{date}"),
            ("/u/550e8400-e29b-41d4-a716-446655440000/x", "/u/{uuid}/x"),
            ("/commit/9bf486c", "/commit/{hash}"),
            ("/facade/decade", "/facade/decade"),
            ("/t/aVeryLongTokenWithoutAnyDigitsInItAtAll", "/t/{text}"),
            ("/t/sk_live_4eC39HqLyjWDarj", "/t/{text}"),
            ("/t/qxkzvbwpmtr", "/t/{text}"),
            ("/strengths/rhythms/https", "/strengths/rhythms/https"),
            ("/mail/bob@example.com", "/mail/{text}"),
            (
                "/getUserById/oauth2/index.html",
                "/getUserById/oauth2/index.html",
            ),
            ("/{number}/x", "/{text}/x"),
            ("/a/../b", "{notCanonical}"),
            ("", "{notCanonical}"),
        ] {
            assert_eq!(fold(path), folded, "{path}");
        }
    }

    #[test]
    fn what_a_rule_spells_out_is_kept() {
        let kept = FoldedPath::fold("/orders/17/18", EncodedSlashes::Refuse, |s| s == "17");
        assert_eq!(kept.as_str(), "/orders/17/{number}");
    }

    #[test]
    fn a_path_is_told_by_its_first_segments() {
        for (folded, count, told) in [
            ("/a/b/c", 2, "/a/b/{rest}"),
            ("/a/b/c", 3, "/a/b/c"),
            ("/a/b/c", 1, "/a/{rest}"),
            ("/a/b/c", 0, "/{rest}"),
            ("/a/{rest}", 1, "/a/{rest}"),
            ("/a/{rest}", 0, "/{rest}"),
            ("/{rest}", 0, "/{rest}"),
            ("/", 0, "/"),
            ("{notCanonical}", 0, "{notCanonical}"),
        ] {
            assert_eq!(FoldedPath::first_segments(folded, count), told, "{folded}");
            assert!(told.parse::<FoldedPath>().is_ok(), "{told}");
        }
    }

    #[test]
    fn an_encoded_slash_is_told_where_it_may_stand() {
        let path = "/a%2fb/c";
        assert_eq!(fold(path), "{notCanonical}");
        let kept = FoldedPath::fold(path, EncodedSlashes::Keep, |_| false);
        assert_eq!(kept.as_str(), "/{encodedSlash}/c");
    }

    proptest! {
        #[test]
        fn a_folded_path_is_bounded_readable_and_folds_to_itself(path in "(/[a-zA-Z0-9{}%_.-]{0,40}){0,40}") {
            let folded = FoldedPath::fold(&path, EncodedSlashes::Refuse, |_| false);
            prop_assert!(folded.as_str().len() <= LENGTH_LIMIT + REST.len() + 1);
            let read: FoldedPath = folded.as_str().parse().unwrap();
            prop_assert_eq!(&read, &folded);
            let literals = folded.segments().filter_map(|segment| match segment {
                FoldedSegment::Literal(literal) => Some(literal),
                _ => None,
            });
            for literal in literals {
                prop_assert_eq!(Kind::of(literal), None);
            }
            let is_whole = folded.segments().all(|segment| segment != FoldedSegment::Rest);
            if let Some(instance) = folded.instance().filter(|_| is_whole) {
                let again = FoldedPath::fold(&instance, EncodedSlashes::Keep, |_| false);
                prop_assert_eq!(&again, &folded);
            }
            if let Some(pattern) = folded.pattern().filter(|_| !folded.is_not_canonical()) {
                prop_assert!(pattern.matches(&path), "{pattern} and {path}");
            }
        }
    }
}
