//! What a block costs. `cargo test --release -p weft-sidecar --lib hpack -- --ignored --nocapture` prints it.

use std::hint::black_box;
use std::time::Instant;

use super::*;

/// What a gRPC client sends with each call.
const CALL: [(&[u8], &[u8]); 8] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/orders.v1.Orders/Place"),
    (b":authority", b"orders.shop.svc:8080"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-go/1.76.0"),
    (b"te", b"trailers"),
    (b"grpc-timeout", b"999998u"),
];

/// The first call: what the static table has not enters the dynamic one.
pub(super) fn first_block() -> Vec<u8> {
    written(0x40, true)
}

/// The same call when all of it is in the tables: 83, 86, and the six of before, oldest first.
pub(super) fn steady_block() -> Vec<u8> {
    vec![0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]
}

fn written(kind: u8, huffman: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in CALL {
        if name == b":method" || name == b":scheme" {
            encoder::field(name, value, &mut block);
            continue;
        }
        let prefix = if kind == 0x40 { 6 } else { 4 };
        let index = static_table::index(name);
        integer::write(index.unwrap_or(0), prefix, kind, &mut block);
        let texts = [index.is_none().then_some(name), Some(value)];
        for text in texts.into_iter().flatten() {
            let code = if huffman {
                huffman::tests::encode(text)
            } else {
                text.to_vec()
            };
            integer::write(code.len(), 7, if huffman { 0x80 } else { 0 }, &mut block);
            block.extend(code);
        }
    }
    block
}

#[test]
fn the_blocks_measured_are_the_call() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    for block in [
        first_block(),
        steady_block(),
        written(0, true),
        written(0, false),
    ] {
        let mut fields = Vec::new();
        let decoded = decoder.decode(&block, usize::MAX, &mut |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
        });
        assert_eq!(decoded, Ok(Decoded::Whole));
        assert_eq!(fields, CALL.map(|(n, v)| (n.to_vec(), v.to_vec())));
    }
}

#[test]
#[ignore = "a measurement: run it alone, optimised"]
fn measure() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    let mut decode = |what: &str, block: &[u8]| {
        timed(what, block.len(), || {
            let mut sum = 0;
            let mut field = |name: &[u8], value: &[u8]| sum += name.len() + value.len();
            let decoded = decoder.decode(black_box(block), 16 * 1024, &mut field);
            assert_eq!(decoded, Ok(Decoded::Whole));
            sum
        });
    };
    decode("decode: first, enters the table", &first_block());
    decode("decode: the same once more, all indexed", &steady_block());
    decode("decode: literals", &written(0, false));
    decode("decode: Huffman literals", &written(0, true));
    decode("decode: 6 literals enter the table", &written(0x40, false));
    let mut out = Vec::new();
    timed("encode: the call", 0, || {
        out.clear();
        for (name, value) in black_box(CALL) {
            encoder::field(name, value, &mut out);
        }
        out.len()
    });
    let long = huffman::tests::encode(&[b'e'; 1000].map(|e| e ^ (e & 1)));
    let mut text = Vec::new();
    timed("1000 letters of Huffman code", long.len(), || {
        text.clear();
        huffman::decode(black_box(&long), &mut text).expect("a text");
        text.len()
    });
    let rare = huffman::tests::encode(&[b'\n'; 1000]);
    timed("1000 of the longest codes", rare.len(), || {
        text.clear();
        huffman::decode(black_box(&rare), &mut text).expect("a text");
        text.len()
    });
}

/// The best of some rounds.
fn timed(what: &str, length: usize, mut run: impl FnMut() -> usize) {
    const TURNS: u32 = 20_000;
    let rounds = (0..15).map(|_| {
        let start = Instant::now();
        for _ in 0..TURNS {
            black_box(run());
        }
        start.elapsed() / TURNS
    });
    let best = rounds.min().unwrap_or_default();
    println!("{what} ({length} bytes): {best:?}");
}
