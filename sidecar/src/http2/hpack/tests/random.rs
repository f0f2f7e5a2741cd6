//! Fields and bytes that nobody thought of.

use proptest::prelude::*;

use super::*;

/// Short ones from few letters, so that they repeat, and any bytes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ab]{0,2}".prop_map(String::into_bytes),
        proptest::sample::select(vec![
            ":method",
            ":path",
            ":status",
            "accept-encoding",
            "cookie",
            "authorization",
            "GET",
            "/",
            "/index.html",
            "204",
            "gzip, deflate",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..300),
    ]
}

/// A field, how a peer may write it, and whether in Huffman codes.
#[derive(Debug, Clone)]
struct Written {
    field: Field,
    kind: u8,
    huffman: bool,
}

fn written() -> impl Strategy<Value = Written> {
    let kinds = proptest::sample::select(vec![0x40u8, 0x00, 0x10]);
    (text(), text(), kinds, any::<bool>()).prop_map(|(name, value, kind, huffman)| Written {
        field: (name, value),
        kind,
        huffman,
    })
}

/// An encoder of the plainest kind, with a dynamic table that is a list: what the decoder's table must agree with.
#[derive(Default)]
struct Peer {
    newest_first: Vec<Field>,
    limit: usize,
}

impl Peer {
    fn evict(&mut self, more: usize) {
        let size = |fields: &[Field]| {
            fields
                .iter()
                .map(|(n, v)| n.len() + v.len() + 32)
                .sum::<usize>()
        };
        while size(&self.newest_first) + more > self.limit && self.newest_first.pop().is_some() {}
    }

    fn write(&mut self, written: &Written, out: &mut Vec<u8>) {
        let Written {
            field,
            kind,
            huffman,
        } = written;
        let statics = (1..=61).map(|i| static_table::entry(i).expect("an entry"));
        let statics = statics.map(|(n, v)| (n.to_vec(), v.to_vec()));
        let all = statics
            .chain(self.newest_first.iter().cloned())
            .collect::<Vec<Field>>();
        if let Some(place) = all.iter().position(|known| known == field) {
            return integer::write(place + 1, 7, 0x80, out);
        }
        let prefix = if *kind == 0x40 { 6 } else { 4 };
        // The last with that name, so that names of entries that go are used too.
        let named = all.iter().rposition(|known| known.0 == field.0);
        integer::write(named.map_or(0, |place| place + 1), prefix, *kind, out);
        let texts = if named.is_some() {
            vec![&field.1]
        } else {
            vec![&field.0, &field.1]
        };
        for text in texts {
            let code = if *huffman {
                huffman::tests::encode(text)
            } else {
                text.clone()
            };
            integer::write(code.len(), 7, if *huffman { 0x80 } else { 0 }, out);
            out.extend(code);
        }
        if *kind == 0x40 {
            let more = field.0.len() + field.1.len() + 32;
            self.evict(more);
            if more <= self.limit {
                self.newest_first.insert(0, field.clone());
            }
        }
    }
}

proptest! {
    #[test]
    fn what_the_encoder_writes_reads_as_the_same(fields in proptest::collection::vec((text(), text()), 0..20)) {
        let mut block = vec![encoder::NO_TABLE];
        for (name, value) in &fields {
            encoder::field(name, value, &mut block);
        }
        let decoder = &mut Decoder::new(DEFAULT_TABLE);
        prop_assert_eq!(read(decoder, &block), Ok(fields));
        prop_assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn tables_stay_in_step_over_many_blocks(
        limit in prop_oneof![Just(4096usize), 0usize..700],
        blocks in proptest::collection::vec(proptest::collection::vec(written(), 0..12), 1..12),
        mosts in proptest::collection::vec(prop_oneof![Just(NO_LIMIT), 0usize..400], 12),
    ) {
        let mut peer = Peer { limit, ..Peer::default() };
        let mut decoder = Decoder::new(4096);
        let mut prefix = Vec::new();
        integer::write(limit, 5, 0x20, &mut prefix);
        for (block, most) in blocks.iter().zip(mosts) {
            let mut bytes = std::mem::take(&mut prefix);
            for written in block {
                peer.write(written, &mut bytes);
            }
            let mut got = Vec::new();
            let decoded = decoder.decode(&bytes, most, &mut |name, value| got.push((name.to_vec(), value.to_vec())));
            let sent = block.iter().map(|written| written.field.clone()).collect::<Vec<_>>();
            prop_assert_eq!(&got[..], &sent[..got.len()]);
            let whole = if got.len() == sent.len() { Decoded::Whole } else { Decoded::TooLarge };
            prop_assert_eq!(decoded, Ok(whole));
            prop_assert_eq!(table(&decoder), peer.newest_first.clone());
            prop_assert!(decoder.table().size() <= limit);
            prop_assert!(decoder.held() <= 2 * 4096 + 256 * 24 + 2048);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let mut decoder = Decoder::new(DEFAULT_TABLE);
        for block in blocks {
            let most = 1000;
            let mut sum = 0;
            let decoded = decoder.decode(&block, most, &mut |name, value| sum += name.len() + value.len() + 32);
            prop_assert!(sum <= most);
            if decoded.is_err() {
                break;
            }
        }
    }
}

#[test]
fn marks_of_fields_that_are_never_indexed_survive() {
    let mut block = Vec::new();
    encoder::field(b"x-key", b"1", &mut block);
    encoder::never_indexed(b"x-key", b"2", &mut block);
    encoder::never_indexed(b"user-agent", b"3", &mut block);
    for name in [
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
    ] {
        encoder::field(name.as_bytes(), b"", &mut block);
    }
    let mut marks = Vec::new();
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    let decoded = decoder.decode_marked(&block, NO_LIMIT, &mut |_, _, marked| marks.push(marked));
    assert_eq!(decoded, Ok(Decoded::Whole));
    assert_eq!(marks, [false, true, true, true, true, true, true]);
}

#[test]
fn the_encoder_uses_the_static_table() {
    for (name, value, block) in [
        (":method", "POST", "83"),
        (":method", "PUT", "02 03 505554"),
        (":path", "/index.html", "85"),
        (":path", "/a", "04 02 2f61"),
        (":scheme", "https", "87"),
        (":status", "500", "8e"),
        (":status", "429", "08 03 343239"),
        ("accept-encoding", "gzip, deflate", "90"),
        ("accept", "", "93"),
        ("te", "x", "00 02 7465 01 78"),
        ("user-agent", "x", "0f2b 01 78"),
        ("cookie", "x", "1f11 01 78"),
        ("authorization", "", "1f08 00"),
    ] {
        let mut out = Vec::new();
        encoder::field(name.as_bytes(), value.as_bytes(), &mut out);
        assert_eq!(out, bytes(block), "{name}: {value}");
    }
}

#[test]
fn every_status_reads_as_it_was_written() {
    for code in 100..=999 {
        let (mut direct, mut general) = (Vec::new(), Vec::new());
        encoder::status(code, &mut direct);
        encoder::field(b":status", code.to_string().as_bytes(), &mut general);
        assert_eq!(direct, general, "{code}");
        let fields = read(&mut Decoder::new(DEFAULT_TABLE), &direct);
        assert_eq!(fields, Ok(vec![field(":status", &code.to_string())]));
    }
}
