//! `timeout`: says so when a key has been silent for too long, and when it is back.

use super::machine::{Due, Machine, Out, Stepped};
use super::options::Options;
use crate::function::{Operator, Result};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

struct Timeout {
    after_ms: i64,
    domain: Domain,
    recover: bool,
    repeat_ms: Option<i64>,
}

/// `{"after", "domain", "recover", "repeat"}`.
pub fn timeout(options: &Value) -> Result<Box<dyn Operator>> {
    let mut options = Options::open(options)?;
    let after_ms = options.span("after")?;
    let timeout = Timeout {
        after_ms: options.required("after", after_ms, "\"90s\"")?,
        domain: options.domain(Domain::Processing)?,
        recover: options.flag("recover", true)?,
        repeat_ms: options.span("repeat")?,
    };
    options.close()?;
    Ok(Box::new(Stepped(timeout)))
}

/// What was seen of a key.
#[derive(Serialize, Deserialize)]
struct Seen<'a> {
    /// When its last element happened.
    at: Timestamp,
    phase: Phase,
    /// What that was; empty once nobody will be told.
    value: &'a str,
}

#[derive(Serialize, Deserialize)]
enum Phase {
    Alive,
    /// It has timed out; when that is said again.
    Silent(Option<Timestamp>),
}

impl Machine for Timeout {
    type State<'a> = Seen<'a>;

    fn domain(&self) -> Domain {
        self.domain
    }

    fn element<'a>(
        &self,
        seen: Option<Seen<'a>>,
        at: Timestamp,
        value: &'a str,
        out: &mut Out<'_, '_>,
    ) -> Option<Seen<'a>> {
        match seen {
            // It says nothing about the time since then.
            Some(seen) if at < seen.at => return Some(seen),
            Some(Seen { at: last, phase: Phase::Silent(_), .. }) if self.recover => {
                let silent_ms = at.saturating_since(last);
                out.value(&format!(
                    "{{\"event\":\"recovered\",\"silent_ms\":{silent_ms},\"value\":{value}}}"
                ));
            }
            _ => {}
        }
        Some(Seen { at, phase: Phase::Alive, value })
    }

    fn deadline(&self, seen: &Seen<'_>) -> Option<Timestamp> {
        match seen.phase {
            Phase::Alive => Some(seen.at.saturating_add(self.after_ms)),
            Phase::Silent(again) => again,
        }
    }

    fn due<'a>(
        &self,
        seen: Self::State<'a>,
        due: Due,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>> {
        let deadline = self.deadline(&seen)?;
        let Seen { at, value, .. } = seen;
        out.value(&format!("{{\"event\":\"timeout\",\"last_seen\":{at},\"value\":{value}}}"));
        if due.is_last {
            return None;
        }
        // One alarm stands for all that time has run past, however far it went.
        let again = self.repeat_ms.and_then(|repeat_ms| {
            let missed = due.reached.saturating_since(deadline) / repeat_ms;
            deadline.checked_add(missed.checked_add(1)?.checked_mul(repeat_ms)?)
        });
        let value = if again.is_some() { value } else { "" };
        (self.recover || again.is_some()).then_some(Seen { at, phase: Phase::Silent(again), value })
    }
}
