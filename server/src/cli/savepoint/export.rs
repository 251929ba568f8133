//! The timers of a savepoint as rows: NDJSON or Parquet.

use super::{failed, unusable};
use crate::cli::Failure;
use crate::wire::key::format_key;
use arrow_array::builder::{BinaryBuilder, StringBuilder, TimestampMillisecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fs::{File, rename};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stormwheel::op::Payload;
use stormwheel::storage::{SavedTimer, SavepointFault, SavepointReader};
use stormwheel::time::Domain;

/// Rows that are written together.
const ROWS: usize = 64 << 10;

/// The form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A JSON object a line
    Ndjson,
    /// Apache Parquet
    Parquet,
}

/// Why an export ended.
enum Ended {
    Failed(Failure),
    /// Whoever read has gone.
    ReaderGone,
}

impl From<SavepointFault> for Ended {
    fn from(fault: SavepointFault) -> Self {
        Self::Failed(unusable(fault))
    }
}

/// Writes all timers; tells how many, unless they went to the terminal.
pub(super) fn export(
    reader: &SavepointReader,
    format: Format,
    output: Option<&Path>,
) -> Result<Option<String>, Failure> {
    let Some(path) = output else {
        if format == Format::Parquet {
            return Err(Failure::Usage("Parquet is no text: say -o FILE".to_owned()));
        }
        let out = BufWriter::new(io::stdout().lock());
        return match ndjson(reader, out) {
            Ok(_) | Err(Ended::ReaderGone) => Ok(None),
            Err(Ended::Failed(failure)) => Err(failure),
        };
    };
    // What was not written to its end must not look as if it were.
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let named = |error: io::Error| failed(format!("{}: {error}", part.display()));
    let file = File::create(&part).map_err(named)?;
    let synced = file.try_clone().map_err(named)?;
    let written = match format {
        Format::Ndjson => ndjson(reader, BufWriter::new(file)),
        Format::Parquet => parquet(reader, file),
    };
    let rows = match written {
        Ok(rows) => rows,
        Err(Ended::Failed(failure)) => return Err(failure),
        Err(Ended::ReaderGone) => return Err(failed(format!("{} was closed", part.display()))),
    };
    synced.sync_all().and_then(|()| rename(&part, path)).map_err(named)?;
    Ok(Some(format!("{rows} timers are in {}", path.display())))
}

fn ndjson(reader: &SavepointReader, mut out: impl Write) -> Result<u64, Ended> {
    let ended = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ended::ReaderGone,
        _ => Ended::Failed(failed(error)),
    };
    let mut rows = 0;
    reader.each_timer(&mut |timer| -> Result<(), Ended> {
        rows += 1;
        writeln!(out, "{}", line(timer)).map_err(ended)
    })?;
    out.flush().map_err(ended)?;
    Ok(rows)
}

const fn domain_word(domain: Domain) -> &'static str {
    match domain {
        Domain::Event => "event",
        Domain::Processing => "processing",
    }
}

fn line(timer: &SavedTimer<'_>) -> String {
    let mut row = Map::new();
    row.insert("namespace".to_owned(), Value::from(timer.namespace));
    row.insert("key".to_owned(), Value::from(format_key(timer.key)));
    if let Some(name) = timer.name {
        row.insert("name".to_owned(), Value::from(name));
    }
    row.insert("domain".to_owned(), Value::from(domain_word(timer.domain)));
    row.insert("fire_at".to_owned(), Value::from(timer.fire_at.as_millis()));
    let mut payload = None;
    match timer.payload {
        None => {}
        Some(Payload::Binary(bytes)) => {
            row.insert("payload_base64".to_owned(), Value::from(STANDARD.encode(bytes)));
        }
        // As it was sent, to the digit.
        Some(Payload::Json(text)) => {
            payload = std::str::from_utf8(text)
                .ok()
                .filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
        }
    }
    let mut text = Value::Object(row).to_string();
    if let Some(payload) = payload {
        text.pop();
        text.push_str(",\"payload\":");
        text.push_str(payload);
        text.push('}');
    }
    text
}

/// The columns of rows that are not written yet.
#[derive(Default)]
struct Columns {
    rows: usize,
    namespace: StringBuilder,
    key: BinaryBuilder,
    name: StringBuilder,
    domain: StringBuilder,
    fire_at: TimestampMillisecondBuilder,
    payload: StringBuilder,
    payload_binary: BinaryBuilder,
}

impl Columns {
    fn push(&mut self, timer: &SavedTimer<'_>) {
        self.rows += 1;
        self.namespace.append_value(timer.namespace);
        self.key.append_value(timer.key);
        self.name.append_option(timer.name);
        self.domain.append_value(domain_word(timer.domain));
        self.fire_at.append_value(timer.fire_at.as_millis());
        let (json, binary) = match timer.payload {
            None => (None, None),
            Some(Payload::Json(text)) => (std::str::from_utf8(text).ok(), None),
            Some(Payload::Binary(bytes)) => (None, Some(bytes)),
        };
        self.payload.append_option(json);
        self.payload_binary.append_option(binary);
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        vec![
            Arc::new(self.namespace.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.domain.finish()),
            Arc::new(self.fire_at.finish().with_timezone("UTC")),
            Arc::new(self.payload.finish()),
            Arc::new(self.payload_binary.finish()),
        ]
    }
}

fn schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new("namespace", DataType::Utf8, false),
        Field::new("key", DataType::Binary, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("domain", DataType::Utf8, false),
        Field::new("fire_at", time, false),
        Field::new("payload", DataType::Utf8, true),
        Field::new("payload_binary", DataType::Binary, true),
    ])
}

fn parquet(reader: &SavepointReader, file: File) -> Result<u64, Ended> {
    let schema = Arc::new(schema());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let broken = |error: &dyn std::fmt::Display| Ended::Failed(failed(error));
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
        .map_err(|error| broken(&error))?;
    let mut columns = Columns::default();
    let mut rows = 0;
    let mut write = |columns: &mut Columns| -> Result<(), Ended> {
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.take())
            .map_err(|error| broken(&error))?;
        writer.write(&batch).map_err(|error| broken(&error))
    };
    reader.each_timer(&mut |timer| -> Result<(), Ended> {
        rows += 1;
        columns.push(timer);
        if columns.rows >= ROWS { write(&mut columns) } else { Ok(()) }
    })?;
    write(&mut columns)?;
    writer.close().map_err(|error| broken(&error))?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormwheel::time::Timestamp;

    #[test]
    fn a_row_says_what_there_is_and_no_more() {
        let mut timer = SavedTimer {
            namespace: "n",
            key: b"\xff",
            name: None,
            domain: Domain::Event,
            fire_at: Timestamp::from_millis(-5),
            payload: None,
        };
        let bare = r#"{"namespace":"n","key":"~_w","domain":"event","fire_at":-5}"#;
        assert_eq!(line(&timer), bare);
        timer.name = Some("a");
        timer.payload = Some(Payload::Json(b"{\"x\": 1.0}"));
        let full = r#"{"namespace":"n","key":"~_w","name":"a","domain":"event","fire_at":-5,"payload":{"x": 1.0}}"#;
        assert_eq!(line(&timer), full);
        timer.payload = Some(Payload::Binary(b"\x00"));
        assert!(line(&timer).ends_with(r#""payload_base64":"AA=="}"#));
    }
}
