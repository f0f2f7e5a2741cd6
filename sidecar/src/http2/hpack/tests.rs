//! The decoder and the encoder against RFC 7541, against each other, and against blocks that nobody should send.

mod appendix_c;
mod h2;
mod hostile;
mod random;

use super::*;

type Field = (Vec<u8>, Vec<u8>);

const NO_LIMIT: usize = usize::MAX;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.bytes().filter(u8::is_ascii_hexdigit);
    let digits = digits.map(|digit| char::from(digit).to_digit(16).expect("a digit"));
    let digits = digits.collect::<Vec<u32>>();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte");
    digits.chunks_exact(2).map(byte).collect()
}

fn field(name: &str, value: &str) -> Field {
    (name.into(), value.into())
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, HpackError> {
    let mut fields = Vec::new();
    let decoded = decoder.decode(block, NO_LIMIT, &mut |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })?;
    assert_eq!(decoded, Decoded::Whole);
    Ok(fields)
}

/// The dynamic table, newest first.
fn table(decoder: &Decoder) -> Vec<Field> {
    let fields = decoder.table().fields().into_iter();
    fields.map(|(n, v)| (n.to_vec(), v.to_vec())).collect()
}

/// A literal that enters the table.
fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x40];
    for text in [name, value] {
        integer::write(text.len(), 7, 0, &mut out);
        out.extend(text);
    }
    out
}
