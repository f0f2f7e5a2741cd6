//! Header compression of HTTP/2 (RFC 7541): what a peer's header blocks say, and blocks that say what this side passes on.
//!
//! [`Decoder`] is one direction of one connection; [`encoder`] has no state. What a peer can make the decoder hold is its table (at most
//! the size that this side announced, and as much again before it is tidied) and a little for Huffman codes; what it can make the
//! decoder deliver for one block, the caller says.
//!
//! Invariant: after `Ok` the table is what the peer's encoder has, whatever was delivered. After an error it is not: the connection ends.

mod decoder;
pub mod encoder;
mod huffman;
mod huffman_table;
mod integer;
#[cfg(test)]
mod measure;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::{DEFAULT_TABLE, Decoded, Decoder, Marked};

/// Why a block cannot be read. Each is a `COMPRESSION_ERROR` of the connection (RFC 9113 §4.3): the tables differ from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    #[error("the header block ends within a field")]
    Truncated,
    #[error("an integer of the header block is too large")]
    Integer,
    #[error("the header block refers to an entry that neither table has")]
    Index,
    #[error("the header block asks for a larger table than was announced")]
    TableSize,
    #[error("a table size update stands after a field, or is the third")]
    Update,
    #[error("a Huffman code is not padded as it must be")]
    Padding,
    #[error("a Huffman code contains the end-of-string symbol")]
    EndOfString,
}
