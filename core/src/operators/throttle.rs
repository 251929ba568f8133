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
    #[serde(borrow)]
    held: HeldBack<'a>,
}

/// The newest of those that were held back, which goes out in the end.
#[derive(Serialize, Deserialize)]
enum HeldBack<'a> {
    None,
    /// As the first version of the state has it, in an `Option`: nobody knows when it happened, and
    /// what comes next takes its place.
    Untimed(&'a str),
    At(Timestamp, &'a str),
}

impl Throttle {
    /// The interval is over: what it held goes out, and so begins the next one.
    fn end<'a>(
        &self,
        interval: &Interval<'a>,
        at: Timestamp,
        out: &mut Out<'_, '_>,
    ) -> Option<Interval<'a>> {
        match interval.held {
            HeldBack::None => return None,
            HeldBack::Untimed(value) | HeldBack::At(_, value) => out.value(value),
        }
        Some(Interval { end: at.saturating_add(self.every_ms), held: HeldBack::None })
    }
}

impl Machine for Throttle {
    type State<'a> = Interval<'a>;

    const VERSION: u32 = 2;

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
        // One that ends at this very time is over for an element. By the clock, its end has come before.
        let is_over = |it: &mut Interval<'_>| self.domain == Domain::Event && it.end <= at;
        while let Some(over) = interval.take_if(is_over) {
            interval = self.end(&over, at, out);
        }
        if let Some(mut interval) = interval {
            let is_older = matches!(interval.held, HeldBack::At(newest, _) if at < newest);
            if self.trailing && !is_older {
                interval.held = HeldBack::At(at, value);
            }
            return Some(interval);
        }
        let end = at.saturating_add(self.every_ms);
        if self.leading {
            out.value(value);
            return Some(Interval { end, held: HeldBack::None });
        }
        Some(Interval { end, held: HeldBack::At(at, value) })
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
