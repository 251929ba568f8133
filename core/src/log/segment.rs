//! Segments: the files that blocks stand in, by their names and by the page that each begins with.
//!
//! ```text
//!  0  magic "SWSEGMT1"
//!  8  version u32
//! 12  kind u16 (1 journal, 2 outputs) | journal u16
//! 16  directory id, 16 bytes
//! 32  epoch u32 | journals u16 | zero u16
//! 40  number u64
//! 48  sequence of the first block u64, 0 as long as there is none
//! 56  size u64, of the whole file
//! 64  crc u32, over bytes 0..64
//! 68  zeroes up to 4096
//! ```
//!
//! All that ever changes lies in the first 512 bytes: a sector is written as a whole or not at all.

use super::block::{BlockSalt, part};
use thiserror::Error;

/// Bytes of a segment before its first block.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
/// The folder of the journals.
pub(crate) const JOURNAL_FOLDER: &str = "journal";
/// The folder of the output log.
pub(crate) const OUTPUT_FOLDER: &str = "outputs";
/// The folder of what is ready for use.
pub(crate) const SPARE_FOLDER: &str = "spare";
const UNMADE: &str = ".new";

const MAGIC: [u8; 8] = *b"SWSEGMT1";
const VERSION: u32 = 1;
const CRC_AT: usize = 64;

/// What a segment's blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    Journal = 1,
    Outputs = 2,
}

/// What the first page of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) kind: SegmentKind,
    pub(crate) directory_id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) journal: u16,
    /// How many journals its epoch has, if this is one of theirs: they are all made before anything
    /// is written to one of them.
    pub(crate) journals: u16,
    pub(crate) number: u64,
    /// The sequence of its first block; 0 as long as it has none.
    pub(crate) first_sequence: u64,
    /// Bytes of the whole file.
    pub(crate) size: u64,
}

/// Why a page is no header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum HeaderFlaw {
    #[error("no segment begins here")]
    Magic,
    #[error("the segment is of version {0}")]
    Version(u32),
    #[error("the segment's header does not match its checksum")]
    Crc,
    #[error("the segment's header makes no sense")]
    Fields,
}

impl SegmentHeader {
    /// What its blocks are salted with.
    pub(crate) fn salt(&self) -> BlockSalt {
        BlockSalt::of(&self.directory_id)
    }

    /// The page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; SEGMENT_HEADER_BYTES];
        page[0..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..14].copy_from_slice(&(self.kind as u16).to_le_bytes());
        page[14..16].copy_from_slice(&self.journal.to_le_bytes());
        page[16..32].copy_from_slice(&self.directory_id);
        page[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        page[36..38].copy_from_slice(&self.journals.to_le_bytes());
        page[40..48].copy_from_slice(&self.number.to_le_bytes());
        page[48..56].copy_from_slice(&self.first_sequence.to_le_bytes());
        page[56..64].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc32c::crc32c(&page[..CRC_AT]);
        page[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// What the page at the beginning of these bytes says.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFlaw> {
        let page = bytes.first_chunk::<SEGMENT_HEADER_BYTES>().ok_or(HeaderFlaw::Magic)?;
        if page[0..8] != MAGIC {
            return Err(HeaderFlaw::Magic);
        }
        if u32::from_le_bytes(part(page, CRC_AT)) != crc32c::crc32c(&page[..CRC_AT]) {
            return Err(HeaderFlaw::Crc);
        }
        // A later version may have drawn the rest in another way.
        let version = u32::from_le_bytes(part(page, 8));
        if version != VERSION {
            return Err(HeaderFlaw::Version(version));
        }
        let kind = match u16::from_le_bytes(part(page, 12)) {
            1 => SegmentKind::Journal,
            2 => SegmentKind::Outputs,
            _ => return Err(HeaderFlaw::Fields),
        };
        let size = u64::from_le_bytes(part(page, 56));
        let is_padded = page[38..40].iter().chain(&page[CRC_AT + 4..]).all(|byte| *byte == 0);
        if !is_padded || size < SEGMENT_HEADER_BYTES as u64 {
            return Err(HeaderFlaw::Fields);
        }
        Ok(Self {
            kind,
            directory_id: part(page, 16),
            epoch: u32::from_le_bytes(part(page, 32)),
            journal: u16::from_le_bytes(part(page, 14)),
            journals: u16::from_le_bytes(part(page, 36)),
            number: u64::from_le_bytes(part(page, 40)),
            first_sequence: u64::from_le_bytes(part(page, 48)),
            size,
        })
    }
}

/// A segment of a journal, by its name. Ordered as the records in them are, journal by journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JournalSegment {
    pub(crate) epoch: u32,
    pub(crate) journal: u16,
    pub(crate) number: u64,
}

impl JournalSegment {
    /// The name, with its folder.
    pub(crate) fn path(self) -> String {
        format!("{JOURNAL_FOLDER}/{}", self.file_name())
    }

    fn file_name(self) -> String {
        format!("{:08}-{:03}-{:010}.log", self.epoch, self.journal, self.number)
    }

    /// What the name of a file in the folder of the journals says; none if it is not one of ours.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".log")?.splitn(3, '-');
        let segment = Self {
            epoch: parts.next()?.parse().ok()?,
            journal: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        // There is one way to write each name: no two files are the same segment.
        (segment.file_name() == file_name).then_some(segment)
    }
}

/// The name of a segment of the output log, with its folder.
pub(crate) fn output_path(number: u64) -> String {
    format!("{OUTPUT_FOLDER}/{number:010}.out")
}

/// The number of a segment of the output log, from its name without the folder.
pub(crate) fn parse_output(file_name: &str) -> Option<u64> {
    let number = file_name.strip_suffix(".out")?.parse().ok()?;
    (output_path(number).ends_with(&format!("/{file_name}"))).then_some(number)
}

/// The name of a spare segment, with its folder.
pub(crate) fn spare_path(number: u64) -> String {
    format!("{SPARE_FOLDER}/{number:010}")
}

/// The name of a spare segment while it is being made, with its folder: nobody takes it under this.
pub(crate) fn unmade_path(number: u64) -> String {
    format!("{}{UNMADE}", spare_path(number))
}

/// The number of a spare segment, from its name without the folder, and whether it is made.
pub(crate) fn parse_spare(file_name: &str) -> Option<(u64, bool)> {
    let made = file_name.strip_suffix(UNMADE);
    let digits = made.unwrap_or(file_name);
    let number = digits.parse().ok()?;
    (spare_path(number).ends_with(&format!("/{digits}"))).then_some((number, made.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            kind: SegmentKind::Journal,
            directory_id: *b"0123456789abcdef",
            epoch: 12,
            journal: 3,
            journals: 4,
            number: 5,
            first_sequence: 99,
            size: 65_536,
        }
    }

    #[test]
    fn headers_come_back() {
        let page = header().encode();
        assert_eq!(page.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&page), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let page = header().encode();
        for bit in 0..page.len() * 8 {
            let mut broken = page.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&broken).is_err(), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&page[1..]), Err(HeaderFlaw::Magic));
    }

    #[test]
    fn a_newer_version_says_so() {
        let mut page = header().encode();
        page[8] = 2;
        let crc = crc32c::crc32c(&page[..CRC_AT]);
        page[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderFlaw::Version(2)));
    }

    #[test]
    fn names_come_back_and_others_do_not_pass() {
        let segment = JournalSegment { epoch: 12, journal: 3, number: 1 };
        assert_eq!(segment.path(), "journal/00000012-003-0000000001.log");
        assert_eq!(JournalSegment::parse("00000012-003-0000000001.log"), Some(segment));
        let wide = JournalSegment { epoch: u32::MAX, journal: u16::MAX, number: u64::MAX };
        assert_eq!(JournalSegment::parse(&wide.file_name()), Some(wide));
        for name in
            ["", "x", "12-3-1.log", "00000012-003-0000000001.log~", "00000012-003-+000000001.log"]
        {
            assert_eq!(JournalSegment::parse(name), None, "{name}");
        }
        assert_eq!(parse_output("0000000007.out"), Some(7));
        assert_eq!(parse_output("7.out"), None);
        assert_eq!(parse_spare("0000000007"), Some((7, true)));
        assert_eq!(unmade_path(7), "spare/0000000007.new");
        assert_eq!(parse_spare("0000000007.new"), Some((7, false)));
        assert_eq!(parse_spare("7.new"), None);
        assert_eq!(parse_spare("07"), None);
        // A part of the folder is no part of the name.
        assert_eq!(parse_spare("e/0000000007"), None);
    }
}
