//! Reads header blocks (RFC 7541 §3, §6).

use super::table::{Name, OVERHEAD, Table};
use super::{HpackError, huffman, integer};

/// One direction of a connection: what its header blocks have built up so far.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The most that a size update may ask for.
    max_table: usize,
    /// A name and a value out of their Huffman codes.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Takes a name, a value, and whether the peer marked them as never to be indexed.
pub type Marked<'f> = dyn FnMut(&[u8], &[u8], bool) + 'f;

/// What came of a block.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// Every field was delivered.
    Whole,
    /// The fields are more than the caller wanted at most; it got those before.
    TooLarge,
}

impl Decoder {
    /// `max_table` is what this side's SETTINGS_HEADER_TABLE_SIZE says: the most that a size update of the peer may ask for.
    ///
    /// The table begins with [`DEFAULT_TABLE`] whatever that is, because the peer's does until it has seen the settings; a smaller
    /// `max_table` holds from the update on with which the peer must answer it (§4.2).
    pub fn new(max_table: usize) -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE),
            max_table,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Reads one whole header block (all its frames joined) and calls `field(name, value)` for each field in order, with bytes that are
    /// valid for the call only.
    ///
    /// `most` is the most that is delivered, counted as RFC 9113 §6.5.2 does: each name and value, and 32 for each field. One byte of a
    /// block can stand for a field as large as the table. Beyond it nothing more is delivered, but the block is read to its end all the
    /// same, so that the table stays what the peer takes it to be. After an error the decoder is of no more use.
    pub fn decode(
        &mut self,
        block: &[u8],
        most: usize,
        field: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Decoded, HpackError> {
        self.decode_marked(block, most, &mut |name, value, _| field(name, value))
    }

    /// The same; the third argument of `field` says that the peer marked it as never to be indexed, which who forwards it must keep
    /// (§6.2.3): with [`encoder::never_indexed`](super::encoder::never_indexed).
    pub fn decode_marked(
        &mut self,
        block: &[u8],
        most: usize,
        field: &mut Marked<'_>,
    ) -> Result<Decoded, HpackError> {
        let mut out = Delivery {
            left: most,
            exceeded: false,
            field,
        };
        let decoded = self.fields(block, &mut out);
        for scratch in [&mut self.name, &mut self.value] {
            if scratch.capacity() > KEPT_SCRATCH {
                *scratch = Vec::new();
            }
        }
        decoded.map(|()| out.outcome())
    }

    fn fields(&mut self, block: &[u8], out: &mut Delivery<'_>) -> Result<(), HpackError> {
        let rest = &mut self.size_updates(block)?;
        while let Some((first, after)) = rest.split_first() {
            *rest = after;
            match *first {
                0x80.. => {
                    let index = integer::read(*first, 7, rest)?;
                    let (name, value) = self.table.field(index)?;
                    out.field(name, value, false);
                }
                0x40..=0x7f => self.literal(*first, Literal::Indexed, rest, out)?,
                0x20..=0x3f => return Err(HpackError::Update),
                0x10..=0x1f => self.literal(*first, Literal::NeverIndexed, rest, out)?,
                0x00..=0x0f => self.literal(*first, Literal::Plain, rest, out)?,
            }
        }
        Ok(())
    }

    /// What stands before the fields: one size update, or two when the size went down and up again (§4.2).
    fn size_updates<'b>(&mut self, block: &'b [u8]) -> Result<&'b [u8], HpackError> {
        let mut rest = block;
        for _ in 0..2 {
            match rest.split_first() {
                Some((first @ 0x20..=0x3f, after)) => {
                    rest = after;
                    let size = integer::read(*first, 5, &mut rest)?;
                    if size > self.max_table {
                        return Err(HpackError::TableSize);
                    }
                    self.table.resize(size);
                }
                _ => break,
            }
        }
        Ok(rest)
    }

    fn literal(
        &mut self,
        first: u8,
        kind: Literal,
        rest: &mut &[u8],
        out: &mut Delivery<'_>,
    ) -> Result<(), HpackError> {
        let prefix = if kind == Literal::Indexed { 6 } else { 4 };
        let index = integer::read(first, prefix, rest)?;
        let name = match index {
            0 => Name::Text(text(rest, &mut self.name)?),
            _ => Name::Of(index),
        };
        let value = text(rest, &mut self.value)?;
        let name_text = match name {
            Name::Text(text) => text,
            Name::Of(index) => self.table.field(index)?.0,
        };
        out.field(name_text, value, kind == Literal::NeverIndexed);
        if kind == Literal::Indexed {
            self.table.insert(name, value)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.table.held() + self.name.capacity() + self.value.capacity()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literal {
    Indexed,
    Plain,
    NeverIndexed,
}

/// A string (§5.2): a part of the block, or in `scratch` what its Huffman code says.
#[inline]
fn text<'b: 't, 't>(rest: &mut &'b [u8], scratch: &'t mut Vec<u8>) -> Result<&'t [u8], HpackError> {
    let (first, after) = rest.split_first().ok_or(HpackError::Truncated)?;
    *rest = after;
    let length = integer::read(*first, 7, rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
    *rest = after;
    if first & 0x80 == 0 {
        return Ok(text);
    }
    scratch.clear();
    huffman::decode(text, scratch)?;
    Ok(scratch)
}

/// Hands fields on while they are within what the caller wants at most.
struct Delivery<'f> {
    left: usize,
    /// Nothing passes after a field that was too large, even if it is small: a list with gaps says something else.
    exceeded: bool,
    field: &'f mut Marked<'f>,
}

impl Delivery<'_> {
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8], marked: bool) {
        let counts = name.len() + value.len() + OVERHEAD;
        match self.left.checked_sub(counts) {
            Some(left) if !self.exceeded => {
                self.left = left;
                (self.field)(name, value, marked);
            }
            _ => self.exceeded = true,
        }
    }

    fn outcome(&self) -> Decoded {
        if self.exceeded {
            Decoded::TooLarge
        } else {
            Decoded::Whole
        }
    }
}

/// The size of every table at first (RFC 9113 §6.5.2).
pub const DEFAULT_TABLE: usize = 4096;

/// What is kept for Huffman codes from block to block, each for names and values. A connection may be idle for long.
const KEPT_SCRATCH: usize = 1024;
