//! A namespace as the client knows it: what was acknowledged of it, and what it may have been told.

use crate::act::Act;
use crate::draw::PRODUCERS;
use crate::model::{Model, Violation};
use crate::oracle::Rules;
use crate::outputs::Consumer;
use crate::sources::{Sources, Unclear};
use std::sync::Arc;
use stormwheel::key_group::Layout;
use stormwheel::namespace::{
    ClockKind, NamespaceConfig, NamespaceStatus, ProcessingTimers, SourceResult,
};
use stormwheel::output::NamespaceId;
use stormwheel::runtime::NamespaceEntry;
use stormwheel::time::Timestamp;

/// A namespace as the client knows it.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) name: &'static str,
    /// Of what is there, as far as is known.
    pub(crate) life: Option<Life>,
    /// What it was told and has not answered yet, or what it may have been told before a crash.
    pub(crate) told: Option<Told>,
    /// Operations and questions that are not answered yet.
    pub(crate) busy: usize,
    /// The node was started anew, and has not come to rest since.
    pub(crate) is_restarted: bool,
    /// It is not followed any more.
    pub(crate) is_lost: bool,
    /// When it was told last how to be: not before.
    pub(crate) configured_ms: i64,
    /// The highest incarnation that it ever had.
    last_id: Option<NamespaceId>,
}

/// One incarnation of a namespace.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) entry: Arc<NamespaceEntry>,
    pub(crate) model: Model,
    pub(crate) consumer: Consumer,
    pub(crate) sources: Sources,
    /// How its input has ended, if it has.
    pub(crate) closed: Option<ProcessingTimers>,
    pub(crate) producers: [Producer; PRODUCERS.len()],
}

/// Somebody whose requests are taken once, also if they are sent again since their answers were lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producer {
    /// Of the request that was sent last.
    pub(crate) sequence: u64,
    /// What is in it, unless all of it was answered.
    pub(crate) open: Option<Vec<(Vec<u8>, Act)>>,
    /// It waits for an answer.
    pub(crate) is_asked: bool,
}

/// One thing that a namespace was told.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few of them")]
pub(crate) enum Told {
    /// `after`: what the sources come to.
    Source {
        after: Sources,
        result: SourceResult,
        marks: Vec<u64>,
    },
    Clock {
        to: i64,
        advanced: bool,
        marks: Vec<u64>,
    },
    Configure {
        config: NamespaceConfig,
        marks: Vec<u64>,
    },
    /// `since`: what the clock may have read then, once the engine has gone meanwhile.
    Pause {
        mark: usize,
        since: Vec<i64>,
        marks: Vec<u64>,
    },
    Resume {
        mark: usize,
        marks: Vec<u64>,
    },
    /// `changed`: it will say so.
    Close {
        timers: ProcessingTimers,
        changed: bool,
        marks: Vec<u64>,
    },
    /// What is to be refused, so.
    Refused(&'static str),
    Delete,
}

impl Space {
    /// One that is not there yet.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            life: None,
            told: None,
            busy: 0,
            is_restarted: false,
            is_lost: false,
            configured_ms: i64::MIN,
            last_id: None,
        }
    }

    /// Nothing may be asked of it now.
    pub(crate) const fn is_exclusive(&self) -> bool {
        let told = &self.told;
        self.is_lost || !matches!(told, None | Some(Told::Source { .. } | Told::Clock { .. }))
    }

    /// Its input has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.closed.is_some())
    }

    /// Nothing is checked of it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_lost || self.life.as_ref().is_some_and(|life| life.model.is_lost)
    }

    /// No time passes in it.
    pub(crate) fn is_paused(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.model.is_paused())
    }

    /// The engine's clock may have read this.
    pub(crate) fn clock_reads(&mut self, now: i64) {
        let Some(life) = &mut self.life else { return };
        life.model.clock_reads(now);
        let mut passed = life.sources.pass(now);
        // Whether it was silent before or after what it is told nobody could tell.
        let is_due = |after: &Sources| !matches!(after.clone().pass(now), Ok(None));
        let is_unclear = match &self.told {
            Some(Told::Source { after, .. }) => !matches!(passed, Ok(None)) || is_due(after),
            Some(Told::Close { .. } | Told::Pause { .. } | Told::Resume { .. }) => {
                !matches!(passed, Ok(None))
            }
            _ => false,
        };
        if is_unclear {
            passed = Err(Unclear);
        }
        match passed {
            Ok(None) => {}
            Ok(Some(moved)) => {
                let advances = &mut life.model.rules.advances[0];
                for to in moved {
                    if advances.last().is_none_or(|last| to > *last) {
                        advances.push(to);
                    }
                }
            }
            Err(Unclear) => self.lose(),
        }
    }

    /// A new engine runs on what is left; its clock reads this.
    pub(crate) fn restarted(&mut self, now: i64) {
        if let Some(life) = &mut self.life {
            life.sources.restarted(now);
        }
        if let Some(Told::Source { after, .. }) = &mut self.told {
            after.restarted(now);
        }
    }

    /// Nobody knows any more what to expect of it.
    pub(crate) fn lose(&mut self) {
        self.life = None;
        self.told = None;
        self.is_lost = true;
    }

    /// What is there goes on under another incarnation.
    pub(crate) fn renew(
        &mut self,
        entry: Arc<NamespaceEntry>,
        layout: Layout,
        now: i64,
    ) -> Result<(), Violation> {
        self.begin(&entry)?;
        if let Some(life) = &mut self.life {
            life.entry = Arc::clone(&entry);
        }
        self.adopt(entry, layout, now)
    }

    fn begin(&mut self, entry: &NamespaceEntry) -> Result<(), Violation> {
        if self.last_id.is_some_and(|last| entry.id <= last) {
            let detail = format!("{}: {:?} after {:?}", self.name, entry.id, self.last_id);
            return Err(Violation::new("incarnation reused", detail));
        }
        self.last_id = Some(entry.id);
        Ok(())
    }

    /// Takes an incarnation for what is there.
    pub(crate) fn adopt(
        &mut self,
        entry: Arc<NamespaceEntry>,
        layout: Layout,
        now: i64,
    ) -> Result<(), Violation> {
        let config = &entry.config;
        let rules = Rules {
            is_manual: config.clock == ClockKind::Manual,
            resolution_ms: config.resolution_ms,
            spread_ms: config.spread_ms,
            timers_per_key: config.limits.timers_per_key as usize,
            advances: [Vec::new(), Vec::new()],
            overdue: vec![config.overdue],
            ending: None,
        };
        if let Some(life) = &mut self.life
            && life.entry.id == entry.id
        {
            let Rules { advances, overdue, ending, .. } = life.model.rules.clone();
            life.model.rules = Rules { advances, overdue, ending, ..rules };
            life.sources.list(config.watermark.sources.iter(), (self.configured_ms, now));
            life.sources.idle_after_ms = config.watermark.idle_after_ms;
            life.entry = entry;
            return Ok(());
        }
        self.begin(&entry)?;
        let config = &entry.config;
        let mut sources = Sources::default();
        sources.list(config.watermark.sources.iter(), (self.configured_ms, now));
        sources.idle_after_ms = config.watermark.idle_after_ms;
        self.life = Some(Life {
            model: Model::new(self.name, layout, rules, now),
            consumer: Consumer::new(entry.id),
            sources,
            closed: None,
            producers: Default::default(),
            entry,
        });
        Ok(())
    }
}

impl Life {
    /// Times that timers may meet, by domain.
    pub(crate) fn near(&self, now: i64) -> [i64; 2] {
        let rules = &self.model.rules;
        let event = rules.advances[0].last().copied().unwrap_or(now - 100);
        let manual = rules.advances[1].last().copied().unwrap_or(10_000);
        // Nobody registers anything around the end of time, to which a close brings it.
        [event, if rules.is_manual { manual } else { now }].map(|near| near.min(i64::MAX / 2))
    }

    /// The engine is gone: what was told last may have been done.
    pub(crate) fn crash(
        &mut self,
        told: &mut Option<Told>,
        may_refuse: bool,
    ) -> Result<(), Violation> {
        match told {
            Some(Told::Pause { mark, since, .. }) if since.is_empty() => {
                *since = self.model.clock_since(*mark);
            }
            Some(Told::Resume { .. }) => self.model.crash_amid_resume(),
            _ => {}
        }
        self.producers.iter_mut().for_each(|producer| producer.is_asked = false);
        self.model.crash(may_refuse)
    }

    /// What the engine says of the namespace's time, after a crash or when nothing is under way.
    pub(crate) fn reached(&mut self, status: &NamespaceStatus) -> Result<(), Violation> {
        self.model.reached(0, status.watermark.map(Timestamp::as_millis))?;
        if self.model.rules.is_manual {
            self.model.reached(1, status.now.map(Timestamp::as_millis))?;
        }
        Ok(())
    }
}
