//! The output log.

use super::{CheckpointFiles, Inspection, Weight};
use crate::log::segment::{OUTPUT_FOLDER, output_path, parse_output};
use crate::output::{Cursor, OutputBlock};
use crate::ports::Disk;
use crate::storage::output_files::OutputOptions;
use crate::storage::output_ids::Causes;
use crate::storage::output_recovery::{check, corrupt_at, open, torn};
use crate::storage::output_scan::{Ending, FoundSegment, Said, scan};
use crate::storage::recovery_fault::RecoveryFault;
use std::collections::BTreeMap;
use std::io::ErrorKind;

impl Inspection {
    pub(super) fn look_at_outputs(&mut self, disk: &dyn Disk, directory_id: &[u8; 16]) {
        let names = match disk.list(OUTPUT_FOLDER) {
            Ok(names) => names,
            Err(error) => {
                let sentence = format!("cannot list {OUTPUT_FOLDER}/: {error}");
                self.find(Weight::Stops, OUTPUT_FOLDER, None, sentence);
                return;
            }
        };
        let mut numbers: Vec<u64> = Vec::new();
        for name in names {
            let Some(number) = parse_output(&name) else {
                let file = format!("{OUTPUT_FOLDER}/{name}");
                let sentence = format!("{file} is not one of ours; it is left alone");
                self.find(Weight::Note, &file, None, sentence);
                continue;
            };
            numbers.push(number);
        }
        numbers.sort_unstable();
        self.outputs.segments = numbers.iter().map(|number| output_path(*number)).collect();
        let found = self.open_outputs(disk, directory_id, &numbers);
        self.outputs.bytes = found.iter().map(|found| found.len).sum();
        let options = self.output_options();
        let (mut records, mut causes) = (BTreeMap::<String, u64>::new(), Causes::default());
        let scanned = scan(&found, |said| {
            let Said::Records(placed, block) = said else { return };
            *records.entry(format!("{:x}", placed.namespace.0)).or_default() +=
                u64::from(placed.count);
            let (first, appended_ms) = (placed.first, placed.appended_ms);
            let block = OutputBlock { first, appended_ms, records: block };
            causes.insert_after(&block, options.scan_from.unwrap_or(Cursor(0)));
        });
        (self.outputs.namespaces, self.causes) = (records, causes);
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                let name = found[error.segment].segment.name.to_string();
                let sentence = format!("cannot read {name}: {}", error.source);
                self.find(Weight::Stops, &name, None, sentence);
                return;
            }
        };
        self.outputs.first_cursor = scan.first.map(|cursor| cursor.0);
        self.outputs.last_cursor = scan.head.latest.map(|cursor| cursor.0);
        if let Ending::Corrupt(detail) = scan.ending {
            let fault = corrupt_at(&found, &scan, detail.to_owned());
            self.take_output_fault(OUTPUT_FOLDER, &fault);
            return;
        }
        if let Some(torn) = torn(&found, &scan) {
            self.find(Weight::Torn, &torn.file, Some(torn.offset), torn.to_string());
        }
        if found.len() == numbers.len()
            && let Err(fault) = check(&found, &scan, &options)
        {
            self.take_output_fault(OUTPUT_FOLDER, &fault);
        }
        if scan.head.latest.is_some() && self.journals.is_empty() && self.checkpoints.is_empty() {
            let sentence = "the journals (journal/) and the snapshots are missing: outputs/ holds \
                            what was made of them";
            self.find(Weight::Stops, "journal", None, sentence.to_owned());
        }
    }

    /// What a start would ask of the log.
    fn output_options(&self) -> OutputOptions {
        let mut candidates = self.candidates();
        let newest = candidates.next();
        let oldest = candidates.next().or(newest);
        let cursor = |it: &CheckpointFiles| Cursor(it.output_cursor);
        OutputOptions {
            epoch: 0,
            engine_version: 0,
            now_ms: 0,
            scan_from: oldest.map(cursor),
            reached: newest.map(cursor),
            bytes_max: u64::MAX,
        }
    }

    /// The segments that can be read, up to the first one that cannot.
    fn open_outputs(
        &mut self,
        disk: &dyn Disk,
        directory_id: &[u8; 16],
        numbers: &[u64],
    ) -> Vec<FoundSegment> {
        let mut found: Vec<FoundSegment> = Vec::new();
        let mut is_whole = true;
        for number in numbers {
            let name = output_path(*number);
            if let Some(before) = found.last()
                && before.header.number + 1 != *number
                && is_whole
            {
                is_whole = false;
                let missing = output_path(before.header.number + 1);
                let sentence = format!("{missing} is missing, and {name} is there");
                self.find(Weight::Stops, &missing, None, sentence);
            }
            match open(disk, *number, *directory_id) {
                Ok(segment) if is_whole => found.push(segment),
                Ok(_) => {}
                Err(fault) => {
                    let is_gone = matches!(&fault, RecoveryFault::Disk(disk)
                        if disk.source.kind() == ErrorKind::NotFound);
                    // The oldest ones leave while a service is at work.
                    is_whole &= is_gone && found.is_empty();
                    if !is_gone {
                        self.take_output_fault(&name, &fault);
                    }
                }
            }
        }
        found
    }

    fn take_output_fault(&mut self, file: &str, fault: &RecoveryFault) {
        let (weight, file, offset) = match fault {
            RecoveryFault::Corrupt(found) => (Weight::Stops, &found.file[..], Some(found.offset)),
            RecoveryFault::Newer { file, .. } | RecoveryFault::Foreign { file } => {
                (Weight::Refused, &file[..], None)
            }
            _ => (Weight::Stops, file, None),
        };
        let file = file.to_owned();
        self.find(weight, &file, offset, fault.to_string());
    }
}
