//! Batches of operations as an Arrow IPC stream: the fast way in.
//!
//! A row says what a line of NDJSON says, and goes the same way once its columns are read. What is
//! wrong with a row is the row's error; what is wrong with the stream or its columns refuses the
//! whole body, and then the batch must be dropped, not submitted.
//!
//! The decoder is a library that meets bytes from anybody. It checks what it reads, but some
//! malformed lengths still make it panic; those are caught here and refused like other nonsense.

mod columns;
mod elements;
mod groups;
mod typed;
mod values;

pub use elements::push_elements;
pub use groups::push_groups;

use super::failures::Failures;
use super::ndjson::{Rendered, Sink};
use super::op::with_op;
use super::problem::{Problem, kinds};
use super::summary::Errors;
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use columns::Columns;
use std::panic::{AssertUnwindSafe, catch_unwind};
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Outcome, ResultKind};

/// Rows of one stream. A longer one is refused.
pub const ROWS_MAX: usize = 1 << 20;

/// What became of each row before it went to the shards.
#[derive(Debug, Default)]
pub struct Rows {
    pub(super) count: usize,
    pub(super) failures: Failures,
}

/// Decodes a stream and pushes what is good into the batch. If it refuses, the batch is void.
pub fn push_rows(
    body: &[u8],
    config: &NamespaceConfig,
    sink: &mut impl Sink,
) -> Result<Rows, Problem> {
    let check = |records: &RecordBatch| Columns::open(records).map(drop);
    each_batch(body, check, |records, fail| {
        let columns = Columns::open(records)?;
        for row in 0..records.num_rows() {
            let pushed =
                columns.fields(row).and_then(|fields| with_op(&fields, config, |op| sink.push(op)));
            if let Err(problem) = pushed {
                fail(row, columns::rename(problem));
            }
        }
        Ok(())
    })
}

/// Decodes a stream batch by batch. `check` looks at the schema alone; `push` says which rows of a
/// batch are wrong, and how.
fn each_batch(
    body: &[u8],
    check: impl Fn(&RecordBatch) -> Result<(), Problem>,
    mut push: impl FnMut(&RecordBatch, &mut dyn FnMut(usize, Problem)) -> Result<(), Problem>,
) -> Result<Rows, Problem> {
    let mut reader = guarded(|| {
        let reader = StreamReader::try_new(body, None)?;
        // Columns that nobody asked for are refused before anything of them is decoded.
        let empty = RecordBatch::new_empty(reader.schema());
        Ok(check(&empty).map(|()| reader))
    })??;
    let mut rows = Rows::default();
    while let Some(records) = guarded(|| reader.next().transpose())? {
        let first = rows.count;
        rows.count += records.num_rows();
        if rows.count > ROWS_MAX {
            let detail = format!("a stream holds {ROWS_MAX} rows at most; nothing was carried out");
            return Err(Problem::new(&kinds::TOO_MANY_OPERATIONS, detail)
                .bound(ROWS_MAX as u64, rows.count as u64));
        }
        push(&records, &mut |row, problem| rows.failures.push(first + row, problem))?;
    }
    Ok(rows)
}

/// Runs a piece of decoding.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, Problem> {
    // What the decoder leaves behind after a panic is not used again.
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(error)) => {
            let detail = format!("the Arrow stream cannot be read: {error}");
            Err(Problem::new(&kinds::INVALID_ARROW, detail))
        }
        Err(_) => {
            let detail = "the Arrow stream cannot be read: its lengths contradict one another";
            Err(Problem::new(&kinds::INVALID_ARROW, detail))
        }
    }
}

impl Rows {
    /// The summary of api.md.
    pub fn render(&self, outcomes: &[Outcome]) -> Rendered {
        let mut counts = [0_u64; ResultKind::ALL.len()];
        let mut errors = Errors::default();
        self.failures.beside(self.count, outcomes, |index, result| match result {
            Ok(applied) => counts[applied.result as usize] += 1,
            Err(failure) => errors.push(index, failure),
        });
        let results = ResultKind::ALL.map(ResultKind::as_str).into_iter().zip(counts);
        let body = errors.summary(self.count, results, b"");
        let all_refused = self.failures.refused_by_load(outcomes);
        Rendered { body, failed: errors.count, all_refused }
    }
}

#[cfg(test)]
mod tests;
