//! `throttle`: lets at most one element of a key through in each interval.

use super::built_in::sealed::Read;
use super::built_in::{BuiltIn, read_by_serde, span};
use super::machine::{Due, Machine, Out, Stepped, machine_as_json};
use super::options::Options;
use crate::duration::DurationValue;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The options of `throttle`: lets at most one element of a key through in each interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Throttle {
    every: DurationValue,
    domain: Domain,
    leading: bool,
    trailing: bool,
}

impl Throttle {
    /// Intervals are so long.
    pub fn every(every: Duration) -> Self {
        Self { every: span(every), domain: Domain::Processing, leading: true, trailing: true }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// Whether an element that finds no interval goes out at once, as it does unless said.
    #[must_use]
    pub fn leading(self, leading: bool) -> Self {
        Self { leading, ..self }
    }

    /// Whether the last element of an interval goes out at its end, as it does unless said.
    #[must_use]
    pub fn trailing(self, trailing: bool) -> Self {
        Self { trailing, ..self }
    }
}

impl BuiltIn for Throttle {
    const NAME: &'static str = "throttle";
}

impl Read for Throttle {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let every = options.span("every")?;
        let throttle = Self {
            every: options.required("every", every, "\"10s\"")?,
            domain: options.domain(Domain::Processing)?,
            leading: options.flag("leading", true)?,
            trailing: options.flag("trailing", true)?,
        };
        if !throttle.leading && !throttle.trailing {
            let detail = "is false as `leading` is: nothing would go out";
            return Err(options.wrong("trailing", detail));
        }
        options.close()?;
        Ok(throttle)
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(Stepped(self))
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        machine_as_json::<Self>(state)
    }
}

read_by_serde!(Throttle);

/// An interval that has begun.
#[derive(Serialize, Deserialize)]
pub(super) struct Interval<'a> {
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
        Some(Interval { end: at.saturating_add(self.every.0), held: None })
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
        Some(Interval { end: at.saturating_add(self.every.0), held })
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
