//! Canonical paths and path patterns.

use weft_policy::{EncodedSlashes, PathPattern, is_canonical};

/// The first line is a path, the second a pattern.
pub(super) fn path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (path, pattern) = text.split_once('\n').unwrap_or((text, text));
    let strictly = is_canonical(path, EncodedSlashes::Refuse);
    let leniently = is_canonical(path, EncodedSlashes::Keep);
    assert!(leniently || !strictly, "{path:?}: strict is the narrower");
    if strictly {
        assert_eq!(
            as_a_lenient_server_reads(path).as_deref(),
            Some(path),
            "{path:?}"
        );
    }
    let Ok(pattern) = pattern.parse::<PathPattern>() else {
        return;
    };
    let again = pattern.as_str().parse::<PathPattern>();
    assert_eq!(again.as_ref(), Ok(&pattern));
    if leniently {
        let naive = naive_match(pattern.as_str(), path);
        assert_eq!(pattern.matches(path), naive, "{pattern} and {path:?}");
        assert!(!pattern.is_literal() || naive == (pattern.as_str() == path));
    }
}

/// What a careless server makes of a path: it decodes unreserved characters, slashes and backslashes, joins slashes and follows dots.
fn as_a_lenient_server_reads(path: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let escaped = rest.strip_prefix('%').and_then(|after| after.get(..2));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~/\\".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = &rest[3..];
            }
            _ => {
                decoded.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    let decoded = decoded.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.strip_prefix('/')?.split('/') {
        match segment.split(';').next() {
            Some(".") => {}
            Some("..") => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let last = segments.pop()?;
    segments.retain(|segment| !segment.is_empty());
    segments.push(last);
    Some(format!("/{}", segments.join("/")))
}

/// The sentences of docs/POLICY.md, word by word.
fn naive_match(pattern: &str, path: &str) -> bool {
    let mut wanted: Vec<&str> = pattern.split('/').collect();
    let mut found: Vec<&str> = path.split('/').collect();
    if wanted.last() == Some(&"**") {
        wanted.pop();
        if found.len() <= wanted.len() {
            return false;
        }
        found.truncate(wanted.len());
    }
    wanted.len() == found.len()
        && wanted
            .iter()
            .zip(found)
            .all(|(wanted, found)| match *wanted {
                "*" => !found.is_empty(),
                wanted => naive_glob(wanted.as_bytes(), found.as_bytes()),
            })
}

/// By a table of which beginnings match which.
fn naive_glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for unit in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match unit {
                b'*' => reached[..=at].contains(&true),
                unit => at > 0 && reached[at - 1] && text[at - 1] == *unit,
            };
        }
        reached = next;
    }
    reached[text.len()]
}
