//! The operator `deduplicate`: of elements that say the same, the first goes out, and those that come
//! less than `ttl` apart from it do not.
//!
//! What an element says is its value, a field of that, or nothing but its key. In event time the
//! distance counts in both directions, so that what goes out first is all that the order of arrival
//! decides; an element at or below the watermark is late, since what it would repeat may be forgotten.

#[cfg(test)]
mod tests;

use super::built_in::sealed::Read;
use super::built_in::{BuiltIn, read_by_serde, span};
use super::canonical::push_canonical;
use super::forget::{arm, now, reached};
use super::options::Options;
use super::state::{as_json, load, raw_json, save};
use super::value::{Pointer, json_text};
use crate::duration::DurationValue;
use crate::function::{Call, Element, FunctionError, Operator, Result, TimerFired};
use crate::limits::SEEN_PER_KEY_MAX;
use crate::op::Payload;
use crate::time::Domain;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// What elements say is remembered as it is up to so many bytes, and by its hash of 128 bits beyond.
const IDENTITY_BYTES_MAX: usize = 64;
/// `by`: nothing but the key.
const BY_KEY: &str = "key";

/// The options of `deduplicate`: of elements that say the same, the first goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Deduplicate {
    #[serde(skip_serializing_if = "By::is_value")]
    by: By,
    ttl: DurationValue,
    domain: Domain,
    refresh: bool,
}

impl Deduplicate {
    /// Elements are the same if their values are, and come less than this apart from the first.
    pub fn within(ttl: Duration) -> Self {
        Self { by: By::Value, ttl: span(ttl), domain: Domain::Processing, refresh: false }
    }

    /// All elements of a key are the same.
    #[must_use]
    pub fn by_key(self) -> Self {
        Self { by: By::Key, ..self }
    }

    /// Elements are the same if the field of this JSON pointer is.
    #[must_use]
    pub fn by(self, pointer: &str) -> Self {
        Self { by: By::Field(Pointer::of(pointer)), ..self }
    }

    /// Which clock it follows: processing time unless said.
    #[must_use]
    pub fn domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// Those that do not go out count too: the time runs from the last.
    #[must_use]
    pub fn refresh(self, refresh: bool) -> Self {
        Self { refresh, ..self }
    }
}

impl BuiltIn for Deduplicate {
    const NAME: &'static str = "deduplicate";
}

impl Read for Deduplicate {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let by = match options.value("by") {
            Some(Value::String(word)) if word == BY_KEY => By::Key,
            _ => options.pointer("by")?.map_or(By::Value, By::Field),
        };
        let ttl = options.span("ttl")?;
        let ttl = options.required("ttl", ttl, "\"10m\"")?;
        let domain = options.domain(Domain::Processing)?;
        let refresh = options.flag("refresh", false)?;
        options.close()?;
        Ok(Self { by, ttl, domain, refresh })
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(self)
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        as_json::<State<'_>>(state)
    }
}

read_by_serde!(Deduplicate);

/// What makes two elements the same.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Key,
    Value,
    Field(Pointer),
}

impl By {
    fn is_value(&self) -> bool {
        *self == Self::Value
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Key => serializer.serialize_str(BY_KEY),
            Self::Value => serializer.serialize_none(),
            Self::Field(pointer) => pointer.serialize(serializer),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State<'a> {
    /// In the order of (identity, from): those of one identity are at least the ttl apart.
    #[serde(borrow)]
    seen: Vec<Seen<'a>>,
}

/// Elements that are the same as one another, the times in between included.
#[derive(Debug, Serialize, Deserialize)]
struct Seen<'a> {
    #[serde(borrow, serialize_with = "identity_text")]
    identity: Cow<'a, [u8]>,
    from: i64,
    to: i64,
}

/// For people, what JSON it is; a hash, and bytes, in hexadecimal digits.
fn identity_text<S: Serializer>(
    identity: impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let identity = identity.as_ref();
    if !serializer.is_human_readable() {
        return identity.serialize(serializer);
    }
    match std::str::from_utf8(identity) {
        Ok(text) if !text.starts_with(['\0', '\u{1}']) => raw_json(text, serializer),
        _ => {
            let fours = identity.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits = fours.filter_map(|four| char::from_digit(u32::from(four), 16));
            serializer.serialize_str(&digits.collect::<String>())
        }
    }
}

impl Operator for Deduplicate {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let at = match self.domain {
            Domain::Event => element.timestamp.as_millis(),
            Domain::Processing => now(call)?,
        };
        if self.domain == Domain::Event && reached(call, self.domain).is_some_and(|it| at <= it) {
            call.refuse_late();
            return Ok(());
        }
        let identity = self.identity(&element)?;
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let seen = &mut state.seen;
        let first = seen.partition_point(|it| {
            *it.identity < *identity || (*it.identity == *identity && self.is_long_before(it, at))
        });
        let meets = |it: &&Seen<'_>| *it.identity == *identity && !self.is_long_after(it, at);
        let met = seen[first..].iter().take_while(meets).count();
        if met == 0 {
            if seen.len() >= SEEN_PER_KEY_MAX {
                return Err(FunctionError::new(format!(
                    "the key remembers {SEEN_PER_KEY_MAX} elements, and no more are allowed"
                )));
            }
            call.emit(None, element.value);
            seen.insert(first, Seen { identity: identity.into(), from: at, to: at });
        } else if self.refresh {
            let last = seen[first + met - 1].to;
            let it = &mut seen[first];
            (it.from, it.to) = (it.from.min(at), last.max(at));
            seen.drain(first + 1..first + met);
        } else {
            return Ok(());
        }
        self.forget_next(call, &state);
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, _: TimerFired<'_>) -> Result<()> {
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let reached = reached(call, self.domain);
        state.seen.retain(|it| reached.is_none_or(|reached| self.forgotten_at(it) > reached));
        self.forget_next(call, &state);
        Ok(())
    }

    fn keeps_options(&self) -> bool {
        true
    }

    fn judges_lateness(&self) -> bool {
        true
    }

    fn needs_clock_timers(&self) -> bool {
        self.domain == Domain::Processing
    }
}

impl Deduplicate {
    fn identity(&self, element: &Element<'_>) -> Result<Vec<u8>> {
        let mut identity = Vec::new();
        match (&self.by, element.value) {
            (By::Key, _) => {}
            // No JSON text begins with a zero.
            (By::Value, Payload::Binary(bytes)) => {
                identity.push(0);
                identity.extend_from_slice(bytes);
            }
            (By::Value, Payload::Json(_)) => push_canonical(&mut identity, json_text(element)?)?,
            (By::Field(pointer), _) => {
                push_canonical(&mut identity, pointer.require(json_text(element)?)?)?;
            }
        }
        if identity.len() > IDENTITY_BYTES_MAX {
            let hash = xxh3_128(&identity);
            identity.clear();
            // Nor with this.
            identity.push(1);
            identity.extend_from_slice(&hash.to_le_bytes());
        }
        Ok(identity)
    }

    /// Whether these came the ttl before this time, or more.
    fn is_long_before(&self, seen: &Seen<'_>, at: i64) -> bool {
        i128::from(seen.to) + i128::from(self.ttl.0) <= i128::from(at)
    }

    /// Whether these came the ttl after this time, or more.
    fn is_long_after(&self, seen: &Seen<'_>, at: i64) -> bool {
        i128::from(at) + i128::from(self.ttl.0) <= i128::from(seen.from)
    }

    fn forgotten_at(&self, seen: &Seen<'_>) -> i64 {
        seen.to.saturating_add(self.ttl.0)
    }

    fn forget_next(&self, call: &mut Call<'_>, state: &State<'_>) {
        let next = state.seen.iter().map(|it| self.forgotten_at(it)).min();
        arm(call, self.domain, next);
        save(call, next.map(|_| state));
    }
}
