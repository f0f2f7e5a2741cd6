//! Text that a peer chose, made safe for records that people and log readers see.

/// Escapes control characters, line and paragraph separators and text-direction marks.
pub(crate) fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_unsafe = character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escape = is_unsafe.then(|| character.escape_default());
    let plain = (!is_unsafe).then_some(character);
    escape.into_iter().flatten().chain(plain)
}

/// At most `limit` characters, escaped.
pub(crate) fn line(text: &str, limit: usize) -> String {
    text.chars().take(limit).flat_map(escaped).collect()
}
