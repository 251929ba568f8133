//! `debounce`: of a burst of elements, one goes out once the key is quiet.

use super::built_in::sealed::Read;
use super::built_in::{BuiltIn, read_by_serde, span};
use super::machine::{Due, Machine, Out, Stepped, machine_as_json};
use super::options::Options;
use super::state::raw_json;
use crate::duration::DurationValue;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The options of `debounce`: of a burst of elements, one goes out once the key is quiet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Debounce {
    after: DurationValue,
    domain: Domain,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<DurationValue>,
    emit: Which,
}

/// Which element of a burst goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    First,
    Last,
}

impl Debounce {
    /// A burst is over once the key was quiet for so long.
    pub fn after(after: Duration) -> Self {
        let (domain, emit) = (Domain::Processing, Which::Last);
        Self { after: span(after), domain, max: None, emit }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// A burst is over so long after its first element at the latest.
    #[must_use]
    pub fn max(self, max: Duration) -> Self {
        Self { max: Some(span(max)), ..self }
    }

    /// The first element of a burst goes out, not the last.
    #[must_use]
    pub fn emit_first(self) -> Self {
        Self { emit: Which::First, ..self }
    }
}

impl BuiltIn for Debounce {
    const NAME: &'static str = "debounce";
}

impl Read for Debounce {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let after = options.span("after")?;
        let words = [("last", Which::Last), ("first", Which::First)];
        let debounce = Self {
            after: options.required("after", after, "\"500ms\"")?,
            domain: options.domain(Domain::Processing)?,
            max: options.span("max")?,
            emit: options.word("emit", &words)?.unwrap_or(Which::Last),
        };
        if let Some(max) = debounce.max
            && max.0 < debounce.after.0
        {
            return Err(
                options.wrong("max", "is shorter than `after`, and would always come first")
            );
        }
        options.close()?;
        Ok(debounce)
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(Stepped(self))
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        machine_as_json::<Self>(state)
    }
}

read_by_serde!(Debounce);

/// A burst that goes on.
#[derive(Serialize, Deserialize)]
pub(super) struct Burst<'a> {
    first: Timestamp,
    last: Timestamp,
    /// What will go out.
    #[serde(serialize_with = "raw_json")]
    value: &'a str,
}

impl Machine for Debounce {
    type State<'a> = Burst<'a>;

    fn domain(&self) -> Domain {
        self.domain
    }

    fn element<'a>(
        &self,
        burst: Option<Burst<'a>>,
        at: Timestamp,
        value: &'a str,
        _out: &mut Out<'_, '_>,
    ) -> Option<Burst<'a>> {
        let Some(burst) = burst else {
            return Some(Burst { first: at, last: at, value });
        };
        let replaces = match self.emit {
            Which::First => at < burst.first,
            Which::Last => at >= burst.last,
        };
        let value = if replaces { value } else { burst.value };
        Some(Burst { first: burst.first.min(at), last: burst.last.max(at), value })
    }

    fn deadline(&self, burst: &Burst<'_>) -> Option<Timestamp> {
        let quiet = burst.last.saturating_add(self.after.0);
        Some(self.max.map_or(quiet, |max| quiet.min(burst.first.saturating_add(max.0))))
    }

    fn due<'a>(
        &self,
        burst: Self::State<'a>,
        _due: Due,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>> {
        out.value(burst.value);
        None
    }
}
