//! A namespace that runs the function, as the client knows it: what was sent, what became of it, and
//! what each key has come to.

use crate::announce::Announcements;
use crate::client::{Fate, fate};
use crate::draw::PRODUCERS;
use crate::functions::SOURCES;
use crate::halt::Halt;
use crate::model::Violation;
use crate::outputs::{Consumer, Seen};
use crate::script::{Account, Cause, KeyModel, SIDE, Step};
use std::collections::BTreeMap;
use std::sync::Arc;
use stormwheel::error::Rejection;
use stormwheel::namespace::{LateTimers, NamespaceConfig};
use stormwheel::op::{Outcome, ResultKind};
use stormwheel::output::NamespaceId;
use stormwheel::runtime::{Ack, NamespaceEntry};

/// Where the engine puts late elements.
const TAG_LATE: &str = "late";

/// What is known of an element that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) key: Vec<u8>,
    pub(crate) timestamp: i64,
    pub(crate) steps: Vec<Step>,
    pub(crate) is_produced: bool,
    /// What became of it, as its outputs say.
    pub(crate) taken: Option<ResultKind>,
    /// What was answered, once that outlives everything.
    pub(crate) answered: Option<ResultKind>,
    /// It was refused, or a crash has taken it.
    pub(crate) is_gone: bool,
}

/// How far a source may have come, and how far it has come at least.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    pub(crate) told: Option<i64>,
    pub(crate) certain: Option<i64>,
}

/// Somebody whose elements are taken once: the request sent last, unless all of it was answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) sequence: u64,
    pub(crate) open: Option<Vec<u64>>,
    pub(crate) is_asked: bool,
}

/// A namespace that runs the function.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) config: NamespaceConfig,
    /// What is there, with who reads its outputs.
    pub(crate) life: Option<(Arc<NamespaceEntry>, Consumer)>,
    pub(crate) is_lost: bool,
    last_id: Option<NamespaceId>,
    pub(crate) keys: BTreeMap<Vec<u8>, KeyModel>,
    pub(crate) sent: BTreeMap<u64, Sent>,
    pub(crate) marks: [Mark; SOURCES.len()],
    pub(crate) producers: [Request; PRODUCERS.len()],
    /// By key: the last element that was taken, of those that nobody sends again.
    last: BTreeMap<Vec<u8>, u64>,
    /// What was broadcast.
    pub(crate) announcements: Announcements,
    /// It was told something and has not answered.
    pub(crate) is_told: bool,
    /// Whether anything goes on in it.
    pub(crate) halt: Halt,
}

impl Stage {
    pub(crate) fn new(name: &'static str, config: NamespaceConfig) -> Self {
        Self {
            name,
            config,
            life: None,
            is_lost: false,
            last_id: None,
            keys: BTreeMap::new(),
            sent: BTreeMap::new(),
            marks: Default::default(),
            producers: Default::default(),
            last: BTreeMap::new(),
            is_told: false,
            announcements: Announcements::default(),
            halt: Halt::new(),
        }
    }

    /// Takes an incarnation for what is there.
    pub(crate) fn begin(&mut self, entry: Arc<NamespaceEntry>) -> Result<(), Violation> {
        if self.last_id.is_some_and(|last| entry.id <= last) || *entry.config != self.config {
            return Err(self.wrong("wrong namespace", format!("{:?} {:?}", entry.id, entry.config)));
        }
        self.last_id = Some(entry.id);
        let consumer = Consumer::new(entry.id);
        self.life = Some((entry, consumer));
        Ok(())
    }

    /// The combined watermark, by what is known of the sources.
    pub(crate) fn watermark(&self, of: impl Fn(&Mark) -> Option<i64>) -> Option<i64> {
        self.marks.iter().map(of).min().flatten()
    }

    #[allow(clippy::needless_pass_by_value, reason = "what is said is handed over")]
    pub(crate) fn wrong(&self, kind: &'static str, detail: String) -> Violation {
        Violation::new(kind, format!("{}: {detail}", self.name))
    }

    pub(crate) fn answered(
        &mut self,
        ids: &[u64],
        ack: Ack,
        producer: Option<(usize, u64)>,
        outcomes: &[Outcome],
    ) -> Result<(), Violation> {
        if ids.len() != outcomes.len() {
            let detail = format!("{} answers to {} elements", outcomes.len(), ids.len());
            return Err(self.wrong("wrong answer", detail));
        }
        for (id, outcome) in ids.iter().zip(outcomes) {
            let Some(sent) = self.sent.get_mut(id) else { continue };
            self.halt.is_stopped |= matches!(outcome, Err(Rejection::NamespaceStopped { .. }));
            match (fate(outcome.as_ref().err()), outcome) {
                (Fate::Unknown, _) => {}
                (Fate::NotDone, _) => sent.is_gone |= !sent.is_produced,
                (Fate::Done, Ok(applied)) => {
                    let (result, was) = (applied.result, sent.taken);
                    if was.is_some_and(|was| ![was, ResultKind::Repeated].contains(&result)) {
                        return Err(
                            self.wrong("wrong answer", format!("{id}: {result:?}, {was:?}"))
                        );
                    }
                    if ack == Ack::Synced {
                        sent.answered = Some(result);
                    }
                }
                (Fate::Done, Err(rejection)) => {
                    return Err(self.wrong("wrong answer", format!("{id}: {rejection}")));
                }
            }
        }
        if let Some((producer, sequence)) = producer
            && self.producers[producer].sequence == sequence
        {
            let is_done = |it: &Outcome| matches!(fate(it.as_ref().err()), Fate::Done);
            let it = &mut self.producers[producer];
            it.is_asked = false;
            if outcomes.iter().all(is_done) {
                it.open = None;
            }
        }
        Ok(())
    }

    /// Holds an output to the ledger, of a function of this version at most. Returns whether it tells of an element.
    pub(crate) fn take(&mut self, seen: &Seen, version: u64) -> Result<bool, Violation> {
        let wrong = |kind, detail| Violation::new(kind, format!("{seen:?}: {detail}"));
        let value = seen.timer.payload.as_ref().map(|(_, bytes)| &**bytes).unwrap_or_default();
        let unread = |error: serde_json::Error| wrong("unknown output", error.to_string());
        match seen.tag.as_deref() {
            None => {
                let account: Account = serde_json::from_slice(value).map_err(unread)?;
                self.hear(&account.shown.heard)
                    .map_err(|detail| wrong("wrong broadcast", detail))?;
                if let Cause::Broadcast { id } = account.cause {
                    self.announce(id, seen, &account.shown)
                        .map_err(|detail| wrong("wrong broadcast", detail))?;
                    return Ok(false);
                }
                let mut steps = Vec::new();
                if let Cause::Element { id, timestamp } = account.cause {
                    let sent = self.decide(id, seen, ResultKind::Processed)?;
                    if sent.timestamp != timestamp {
                        return Err(wrong("wrong callback", format!("{account:?}")));
                    }
                    steps.clone_from(&sent.steps);
                    let late_by = account.shown.watermark.map(|it| it - self.config.lateness_ms);
                    if late_by.is_some_and(|it| timestamp <= it) {
                        return Err(wrong("wrong callback", "for a late element".to_owned()));
                    }
                }
                if account.shown.watermark > self.watermark(|mark| mark.told) {
                    return Err(wrong("early", format!("{account:?}: {:?}", self.marks)));
                }
                let waits = self.config.late_timers == LateTimers::NextWatermark;
                let key = self.keys.entry(seen.key.clone()).or_default();
                key.called(&account, &steps, waits, version)
                    .map_err(|detail| wrong("wrong callback", format!("{account:?}: {detail}")))?;
                return Ok(matches!(account.cause, Cause::Element { .. }));
            }
            Some(SIDE) => {
                let value = serde_json::from_slice(value).map_err(unread)?;
                let key = self.keys.entry(seen.key.clone()).or_default();
                key.emitted(value).map_err(|detail| wrong("wrong output", detail))?;
                return Ok(false);
            }
            _ => {}
        }
        let value: serde_json::Value = serde_json::from_slice(value).map_err(unread)?;
        if let Some(announced) = value.get("broadcast") {
            let id = announced["id"].as_u64().unwrap_or_default();
            self.failed_broadcast(id, seen)
                .map_err(|detail| wrong("wrong failure", format!("{value}: {detail}")))?;
            return Ok(false);
        }
        let is_late = seen.tag.as_deref() == Some(TAG_LATE);
        let element = if is_late { Some(&value) } else { value.get("element") };
        let Some(id) = element.map(|element| element["id"].as_u64().unwrap_or_default()) else {
            let name = value["timer"]["name"].as_str().map(str::to_owned);
            let cause = Cause::Timer((seen.timer.domain, seen.timer.fire_at, name));
            let key = self.keys.entry(seen.key.clone()).or_default();
            key.failed(&cause, &[])
                .map_err(|detail| wrong("wrong failure", format!("{value}: {detail}")))?;
            return Ok(false);
        };
        if is_late {
            self.decide(id, seen, ResultKind::Late)?;
            return Ok(true);
        }
        let steps = self.decide(id, seen, ResultKind::Failed)?.steps.clone();
        let cause = Cause::Element { id, timestamp: seen.timer.fire_at };
        let key = self.keys.entry(seen.key.clone()).or_default();
        key.failed(&cause, &steps)
            .map_err(|detail| wrong("wrong failure", format!("{value}: {detail}")))?;
        Ok(true)
    }

    /// An output says what became of an element.
    fn decide(&mut self, id: u64, seen: &Seen, as_what: ResultKind) -> Result<&Sent, Violation> {
        let wrong = |kind, detail| Err(Violation::new(kind, format!("{seen:?}: {detail}")));
        let Some(sent) = self.sent.get_mut(&id).filter(|sent| sent.key == seen.key) else {
            return wrong("unknown output", format!("no element {id} was sent to the key"));
        };
        if sent.taken.is_some() || sent.is_gone {
            return wrong("element twice", format!("{as_what:?}: {sent:?}"));
        }
        if sent.answered.is_some_and(|it| ![as_what, ResultKind::Repeated].contains(&it)) {
            return wrong("wrong answer", format!("{as_what:?}: {sent:?}"));
        }
        if !sent.is_produced {
            let last = self.last.insert(seen.key.clone(), id);
            if last.is_some_and(|last| last > id) {
                return wrong("out of order", format!("{id} after {last:?}"));
            }
        }
        sent.taken = Some(as_what);
        Ok(sent)
    }
}
