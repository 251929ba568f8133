//! `timeout`: says so when a key has been silent for too long, and when it is back.

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

/// The options of `timeout`: says so when a key has been silent for too long, and when it is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Timeout {
    after: DurationValue,
    domain: Domain,
    recover: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<DurationValue>,
}

impl Timeout {
    /// A key may be silent for so long.
    pub fn after(after: Duration) -> Self {
        Self { after: span(after), domain: Domain::Processing, recover: true, repeat: None }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// Whether the next element after a timeout is told, as it is unless said.
    #[must_use]
    pub fn recover(self, recover: bool) -> Self {
        Self { recover, ..self }
    }

    /// Says the timeout again at this interval, for as long as the silence lasts.
    #[must_use]
    pub fn repeat(self, every: Duration) -> Self {
        Self { repeat: Some(span(every)), ..self }
    }
}

impl BuiltIn for Timeout {
    const NAME: &'static str = "timeout";
}

impl Read for Timeout {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let after = options.span("after")?;
        let timeout = Self {
            after: options.required("after", after, "\"90s\"")?,
            domain: options.domain(Domain::Processing)?,
            recover: options.flag("recover", true)?,
            repeat: options.span("repeat")?,
        };
        options.close()?;
        Ok(timeout)
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(Stepped(self))
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        machine_as_json::<Self>(state)
    }
}

read_by_serde!(Timeout);

/// What was seen of a key.
#[derive(Serialize, Deserialize)]
pub(super) struct Seen<'a> {
    /// When its last element happened.
    at: Timestamp,
    phase: Phase,
    /// What that was; empty once nobody will be told.
    #[serde(serialize_with = "raw_json")]
    value: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Phase {
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
            Phase::Alive => Some(seen.at.saturating_add(self.after.0)),
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
        let again = self.repeat.and_then(|DurationValue(repeat_ms)| {
            let missed = due.reached.saturating_since(deadline) / repeat_ms;
            deadline.checked_add(missed.checked_add(1)?.checked_mul(repeat_ms)?)
        });
        let value = if again.is_some() { value } else { "" };
        (self.recover || again.is_some()).then_some(Seen { at, phase: Phase::Silent(again), value })
    }
}
