//! The records in the journals, one by one.

use super::Inspection;
use crate::log::block::{BLOCK_HEADER_BYTES, BlockSalt, block_size, decode};
use crate::log::{KeyRecord, Record, split_record};
use crate::namespace::OverduePolicy;
use crate::op::{Action, Payload, Target, When};
use crate::ports::Disk;
use crate::storage::recovery::BlockRef;
use crate::storage::{DiskFault, read_full};
use crate::time::Domain;

/// A record and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordInfo {
    /// The lane.
    pub lane: u16,
    /// Its position in the lane.
    pub position: u64,
    /// The file that it is in.
    pub file: String,
    /// Where in the file its block begins.
    pub offset: u64,
    /// The intake clock under which it was applied.
    pub clock_ms: i64,
    /// `register`, `touch`, `delete`, `delete_all`, `tick`, `step`, `control`, `overdue`; `unreadable` if it
    /// is none of these.
    pub kind: &'static str,
    /// The ids of the namespaces that it is about.
    pub namespaces: Vec<u64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The name of the timer.
    pub name: Option<String>,
    /// `event` or `processing`.
    pub domain: Option<&'static str>,
    /// The time that it names.
    pub at_ms: Option<i64>,
    /// Of an overdue record: since when nothing could fire.
    pub since_ms: Option<i64>,
    /// Of an overdue record: what becomes of what was due.
    pub policy: Option<&'static str>,
    /// The milliseconds from now that it names.
    pub after_ms: Option<i64>,
    /// The bytes of the payload, and whether they are JSON.
    pub payload: Option<(Vec<u8>, bool)>,
    /// The producer, the sequence of its request, and which operation of it this is.
    pub producer: Option<(String, u64, u32)>,
    /// The number of a step.
    pub number: Option<u64>,
    /// The JSON of a step or a control record.
    pub body: Option<Vec<u8>>,
}

impl Inspection {
    /// Hands over the records of a lane, or of all, from a position on, in order; until `each` says
    /// false.
    pub fn records(
        &self,
        disk: &dyn Disk,
        lane: Option<u16>,
        from: u64,
        each: &mut dyn FnMut(&RecordInfo) -> bool,
    ) -> Result<(), DiskFault> {
        let Some(directory_id) = self.directory_id else {
            return Ok(());
        };
        let salt = BlockSalt::of(&directory_id);
        for block in &self.blocks {
            if lane.is_some_and(|lane| lane != block.lane) || block.last() < from {
                continue;
            }
            let name = &self.files[block.file as usize];
            let bytes = read(disk, name, block)?;
            let body = match decode(salt, &bytes) {
                Ok((header, body)) if header.crc == block.crc => body,
                // A service that runs has used the segment for something else.
                _ => continue,
            };
            let place = RecordInfo {
                lane: block.lane,
                file: name.clone(),
                offset: block.offset,
                clock_ms: block.now_ms,
                ..RecordInfo::default()
            };
            let mut rest = body;
            for position in block.first..=block.last() {
                let (record, behind) = split_record(rest)
                    .map_or((None, &[][..]), |(record, behind)| (Some(record), behind));
                rest = behind;
                let info = RecordInfo { position, ..place.clone() };
                let info = match &record {
                    Some(record) => describe(info, record),
                    None => RecordInfo { kind: "unreadable", ..info },
                };
                if position >= from && !each(&info) {
                    return Ok(());
                }
                if record.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn read(disk: &dyn Disk, name: &str, block: &BlockRef) -> Result<Vec<u8>, DiskFault> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskFault::new(name, "open", error)),
    };
    let mut bytes = vec![0; block_size(block.length as usize).max(BLOCK_HEADER_BYTES)];
    let count = read_full(&*file, block.offset, &mut bytes).map_err(DiskFault::at(name, "read"))?;
    bytes.truncate(count);
    Ok(bytes)
}

fn describe(info: RecordInfo, record: &Record<'_>) -> RecordInfo {
    match record {
        Record::Key(record) => describe_op(info, record),
        Record::Tick { now, namespaces } => RecordInfo {
            kind: "tick",
            at_ms: Some(now.as_millis()),
            namespaces: namespaces.iter().map(|namespace| namespace.0).collect(),
            ..info
        },
        Record::Step { namespace, number, change } => RecordInfo {
            kind: "step",
            namespaces: vec![namespace.0],
            number: Some(*number),
            body: Some(change.to_vec()),
            ..info
        },
        Record::Overdue(it) => RecordInfo {
            kind: "overdue",
            namespaces: vec![it.namespace.0],
            at_ms: Some(it.to.as_millis()),
            since_ms: Some(it.from.as_millis()),
            policy: Some(OverduePolicy::NAMES[it.policy.index()]),
            ..info
        },
        Record::Control(command) => {
            RecordInfo { kind: "control", body: Some(command.to_vec()), ..info }
        }
    }
}

fn describe_op(info: RecordInfo, record: &KeyRecord<'_>) -> RecordInfo {
    let info = RecordInfo {
        namespaces: vec![record.namespace.0],
        key: Some(record.op.key.to_vec()),
        producer: record.produced.map(|it| (it.producer.to_owned(), it.sequence, it.index)),
        ..info
    };
    let named = |domain: Domain| match domain {
        Domain::Event => "event",
        Domain::Processing => "processing",
    };
    match record.op.action {
        Action::Register(it) => {
            let (at_ms, after_ms) = match it.when {
                When::At(at) => (Some(at.as_millis()), None),
                When::After(after_ms) => (None, Some(after_ms)),
            };
            let payload = it
                .payload
                .map(|payload| (payload.bytes().to_vec(), matches!(payload, Payload::Json(_))));
            let (name, domain) = (it.name.map(str::to_owned), Some(named(it.domain)));
            RecordInfo { kind: "register", name, domain, at_ms, after_ms, payload, ..info }
        }
        Action::Touch { name, domain, after_ms } => RecordInfo {
            kind: "touch",
            name: Some(name.to_owned()),
            domain: Some(named(domain)),
            after_ms: Some(after_ms),
            ..info
        },
        Action::Delete { domain, target } => {
            let (name, at_ms) = match target {
                Target::Name(name) => (Some(name.to_owned()), None),
                Target::At { at, .. } | Target::FireAt(at) => (None, Some(at.as_millis())),
            };
            RecordInfo { kind: "delete", name, domain: Some(named(domain)), at_ms, ..info }
        }
        Action::DeleteAll => RecordInfo { kind: "delete_all", ..info },
        Action::Element(it) => RecordInfo {
            kind: "element",
            at_ms: Some(it.timestamp.as_millis()),
            payload: Some((it.value.bytes().to_vec(), matches!(it.value, Payload::Json(_)))),
            ..info
        },
    }
}
