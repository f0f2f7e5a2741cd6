//! The Huffman code of RFC 7541 Appendix B, and what the decoder looks up in it.
//!
//! The code is canonical: symbols of one length have successive codes in the order of their values, and each length goes on where the one
//! before stopped. So the lengths are the whole code; the rest is worked out by the compiler.

/// The length in bits of each byte's code, and of end-of-string (256).
pub(super) const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30,
];

/// A symbol (a byte, or 256 for end-of-string) and the length of its code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub(super) is: u16,
    /// 0: these eight bits begin a longer code.
    pub(super) bits: u8,
}

/// The codes of one length, at the top of 32 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) first: u32,
    /// The last code, and ones below it.
    pub(super) last: u32,
    /// Where in `sorted` the first code's symbol is.
    pub(super) place: u16,
    pub(super) bits: u8,
}

pub(super) struct Tables {
    /// By the next eight bits: digits, letters and most signs.
    pub(super) quick: [Symbol; 256],
    /// For longer codes, shortest first.
    pub(super) runs: [Run; 22],
    /// Every symbol in the order of codes.
    pub(super) sorted: [u16; 257],
}

pub(super) static TABLES: Tables = build();

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the compiler runs it, and refuses what is out of range"
)]
const fn build() -> Tables {
    let mut tables = Tables {
        quick: [Symbol { is: 0, bits: 0 }; 256],
        runs: [Run {
            first: 0,
            last: 0,
            place: 0,
            bits: 0,
        }; 22],
        sorted: [0; 257],
    };
    let (mut code, mut place) = (0u64, 0);
    let mut bits = 1u8;
    while bits <= 30 {
        let step = 1u64 << (32 - bits);
        let (first, first_place) = (code, place);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == bits {
                tables.sorted[place] = symbol as u16;
                place += 1;
                let mut slot = code >> 24;
                code += step;
                while bits <= 8 && slot < code >> 24 {
                    tables.quick[slot as usize] = Symbol {
                        is: symbol as u16,
                        bits,
                    };
                    slot += 1;
                }
            }
            symbol += 1;
        }
        if bits > 8 {
            tables.runs[bits as usize - 9] = Run {
                first: first as u32,
                last: (code - 1) as u32,
                place: first_place as u16,
                bits,
            };
        }
        bits += 1;
    }
    assert!(
        code == 1 << 32,
        "every sequence of bits is a code or begins one"
    );
    tables
}
