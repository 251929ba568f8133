//! `periodic`: says a key's last value again at each interval, for a while.
//!
//! It always ends: after so many times, or so long after the last element, or at the final watermark.

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

/// How often a value can be said again after one element.
const TIMES_MAX: u64 = 1_000_000;

/// The options of `periodic`: says a key's last value again at each interval, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Periodic {
    every: DurationValue,
    domain: Domain,
    #[serde(flatten)]
    end: End,
}

/// When it ends, unless another element comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Times(u64),
    /// So long after the last element.
    For(DurationValue),
}

impl Periodic {
    /// At each interval, so many times after an element.
    pub fn times(every: Duration, times: u64) -> Self {
        let end = End::Times(times);
        Self { every: span(every), domain: Domain::Processing, end }
    }

    /// At each interval, for so long after an element.
    pub fn lasting(every: Duration, lasting: Duration) -> Self {
        let end = End::For(span(lasting));
        Self { every: span(every), domain: Domain::Processing, end }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }
}

impl BuiltIn for Periodic {
    const NAME: &'static str = "periodic";
}

impl Read for Periodic {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let every = options.span("every")?;
        let every = options.required("every", every, "\"10s\"")?;
        let domain = options.domain(Domain::Processing)?;
        let end = match (options.count("times", 1..=TIMES_MAX)?, options.span("for")?) {
            (Some(times), None) => End::Times(times),
            (None, Some(lasting)) if lasting.0 < every.0 => {
                return Err(options.wrong("for", "is shorter than `every`: nothing would go out"));
            }
            (None, Some(lasting)) => {
                let times = (lasting.0 / every.0) as u64;
                if times > TIMES_MAX {
                    let detail = format!("is {times} times `every`, allowed are {TIMES_MAX}");
                    return Err(options.wrong("for", detail));
                }
                End::For(lasting)
            }
            (Some(_), Some(_)) => {
                return Err(options.wrong("for", "stands beside `times`: one is enough"));
            }
            (None, None) => {
                let either = "10, unless `for` says how long, such as \"1h\"";
                return options.required("times", None, either);
            }
        };
        options.close()?;
        Ok(Self { every, domain, end })
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(Stepped(self))
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        machine_as_json::<Self>(state)
    }
}

read_by_serde!(Periodic);

/// What is said again.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticking<'a> {
    /// When the last element happened.
    last: Timestamp,
    next: Timestamp,
    /// How many times are left, where they are counted.
    left: u64,
    #[serde(serialize_with = "raw_json")]
    value: &'a str,
}

impl Machine for Periodic {
    type State<'a> = Ticking<'a>;

    fn domain(&self) -> Domain {
        self.domain
    }

    fn element<'a>(
        &self,
        ticking: Option<Ticking<'a>>,
        at: Timestamp,
        value: &'a str,
        _out: &mut Out<'_, '_>,
    ) -> Option<Ticking<'a>> {
        let left = match self.end {
            End::Times(times) => times,
            End::For(_) => 0,
        };
        match ticking {
            Some(ticking) if at < ticking.last => Some(ticking),
            // The beat goes on, however often elements come.
            Some(Ticking { next, .. }) => Some(Ticking { last: at, next, left, value }),
            None => {
                let next = at.saturating_add(self.every.0);
                Some(Ticking { last: at, next, left, value })
            }
        }
    }

    fn deadline(&self, ticking: &Ticking<'_>) -> Option<Timestamp> {
        Some(ticking.next)
    }

    fn due<'a>(
        &self,
        ticking: Self::State<'a>,
        due: Due,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>> {
        out.value(ticking.value);
        if due.is_last {
            return None;
        }
        // A clock that has run past several beats makes no burst of them: they are over.
        let beats = due.at.saturating_since(ticking.next) / self.every.0 + 1;
        let next = ticking.next.checked_add(beats.checked_mul(self.every.0)?)?;
        let left = match self.end {
            End::Times(_) => ticking.left.checked_sub(beats as u64).filter(|left| *left > 0)?,
            End::For(lasting) if next > ticking.last.saturating_add(lasting.0) => return None,
            End::For(_) => 0,
        };
        Some(Ticking { next, left, ..ticking })
    }
}
