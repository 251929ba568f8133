//! `log inspect`, `log verify` and `log dump`: what a data directory holds, read without touching it.

use super::directory::{Looked, Place, outcome};
use super::{Failure, print};
use crate::wire::key::format_key;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use stormwheel::storage::{RecordInfo, Weight};

/// Lines are printed in pieces of this.
const PIECE_BYTES: usize = 64 << 10;

/// `stormwheel log`.
#[derive(Debug, Args)]
#[command(after_help = "\
These commands only read, and may be used while a service runs on the directory.
Exit codes: 0 fine, 3 the directory cannot be used (not one, newer, of another place), 4 damaged. \
`verify` ends with 4 for any damage, also where a start gets along without what is damaged; `dump` if \
a start would be refused; `inspect` shows what there is.

Examples:
  stormwheel log inspect --data-dir stormwheel-data
  stormwheel log verify --data-dir stormwheel-data
  stormwheel log dump --data-dir stormwheel-data --lane 3 --from 17 --limit 100")]
pub struct Log {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show journals, lanes, checkpoints and the output log
    Inspect {
        #[command(flatten)]
        place: Place,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything, name what is damaged with file and offset, and say what a start would do
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Print records as lines of JSON
    Dump(Dump),
}

#[derive(Debug, Args)]
struct Dump {
    #[command(flatten)]
    place: Place,
    /// Only this lane
    #[arg(long, value_name = "N")]
    lane: Option<u16>,
    /// From this position on, in each lane
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print payloads too, not only how long they are
    #[arg(long)]
    payloads: bool,
}

impl Log {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.command {
            LogCommand::Inspect { place, json } => {
                let looked = place.look().await?;
                if json {
                    if let Some(sentence) = looked.in_use() {
                        print::note(&sentence);
                    }
                    let text = serde_json::to_string_pretty(&looked.found)
                        .map_err(|error| Failure::Failed(error.to_string()))?;
                    print::line(&text);
                } else {
                    show(&looked);
                }
                Ok(())
            }
            LogCommand::Verify { place } => {
                let looked = place.look().await?;
                looked.tell_holder();
                verify(&looked);
                looked.wholeness(&place.data_dir)
            }
            LogCommand::Dump(dump) => dump.run().await,
        }
    }
}

fn show(looked: &Looked) {
    let found = &looked.found;
    looked.tell_holder();
    if let Some(it) = &found.identity {
        print::line(&format!(
            "directory {}, {} key groups in {} lanes",
            it.directory, it.max_parallelism, it.lanes
        ));
    }
    let text = |number: &dyn ToString| number.to_string();
    let rows = found.journals.iter().map(|it| {
        let last = text(&it.last_sequence);
        let (segments, blocks) = (text(&it.segments.len()), text(&it.blocks));
        vec![
            text(&it.epoch),
            text(&it.journal),
            segments,
            text(&it.bytes),
            blocks,
            last,
            it.end.into(),
        ]
    });
    show_table("journals", &["RUN", "JOURNAL", "SEGMENTS", "BYTES", "BLOCKS", "LAST", "END"], rows);
    let rows = found.lanes.iter().map(|it| {
        let missing: Vec<String> =
            it.missing.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let missing = missing.join(", ");
        vec![
            text(&it.lane),
            text(&it.first),
            text(&it.last),
            text(&it.records),
            text(&it.blocks),
            missing,
        ]
    });
    show_table("lanes", &["LANE", "FIRST", "LAST", "RECORDS", "BLOCKS", "MISSING"], rows);
    let rows = found.checkpoints.iter().map(|it| {
        let state = if it.is_whole { "whole" } else { "damaged" };
        let created = if it.is_whole { print::time(it.created_ms) } else { "-".to_owned() };
        let (objects, bytes) = (text(&it.objects), text(&it.bytes));
        vec![it.manifest.clone(), created, objects, bytes, text(&it.keys), state.to_owned()]
    });
    show_table("checkpoints", &["MANIFEST", "MADE", "OBJECTS", "BYTES", "KEYS", "STATE"], rows);
    let rows = found.savepoints.iter().map(|it| {
        let state = if it.is_whole { "whole" } else { "damaged" };
        let created = if it.is_whole { print::time(it.created_ms) } else { "-".to_owned() };
        vec![it.savepoint.clone(), created, text(&it.bytes), text(&it.timers), state.to_owned()]
    });
    show_table("savepoints", &["SAVEPOINT", "MADE", "BYTES", "TIMERS", "STATE"], rows);
    let outputs = &found.outputs;
    let cursor = |cursor: Option<u64>| cursor.map_or_else(|| "-".to_owned(), |it| it.to_string());
    print::line(&format!(
        "\noutputs: {} segments, {} bytes, cursors {} to {}",
        outputs.segments.len(),
        outputs.bytes,
        cursor(outputs.first_cursor),
        cursor(outputs.last_cursor)
    ));
    let rows = outputs.namespaces.iter().map(|(id, count)| vec![id.clone(), count.to_string()]);
    show_table("outputs by namespace", &["ID", "RECORDS"], rows);
    for finding in &found.findings {
        print::line(&format!("\n{}", finding.sentence));
    }
}

fn show_table(name: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        print::line(&format!("\n{name}\n{}", print::table(head, &rows)));
    }
}

fn verify(looked: &Looked) {
    let found = &looked.found;
    for finding in &found.findings {
        print::line(&format!("{}: {}", finding.sentence, outcome(finding)));
    }
    let blocks: usize = found.journals.iter().map(|it| it.blocks).sum();
    let records: u64 = found.lanes.iter().map(|it| it.records).sum();
    let outputs: u64 = found.outputs.namespaces.values().sum();
    let whole = found.checkpoints.iter().filter(|it| it.is_whole).count();
    let copies = found.savepoints.iter().filter(|it| it.is_whole).count();
    print::line(&format!(
        "{blocks} blocks with {records} records in {} journals, {outputs} outputs, {whole} of {} \
         checkpoints and {copies} of {} savepoints whole",
        found.journals.len(),
        found.checkpoints.len(),
        found.savepoints.len()
    ));
    let worst = found.findings.iter().map(|it| it.weight).filter(|weight| *weight != Weight::Copy);
    let verdict = match worst.max() {
        Some(Weight::Stops | Weight::Refused) => return,
        Some(Weight::Healed) => "a start goes well, from an older checkpoint",
        Some(Weight::Torn) => "a start goes well, and cuts the unfinished end off",
        _ => "a start goes well: the log ends cleanly",
    };
    print::line(verdict);
}

impl Dump {
    async fn run(self) -> Result<(), Failure> {
        let looked = self.place.look().await?;
        if let Some(sentence) = looked.in_use() {
            print::note(&sentence);
        }
        let Looked { disk, found, .. } = &looked;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut text = String::new();
        let mut is_heard = true;
        let outcome = found.records(disk, self.lane, self.from, &mut |record| {
            if left == 0 {
                return false;
            }
            left -= 1;
            text.push_str(&line(record, self.payloads));
            text.push('\n');
            if text.len() >= PIECE_BYTES {
                is_heard = print::raw(text.as_bytes());
                text.clear();
            }
            is_heard
        });
        if is_heard && !text.is_empty() {
            print::raw(text.as_bytes());
        }
        outcome.map_err(|fault| Failure::Failed(fault.to_string()))?;
        looked.verdict(&self.place.data_dir)
    }
}

/// A record as JSON.
fn line(record: &RecordInfo, has_payloads: bool) -> String {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            map.insert(name.to_owned(), value);
        }
    };
    put("lane", record.lane.into());
    put("position", record.position.into());
    put("kind", record.kind.into());
    let mut ids = record.namespaces.iter().map(|id| Value::from(format!("{id:x}")));
    match record.kind {
        "tick" => put("namespaces", ids.collect()),
        _ => put("namespace", ids.next().unwrap_or_default()),
    }
    put("key", record.key.as_deref().map(format_key).into());
    put("name", record.name.as_deref().into());
    put("domain", record.domain.into());
    put("at", record.at_ms.into());
    put("since", record.since_ms.into());
    put("policy", record.policy.into());
    put("after_ms", record.after_ms.into());
    put("number", record.number.into());
    if let Some((producer, sequence, index)) = &record.producer {
        put("producer", json!({"name": producer, "sequence": sequence, "index": index}));
    }
    put("body", record.body.as_deref().map_or(Value::Null, as_json));
    if let Some((payload, is_json)) = &record.payload {
        put("payload_bytes", payload.len().into());
        if has_payloads && *is_json {
            put("payload", as_json(payload));
        } else if has_payloads {
            put("payload_base64", URL_SAFE_NO_PAD.encode(payload).into());
        }
    }
    put("clock", record.clock_ms.into());
    put("file", record.file.as_str().into());
    put("offset", record.offset.into());
    Value::Object(map).to_string()
}

/// JSON as JSON; what is none as text.
fn as_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RecordInfo {
        RecordInfo {
            lane: 3,
            position: 17,
            file: "journal/x.log".to_owned(),
            offset: 4_096,
            clock_ms: 5,
            kind: "register",
            namespaces: vec![255],
            key: Some(vec![0xff]),
            name: None,
            domain: Some("event"),
            at_ms: Some(9),
            payload: Some((b"{\"a\":1}".to_vec(), true)),
            producer: Some(("p".to_owned(), 4, 0)),
            ..RecordInfo::default()
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let expected = r#"{"lane":3,"position":17,"kind":"register","namespace":"ff","key":"~_w","domain":"event","at":9,"producer":{"name":"p","sequence":4,"index":0},"payload_bytes":7,"clock":5,"file":"journal/x.log","offset":4096}"#;
        assert_eq!(line(&record(), false), expected);
        assert!(line(&record(), true).contains(r#""payload":{"a":1}"#));
        let binary = RecordInfo { payload: Some((vec![0xff], false)), ..record() };
        assert!(line(&binary, true).contains(r#""payload_base64":"_w""#));
        let tick = RecordInfo { kind: "tick", namespaces: vec![1, 2], ..RecordInfo::default() };
        assert!(line(&tick, false).contains(r#""namespaces":["1","2"]"#));
    }
}
