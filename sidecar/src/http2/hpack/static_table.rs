//! The static table (RFC 7541 Appendix A), by index and by name.

/// How many entries there are; the dynamic table's indices follow.
pub(super) const LENGTH: usize = ENTRIES.len();

/// The field at an index; `None` for 0 and what is beyond the table.
#[inline]
pub(super) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    ENTRIES.get(index.wrapping_sub(1)).copied()
}

/// The first index with this name.
#[inline]
pub(super) fn index(name: &[u8]) -> Option<usize> {
    match name.len() {
        3 => among(name, [(b"age", 21), (b"via", 60)]),
        4 => among(
            name,
            [
                (b"date", 33),
                (b"host", 38),
                (b"etag", 34),
                (b"vary", 59),
                (b"from", 37),
                (b"link", 45),
            ],
        ),
        5 => among(name, [(b":path", 4), (b"allow", 22), (b"range", 50)]),
        6 => among(
            name,
            [
                (b"accept", 19),
                (b"cookie", 32),
                (b"server", 54),
                (b"expect", 35),
            ],
        ),
        7 => among(
            name,
            [
                (b":method", 2),
                (b":scheme", 6),
                (b":status", 8),
                (b"referer", 51),
                (b"expires", 36),
                (b"refresh", 52),
            ],
        ),
        8 => among(
            name,
            [(b"location", 46), (b"if-match", 39), (b"if-range", 42)],
        ),
        10 => among(
            name,
            [(b":authority", 1), (b"user-agent", 58), (b"set-cookie", 55)],
        ),
        11 => among(name, [(b"retry-after", 53)]),
        12 => among(name, [(b"content-type", 31), (b"max-forwards", 47)]),
        13 => among(
            name,
            [
                (b"authorization", 23),
                (b"cache-control", 24),
                (b"last-modified", 44),
                (b"if-none-match", 41),
                (b"content-range", 30),
                (b"accept-ranges", 18),
            ],
        ),
        14 => among(name, [(b"content-length", 28), (b"accept-charset", 15)]),
        15 => among(name, [(b"accept-encoding", 16), (b"accept-language", 17)]),
        16 => among(
            name,
            [
                (b"content-encoding", 26),
                (b"content-language", 27),
                (b"content-location", 29),
                (b"www-authenticate", 61),
            ],
        ),
        17 => among(
            name,
            [(b"if-modified-since", 40), (b"transfer-encoding", 57)],
        ),
        18 => among(name, [(b"proxy-authenticate", 48)]),
        19 => among(
            name,
            [
                (b"content-disposition", 25),
                (b"if-unmodified-since", 43),
                (b"proxy-authorization", 49),
            ],
        ),
        25 => among(name, [(b"strict-transport-security", 56)]),
        27 => among(name, [(b"access-control-allow-origin", 20)]),
        _ => None,
    }
}

/// Names of one length are compared as whole words, not byte by byte.
#[inline]
fn among<const LENGTH: usize, const COUNT: usize>(
    name: &[u8],
    known: [(&[u8; LENGTH], usize); COUNT],
) -> Option<usize> {
    let name = <&[u8; LENGTH]>::try_from(name).ok()?;
    let found = known.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, index)| index)
}

static ENTRIES: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_at_its_first_index() {
        for (name, _) in ENTRIES {
            let first = (1..).find(|index| entry(*index).is_some_and(|(known, _)| known == name));
            assert_eq!(index(name), first, "{}", name.escape_ascii());
            // Nothing near it is taken for it.
            let mut other = name.to_vec();
            other.push(b'-');
            assert_eq!(index(&other), None, "{}", other.escape_ascii());
            other.truncate(name.len());
            for place in 0..name.len() {
                other[place] ^= 0x20;
                assert_eq!(index(&other), None, "{}", other.escape_ascii());
                other[place] ^= 0x20;
            }
        }
        assert_eq!(index(b""), None);
    }

    #[test]
    fn indices_begin_at_one() {
        assert_eq!(entry(0), None);
        assert_eq!(entry(1), Some((&b":authority"[..], &b""[..])));
        assert_eq!(entry(61), Some((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(entry(62), None);
    }
}
