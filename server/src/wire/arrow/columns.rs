//! The columns of a record batch, found and downcast once, then read row by row.
//!
//! Reading a row branches on the column's encoding, which is the same for all rows, and never goes
//! through a virtual call.

use super::typed::{BytesColumn, TextColumn, TimeColumn, get_millis, millis, read_json};
use crate::wire::fields::{
    Field, Fields, OpWord, PayloadField, parse_domain, parse_only, parse_op,
};
use crate::wire::problem::{Problem, kinds};
use arrow_array::{Int64Array, RecordBatch};
use std::borrow::Cow;
use stormwheel::text::clip;

const KNOWN: &str = "`op`, `key`, `at`, `after_ms`, `name`, `domain`, `payload`, `spread_ms`, \
                     `resolution_ms`, `only`, `fire_at`";

/// The columns of one record batch.
#[derive(Default)]
pub(super) struct Columns<'a> {
    op: Option<TextColumn<'a>>,
    key: Option<BytesColumn<'a>>,
    at: Option<TimeColumn<'a>>,
    after_ms: Option<&'a Int64Array>,
    name: Option<TextColumn<'a>>,
    domain: Option<TextColumn<'a>>,
    payload: Option<BytesColumn<'a>>,
    spread_ms: Option<&'a Int64Array>,
    resolution_ms: Option<&'a Int64Array>,
    only: Option<TextColumn<'a>>,
    fire_at: Option<TimeColumn<'a>>,
}

impl<'a> Columns<'a> {
    /// Finds the columns, or names the one that is unknown, missing or of a wrong type.
    pub(super) fn open(records: &'a RecordBatch) -> Result<Self, Problem> {
        let mut columns = Self::default();
        for (field, array) in records.schema_ref().fields().iter().zip(records.columns()) {
            let (name, array) = (field.name().as_str(), array.as_ref());
            let twice = match name {
                "op" => columns.op.replace(TextColumn::open(name, array)?).is_some(),
                "key" => columns.key.replace(BytesColumn::open(name, array)?).is_some(),
                "at" => columns.at.replace(TimeColumn::open(name, array)?).is_some(),
                "after_ms" => columns.after_ms.replace(millis(name, array)?).is_some(),
                "name" => columns.name.replace(TextColumn::open(name, array)?).is_some(),
                "domain" => columns.domain.replace(TextColumn::open(name, array)?).is_some(),
                "payload" => columns.payload.replace(BytesColumn::open(name, array)?).is_some(),
                "spread_ms" => columns.spread_ms.replace(millis(name, array)?).is_some(),
                "resolution_ms" => columns.resolution_ms.replace(millis(name, array)?).is_some(),
                "only" => columns.only.replace(TextColumn::open(name, array)?).is_some(),
                "fire_at" => columns.fire_at.replace(TimeColumn::open(name, array)?).is_some(),
                unknown => {
                    let unknown = clip(unknown);
                    let detail = format!("there is no column `{unknown}`; there are {KNOWN}");
                    return Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(unknown));
                }
            };
            if twice {
                let detail = format!("there are two columns `{name}`");
                return Err(Problem::new(&kinds::INVALID_ARROW, detail).field(name));
            }
        }
        if columns.key.is_none() {
            let detail = "there is no column `key`, and every operation needs one";
            return Err(Problem::new(&kinds::MISSING_FIELD, detail).field("key"));
        }
        Ok(columns)
    }

    /// What a row says. A null is the same as a column that is not there.
    pub(super) fn fields(&self, row: usize) -> Result<Fields<'_>, Problem> {
        let mut fields = Fields { op: Some(OpWord::Register), ..Fields::default() };
        let mut given = fields.given;
        if let Some(text) = self.op.as_ref().and_then(|column| column.get(row)) {
            fields.op = Some(parse_op(text).map_err(|detail| invalid("op", detail))?);
        }
        if let Some(key) = self.key.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Key);
            fields.key = Some(key.as_key());
        }
        if let Some(column) = &self.at
            && let Some(at) = column.get("at", row)?
        {
            given = given.with(Field::At);
            fields.at = Some(at);
        }
        if let Some(after_ms) = get_millis(self.after_ms, row) {
            given = given.with(Field::After);
            fields.after_ms = Some(after_ms);
        }
        if let Some(name) = self.name.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Name);
            fields.name = Some(Cow::Borrowed(name));
        }
        if let Some(text) = self.domain.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Domain);
            fields.domain = Some(parse_domain(text).map_err(|detail| invalid("domain", detail))?);
        }
        if let Some(payload) = self.payload.as_ref().and_then(|column| column.get(row)) {
            let payload = read_json(Field::Payload, &payload)?;
            // As in JSON, where a payload that is null is none.
            fields.payload = Some(payload).filter(|it| *it != PayloadField::Json("null"));
            if fields.payload.is_some() {
                given = given.with(Field::Payload);
            }
        }
        if let Some(spread_ms) = get_millis(self.spread_ms, row) {
            given = given.with(Field::Spread);
            fields.spread_ms = Some(spread_ms);
        }
        if let Some(resolution_ms) = get_millis(self.resolution_ms, row) {
            given = given.with(Field::Resolution);
            fields.resolution_ms = Some(resolution_ms);
        }
        if let Some(text) = self.only.as_ref().and_then(|column| column.get(row)) {
            given = given.with(Field::Only);
            fields.only = Some(parse_only(text).map_err(|detail| invalid("only", detail))?);
        }
        if let Some(column) = &self.fire_at
            && let Some(fire_at) = column.get("fire_at", row)?
        {
            given = given.with(Field::FireAt);
            fields.fire_at = Some(fire_at);
        }
        fields.given = given;
        Ok(fields)
    }
}

/// Names the column where it is spelled otherwise than the field.
pub(super) fn rename(mut problem: Problem) -> Problem {
    if let Some(field) = &mut problem.field
        && matches!(field.as_str(), "after" | "spread" | "resolution")
    {
        field.push_str("_ms");
    }
    problem
}

fn invalid(field: &str, detail: String) -> Problem {
    Problem::new(&kinds::INVALID_FIELD, detail).field(field)
}
