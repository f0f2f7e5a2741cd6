//! Integers with a prefix (RFC 7541 §5.1).

use super::HpackError;

/// The integer whose first byte was taken off `rest` already: its low `prefix` bits, and bytes of `rest` when these are all ones.
#[inline]
pub(super) fn read(first: u8, prefix: u8, rest: &mut &[u8]) -> Result<usize, HpackError> {
    let most = u8::MAX >> (8 - prefix);
    let low = first & most;
    if low < most {
        return Ok(usize::from(low));
    }
    continued(most, rest)
}

fn continued(most: u8, rest: &mut &[u8]) -> Result<usize, HpackError> {
    let mut value = u64::from(most);
    // Five bytes hold any u32. More are refused even when they add zeros: they say nothing.
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first().ok_or(HpackError::Truncated)?;
        *rest = after;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| HpackError::Integer)?;
            return usize::try_from(value).map_err(|_| HpackError::Integer);
        }
    }
    Err(HpackError::Integer)
}

/// Appends `value` behind the bits of `pattern` above the prefix.
#[inline]
pub(super) fn write(value: usize, prefix: u8, pattern: u8, out: &mut Vec<u8>) {
    let most = u8::MAX >> (8 - prefix);
    match u8::try_from(value) {
        Ok(small) if small < most => out.push(pattern | small),
        _ => {
            out.push(pattern | most);
            let mut left = value - usize::from(most);
            loop {
                let [low, ..] = left.to_le_bytes();
                left >>= 7;
                if left == 0 {
                    return out.push(low & 0x7f);
                }
                out.push(low | 0x80);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], prefix: u8) -> Result<(usize, usize), HpackError> {
        let (first, mut rest) = bytes.split_first().expect("a first byte");
        read(*first, prefix, &mut rest).map(|value| (value, rest.len()))
    }

    #[test]
    fn the_examples_of_appendix_c_1_read_and_write() {
        for (value, prefix, bytes) in [
            (10, 5, &[0b0000_1010][..]),
            (1337, 5, &[0b0001_1111, 0b1001_1010, 0b0000_1010]),
            (42, 8, &[0b0010_1010]),
        ] {
            assert_eq!(read_all(bytes, prefix), Ok((value, 0)));
            let mut out = Vec::new();
            write(value, prefix, 0, &mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn every_prefix_holds_what_lies_about_its_edges() {
        for prefix in 4..=8 {
            let edge = (1usize << prefix) - 1;
            for value in [
                0,
                edge - 1,
                edge,
                edge + 1,
                edge + 127,
                edge + 128,
                0xffff_ffff,
            ] {
                let mut out = Vec::new();
                write(value, prefix, 0, &mut out);
                out.push(0xaa);
                assert_eq!(
                    read_all(&out, prefix),
                    Ok((value, 1)),
                    "{value} in {prefix}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_long_or_cut_is_refused() {
        for (bytes, error) in [
            (&[0x7f][..], HpackError::Truncated),
            (&[0x7f, 0x80], HpackError::Truncated),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff], HpackError::Truncated),
            // One more than a u32 holds: 127 and 2^32 - 127.
            (&[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f], HpackError::Integer),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], HpackError::Integer),
            (
                &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
                HpackError::Integer,
            ),
        ] {
            assert_eq!(read_all(bytes, 7), Err(error), "{bytes:x?}");
        }
        // The largest that passes.
        let bytes = [0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(read_all(&bytes, 7), Ok((0xffff_ffff, 0)));
    }
}
