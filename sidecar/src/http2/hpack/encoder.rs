//! Writes header blocks without a dynamic table: no memory for a connection, and no block depends on another.
//!
//! Strings go out as they are: a Huffman code would spare bytes of a local network for work on each request. Names must be lower case.

use super::{integer, static_table};

/// A size update to 0, for the front of a connection's first block: this side keeps no table, whatever size the peer's
/// SETTINGS_HEADER_TABLE_SIZE allows or takes back (§4.2).
pub const NO_TABLE: u8 = 0x20;

/// `:status`.
pub fn status(code: u16, out: &mut Vec<u8>) {
    let index = match code {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return other_status(code, out),
    };
    out.push(INDEXED | index);
}

fn other_status(code: u16, out: &mut Vec<u8>) {
    // A status has three digits (RFC 9110 §15).
    let code = code.min(999);
    let digits = [code / 100, code / 10 % 10, code % 10];
    out.extend([PLAIN | 8, 3]);
    out.extend(digits.map(|digit| digit.to_le_bytes()[0] + b'0'));
}

/// A field: one byte if the static table has it whole, else a literal that no hop puts into its table, whose name may be one of the
/// static table's. What may authenticate somebody is marked, so that no hop after this one compresses it either (§7.1.3).
pub fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let Some(index) = static_table::index(name) else {
        return literal(PLAIN, name, value, out);
    };
    if matches!(
        index,
        AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE
    ) {
        return named(NEVER_INDEXED, index, value, out);
    }
    // Entries of one name follow each other.
    let last = match index {
        METHOD | PATH | SCHEME => index + 1,
        STATUS => STATUS + 6,
        _ => index,
    };
    let same = |index: &usize| static_table::entry(*index).is_some_and(|(_, known)| known == value);
    match (index..=last).find(same) {
        Some(index) => integer::write(index, 7, INDEXED, out),
        None => named(PLAIN, index, value, out),
    }
}

/// A field that came marked as never to be indexed, and must stay so (§6.2.3).
pub fn never_indexed(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match static_table::index(name) {
        Some(index) => named(NEVER_INDEXED, index, value, out),
        None => literal(NEVER_INDEXED, name, value, out),
    }
}

#[inline]
fn named(kind: u8, index: usize, value: &[u8], out: &mut Vec<u8>) {
    integer::write(index, 4, kind, out);
    text(value, out);
}

#[inline]
fn literal(kind: u8, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    text(name, out);
    text(value, out);
}

#[inline]
fn text(text: &[u8], out: &mut Vec<u8>) {
    integer::write(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

// The first bytes of §6.
const INDEXED: u8 = 0x80;
const NEVER_INDEXED: u8 = 0x10;
const PLAIN: u8 = 0;

// Places in the static table.
const METHOD: usize = 2;
const PATH: usize = 4;
const SCHEME: usize = 6;
const STATUS: usize = 8;
const AUTHORIZATION: usize = 23;
const COOKIE: usize = 32;
const PROXY_AUTHORIZATION: usize = 49;
const SET_COOKIE: usize = 55;
