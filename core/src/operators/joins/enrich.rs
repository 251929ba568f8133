//! The operator `enrich`: facts on the left input, each with the latest version of the right one, as of
//! the fact's own time.
//!
//! A fact is answered at once, by what is known. When the watermark, less the lateness of the namespace,
//! passes its time, nothing can come any more that would change the answer: if it is another one by then,
//! or if nothing was known, the final one goes out. Of the versions, only those are kept that an answer
//! may still need.

#[cfg(test)]
mod tests;

use super::{Side, check_room, emit_pair, trimmed};
use crate::duration::DurationValue;
use crate::function::{Call, Element, Operator, Result, TimerFired};
use crate::operators::built_in::sealed::Read;
use crate::operators::built_in::{BuiltIn, read_by_serde, span};
use crate::operators::forget::{arm, reached};
use crate::operators::machine::STEPS_BYTES_MAX;
use crate::operators::options::Options;
use crate::operators::state::{as_json, load, raw_json, save};
use crate::time::Domain;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

const NOTHING: &str = "null";

/// The options of `enrich`: facts on the left input, each with the latest version of the right one, as of
/// the fact's own time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Enrich {
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<DurationValue>,
}

impl Enrich {
    /// A version holds until there is another one.
    pub fn latest() -> Self {
        Self::default()
    }

    /// How long a version holds at the longest.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep: Some(span(keep)) }
    }
}

impl BuiltIn for Enrich {
    const NAME: &'static str = "enrich";
}

impl Read for Enrich {
    fn read(options: &Value) -> Result<Self> {
        let mut options = Options::open(options)?;
        let keep = options.span("keep")?;
        options.close()?;
        Ok(Self { keep })
    }

    fn run(self) -> Box<dyn Operator> {
        Box::new(self)
    }

    fn state_as_json(state: &[u8]) -> Result<String> {
        as_json::<State<'_>>(state)
    }
}

read_by_serde!(Enrich);

#[derive(Debug, Default, Serialize, Deserialize)]
struct State<'a> {
    /// In the order of (time, arrival), as the facts.
    #[serde(borrow)]
    versions: Vec<Version<'a>>,
    /// Those whose time has not passed.
    #[serde(borrow)]
    facts: Vec<Fact<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Version<'a> {
    at: i64,
    /// Tells it from the others that are kept.
    serial: u64,
    #[serde(borrow, serialize_with = "raw_json")]
    text: Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fact<'a> {
    at: i64,
    #[serde(borrow, serialize_with = "raw_json")]
    text: Cow<'a, str>,
    /// The version that it was answered with.
    told: Option<u64>,
}

impl Operator for Enrich {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let at = element.timestamp.as_millis();
        let side = Side::of(&element)?;
        let text = trimmed(&element)?;
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        match side {
            Side::Left => {
                let told = self.answer(&state.versions, at).map(|place| &state.versions[place]);
                let answer = told.map_or(NOTHING, |version| &version.text);
                if passed(call).is_some_and(|passed| at <= passed) {
                    emit_pair(call, at, text, answer, ",\"final\":true");
                    return Ok(());
                }
                emit_pair(call, at, text, answer, ",\"final\":false");
                let told = told.map(|version| version.serial);
                check_room(state.facts.len() + state.versions.len())?;
                let place = state.facts.partition_point(|fact| fact.at <= at);
                state.facts.insert(place, Fact { at, text: text.into(), told });
            }
            Side::Right => {
                let place = state.versions.partition_point(|version| version.at <= at);
                let before = state.versions[..place].last();
                if before.is_some_and(|version| version.at == at && version.text == text) {
                    return Ok(());
                }
                check_room(state.facts.len() + state.versions.len())?;
                let last = state.versions.iter().map(|version| version.serial).max();
                let serial = last.map_or(0, |last| last + 1);
                state.versions.insert(place, Version { at, serial, text: text.into() });
            }
        }
        self.forget(call, &mut state);
        Ok(())
    }

    fn on_timer(&mut self, call: &mut Call<'_>, timer: TimerFired<'_>) -> Result<()> {
        let mut state: State<'_> = load(call)?.unwrap_or_default();
        let is_due = |at: i64| at.saturating_add(call.lateness_ms()) <= timer.time.as_millis();
        let due = state.facts.partition_point(|fact| is_due(fact.at));
        let (mut told, mut bytes) = (0, 0);
        for fact in &state.facts[..due] {
            if bytes > STEPS_BYTES_MAX {
                break;
            }
            told += 1;
            let answer = self.answer(&state.versions, fact.at);
            let answer = answer.map_or(NOTHING, |place| &state.versions[place].text);
            let before = fact
                .told
                .and_then(|serial| state.versions.iter().find(|version| version.serial == serial));
            if before.is_none_or(|before| before.text != answer) {
                bytes += fact.text.len() + answer.len();
                emit_pair(call, fact.at, &fact.text, answer, ",\"final\":true");
            }
        }
        state.facts.drain(..told);
        self.forget(call, &mut state);
        Ok(())
    }

    fn keeps_options(&self) -> bool {
        true
    }

    fn inputs(&self) -> u8 {
        2
    }
}

/// No fact and no version comes any more whose time is at or below this; `None`: any may come.
fn passed(call: &Call<'_>) -> Option<i64> {
    let reached = reached(call, Domain::Event)?;
    // Behind the final watermark nothing follows, however late it may be.
    Some(if reached == i64::MAX { reached } else { reached.saturating_sub(call.lateness_ms()) })
}

impl Enrich {
    /// The place of the version that holds at a time.
    fn answer(&self, versions: &[Version<'_>], at: i64) -> Option<usize> {
        let place = versions.partition_point(|version| version.at <= at).checked_sub(1)?;
        let ends = self.keep.map(|keep| i128::from(versions[place].at) + i128::from(keep.0));
        ends.is_none_or(|ends| i128::from(at) < ends).then_some(place)
    }

    /// Lets go of the versions that nothing needs any more, and sees to it that the next one goes, and
    /// the next fact has its final answer: one after the other, in the order of time over all keys.
    fn forget(&self, call: &mut Call<'_>, state: &mut State<'_>) {
        let passed = passed(call);
        let is_past = |at: i64| passed.is_some_and(|passed| at <= passed);
        // What facts that are still to come may need: each until the next one takes its place.
        let versions = &state.versions;
        let ends_at = |place: usize| {
            let kept = self.keep.map_or(i64::MAX, |keep| versions[place].at.saturating_add(keep.0));
            versions.get(place + 1).map_or(kept, |next| next.at.min(kept))
        };
        let mut next = None;
        let mut is_needed = vec![false; versions.len()];
        for (place, is_needed) in is_needed.iter_mut().enumerate() {
            let ends_at = ends_at(place);
            let is_replaced = versions.get(place + 1).is_some_and(|it| it.at == versions[place].at);
            if !is_past(ends_at) && !is_replaced {
                *is_needed = true;
                next = Some(next.map_or(ends_at, |next: i64| next.min(ends_at)));
            }
        }
        // What those need that wait for their final answer: the old one, to tell whether it is another.
        let mut told: Vec<u64> = state.facts.iter().filter_map(|fact| fact.told).collect();
        told.sort_unstable();
        for (is_needed, version) in is_needed.iter_mut().zip(versions) {
            *is_needed |= told.binary_search(&version.serial).is_ok();
        }
        for fact in &state.facts {
            if let Some(place) = self.answer(versions, fact.at) {
                is_needed[place] = true;
            }
        }
        let mut is_needed = is_needed.into_iter();
        state.versions.retain(|_| is_needed.next().unwrap_or_default());
        let next = state.facts.first().map(|fact| fact.at).into_iter().chain(next).min();
        arm(call, Domain::Event, next.map(|next| next.saturating_add(call.lateness_ms())));
        if next.is_some_and(is_past) {
            call.go_on_at_once();
        }
        let is_empty = state.versions.is_empty() && state.facts.is_empty();
        save(call, (!is_empty).then_some(&*state));
    }
}
