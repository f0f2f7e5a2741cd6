//! Strings in the Huffman code (RFC 7541 §5.2, Appendix B).

use super::HpackError;
use super::huffman_table::{Symbol, TABLES};

/// Appends what `text` says.
pub(super) fn decode(mut text: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // The shortest code has five bits.
    out.reserve(text.len() / 5 * 8 + 8);
    // The next bits are at the top, `have` of them.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        if let Some((four, rest)) = text.split_first_chunk() {
            bits |= u64::from(u32::from_be_bytes(*four)) << (32 - have);
            have += 32;
            text = rest;
        } else {
            return decode_end(text, bits, have, out);
        }
        while have > 32 {
            let symbol = next(bits)?;
            out.push(byte(symbol)?);
            bits <<= symbol.bits;
            have -= u32::from(symbol.bits);
        }
    }
}

/// The last bits: what is left of the bytes before, and up to three bytes more.
fn decode_end(
    text: &[u8],
    mut bits: u64,
    mut have: u32,
    out: &mut Vec<u8>,
) -> Result<(), HpackError> {
    for byte in text {
        bits |= u64::from(*byte) << (56 - have);
        have += 8;
    }
    // With ones behind the end, what is left is padding when nothing but ones is there.
    bits |= u64::MAX.checked_shr(have).unwrap_or(0);
    while have > 0 {
        let symbol = next(bits)?;
        let length = u32::from(symbol.bits);
        if length > have {
            // A whole byte of padding, or a code that is cut.
            return if have < 8 && bits == u64::MAX {
                Ok(())
            } else {
                Err(HpackError::Padding)
            };
        }
        out.push(byte(symbol)?);
        bits = !(!bits << length);
        have -= length;
    }
    Ok(())
}

/// The symbol at the top of `bits`.
#[inline]
fn next(bits: u64) -> Result<Symbol, HpackError> {
    let [top, ..] = bits.to_be_bytes();
    match TABLES.quick.get(usize::from(top)) {
        Some(symbol) if symbol.bits > 0 => Ok(*symbol),
        _ => next_long(bits),
    }
}

/// The same for a code of more than eight bits: the first run that does not end below it.
fn next_long(bits: u64) -> Result<Symbol, HpackError> {
    let [a, b, c, d, ..] = bits.to_be_bytes();
    let top = u32::from_be_bytes([a, b, c, d]);
    let run = TABLES.runs.iter().find(|run| top <= run.last);
    let run = run.ok_or(HpackError::Padding)?;
    let after = top.wrapping_sub(run.first) >> (32 - run.bits);
    let place = usize::try_from(after).unwrap_or(usize::MAX);
    let is = TABLES.sorted.get(place.saturating_add(run.place.into()));
    Ok(Symbol {
        is: *is.ok_or(HpackError::Padding)?,
        bits: run.bits,
    })
}

#[inline]
fn byte(symbol: Symbol) -> Result<u8, HpackError> {
    u8::try_from(symbol.is).map_err(|_| HpackError::EndOfString)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::huffman_table::LENGTHS;
    use super::*;

    /// Code and length of each symbol, worked out another way than the tables are.
    fn codes() -> Vec<(u32, u8)> {
        let mut order = (0..257).collect::<Vec<usize>>();
        order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
        let mut codes = vec![(0, 0); 257];
        let (mut code, mut length) = (0u32, 0);
        for symbol in order {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes[symbol] = (code, length);
            code += 1;
        }
        codes
    }

    fn pack(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let codes = codes();
        let mut bits = Vec::new();
        for symbol in symbols {
            let (code, length) = codes[symbol];
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        let byte = |bits: &[bool]| {
            (0..8).fold(0, |byte, i| {
                byte << 1 | u8::from(*bits.get(i).unwrap_or(&true))
            })
        };
        bits.chunks(8).map(byte).collect()
    }

    pub(in super::super) fn encode(text: &[u8]) -> Vec<u8> {
        pack(text.iter().map(|byte| usize::from(*byte)))
    }

    fn decoded(text: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        let codes = codes();
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b'a'), 0x3, 5),
            (usize::from(b'Z'), 0xfd, 8),
            (usize::from(b'\\'), 0x7fff0, 19),
            (127, 0xfff_fffc, 28),
            (195, 0x7fff1, 19),
            (220, 0xfff_fffd, 28),
            (255, 0x3ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!(codes[symbol], (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_byte_survives_at_every_place() {
        for byte in 0..=255 {
            // Before and after codes of five bits, so that each begins at each bit of a byte.
            for before in 0..16 {
                let mut text = vec![b'a'; before];
                text.push(byte);
                text.extend(b"0e~");
                assert_eq!(decoded(&encode(&text)), Ok(text.clone()), "{text:?}");
                text.truncate(before + 1);
                assert_eq!(decoded(&encode(&text)), Ok(text.clone()), "{text:?}");
            }
        }
        let all = (0..=255).chain((0..=255).rev()).collect::<Vec<u8>>();
        assert_eq!(decoded(&encode(&all)), Ok(all));
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[]), Ok(vec![]));
        // 'a' is 00011: three bits of padding.
        assert_eq!(decoded(&[0b0001_1111]), Ok(vec![b'a']));
        for wrong in [0b0001_1110, 0b0001_1011, 0b0001_1101] {
            assert_eq!(decoded(&[wrong]), Err(HpackError::Padding), "{wrong:b}");
        }
        // 'X' has eight bits: the next byte would be padding alone, at any distance from the end of a word.
        for before in 0..9 {
            let mut text = vec![0b1111_1100; before];
            assert_eq!(decoded(&text), Ok(vec![b'X'; before]));
            for _ in 0..3 {
                text.push(0xff);
                assert_eq!(decoded(&text), Err(HpackError::Padding), "{text:x?}");
            }
        }
        // Ten bits of ones begin a longer code, which is cut here.
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(HpackError::Padding));
    }

    #[test]
    fn end_of_string_is_no_text() {
        for before in 0..16 {
            let symbols = std::iter::repeat_n(usize::from(b'a'), before);
            for after in 0..6 {
                let symbols = symbols.clone().chain([256]);
                let symbols = symbols.chain(std::iter::repeat_n(usize::from(b'b'), after));
                assert_eq!(decoded(&pack(symbols)), Err(HpackError::EndOfString));
            }
        }
        assert_eq!(decoded(&[0xff; 8]), Err(HpackError::EndOfString));
    }
}
