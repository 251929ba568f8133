//! `doctor`: looks at a data directory from all sides, and explains in sentences what it found and
//! what to do. It only reads.

use super::directory::{Looked, Place, outcome};
use super::{Failure, print};
use crate::bench::wall_ms;
use crate::serve::EXIT_DIRECTORY;
use clap::Args;
use rustix::fs::{Access, access};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use stormwheel::ports::Disk as _;
use stormwheel::runtime::{ENGINE_VERSION, SEGMENT_BYTES_DEFAULT};
use stormwheel::storage::{Inspection, Weight};

/// A checkpoint that is older is worth a word: they are made every minute unless told otherwise.
const CHECKPOINT_AGE_MS: i64 = 3_600_000;
/// What a mode lets others than the owner do.
const OTHERS: u32 = 0o077;
/// A clock that is behind by less is not.
const CLOCK_BEHIND_MS: i64 = 1_000;

/// `stormwheel doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
It only reads, and may be used while a service runs on the directory.
It looks at the identity, the journals, the checkpoints and what they are made of, the output log, the \
savepoints, the lock, the modes, the room on the disk and the clock.
Exit codes: 0 a start goes well, 3 the directory cannot be used (not one, newer, of another place), 4 damaged.")]
pub struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Print it as JSON, with all that was found
    #[arg(long)]
    json: bool,
}

/// Sentences, each with what it means: `ok`, `note`, `warn` or `fail`.
#[derive(Default)]
struct Report {
    lines: Vec<(&'static str, String)>,
}

impl Report {
    fn say(&mut self, mark: &'static str, sentence: impl Into<String>) {
        self.lines.push((mark, sentence.into()));
    }
}

impl Doctor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let folder = &self.place.data_dir;
        let looked = self.place.look().await?;
        let mut report = Report::default();
        let found = &looked.found;
        tell_access(&mut report, folder);
        tell_holder(&mut report, &looked);
        tell_contents(&mut report, found);
        tell_checkpoints(&mut report, found, wall_ms());
        tell_room(&mut report, &looked);
        tell_clock(&mut report, found.newest_ms, wall_ms());
        let is_followed = tell_version(&mut report, &found.engine_versions);
        tell_findings(&mut report, found);
        let verdict = looked.verdict(folder).and_then(|()| {
            let sentence = format!(
                "{}: a start would be refused, unless it is told --replay-with-this-version",
                folder.display()
            );
            let refused = Failure::Directory { code: EXIT_DIRECTORY, sentence };
            if is_followed { Ok(()) } else { Err(refused) }
        });
        if self.json {
            print::line(&self.as_json(&report, &looked, verdict.is_ok()));
            return verdict;
        }
        for (mark, sentence) in &report.lines {
            print::line(&format!("{mark:<5} {sentence}"));
        }
        if verdict.is_ok() {
            print::line("a start on this directory goes well");
        }
        verdict
    }

    fn as_json(&self, report: &Report, looked: &Looked, goes_well: bool) -> String {
        let says =
            report.lines.iter().map(|(mark, sentence)| json!({"mark": mark, "sentence": sentence}));
        let all = json!({
            "data_dir": self.place.data_dir.to_string_lossy(),
            "start": if goes_well { "goes well" } else { "refused" },
            "in_use_by": looked.holder.as_ref().ok().copied().flatten(),
            "says": says.collect::<Vec<Value>>(),
            "found": looked.found,
        });
        format!("{all:#}")
    }
}

fn tell_access(report: &mut Report, folder: &Path) {
    let place = folder.display();
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.permissions().mode() & OTHERS != 0 => {
            let (mode, open) = (metadata.permissions().mode() & 0o777, open_to_others(folder));
            let files = count(open, "file");
            report.say(
                "warn",
                format!(
                    "others on this machine may look into {place} (mode {mode:03o}), and {files} in it can \
                     be read by them: chmod -R go-rwx {place}"
                ),
            );
        }
        Ok(_) => report.say("ok", format!("{place} is for its owner alone")),
        Err(error) => report.say("warn", format!("{place}: {error}")),
    }
    if access(folder, Access::WRITE_OK).is_err() {
        report.say(
            "warn",
            format!(
                "this user cannot write to {place}; the one that runs the service must be able to"
            ),
        );
    }
}

/// Files below a folder that not only their owner may use.
fn open_to_others(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let open = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => open_to_others(&entry.path()),
        Ok(metadata) => usize::from(metadata.permissions().mode() & OTHERS != 0),
        // It went meanwhile.
        Err(_) => 0,
    });
    open.sum()
}

fn tell_holder(report: &mut Report, looked: &Looked) {
    match &looked.holder {
        Ok(Some(_)) => report.say("note", looked.in_use().unwrap_or_default()),
        Ok(None) => report.say("ok", "no process has the directory"),
        Err(error) => report.say("note", format!("who has the directory cannot be told: {error}")),
    }
}

fn tell_contents(report: &mut Report, found: &Inspection) {
    if let Some(it) = &found.identity {
        report.say(
            "ok",
            format!(
                "directory {}, {} key groups in {} lanes",
                it.directory, it.max_parallelism, it.lanes
            ),
        );
    }
    let runs = found.journals.iter().map(|it| it.epoch);
    if let (Some(first), Some(last)) = (runs.clone().min(), runs.max()) {
        let records: u64 = found.lanes.iter().map(|it| it.records).sum();
        let bytes: u64 = found.journals.iter().map(|it| it.bytes).sum();
        report.say(
            "ok",
            format!(
                "{} of {}: {records} records in {bytes} bytes",
                count(found.journals.len(), "journal"),
                if first == last {
                    format!("run {first}")
                } else {
                    format!("runs {first} to {last}")
                },
            ),
        );
    }
    if let (Some(first), Some(last)) = (found.outputs.first_cursor, found.outputs.last_cursor) {
        report.say("ok", format!("outputs with the cursors {first} to {last}"));
    }
    let copies = found.savepoints.iter().filter(|it| it.is_whole).count();
    if copies > 0 {
        report.say("ok", format!("{} that can be restored", count(copies, "savepoint")));
    }
}

/// "1 file", "2 files".
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn tell_checkpoints(report: &mut Report, found: &Inspection, now_ms: i64) {
    let Some(newest) = found.checkpoints.iter().find(|it| it.is_whole) else {
        if !found.journals.is_empty() {
            report.say(
                "note",
                "there is no checkpoint yet: a start follows the log from its beginning",
            );
        }
        return;
    };
    let age_ms = now_ms.saturating_sub(newest.created_ms);
    let behind = found.lanes.iter().filter_map(|lane| {
        let position = newest.positions.get(lane.lane as usize)?;
        Some(lane.last.saturating_sub((*position).max(lane.first.saturating_sub(1))))
    });
    let behind: u64 = behind.sum();
    let is_old = age_ms > CHECKPOINT_AGE_MS && behind > 0;
    report.say(
        if is_old { "warn" } else { "ok" },
        format!(
            "the newest checkpoint that is whole ({}) was made {} and holds {} keys in {} bytes; a start \
             loads it and follows {behind} records behind it{}",
            newest.manifest,
            print::relative(newest.created_ms, now_ms),
            newest.keys,
            newest.bytes,
            if is_old { ": a service that runs makes one every checkpoint.interval" } else { "" }
        ),
    );
}

fn tell_room(report: &mut Report, looked: &Looked) {
    let sizes = looked.found.journals.iter().filter_map(|it| {
        let count = it.segments.len() as u64;
        it.bytes.checked_div(count)
    });
    let segment_bytes = sizes.max().unwrap_or(SEGMENT_BYTES_DEFAULT).max(1);
    let runs = looked.found.journals.iter().map(|it| it.epoch);
    let newest = runs.max();
    let journals = looked.found.journals.iter().filter(|it| Some(it.epoch) == newest).count();
    // Each journal needs one to begin with, and a spare behind it; the outputs one.
    let needed = (journals as u64 * 2 + 1).saturating_sub(looked.found.spares as u64);
    match looked.disk.free_bytes() {
        Ok(free) if free / segment_bytes < needed => report.say(
            "warn",
            format!(
                "{free} bytes are free, and a start makes up to {needed} segments of {segment_bytes} \
                 bytes: make room, or changes are refused with 507"
            ),
        ),
        Ok(free) => report.say("ok", format!("{free} bytes are free")),
        Err(error) => report.say("warn", format!("how much is free cannot be told: {error}")),
    }
}

fn tell_clock(report: &mut Report, newest_ms: Option<i64>, now_ms: i64) {
    let Some(newest_ms) = newest_ms else { return };
    let behind_ms = newest_ms.saturating_sub(now_ms);
    if behind_ms > CLOCK_BEHIND_MS {
        report.say(
            "warn",
            format!(
                "the machine's clock reads {}, and the log has come to {}: set the clock; until it \
                 has caught up timers wait, and none fires early",
                print::time(now_ms),
                print::time(newest_ms)
            ),
        );
    } else {
        report.say("ok", format!("the log ends {}", print::relative(newest_ms, now_ms)));
    }
}

/// Whether this engine may follow the end of the log.
fn tell_version(report: &mut Report, versions: &[u16]) -> bool {
    let other = versions.iter().find(|version| **version != ENGINE_VERSION);
    if let Some(other) = other {
        report.say(
            "fail",
            format!(
                "the end of the log was written by engine version {other}, this is {ENGINE_VERSION}: \
                 start that version once and stop it, which ends with a checkpoint; or say \
                 --replay-with-this-version"
            ),
        );
    }
    other.is_none()
}

fn tell_findings(report: &mut Report, found: &Inspection) {
    for finding in &found.findings {
        let mark = match finding.weight {
            Weight::Note | Weight::Torn => "note",
            Weight::Healed | Weight::Copy => "warn",
            Weight::Refused | Weight::Stops => "fail",
        };
        report.say(mark, format!("{}: {}", finding.sentence, outcome(finding)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_behind_the_log_is_told() {
        let mut report = Report::default();
        tell_clock(&mut report, Some(10_000_000), 0);
        tell_clock(&mut report, Some(10_000_000), 10_000_000);
        tell_clock(&mut report, None, 0);
        let marks: Vec<&str> = report.lines.iter().map(|(mark, _)| *mark).collect();
        assert_eq!(marks, ["warn", "ok"]);
        assert!(report.lines[0].1.contains("none fires early"), "{}", report.lines[0].1);
    }

    #[test]
    fn a_log_of_another_engine_is_told() {
        let mut report = Report::default();
        assert!(tell_version(&mut report, &[ENGINE_VERSION]));
        assert!(!tell_version(&mut report, &[ENGINE_VERSION, 99]));
        assert!(report.lines[0].1.contains("--replay-with-this-version"));
    }
}
