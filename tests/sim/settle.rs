//! What is checked when nothing goes wrong any more: everything that can be read of a node is held
//! against the ledger.

use crate::act::Timer;
use crate::client::{query, timer};
use crate::model::Violation;
use crate::plan::Crash;
use crate::run::{ROUNDS_MAX, Run};
use crate::space::Told;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use stormwheel::error::Rejection;
use stormwheel::query::ListPosition;
use stormwheel::runtime::{Engine, NamespaceEntry};

impl Run {
    /// Nothing goes wrong any more: the node comes to rest, and everything is checked. Once more, if
    /// something did go wrong that was pinned.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        let met = self.world.machine.met().len();
        let outcome = self.try_settle();
        if outcome.is_ok() || self.world.machine.met().len() == met {
            return outcome;
        }
        let (shards, is_checked) = (self.shards, false);
        self.crash(&Crash { shards, is_checked, ..Crash::plain(0) })?;
        self.try_settle()
    }

    fn try_settle(&mut self) -> Result<(), Violation> {
        self.world.machine.calm();
        self.world.disk.set_capacity(u64::MAX);
        if self.broken.is_some() || self.world.machine.is_down() {
            return Ok(());
        }
        if self.world.free_bytes.is_some() {
            let (shards, is_checked) = (self.shards, false);
            self.crash(&Crash { shards, is_checked, ..Crash::plain(0) })?;
        }
        self.rest()?;
        let engine = self.world.engine().clone();
        let now = self.world.now_ms();
        for index in 0..self.client.spaces.len() {
            self.resolve(&engine, index, now)?;
        }
        self.consume(&engine, true)?;
        for index in 0..self.client.spaces.len() {
            let Some(life) = &self.client.spaces[index].life else { continue };
            let entry = Arc::clone(&life.entry);
            let status = self.ask(|engine, reply| engine.describe(&entry, reply))?;
            let status = status.map_err(|rejection| {
                Violation::new("lost namespace", format!("{}: {rejection}", entry.name))
            })?;
            let pending = self.list(&entry)?;
            let space = &mut self.client.spaces[index];
            let told = space.told.take();
            space.is_restarted = false;
            let Some(life) = &mut space.life else { continue };
            if let Some(Told::Source { after, .. }) = &told
                && after.are(&status.sources, status.watermark)
            {
                life.sources = after.clone();
            }
            let may_be_closed = match &told {
                Some(Told::Close { timers, .. }) => Some(*timers),
                _ => None,
            };
            life.check_closing(status.closing, may_be_closed, pending.is_empty())?;
            let is_ended = engine.outputs().is_ended(entry.id);
            if is_ended != status.closing.is_some_and(|it| it.is_closed) {
                let detail = format!("{}: its outputs end: {is_ended}", entry.name);
                return Err(Violation::new("wrong end", detail));
            }
            self.summary.silences += u64::from(life.sources.is_unclear());
            life.sources.settle(&status.sources, now).map_err(|detail| {
                Violation::new("not idle", format!("{}: {detail}", entry.name))
            })?;
            if !life.sources.are(&status.sources, status.watermark) {
                let (found, at) = (&status.sources, status.watermark);
                let detail = format!("{}: {found:?} at {at:?}, not {:?}", entry.name, life.sources);
                return Err(Violation::new("lost time", detail));
            }
            let (since, is_resuming) = match &told {
                Some(Told::Pause { since, .. }) => (Some(&**since), false),
                Some(Told::Resume { .. }) => (None, true),
                _ => (None, false),
            };
            life.model.check_pause(status.paused, since, is_resuming)?;
            life.reached(&status)?;
            let log = engine.outputs();
            life.model.settled(&pending).map_err(|mut violation| {
                let id = life.entry.id;
                let (earliest, latest) = (log.earliest(id), log.latest());
                violation.detail =
                    format!("{}\n  {id:?} of outputs {earliest:?} to {latest:?}", violation.detail);
                violation
            })?;
            life.model.rules.overdue = vec![life.entry.config.overdue];
            let age_ms = life.entry.config.retention.age_ms;
            life.consumer.verify(&engine, now, age_ms)?;
        }
        self.settle_functions(&engine)?;
        self.check_savepoints(&engine)?;
        self.summary.checks += 1;
        Ok(())
    }

    /// Finds out what became of a namespace that was told something when the engine went.
    fn resolve(&mut self, engine: &Engine, index: usize, now: i64) -> Result<(), Violation> {
        let layout = self.world.setup.layout();
        let space = &mut self.client.spaces[index];
        let name = space.name;
        if space.is_lost {
            return Ok(());
        }
        let wrong = |kind, detail: String| Err(Violation::new(kind, format!("{name}: {detail}")));
        match (engine.namespace(name), &space.told) {
            (Err(_), _) if space.life.is_none() => {}
            (Err(_), Some(Told::Delete)) => space.life = None,
            (Err(rejection), _) => return wrong("lost namespace", rejection.to_string()),
            (Ok(entry), told) => {
                let may = match told {
                    Some(Told::Configure { config, .. }) => Some(config),
                    _ => None,
                };
                let standing = space.life.as_ref().map(|life| &*life.entry.config);
                if standing != Some(&*entry.config) && may != Some(&*entry.config) {
                    return wrong("wrong configuration", format!("{:?}", entry.config));
                }
                if space.life.as_ref().is_some_and(|life| life.entry.id != entry.id) {
                    return wrong("lost namespace", format!("now is {:?}", entry.id));
                }
                space.adopt(entry, layout, now)?;
            }
        }
        if space.life.is_none() || matches!(space.told, Some(Told::Delete)) {
            space.told = None;
        }
        Ok(())
    }

    /// Asks something and steps until it is answered.
    pub(crate) fn ask<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&Engine, Box<dyn FnOnce(T) + Send>),
    ) -> Result<T, Violation> {
        let answer = Arc::new(Mutex::new(None));
        let to = Arc::clone(&answer);
        let engine = self.world.engine().clone();
        ask(
            &engine,
            Box::new(move |it| *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(it)),
        );
        for _ in 0..ROUNDS_MAX {
            if let Some(it) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Ok(it);
            }
            self.round()?;
            if let Some(reason) = &self.broken {
                return Err(Violation::new("broke without a fault", reason.clone()));
            }
        }
        Err(Violation::new("no answer", "to a question of the check"))
    }

    /// Everything that a namespace holds, by key.
    pub(crate) fn list(
        &mut self,
        entry: &Arc<NamespaceEntry>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<Timer>>, Violation> {
        let mut all: BTreeMap<Vec<u8>, Vec<Timer>> = BTreeMap::new();
        let mut after = None;
        loop {
            let query = query(200, after.take());
            let page = self.ask(|engine, reply| engine.list(entry, &query, reply))?;
            let page = page.map_err(|rejection: Rejection| {
                Violation::new("lost namespace", format!("{}: {rejection}", entry.name))
            })?;
            for view in &page.timers {
                all.entry(view.key.clone()).or_default().push(timer(view));
            }
            match page.timers.last() {
                Some(last) if page.more => after = Some(ListPosition::of(last)),
                _ => break,
            }
        }
        for timers in all.values_mut() {
            timers.sort();
        }
        Ok(all)
    }
}
