//! `periodic`: says a key's last value again at each interval, for a while.
//!
//! It always ends: after so many times, or so long after the last element, or at the final watermark.

use super::machine::{Due, Machine, Out, Stepped};
use super::options::Options;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How often a value can be said again after one element.
const TIMES_MAX: u64 = 1_000_000;

struct Periodic {
    every_ms: i64,
    domain: Domain,
    end: End,
}

/// When it ends, unless another element comes.
enum End {
    Times(u64),
    /// So many milliseconds after the last element.
    For(i64),
}

/// `{"every", "domain"}`, and one of `{"times"}` and `{"for"}`.
pub fn periodic(options: &Value) -> Result<Box<dyn Operator>> {
    let mut options = Options::open(options)?;
    let every_ms = options.span("every")?;
    let every_ms = options.required("every", every_ms, "\"10s\"")?;
    let domain = options.domain(Domain::Processing)?;
    let end = match (options.count("times", 1..=TIMES_MAX)?, options.span("for")?) {
        (Some(times), None) => End::Times(times),
        (None, Some(for_ms)) if for_ms < every_ms => {
            return Err(options.wrong("for", "is shorter than `every`: nothing would go out"));
        }
        (None, Some(for_ms)) => {
            let times = (for_ms / every_ms) as u64;
            if times > TIMES_MAX {
                let detail = format!("is {times} times `every`, allowed are {TIMES_MAX}");
                return Err(options.wrong("for", detail));
            }
            End::For(for_ms)
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
    Ok(Box::new(Stepped(Periodic { every_ms, domain, end })))
}

/// What is said again.
#[derive(Serialize, Deserialize)]
struct Ticking<'a> {
    /// When the last element happened.
    last: Timestamp,
    next: Timestamp,
    /// How many times are left, where they are counted.
    left: u64,
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
                let next = at.saturating_add(self.every_ms);
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
        let beats = due.at.saturating_since(ticking.next) / self.every_ms + 1;
        let next = ticking.next.checked_add(beats.checked_mul(self.every_ms)?)?;
        let left = match self.end {
            End::Times(_) => ticking.left.checked_sub(beats as u64).filter(|left| *left > 0)?,
            End::For(for_ms) if next > ticking.last.saturating_add(for_ms) => return None,
            End::For(_) => 0,
        };
        Some(Ticking { next, left, ..ticking })
    }
}
