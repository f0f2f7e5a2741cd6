//! Header blocks of HTTP/2.

use weft_sidecar::http2::hpack::{DEFAULT_TABLE, Decoded, Decoder, HpackError, encoder};

/// The first byte says how large the first block is, and the most that is delivered of each; the rest of the blocks are as long.
///
/// What is delivered never decides what the table is; what is delivered is within the limit, and is written as the same.
pub(super) fn hpack(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let most = usize::from(*cut) * 8;
    let (mut free, mut bounded) = (Decoder::new(DEFAULT_TABLE), Decoder::new(DEFAULT_TABLE));
    for block in stream.chunks(usize::from(*cut) % 64 + 8) {
        let whole = read(&mut free, block, usize::MAX);
        let part = read(&mut bounded, block, most);
        let (Ok((decoded, fields)), Ok((within, first))) = (&whole, &part) else {
            assert_eq!(whole.err(), part.err(), "the limit decides what is wrong");
            return;
        };
        assert_eq!(*decoded, Decoded::Whole);
        assert!(counted(first) <= most);
        assert_eq!(first[..], fields[..first.len()]);
        assert_eq!(*within == Decoded::Whole, first.len() == fields.len());
        assert_eq!(*within == Decoded::Whole, counted(fields) <= most);
        assert_is_written_as_the_same(fields);
    }
}

/// A name, a value, and whether they were marked as never to be indexed.
type Field = (Vec<u8>, Vec<u8>, bool);

fn read(
    decoder: &mut Decoder,
    block: &[u8],
    most: usize,
) -> Result<(Decoded, Vec<Field>), HpackError> {
    let mut fields = Vec::new();
    let decoded = decoder.decode_marked(block, most, &mut |name, value, marked| {
        fields.push((name.to_vec(), value.to_vec(), marked));
    })?;
    Ok((decoded, fields))
}

/// As RFC 9113 §6.5.2 does.
fn counted(fields: &[Field]) -> usize {
    fields.iter().map(|(n, v, _)| n.len() + v.len() + 32).sum()
}

/// What was marked stays so; the encoder marks some names on its own account.
fn assert_is_written_as_the_same(fields: &[Field]) {
    let mut block = vec![encoder::NO_TABLE];
    for (name, value, marked) in fields {
        if *marked {
            encoder::never_indexed(name, value, &mut block);
        } else {
            encoder::field(name, value, &mut block);
        }
    }
    let mut decoder = Decoder::new(0);
    let again = read(&mut decoder, &block, usize::MAX);
    let (decoded, again) = again.unwrap_or_else(|why| panic!("{why}: {block:x?}"));
    assert_eq!((decoded, again.len()), (Decoded::Whole, fields.len()));
    for (before, after) in fields.iter().zip(&again) {
        assert_eq!((&before.0, &before.1), (&after.0, &after.1));
        assert!(after.2 || !before.2, "a mark was lost");
    }
}
