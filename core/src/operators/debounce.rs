//! `debounce`: of a burst of elements, one goes out once the key is quiet.

use super::machine::{Due, Machine, Out, Stepped};
use super::options::Options;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

struct Debounce {
    after_ms: i64,
    domain: Domain,
    max_ms: Option<i64>,
    which: Which,
}

/// Which element of a burst goes out.
#[derive(Debug, Clone, Copy)]
enum Which {
    First,
    Last,
}

/// `{"after", "domain", "max", "emit"}`.
pub fn debounce(options: &Value) -> Result<Box<dyn Operator>> {
    let mut options = Options::open(options)?;
    let after_ms = options.span("after")?;
    let words = [("last", Which::Last), ("first", Which::First)];
    let debounce = Debounce {
        after_ms: options.required("after", after_ms, "\"500ms\"")?,
        domain: options.domain(Domain::Processing)?,
        max_ms: options.span("max")?,
        which: options.word("emit", &words)?.unwrap_or(Which::Last),
    };
    if let Some(max_ms) = debounce.max_ms
        && max_ms < debounce.after_ms
    {
        return Err(options.wrong("max", "is shorter than `after`, and would always come first"));
    }
    options.close()?;
    Ok(Box::new(Stepped(debounce)))
}

/// A burst that goes on.
#[derive(Serialize, Deserialize)]
struct Burst<'a> {
    first: Timestamp,
    last: Timestamp,
    /// What will go out.
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
        let replaces = match self.which {
            Which::First => at < burst.first,
            Which::Last => at >= burst.last,
        };
        let value = if replaces { value } else { burst.value };
        Some(Burst { first: burst.first.min(at), last: burst.last.max(at), value })
    }

    fn deadline(&self, burst: &Burst<'_>) -> Option<Timestamp> {
        let quiet = burst.last.saturating_add(self.after_ms);
        Some(self.max_ms.map_or(quiet, |max_ms| quiet.min(burst.first.saturating_add(max_ms))))
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
