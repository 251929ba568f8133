//! `delay`: hands each element out at a time of its own.

use super::machine::{Due, Machine, Out, Stepped};
use super::options::Options;
use super::value::Pointer;
use crate::function::{Operator, Result};
use crate::time::text::TimeValue;
use crate::time::{Domain, Timestamp};
use serde_json::Value;

struct Delay {
    until: Until,
    domain: Domain,
}

/// When an element goes out.
enum Until {
    /// At the time that stands in this field.
    Field(Pointer),
    /// So many milliseconds after it has happened.
    After(i64),
}

/// `{"at"}` or `{"after"}`, and `{"domain"}`.
pub fn delay(options: &Value) -> Result<Box<dyn Operator>> {
    let mut options = Options::open(options)?;
    let (at, after_ms) = (options.pointer("at")?, options.span("after")?);
    let until = match (at, after_ms) {
        (Some(pointer), None) => Until::Field(pointer),
        (None, Some(after_ms)) => Until::After(after_ms),
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
    Ok(Box::new(Stepped(Delay { until, domain })))
}

impl Machine for Delay {
    /// Elements are held until they take effect, and that is all there is.
    type State<'a> = ();

    fn domain(&self) -> Domain {
        self.domain
    }

    fn effective(&self, at: Timestamp, value: &str) -> Result<Timestamp> {
        match &self.until {
            Until::After(after_ms) => Ok(at.saturating_add(*after_ms)),
            Until::Field(pointer) => {
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
