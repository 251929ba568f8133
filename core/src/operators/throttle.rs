//! `throttle`: lets at most one element of a key through in each interval.

use super::machine::{Due, Machine, Out, Stepped};
use super::options::Options;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

struct Throttle {
    every_ms: i64,
    domain: Domain,
    leading: bool,
    trailing: bool,
}

/// `{"every", "domain", "leading", "trailing"}`.
pub fn throttle(options: &Value) -> Result<Box<dyn Operator>> {
    let mut options = Options::open(options)?;
    let every_ms = options.span("every")?;
    let throttle = Throttle {
        every_ms: options.required("every", every_ms, "\"10s\"")?,
        domain: options.domain(Domain::Processing)?,
        leading: options.flag("leading", true)?,
        trailing: options.flag("trailing", true)?,
    };
    if !throttle.leading && !throttle.trailing {
        return Err(options.wrong("trailing", "is false as `leading` is: nothing would go out"));
    }
    options.close()?;
    Ok(Box::new(Stepped(throttle)))
}

/// An interval that has begun.
#[derive(Serialize, Deserialize)]
struct Interval<'a> {
    end: Timestamp,
    /// What was held back last, and goes out in the end.
    held: Option<&'a str>,
}

impl Throttle {
    /// The interval is over: what it held goes out, and so begins the next one.
    fn end<'a>(
        &self,
        interval: &Interval<'a>,
        at: Timestamp,
        out: &mut Out<'_, '_>,
    ) -> Option<Interval<'a>> {
        out.value(interval.held?);
        Some(Interval { end: at.saturating_add(self.every_ms), held: None })
    }
}

impl Machine for Throttle {
    type State<'a> = Interval<'a>;

    fn domain(&self) -> Domain {
        self.domain
    }

    fn element<'a>(
        &self,
        mut interval: Option<Interval<'a>>,
        at: Timestamp,
        value: &'a str,
        out: &mut Out<'_, '_>,
    ) -> Option<Interval<'a>> {
        // One that ends at this very time is over for an element.
        while let Some(over) = interval.take_if(|interval| interval.end <= at) {
            interval = self.end(&over, at, out);
        }
        let suppressed = self.trailing.then_some(value);
        if let Some(Interval { end, held }) = interval {
            return Some(Interval { end, held: suppressed.or(held) });
        }
        if self.leading {
            out.value(value);
        }
        let held = suppressed.filter(|_| !self.leading);
        Some(Interval { end: at.saturating_add(self.every_ms), held })
    }

    fn deadline(&self, interval: &Interval<'_>) -> Option<Timestamp> {
        Some(interval.end)
    }

    fn due<'a>(
        &self,
        interval: Self::State<'a>,
        due: Due,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>> {
        self.end(&interval, due.at, out)
    }
}
