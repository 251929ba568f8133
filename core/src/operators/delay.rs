//! `delay`: hands each element out at a time of its own.

use super::built_in::sealed::Read;
use super::built_in::{BuiltIn, read_by_serde, span};
use super::machine::{Due, Machine, Out, Stepped, machine_as_json};
use super::options::Options;
use super::value::Pointer;
use crate::duration::DurationValue;
use crate::function::{Operator, Result};
use crate::time::text::TimeValue;
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The options of `delay`: hands each element out at a time of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Delay {
    #[serde(flatten)]
    until: Until,
    domain: Domain,
}

/// When an element goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Until {
    /// At the time that stands in this field.
    At(Pointer),
    /// So long after it has happened.
    After(DurationValue),
}

impl Delay {
    /// Until the time that stands in the field of this JSON pointer, such as `/order/due`.
    pub fn at(pointer: &str) -> Self {
        Self { until: Until::At(Pointer::of(pointer)), domain: Domain::Processing }
    }

    /// So long after it has happened.
    pub fn after(after: Duration) -> Self {
        Self { until: Until::After(span(after)), domain: Domain::Processing }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }
}

impl BuiltIn for Delay {
    const NAME: &'static str = "delay";
}

impl Read for Delay {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let (at, after) = (options.pointer("at")?, options.span("after")?);
        let until = match (at, after) {
            (Some(pointer), None) => Until::At(pointer),
            (None, Some(after)) => Until::After(after),
            (Some(_), Some(_)) => {
                return Err(options.wrong("after", "stands beside `at`: one is enough"));
            }
            (None, None) => {
                let either = "\"/due\", unless `after` says how long, such as \"90s\"";
                return options.required("at", None, either);
            }
        };
        let domain = options.domain(Domain::Processing)?;
        options.close()?;
        Ok(Self { until, domain })
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(Stepped(self))
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        machine_as_json::<Self>(state)
    }
}

read_by_serde!(Delay);

impl Machine for Delay {
    /// Elements are held until they take effect, and that is all there is.
    type State<'a> = ();

    fn domain(&self) -> Domain {
        self.domain
    }

    fn effective(&self, at: Timestamp, value: &str) -> Result<Timestamp> {
        match &self.until {
            Until::After(after) => Ok(at.saturating_add(after.0)),
            Until::At(pointer) => {
                let field = pointer.require(value)?;
                let time = serde_json::from_str::<TimeValue>(field);
                time.map(|time| time.0).map_err(|_| {
                    pointer.wrong(
                        field,
                        ", not a time: write whole milliseconds, or RFC 3339 with an offset",
                    )
                })
            }
        }
    }

    fn element(
        &self,
        _state: Option<()>,
        _at: Timestamp,
        value: &str,
        out: &mut Out<'_, '_>,
    ) -> Option<()> {
        out.value(value);
        None
    }

    fn deadline(&self, _state: &()) -> Option<Timestamp> {
        None
    }

    fn due<'a>(
        &self,
        _state: Self::State<'a>,
        _due: Due,
        _out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>> {
        None
    }
}
