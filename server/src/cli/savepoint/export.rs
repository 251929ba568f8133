//! What stands in a savepoint as rows, NDJSON or Parquet: its timers, or what its functions keep.

mod states;
mod timers;

pub(super) use states::States;
pub(super) use timers::Timers;

use super::{failed, unusable};
use crate::cli::Failure;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Schema;
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::value::RawValue;
use std::fs::{File, rename};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stormwheel::storage::{SavepointFault, SavepointReader};

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
pub(super) enum Ended {
    Failed(Failure),
    /// Whoever read has gone.
    ReaderGone,
}

impl From<SavepointFault> for Ended {
    fn from(fault: SavepointFault) -> Self {
        Self::Failed(unusable(fault))
    }
}

/// What is exported; a value of it are the columns of rows that are not written yet.
pub(super) trait Table: Default + 'static {
    /// What its rows are called.
    const ROWS: &'static str;
    type Row<'a>;

    /// Calls `each` with every row.
    fn each(
        reader: &SavepointReader,
        each: &mut dyn FnMut(&Self::Row<'_>) -> Result<(), Ended>,
    ) -> Result<(), Ended>;

    /// A row as a line of JSON.
    fn line(row: &Self::Row<'_>) -> String;

    /// The columns of Parquet.
    fn schema() -> Schema;

    /// Adds a row. Returns how many there are now.
    fn push(&mut self, row: &Self::Row<'_>) -> usize;

    /// The columns of all rows that were added.
    fn take(&mut self) -> Vec<ArrayRef>;
}

/// Writes all rows; tells how many, unless they went to the terminal.
pub(super) fn export<T: Table>(
    reader: &SavepointReader,
    format: Format,
    output: Option<&Path>,
) -> Result<Option<String>, Failure> {
    let Some(path) = output else {
        if format == Format::Parquet {
            return Err(Failure::Usage("Parquet is no text: say -o FILE".to_owned()));
        }
        let out = BufWriter::new(io::stdout().lock());
        return match ndjson::<T>(reader, out) {
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
        Format::Ndjson => ndjson::<T>(reader, BufWriter::new(file)),
        Format::Parquet => parquet::<T>(reader, file),
    };
    let rows = match written {
        Ok(rows) => rows,
        Err(Ended::Failed(failure)) => return Err(failure),
        Err(Ended::ReaderGone) => return Err(failed(format!("{} was closed", part.display()))),
    };
    synced.sync_all().and_then(|()| rename(&part, path)).map_err(named)?;
    Ok(Some(format!("{rows} {} are in {}", T::ROWS, path.display())))
}

fn ndjson<T: Table>(reader: &SavepointReader, mut out: impl Write) -> Result<u64, Ended> {
    let ended = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ended::ReaderGone,
        _ => Ended::Failed(failed(error)),
    };
    let mut rows = 0;
    T::each(reader, &mut |row| {
        rows += 1;
        writeln!(out, "{}", T::line(row)).map_err(ended)
    })?;
    out.flush().map_err(ended)?;
    Ok(rows)
}

fn parquet<T: Table>(reader: &SavepointReader, file: File) -> Result<u64, Ended> {
    let schema = Arc::new(T::schema());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let broken = |error: &dyn std::fmt::Display| Ended::Failed(failed(error));
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
        .map_err(|error| broken(&error))?;
    let mut columns = T::default();
    let mut rows = 0;
    let mut write = |columns: &mut T| -> Result<(), Ended> {
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.take())
            .map_err(|error| broken(&error))?;
        writer.write(&batch).map_err(|error| broken(&error))
    };
    T::each(reader, &mut |row| {
        rows += 1;
        if columns.push(row) >= ROWS { write(&mut columns) } else { Ok(()) }
    })?;
    write(&mut columns)?;
    writer.close().map_err(|error| broken(&error))?;
    Ok(rows)
}

/// Appends a member to an object that was written, as the JSON that it is.
fn add_json(object: &mut String, name: &str, json: &str) {
    object.pop();
    for piece in [",\"", name, "\":", json, "}"] {
        object.push_str(piece);
    }
}

/// The text, if it is JSON.
fn json_of(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    serde_json::from_str::<&RawValue>(text).ok().map(|_| text)
}
