//! Objects written, read back, damaged in every way, and weighed.

use super::*;
use crate::key_group::xxh3_64;
use crate::keyed::{Cell, KeyTable, NameClass, Pools};
use crate::snapshot::{SnapshotFault, encode_head, encode_slot};
use crate::time::{Domain, Timestamp};
use proptest::prelude::*;

const DIRECTORY: [u8; 16] = *b"0123456789abcdef";

fn partition(n: u16) -> EntryKind {
    let (namespace, group) = (NamespaceId(u64::MAX - n as u64), KeyGroup(n));
    EntryKind::Partition { namespace, group, position: n as u64 * 3 }
}

fn write(entries: &[(EntryKind, Vec<u8>)]) -> Finished {
    let mut writer = ObjectWriter::new(&DIRECTORY);
    for (n, (kind, bytes)) in entries.iter().enumerate() {
        writer.add(*kind, n as u64, bytes);
    }
    let expected = writer.len();
    let finished = writer.finish();
    assert!(finished.bytes.len() <= expected, "{} of {expected}", finished.bytes.len());
    finished
}

fn check(entries: &[(EntryKind, Vec<u8>)]) {
    let finished = write(entries);
    let mut reader = ObjectReader::open("object", finished.bytes).expect("nothing is wrong");
    assert_eq!(reader.directory(), &DIRECTORY);
    assert_eq!(reader.digest(), finished.digest);
    assert_eq!(reader.entries().len(), entries.len());
    for backward in [false, true] {
        for n in 0..entries.len() {
            let n = if backward { entries.len() - 1 - n } else { n };
            let (kind, bytes) = &entries[n];
            let entry = reader.entries()[n];
            assert_eq!(entry, Entry { kind: *kind, keys: n as u64, length: bytes.len() as u64 });
            assert!(reader.entry(n) == Ok(&bytes[..]), "entry {n}");
        }
    }
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let words = (0..=length as u64 / 8).map(|n| xxh3_64(&(n ^ seed << 32).to_le_bytes()));
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

#[test]
fn entries_of_all_sizes_come_back() {
    let head = EntryKind::LaneHead { lane: LaneIndex(3), position: u64::MAX };
    let controls = EntryKind::Controls { lane: LaneIndex(1_023) };
    check(&[]);
    check(&[(partition(0), Vec::new())]);
    check(&[(head, b"{}".to_vec()), (controls, b"[]".to_vec()), (partition(1), vec![7; 9])]);
    let sizes = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 0, 3 * BLOCK_BYTES + 5, 17];
    for first in 0..sizes.len() {
        let sizes = sizes.iter().cycle().skip(first).take(sizes.len());
        let entries =
            sizes.enumerate().map(|(n, size)| (partition(n as u16), noise(*size, n as u64)));
        check(&entries.collect::<Vec<_>>());
    }
    // So many that the index has several blocks, and rows stand in two of them.
    let small = (0..20_000u32).map(|n| (partition(n as u16), n.to_le_bytes().to_vec()));
    check(&small.collect::<Vec<_>>());
}

#[test]
fn an_entry_in_pieces_is_the_same_as_whole() {
    let bytes = noise(BLOCK_BYTES + 99, 1);
    let whole = write(&[(partition(0), bytes.clone())]);
    let mut writer = ObjectWriter::new(&DIRECTORY);
    for piece in bytes.chunks(1_000) {
        writer.append(piece);
    }
    writer.end(partition(0), 0);
    assert_eq!(writer.finish().bytes, whole.bytes);
}

/// An object of a few hundred bytes with two blocks of each kind of content.
fn small_object() -> Vec<u8> {
    let head = EntryKind::LaneHead { lane: LaneIndex(3), position: 9 };
    write(&[(head, b"{\"position\":9}".to_vec()), (partition(5), noise(200, 1))]).bytes
}

fn check_refused(bytes: Vec<u8>, what: &str) {
    let length = bytes.len() as u64;
    let Err(fault) = ObjectReader::open("objects/x", bytes) else { panic!("{what} was not seen") };
    assert!(fault.to_string().starts_with("objects/x "), "{what}: {fault}");
    if let SnapshotFault::Damaged { offset, .. } = fault {
        assert!(offset <= length, "{what}: {fault}");
    }
}

#[test]
fn every_flip_of_every_bit_is_seen() {
    let good = small_object();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            check_refused(bytes, &format!("bit {bit} of byte {at}"));
        }
        for byte in [0, 0xff] {
            let mut bytes = good.clone();
            if std::mem::replace(&mut bytes[at], byte) != byte {
                check_refused(bytes, &format!("byte {at} made {byte}"));
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_seen() {
    let good = small_object();
    for cut in 0..good.len() {
        check_refused(good[..cut].to_vec(), &format!("cut at {cut}"));
        let mut zeroed = good.clone();
        zeroed[cut..].fill(0);
        check_refused(zeroed, &format!("zeroed from {cut}"));
        let mut without = good.clone();
        without.remove(cut);
        check_refused(without, &format!("byte {cut} taken out"));
    }
    for more in [1, 60, 4_096] {
        check_refused([&good[..], &vec![0; more]].concat(), "zeroes behind it");
    }
    check_refused([&good[..], &good].concat(), "twice itself");
}

#[test]
fn damage_in_a_block_names_the_block() {
    let entries: Vec<_> = (0..4).map(|n| (partition(n), noise(BLOCK_BYTES, n as u64))).collect();
    let good = write(&entries).bytes;
    let second_at = HEADER_BYTES + BLOCK_HEAD_BYTES + word(&good, HEADER_BYTES + 4) as usize;
    let mut bytes = good.clone();
    bytes[second_at + 1_000] ^= 1;
    let Err(fault) = ObjectReader::open("objects/x", bytes) else { panic!("it was not seen") };
    let detail = "the checksum of a block does not match";
    assert_eq!(fault, SnapshotFault::damaged("objects/x", second_at as u64, detail));
    // Two blocks that change places have right checksums, one by one.
    let mut bytes = good.clone();
    let length = second_at - HEADER_BYTES;
    assert_eq!(word(&good, second_at + 4) as usize + BLOCK_HEAD_BYTES, length);
    let (first, second) = bytes[HEADER_BYTES..].split_at_mut(length);
    first.swap_with_slice(&mut second[..length]);
    check_refused(bytes, "two blocks that changed places");
}

#[test]
fn a_later_version_is_told_apart_from_damage() {
    let mut bytes = small_object();
    bytes[8] = 2;
    let crc = crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    let fault = ObjectReader::open("objects/x", bytes).err().expect("a later version");
    assert_eq!(
        fault.to_string(),
        "objects/x has format 2, this version knows up to 1: start the version that wrote it, or a later one"
    );
}

/// Sizes that lie, under checksums that are right.
#[test]
fn sizes_that_lie_are_refused() {
    let reseal = |mut bytes: Vec<u8>| {
        let footer_at = bytes.len() - FOOTER_BYTES;
        let frame = word(&bytes, HEADER_BYTES + 4) as usize;
        let end = (HEADER_BYTES + BLOCK_HEAD_BYTES + frame).min(footer_at);
        let crc = crc32c(&bytes[HEADER_BYTES..HEADER_BYTES + 12]);
        let crc = crc32c_append(crc, &bytes[HEADER_BYTES + BLOCK_HEAD_BYTES..end]);
        bytes[HEADER_BYTES + 12..HEADER_BYTES + 16].copy_from_slice(&crc.to_le_bytes());
        let digest = xxh3_128(&bytes[..footer_at + DIGEST_AT]).to_le_bytes();
        bytes[footer_at + DIGEST_AT..footer_at + DIGEST_AT + 16].copy_from_slice(&digest);
        let crc = crc32c(&bytes[footer_at..footer_at + 56]).to_le_bytes();
        bytes[footer_at + 56..].copy_from_slice(&crc);
        bytes
    };
    let good = small_object();
    assert!(ObjectReader::open("x", reseal(good.clone())).is_ok());
    let footer_at = good.len() - FOOTER_BYTES;
    for (at, what) in [
        (HEADER_BYTES, "the kind of a block"),
        (HEADER_BYTES + 4, "compressed bytes"),
        (HEADER_BYTES + 8, "raw bytes"),
        (footer_at + 8, "where the index begins"),
        (footer_at + 16, "data blocks"),
        (footer_at + 20, "index blocks"),
        (footer_at + 24, "entries"),
        (footer_at + 32, "length"),
    ] {
        for value in [0u32, 1, 2, 1_000, 0x7fff_ffff, u32::MAX] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let bytes = reseal(bytes);
            if bytes == good {
                continue;
            }
            match ObjectReader::open("x", bytes) {
                Err(_) => {}
                // The size of a frame is only known once it is unpacked.
                Ok(mut reader) => assert!(
                    (0..reader.entries().len()).any(|n| reader.entry(n).is_err()),
                    "{what} = {value}"
                ),
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_bytes_there_are_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..5),
    ) {
        prop_assert!(ObjectReader::open("x", bytes).is_err());
        let mut bytes = small_object();
        for (index, byte) in flips {
            *index.get_mut(&mut bytes) = byte;
        }
        let changed = bytes != small_object();
        prop_assert_eq!(ObjectReader::open("x", bytes).is_err(), changed);
    }
}

#[test]
fn a_timer_takes_few_bytes() {
    const TIMERS: u64 = 100_000;
    let (mut pools, mut table) = (Pools::default(), KeyTable::default());
    for n in 0..TIMERS {
        let key = format!("device-{n:08}");
        let slot = pools.add(&mut table, key.as_bytes(), xxh3_64(key.as_bytes()));
        let within_an_hour = xxh3_64(&n.to_le_bytes()) % 3_600_000;
        let time = Timestamp::from_millis(1_767_225_600_000 + within_an_hour as i64);
        let link = pools.store_blob(None, None);
        pools.insert(slot, Domain::Processing, Cell { time, name: NameClass::Default, link });
    }
    let mut raw = Vec::new();
    encode_head(&mut raw, &[], TIMERS);
    for bucket in 0..table.visit_len() {
        pools.visit(&table, bucket, |slot| encode_slot(&mut raw, &pools, slot));
    }
    let mut writer = ObjectWriter::new(&DIRECTORY);
    writer.add(partition(0), TIMERS, &raw);
    let packed = writer.finish().bytes.len();
    let a_timer = |bytes: usize| bytes as f64 / TIMERS as f64;
    assert!(a_timer(raw.len()) < 26.1, "{} bytes a timer raw", a_timer(raw.len()));
    assert!(a_timer(packed) < 13.0, "{} bytes a timer compressed", a_timer(packed));
}
