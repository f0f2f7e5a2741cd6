//! Blocks that are wrong, and blocks that are right but meant to cost more than they should.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

use super::*;

#[test]
fn malformed_blocks_are_refused_with_the_reason() {
    use HpackError::{EndOfString, Index, Integer, Padding, TableSize, Truncated, Update};
    for (block, error) in [
        // Index 0, the first behind the static table, and one far behind it.
        ("80", Index),
        ("be", Index),
        ("ffff ffff ff07", Index),
        ("7f00 0161", Index),
        ("0f40 0161", Index),
        ("1f40 0161", Index),
        // The second of one entry.
        ("4001 6101 62 bf", Index),
        ("ff80 8080 8080 00", Integer),
        ("00ff 8080 8080 10", Integer),
        ("ff", Truncated),
        ("ff80", Truncated),
        ("40", Truncated),
        ("4001", Truncated),
        ("4001 61", Truncated),
        ("4001 6102 62", Truncated),
        ("0002 61", Truncated),
        ("0001 61", Truncated),
        ("04", Truncated),
        ("1003 6162", Truncated),
        // A string longer than the block by far.
        ("00ff ffff ff07 61", Truncated),
        ("3f", Truncated),
        // 4097; the third; after a field.
        ("3fe2 1f", TableSize),
        ("20 3fe2 1f", TableSize),
        ("20 20 20", Update),
        ("82 20", Update),
        ("4001 6101 62 3fe1 1f", Update),
        // The name and the value in codes that are wrong.
        ("0081 18 0161", Padding),
        ("0001 6181 18", Padding),
        ("0482 1fff", Padding),
        ("0484 ffff ffff", EndOfString),
        ("0084 ffff ffff 0161", EndOfString),
    ] {
        let decoder = &mut Decoder::new(DEFAULT_TABLE);
        assert_eq!(read(decoder, &bytes(block)), Err(error), "{block}");
    }
}

#[test]
fn the_default_table_may_be_asked_for_whole_and_twice_in_a_block() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    assert_eq!(
        read(decoder, &bytes("4001 6101 62")),
        Ok(vec![field("a", "b")])
    );
    assert_eq!(
        read(decoder, &bytes("3fe1 1f be")),
        Ok(vec![field("a", "b")])
    );
    assert_eq!(
        read(decoder, &bytes("20 3fe1 1f 82")),
        Ok(vec![field(":method", "GET")])
    );
    assert_eq!(table(decoder), [], "a size of 0 in between empties it");
    assert_eq!(read(decoder, &[]), Ok(vec![]));
}

#[test]
fn a_smaller_announced_table_is_reached_by_an_update_and_not_left_again() {
    let decoder = &mut Decoder::new(64);
    let entry = indexed(b"name", &[b'v'; 200]);
    read(decoder, &entry).expect("the peer has not seen the settings yet");
    assert_eq!(decoder.table().size(), 236);
    read(decoder, &bytes("3f21")).expect("an update to 64");
    assert_eq!(table(decoder), []);
    read(decoder, &entry).expect("it is larger than the table");
    assert_eq!(table(decoder), []);
    assert_eq!(read(decoder, &bytes("3f22")), Err(HpackError::TableSize));
}

#[test]
fn a_larger_announced_table_takes_more_once_it_is_asked_for() {
    let decoder = &mut Decoder::new(8192);
    let entries = indexed(b"name", &[b'v'; 2000]).repeat(4);
    read(decoder, &entries).expect("four fields");
    assert_eq!(decoder.table().size(), 2036 * 2);
    // 8192 is 31 and 8161.
    let update = bytes("3fe1 3f");
    read(decoder, &[update, entries].concat()).expect("four fields");
    assert_eq!(decoder.table().size(), 2036 * 4);
}

#[test]
fn an_entry_larger_than_the_table_empties_it_and_one_as_large_fills_it() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    read(decoder, &indexed(b"a", b"b")).expect("a field");
    let whole = indexed(b"name", &vec![b'v'; 4096 - 32 - 4]);
    assert_eq!(read(decoder, &whole).expect("a field").len(), 1);
    assert_eq!(decoder.table().size(), 4096);
    let more = indexed(b"name", &vec![b'v'; 4096 - 32 - 3]);
    assert_eq!(read(decoder, &more).expect("a field").len(), 1);
    assert_eq!(table(decoder), []);
}

#[test]
fn a_name_may_be_that_of_the_entry_which_the_new_one_pushes_out() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    let value = vec![b'1'; 2100];
    for turn in 0..20 {
        let mut block = indexed(format!("name-{turn}").as_bytes(), &value);
        // Index 62, the newest, by a literal that fills more than half of the table again; so twice.
        for _ in 0..2 {
            block.push(0x7e);
            integer::write(value.len(), 7, 0, &mut block);
            block.extend(&value);
        }
        let name = format!("name-{turn}").into_bytes();
        let same = (name, value.clone());
        assert_eq!(read(decoder, &block), Ok(vec![same.clone(); 3]));
        assert_eq!(table(decoder), [same]);
    }
}

#[test]
fn memory_stays_within_what_was_announced_whatever_enters() {
    // Empty names and values make the most entries.
    for length in [0, 1, 5, 33, 400, 2000, 4064] {
        let decoder = &mut Decoder::new(DEFAULT_TABLE);
        let entry = indexed(b"", &vec![b'v'; length]);
        for _ in 0..20 {
            read(decoder, &entry.repeat(130)).expect("fields");
            let count = table(decoder).len();
            assert_eq!(count, 4096 / (32 + length), "{length}");
            assert!(decoder.held() <= 2 * 4096 + 256 * 24, "{}", decoder.held());
        }
        read(decoder, &[encoder::NO_TABLE]).expect("an update");
        assert_eq!(decoder.held(), 0);
    }
}

#[test]
fn evicted_bytes_make_way_before_the_buffer_exceeds_twice_the_table() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    // Before the last, 2000 bytes of 5900 are evicted ones: too few to be worth moving the others, were it not for the limit.
    for length in [2000, 2000, 1900, 4050] {
        read(decoder, &indexed(b"", &vec![b'v'; length])).expect("a field");
    }
    assert_eq!(decoder.table().size(), 4082);
    assert!(decoder.held() <= 2 * 4096 + 4 * 24, "{}", decoder.held());
}

#[test]
fn long_huffman_codes_leave_nothing_behind() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    let long = vec![b'a'; 100_000];
    let code = huffman::tests::encode(&long);
    let mut block = vec![0];
    for _ in 0..2 {
        integer::write(code.len(), 7, 0x80, &mut block);
        block.extend(&code);
    }
    assert_eq!(read(decoder, &block), Ok(vec![(long.clone(), long)]));
    assert_eq!(decoder.held(), 0);
}

#[test]
fn what_is_beyond_the_callers_limit_is_read_but_not_delivered() {
    // An entry that nearly fills the table, and a byte for each of 1000 times it; then a small one that still must enter the table.
    let mut block = indexed(b"n", &[b'v'; 4040]);
    block.extend([0xbe; 1000]);
    block.extend(indexed(b"small", b"1"));
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    for (most, passes) in [(0, 0), (4072, 0), (4073, 1), (8145, 1), (16 * 1024, 4)] {
        let (mut count, mut sum) = (0, 0);
        let decoded = decoder.decode(&block, most, &mut |name, value| {
            count += 1;
            sum += name.len() + value.len() + 32;
        });
        assert_eq!(decoded, Ok(Decoded::TooLarge), "{most}");
        assert_eq!(count, passes, "{most}");
        assert!(sum <= most);
        // Both were: the large one went for the small one.
        assert_eq!(table(decoder), [field("small", "1")]);
    }
    let exactly = 1001 * 4073 + 38;
    let whole = decoder.decode(&block, exactly, &mut |_, _| ());
    assert_eq!(whole, Ok(Decoded::Whole));
}

#[test]
fn no_small_field_passes_after_a_large_one() {
    let mut block = indexed(b"large", &[b'v'; 100]);
    block.push(0x82);
    let mut count = 0;
    let decoded = Decoder::new(DEFAULT_TABLE).decode(&block, 100, &mut |_, _| count += 1);
    assert_eq!((decoded, count), (Ok(Decoded::TooLarge), 0));
}

#[test]
fn the_steady_state_allocates_nothing() {
    let decoder = &mut Decoder::new(DEFAULT_TABLE);
    read(decoder, &measure::first_block()).expect("a block");
    let again = measure::steady_block();
    let changes = (0..100).map(|_| {
        let mut count = 0;
        let region = Region::new(&INSTRUMENTED_SYSTEM);
        let decoded = decoder.decode(&again, NO_LIMIT, &mut |_, _| count += 1);
        let change = region.change();
        assert_eq!((decoded, count), (Ok(Decoded::Whole), 8));
        change.allocations + change.reallocations
    });
    // Other tests allocate at the same time, but not at each of these moments.
    assert_eq!(changes.min(), Some(0));
}
