//! A path pattern against a folded path.
//!
//! Invariant: `Yes` and `No` hold for every path that folds to this one, whatever the rules were when it was folded.

use super::tri::Tri;
use crate::canonical::EncodedSlashes;
use crate::fold::{FoldedPath, FoldedSegment, Kind};
use crate::path::{PathPattern, match_segment};

/// Whether the path that was folded is in canonical form for a service that has this setting now.
pub(super) fn is_canonical(path: &FoldedPath, slashes: EncodedSlashes) -> Tri {
    match slashes {
        // it may have been refused for an encoded slash, which may stand there now
        EncodedSlashes::Keep if path.is_not_canonical() => Tri::Unknown,
        EncodedSlashes::Keep => Tri::Yes,
        EncodedSlashes::Refuse if path.is_not_canonical() => Tri::No,
        EncodedSlashes::Refuse => Tri::all(path.segments().map(|segment| match segment {
            FoldedSegment::Literal(text) => Tri::from(!holds_encoded_slash(text)),
            FoldedSegment::Kind(Kind::EncodedSlash) => Tri::No,
            FoldedSegment::Kind(
                Kind::Number | Kind::Date | Kind::Uuid | Kind::Hash | Kind::Text,
            ) => Tri::Yes,
            // it was folded where an encoded slash may have been allowed
            FoldedSegment::Rest => Tri::Unknown,
        })),
    }
}

/// Whether `pattern` matches the path that was folded.
pub(super) fn path_matches(pattern: &PathPattern, path: &FoldedPath) -> Tri {
    if path.is_not_canonical() {
        return Tri::Unknown;
    }
    let mut wanted = pattern.as_str().split('/').skip(1);
    let mut found = path.segments();
    let mut answer = Tri::Yes;
    loop {
        let step = match (wanted.next(), found.next()) {
            (None, None) => return answer,
            // `**` is last, and there is at least one segment for it, if only an empty one
            (Some("**"), Some(_)) => return answer,
            // what is left of the path may be anything, and is one segment at least
            (Some(_), Some(FoldedSegment::Rest)) => return answer.and(Tri::Unknown),
            (None, Some(_)) | (Some(_), None) => Tri::No,
            (Some(wanted), Some(FoldedSegment::Literal(text))) => {
                Tri::from(match_segment(wanted, text))
            }
            (Some(wanted), Some(FoldedSegment::Kind(kind))) => kind_matches(wanted, kind),
        };
        answer = answer.and(step);
        if answer == Tri::No {
            return Tri::No;
        }
    }
}

/// A pattern's segment against all that is folded to `kind`, none of which is empty.
fn kind_matches(wanted: &str, kind: Kind) -> Tri {
    let possible = if wanted == "*" {
        return Tri::Yes;
    } else if wanted.contains('*') {
        wanted
            .bytes()
            .filter(|byte| *byte != b'*')
            .all(|byte| may_hold(kind, byte))
    } else {
        Kind::of(wanted) == Some(kind)
    };
    if possible { Tri::Unknown } else { Tri::No }
}

fn may_hold(kind: Kind, byte: u8) -> bool {
    match kind {
        Kind::Number => byte.is_ascii_digit(),
        Kind::Date => byte.is_ascii_digit() || b"-:.+TZ".contains(&byte),
        Kind::Uuid => byte.is_ascii_hexdigit() || byte == b'-',
        Kind::Hash => byte.is_ascii_hexdigit(),
        Kind::Text | Kind::EncodedSlash => true,
    }
}

fn holds_encoded_slash(text: &str) -> bool {
    text.to_ascii_lowercase().contains("%2f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str, folded: &str) -> Tri {
        path_matches(&pattern.parse().unwrap(), &folded.parse().unwrap())
    }

    #[test]
    fn a_pattern_matches_what_every_path_of_a_fold_matches() {
        use Tri::{No, Unknown, Yes};
        for (pattern, folded, answer) in [
            ("/orders/*", "/orders/{number}", Yes),
            ("/orders/**", "/orders/{number}/items", Yes),
            ("/orders/**", "/orders", No),
            ("/orders/**", "/orders/", Yes),
            ("/orders/*", "/orders/", No),
            ("/orders/*/items", "/orders/{uuid}/items", Yes),
            ("/orders/list", "/orders/{number}", No),
            ("/orders/17", "/orders/{number}", Unknown),
            ("/orders/17", "/orders/17", Yes),
            ("/orders/17", "/orders/18", No),
            ("/orders/17", "/orders/{uuid}", No),
            ("/orders/{number}", "/orders/{number}", No),
            ("/v*/x", "/v2/x", Yes),
            ("/v*/x", "/{number}/x", No),
            ("/v*/x", "/{text}/x", Unknown),
            ("/1*/x", "/{number}/x", Unknown),
            ("/*.css", "/{text}", Unknown),
            ("/*.css", "/{hash}", No),
            ("/a/**", "/a/{rest}", Yes),
            ("/a/b/**", "/a/{rest}", Unknown),
            ("/a", "/a/{rest}", No),
            ("/a/b", "/a/{rest}", Unknown),
            ("/b/**", "/a/{rest}", No),
            ("/**", "/", Yes),
            ("/**", "{notCanonical}", Unknown),
        ] {
            assert_eq!(matched(pattern, folded), answer, "{pattern} {folded}");
        }
    }

    #[test]
    fn an_encoded_slash_is_canonical_where_it_may_stand() {
        use EncodedSlashes::{Keep, Refuse};
        for (folded, refuse, keep) in [
            ("/a", Tri::Yes, Tri::Yes),
            ("/{encodedSlash}", Tri::No, Tri::Yes),
            ("/a%2Fb", Tri::No, Tri::Yes),
            ("/a/{rest}", Tri::Unknown, Tri::Yes),
            ("{notCanonical}", Tri::No, Tri::Unknown),
        ] {
            let folded: FoldedPath = folded.parse().unwrap();
            assert_eq!(is_canonical(&folded, Refuse), refuse, "{folded}");
            assert_eq!(is_canonical(&folded, Keep), keep, "{folded}");
        }
    }
}
