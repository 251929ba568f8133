//! What the client asks for, in its two spellings (a line of a batch, a request of its own), and
//! what it was told.

use serde_json::{Value, json};
use ureq::http::Method;

/// The names that timers get; the first is the one that a touch moves.
pub(crate) const NAMES: [&str; 3] = ["timeout", "a", "b"];

/// Which of a key's timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) is_event: bool,
    pub(crate) ident: Ident,
}

/// Named timers are known by their name, the others by their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ident {
    Named(&'static str),
    Unnamed(i64),
}

impl Slot {
    /// The slot of a timer as the server shows it; `None` if the name is none of ours.
    pub(crate) fn of(shown: &Value) -> Option<Self> {
        let ident = match shown.get("name").and_then(Value::as_str) {
            None => Ident::Unnamed(shown["fire_at"].as_i64()?),
            Some(name) => Ident::Named(NAMES.into_iter().find(|ours| *ours == name)?),
        };
        Some(Self { is_event: shown["domain"] == "event", ident })
    }

    fn domain(self) -> &'static str {
        if self.is_event { "event" } else { "processing" }
    }
}

/// When a registration is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(i64),
    After(i64),
}

/// The condition of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Always,
    Absent,
    Present,
    Earlier,
    Later,
}

/// One operation on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// `serial` travels as the payload: each registration is told from every other. Unnamed ones
    /// have neither resolution nor spread, so that their time is known beforehand.
    Register {
        slot: Slot,
        when: When,
        serial: u64,
        only: Only,
        resolution_ms: i64,
        spread_ms: i64,
    },
    Touch {
        after_ms: i64,
    },
    Delete {
        slot: Slot,
    },
    DeleteAll,
    /// Shows all timers of the key.
    Read,
}

/// What came of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, and what was said of it.
    Done { result: String, fire_at: Option<i64>, cancelled: Option<u64> },
    /// The key's timers, as the answer to a read.
    Timers(Vec<Shown>),
    /// An earlier attempt has done it.
    Repeated,
    /// Not done, for load or for want of room.
    Refused,
    /// No answer came.
    Unknown,
}

/// A timer as a read shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) slot: Slot,
    pub(crate) fire_at: i64,
    pub(crate) serial: Option<u64>,
}

impl Act {
    /// As a line of a batch.
    pub(crate) fn line(&self, key: &str) -> String {
        let mut line = self.fields();
        line["key"] = json!(key);
        line["op"] = json!(match self {
            Self::Register { .. } => "register",
            Self::Touch { .. } => "touch",
            Self::Delete { .. } => "delete",
            Self::DeleteAll => "delete_all",
            Self::Read => unreachable!("reads are requests of their own"),
        });
        if let Self::Register { slot, .. } | Self::Delete { slot } = self
            && let Ident::Named(name) = slot.ident
        {
            line["name"] = json!(name);
        }
        line.to_string()
    }

    /// As a request: method, path below the namespace, body.
    pub(crate) fn request(&self, key: &str) -> (Method, String, Option<String>) {
        let timers = format!("keys/{key}/timers");
        match self {
            Self::Register { slot, .. } => {
                let body = Some(self.fields().to_string());
                match slot.ident {
                    Ident::Named(name) => (Method::PUT, format!("{timers}/{name}"), body),
                    Ident::Unnamed(_) => (Method::POST, timers, body),
                }
            }
            Self::Touch { .. } => {
                (Method::POST, format!("keys/{key}/touch"), Some(self.fields().to_string()))
            }
            Self::Delete { slot } => {
                let (path, domain) = match slot.ident {
                    Ident::Named(name) => (format!("{timers}/{name}?"), slot.domain()),
                    Ident::Unnamed(at) => (format!("{timers}?at={at}&"), slot.domain()),
                };
                (Method::DELETE, format!("{path}domain={domain}"), None)
            }
            Self::DeleteAll => (Method::DELETE, timers, None),
            Self::Read => (Method::GET, timers, None),
        }
    }

    fn fields(&self) -> Value {
        match self {
            Self::Register { slot, when, serial, only, resolution_ms, spread_ms } => {
                let mut fields = json!({"domain": slot.domain(), "payload": {"n": serial}});
                match when {
                    When::At(at) => fields["at"] = json!(at),
                    When::After(after_ms) => fields["after"] = json!(format!("{after_ms}ms")),
                }
                if *resolution_ms > 1 {
                    fields["resolution"] = json!(format!("{resolution_ms}ms"));
                }
                if *spread_ms > 0 {
                    fields["spread"] = json!(format!("{spread_ms}ms"));
                }
                match only {
                    Only::Always => {}
                    Only::Absent => fields["only"] = json!("absent"),
                    Only::Present => fields["only"] = json!("present"),
                    Only::Earlier => fields["only"] = json!("earlier"),
                    Only::Later => fields["only"] = json!("later"),
                }
                fields
            }
            Self::Touch { after_ms } => json!({"after": format!("{after_ms}ms")}),
            Self::Delete { slot } => match slot.ident {
                Ident::Named(_) => json!({"domain": slot.domain()}),
                Ident::Unnamed(at) => json!({"domain": slot.domain(), "at": at}),
            },
            Self::DeleteAll | Self::Read => json!({}),
        }
    }
}

impl Outcome {
    /// Reads what was said of one operation; `Err` is what nobody expected.
    pub(crate) fn of(status: u16, said: &Value) -> Result<Self, String> {
        let status = said["error"]["status"].as_u64().unwrap_or(u64::from(status));
        match (status, said["result"].as_str()) {
            (429 | 507, _) => Ok(Self::Refused),
            (200 | 201, Some("repeated")) => Ok(Self::Repeated),
            (200 | 201, Some(result)) => Ok(Self::Done {
                result: result.to_owned(),
                fire_at: said["fire_at"].as_i64(),
                cancelled: said["cancelled"].as_u64(),
            }),
            (200, None) if said["timers"].is_array() => {
                let timers = said["timers"].as_array().into_iter().flatten();
                let shown: Option<Vec<Shown>> = timers.map(Shown::of).collect();
                shown.map(Self::Timers).ok_or_else(|| format!("shows what is not ours: {said}"))
            }
            _ => Err(format!("unexpected answer {status}: {said}")),
        }
    }
}

impl Shown {
    fn of(shown: &Value) -> Option<Self> {
        Some(Self {
            slot: Slot::of(shown)?,
            fire_at: shown["fire_at"].as_i64()?,
            serial: shown["payload"]["n"].as_u64(),
        })
    }
}
