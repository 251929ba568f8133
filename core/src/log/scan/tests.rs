//! What a scan says, by segments written by hand.

use super::super::block::{BlockSalt, encode};
use super::super::segment::SegmentKind;
use super::*;
use proptest::prelude::*;

const EPOCH: u32 = 5;
const JOURNAL: u16 = 2;
const SEGMENT_BYTES: usize = SEGMENT_HEADER_BYTES + 2_048;
const ID: [u8; 16] = [0; 16];

/// A journal that is written block by block.
#[derive(Clone)]
struct Writer {
    segments: Vec<(SegmentHeader, Vec<u8>)>,
    end: usize,
    sequence: u64,
    chains: BTreeMap<u16, u32>,
    places: Vec<Place>,
}

fn header(number: u64, first_sequence: u64) -> SegmentHeader {
    SegmentHeader {
        kind: SegmentKind::Journal,
        directory_id: ID,
        epoch: EPOCH,
        journal: JOURNAL,
        journals: JOURNAL + 1,
        number,
        first_sequence,
        size: SEGMENT_BYTES as u64,
    }
}

impl Writer {
    fn new() -> Self {
        let mut writer = Self {
            segments: Vec::new(),
            end: 0,
            sequence: 0,
            chains: BTreeMap::new(),
            places: Vec::new(),
        };
        writer.roll();
        writer
    }

    fn roll(&mut self) {
        let header = header(self.segments.len() as u64 + 1, self.sequence + 1);
        self.segments.push((header, vec![0; SEGMENT_BYTES]));
        self.end = SEGMENT_HEADER_BYTES;
    }

    fn put(&mut self, kind: BlockKind, lane: u16, durable_to: u64, body: &[u8]) {
        self.sequence += 1;
        let chain = self.chains.entry(lane).or_insert(0);
        let header = BlockHeader {
            kind,
            lane,
            length: 0,
            count: u32::from(lane != NO_LANE),
            epoch: EPOCH,
            journal: JOURNAL,
            engine_version: 1,
            sequence: self.sequence,
            durable_to,
            first: self.sequence * 10,
            now_ms: 0,
            chain: *chain,
            crc: 0,
        };
        let mut bytes = Vec::new();
        *chain = encode(&mut bytes, BlockSalt::of(&ID), &header, body);
        let segment = self.segments.len() - 1;
        self.places.push(Place { segment, offset: self.end as u64 });
        self.segments[segment].1[self.end..self.end + bytes.len()].copy_from_slice(&bytes);
        self.end += bytes.len();
    }

    fn records(&mut self, lane: u16, durable_to: u64) {
        self.put(BlockKind::Records, lane, durable_to, b"what a lane did");
    }

    /// The bytes of a block, by its sequence.
    fn bytes(&mut self, sequence: u64) -> &mut [u8] {
        let place = self.places[sequence as usize - 1];
        &mut self.segments[place.segment].1[place.offset as usize..][..80]
    }

    fn scan(&self) -> Scan {
        let mut scanner = Scanner::new();
        for (header, bytes) in &self.segments {
            scanner.feed(header, bytes);
        }
        scanner.finish()
    }
}

/// Five blocks of two lanes; the last says that three are durable.
fn five() -> Writer {
    let mut writer = Writer::new();
    for (lane, durable_to) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 3)] {
        writer.records(lane, durable_to);
    }
    writer
}

fn torn_at(scan: &Scan) -> Option<u64> {
    if let Ending::Torn(torn) = &scan.ending { Some(torn.sequence) } else { None }
}

fn corrupt_at(scan: &Scan) -> Option<u64> {
    if let Ending::Corrupt(corrupt) = &scan.ending { Some(corrupt.sequence) } else { None }
}

#[test]
fn a_clean_end_has_zeroes_or_stale_blocks_behind_it() {
    let mut writer = five();
    let scan = writer.scan();
    assert_eq!(scan.ending, Ending::Clean);
    assert_eq!((scan.blocks.len(), scan.next_sequence, scan.durable_to), (5, 6, 3));
    assert_eq!(scan.end, Place { segment: 0, offset: (SEGMENT_HEADER_BYTES + 400) as u64 });
    let places: Vec<Place> = scan.blocks.iter().map(|block| block.place).collect();
    assert_eq!(places, writer.places);

    // An older block of the same journal, and newer ones of another epoch or journal.
    let end = writer.end;
    let older = writer.bytes(2).to_vec();
    writer.segments[0].1[end..end + 80].copy_from_slice(&older);
    for (field, value, at) in [(16, EPOCH as u8 - 1, end + 80), (20, JOURNAL as u8 + 1, end + 160)]
    {
        let mut other = writer.bytes(5).to_vec();
        other[field] = value;
        other[24] = 99;
        other[32] = 98;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&ID), &other[4..60]);
        let crc = crc32c::crc32c_append(crc, &other[64..79]);
        other[60..64].copy_from_slice(&crc.to_le_bytes());
        assert!(decode(BlockSalt::of(&ID), &other).is_ok());
        writer.segments[0].1[at..at + 80].copy_from_slice(&other);
    }
    // Half a block of long ago, not even at its beginning.
    writer.segments[0].1[end + 240..end + 280].copy_from_slice(&older[20..60]);
    assert_eq!(writer.scan(), scan);
}

#[test]
fn nothing_says_nothing() {
    let scan = Scanner::new().finish();
    assert_eq!((scan.ending, scan.next_sequence), (Ending::Clean, 0));
    let scan = Writer::new().scan();
    assert_eq!((scan.ending, scan.next_sequence), (Ending::Clean, 1));
}

#[test]
fn a_hole_is_torn_above_every_mark_and_corrupt_below_one() {
    for sequence in 1..=5 {
        let mut writer = five();
        writer.bytes(sequence).fill(0);
        let scan = writer.scan();
        if sequence <= 3 {
            assert_eq!(corrupt_at(&scan), Some(sequence));
        } else if sequence == 4 {
            assert_eq!(torn_at(&scan), Some(4));
        } else {
            // Zeroes where the last one was: nobody can know that there was one.
            assert_eq!(scan.ending, Ending::Clean);
        }
    }
    // Without the last block nothing says that the second and third were durable.
    for sequence in [2, 3] {
        let mut writer = five();
        writer.bytes(5).fill(0);
        writer.bytes(sequence).fill(0);
        assert_eq!(torn_at(&writer.scan()), Some(sequence));
    }
}

#[test]
fn damage_names_the_lane_and_the_position_if_they_can_be_read() {
    let mut writer = five();
    writer.bytes(2)[70] ^= 1;
    let Ending::Corrupt(corrupt) = writer.scan().ending else { unreachable!() };
    assert_eq!((corrupt.lane, corrupt.position), (Some(1), Some(20)));
    assert_eq!(corrupt.place, writer.places[1]);
    assert!(corrupt.detail.contains("checksum"));
}

#[test]
fn swapped_doubled_and_older_blocks_do_not_stand() {
    for (from, to) in [(1, 2), (2, 1), (3, 2), (4, 2), (1, 3), (5, 3), (5, 1)] {
        let mut writer = five();
        let bytes = writer.bytes(from).to_vec();
        let replaced = writer.bytes(to).to_vec();
        writer.bytes(to).copy_from_slice(&bytes);
        assert_eq!(corrupt_at(&writer.scan()), Some(to), "{from} in place of {to}");
        writer.bytes(from).copy_from_slice(&replaced);
        let first = from.min(to);
        // The last one gone, what it said is still said by the one that stands elsewhere.
        let scan = writer.scan();
        assert_eq!(corrupt_at(&scan).or(torn_at(&scan)), Some(first), "{from} and {to} swapped");
    }
}

#[test]
fn only_the_chain_tells_a_block_of_another_run() {
    let mut writer = five();
    let mut other = Writer::new();
    other.put(BlockKind::Records, 0, 0, b"what another did");
    for (lane, durable_to) in [(1, 0), (0, 1), (1, 1), (0, 3)] {
        other.records(lane, durable_to);
    }
    let third = other.bytes(3).to_vec();
    assert_ne!(writer.bytes(3), third);
    writer.bytes(3).copy_from_slice(&third);
    let scan = writer.scan();
    assert_eq!(corrupt_at(&scan), Some(3));
    let Ending::Corrupt(corrupt) = scan.ending else { unreachable!() };
    assert!(corrupt.detail.contains("does not follow"), "{}", corrupt.detail);
}

#[test]
fn a_journal_goes_on_in_the_next_segment() {
    let mut writer = five();
    writer.roll();
    writer.records(1, 5);
    writer.roll();
    writer.segments[2].0.first_sequence = 0;
    assert_eq!(writer.scan().ending, Ending::Clean);
    assert_eq!(writer.scan().blocks.len(), 6);
    assert_eq!(writer.scan().end.segment, 1, "the last one is in hand only");

    // The header need not have reached the disk with the block.
    writer.segments[1].0.first_sequence = 0;
    assert_eq!(writer.scan().blocks.len(), 6);

    // A block that is lost at the end of a segment is a hole all the same.
    writer.bytes(5).fill(0);
    assert_eq!(corrupt_at(&writer.scan()), Some(5));

    // One that is lost at the beginning of a segment is said to be there.
    let mut writer = five();
    writer.roll();
    writer.records(1, 5);
    writer.records(1, 5);
    writer.bytes(6).fill(0);
    let scan = writer.scan();
    assert_eq!((torn_at(&scan), scan.end), (Some(6), writer.places[5]));
}

#[test]
fn a_missing_segment_is_told_whatever_stands_behind_it() {
    let mut writer = five();
    writer.roll();
    writer.records(1, 5);
    writer.roll();
    // The last one may be empty: it was made in advance, behind the one that is missing.
    for more in 0..2 {
        let mut writer = writer.clone();
        for _ in 0..more {
            writer.records(1, 5);
        }
        writer.segments.remove(1);
        let Ending::Corrupt(corrupt) = writer.scan().ending else { unreachable!() };
        assert_eq!((corrupt.sequence, corrupt.missing_number), (6, Some(2)));
    }
}

#[test]
fn a_journal_may_begin_later() {
    let mut writer = five();
    writer.roll();
    writer.records(1, 5);
    writer.records(0, 5);
    writer.segments.remove(0);
    let scan = writer.scan();
    assert_eq!((scan.blocks.len(), scan.next_sequence, &scan.ending), (2, 8, &Ending::Clean));
    // It must be known with what.
    writer.segments[0].0.first_sequence = 0;
    assert_eq!(corrupt_at(&writer.scan()), Some(0));
}

#[test]
fn nothing_counts_behind_the_end() {
    let mut writer = five();
    writer.put(BlockKind::End, NO_LANE, 5, &[]);
    assert_eq!(writer.scan().ending, Ending::Sealed);
    // What was void when it was sealed stays void.
    writer.records(0, 4);
    writer.roll();
    writer.records(0, 5);
    let scan = writer.scan();
    assert_eq!((scan.ending, scan.blocks.len()), (Ending::Sealed, 6));
    // A journal that went on behind its end was not ended there.
    writer.records(0, 6);
    assert!(corrupt_at(&writer.scan()).is_some());
}

/// A payload that is a whole block, and headers without bodies that claim all that follows, as
/// somebody would draw them who knows everything but the directory's id.
#[test]
fn what_a_payload_pretends_to_be_is_no_block() {
    let mut writer = five();
    let guess = BlockSalt::of(&[1; 16]);
    let mut fake = five();
    fake.records(1, 5);
    let (found, body) = decode(BlockSalt::of(&ID), fake.bytes(6)).unwrap();
    let (found, body) = (BlockHeader { sequence: 900, durable_to: 899, ..found }, body.to_vec());
    let mut payload = Vec::new();
    encode(&mut payload, guess, &found, &body);
    let mut claims = Vec::new();
    encode(&mut claims, guess, &found, &[0; 1_000]);
    for _ in 0..4 {
        payload.extend_from_slice(&claims[..BLOCK_HEADER_BYTES]);
    }
    writer.put(BlockKind::Records, 1, 5, &payload);
    let place = writer.places[5].offset as usize;
    // Torn: what the header says reached the disk, the last bytes of the body did not.
    let end = place + BLOCK_HEADER_BYTES + payload.len();
    writer.segments[0].1[end - 8..end].fill(0xff);
    assert_eq!(torn_at(&writer.scan()), Some(6));
    // Under the right salt the same payload is taken for what it is not.
    let mut payload = Vec::new();
    encode(&mut payload, BlockSalt::of(&ID), &found, &body);
    writer.segments[0].1[place + 64..place + 64 + payload.len()].copy_from_slice(&payload);
    assert_eq!(corrupt_at(&writer.scan()), Some(6));
}

#[test]
fn blocks_drawn_into_blocks_do_not_cost_more_than_their_bytes() {
    let bytes_max = 1 << 20;
    let mut bytes = vec![0; bytes_max];
    let mut at = SEGMENT_HEADER_BYTES;
    while at + 64 <= bytes_max {
        let mut fake = five().bytes(5).to_vec();
        fake[8..12].copy_from_slice(&((bytes_max - at - 64) as u32).to_le_bytes());
        bytes[at..at + 64].copy_from_slice(&fake[..64]);
        at += 64;
    }
    let mut scanner = Scanner::new();
    scanner.feed(&header(1, 1), &bytes);
    let Ending::Corrupt(corrupt) = scanner.finish().ending else { unreachable!() };
    assert!(corrupt.detail.contains("too many"), "{}", corrupt.detail);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        pieces in prop::collection::vec((0..SEGMENT_BYTES * 2, any::<u64>()), 0..40),
        number in any::<u64>(),
        first_sequence in any::<u64>(),
    ) {
        let mut writer = five();
        writer.roll();
        writer.records(0, 4);
        for (at, value) in pieces {
            let bytes = &mut writer.segments[at / SEGMENT_BYTES].1;
            let at = at % SEGMENT_BYTES;
            let end = (at + 8).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        let scan = writer.scan();
        prop_assert!(scan.blocks.len() <= 6);
        writer.segments.remove(1);
        writer.segments[0].0 = header(number, first_sequence);
        writer.scan();
    }
}
