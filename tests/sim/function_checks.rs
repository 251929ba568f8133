//! What is checked of functions when nothing goes wrong any more, and when a node goes on from a
//! savepoint.

use crate::model::{Violation, text};
use crate::run::Run;
use crate::script::Place;
use crate::stage::Stage;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use stormwheel::namespace::{LateTimers, NamespaceStatus, OverduePolicy};
use stormwheel::runtime::Engine;
use stormwheel::time::{Domain, Timestamp};

impl Run {
    /// How many requests wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.client.waiting() + self.functions.waiting()
    }

    /// Reads what functions have emitted.
    pub(crate) fn consume_functions(
        &mut self,
        engine: &Engine,
        is_calm: bool,
    ) -> Result<(), Violation> {
        if self.world.machine.is_down() {
            return Ok(());
        }
        let clocks = (self.world.now_ms(), self.world.clock.latest_ms());
        for line in self.functions.consume(engine, clocks, is_calm)? {
            self.world.machine.trace(&line);
        }
        Ok(())
    }

    /// The node has come to rest: each key has the state and the timers that it would have if nothing
    /// had ever gone wrong.
    pub(crate) fn settle_functions(&mut self, engine: &Engine) -> Result<(), Violation> {
        for stage in self.functions.stages.iter_mut().filter(|stage| !stage.is_lost) {
            match (engine.namespace(stage.name), &stage.life) {
                (Ok(entry), None) => stage.begin(entry)?,
                (Ok(entry), Some((known, _))) if entry.id == known.id => {}
                (Err(_), None) => {}
                (found, _) => {
                    let found = found.map(|entry| entry.id);
                    return Err(stage.wrong("lost namespace", format!("{found:?}")));
                }
            }
        }
        self.consume_functions(engine, true)?;
        for index in 0..self.functions.stages.len() {
            let Some((entry, _)) = &self.functions.stages[index].life else { continue };
            let entry = Arc::clone(entry);
            let status = self.ask(|engine, reply| engine.describe(&entry, reply))?;
            let keys: Vec<Vec<u8>> = self.functions.stages[index].keys.keys().cloned().collect();
            let mut found = Vec::new();
            for key in keys {
                let state = self.ask(|engine, reply| engine.key_state(&entry, &key, reply))?;
                let timers = self.ask(|engine, reply| engine.key_timers(&entry, &key, reply))?;
                let timers = timers.map(|timers| {
                    let place = |it: &stormwheel::op::TimerView| -> Place {
                        (it.domain, it.fire_at.as_millis(), it.name.clone())
                    };
                    timers.iter().map(place).collect::<Vec<Place>>()
                });
                found.push((key, state, timers));
            }
            let now = self.world.now_ms();
            let stage = &mut self.functions.stages[index];
            let status = status.map_err(|it| stage.wrong("lost namespace", it.to_string()))?;
            stage.settle_pause(&status, self.world.version.load(Ordering::Relaxed))?;
            self.summary.stops += u64::from(stage.halt.is_stopped);
            stage.settle_time(&status)?;
            for (key, state, timers) in found {
                let (Ok(state), Ok(timers)) = (state, timers) else {
                    return Err(stage.wrong("lost namespace", text(&key)));
                };
                stage.settle_key(&key, state.as_deref(), &timers, now)?;
            }
            stage.settle_elements()?;
            stage.settle_announcements()?;
            if let Some((_, consumer)) = &stage.life {
                let verified = consumer.verify(engine, now, stage.config.retention.age_ms);
                verified.map_err(|it| {
                    let (id, log) = (consumer.namespace, engine.outputs());
                    let (earliest, latest) = (log.earliest(id), log.latest());
                    let detail = format!("{} of {earliest:?} to {latest:?}", it.detail);
                    stage.wrong(it.kind, detail)
                })?;
            }
        }
        Ok(())
    }

    /// Takes what a savepoint may hold for what is there: `shadow` is how it was when it was asked for.
    pub(crate) fn restored_functions(&mut self, shadow: Vec<Stage>) {
        let before = std::mem::replace(&mut self.functions.stages, shadow);
        for (stage, before) in self.functions.stages.iter_mut().zip(before) {
            for (id, mut sent) in before.sent {
                (sent.taken, sent.answered) = (None, None);
                stage.sent.entry(id).or_insert(sent);
            }
            for (mark, before) in stage.marks.iter_mut().zip(before.marks) {
                mark.told = before.told;
            }
            stage.producers = before.producers;
            if before.halt.turns != stage.halt.turns || stage.halt.is_turning {
                // Whether that was before or after the cut nobody can tell.
                stage.halt.is_paused = None;
            }
            stage.halt.turns = before.halt.turns;
            stage.bring_announcements(before.announcements);
        }
    }

    /// Takes the namespaces of a new directory for those of the old one.
    pub(crate) fn find_functions_again(&mut self, engine: &Engine) -> Result<(), Violation> {
        let (now_ms, latest_ms) = (self.world.now_ms(), self.world.clock.latest_ms());
        for stage in self.functions.stages.iter_mut().filter(|stage| !stage.is_lost) {
            let known = stage.life.take().map(|(_, known)| known);
            let entry = match engine.namespace(stage.name) {
                Ok(entry) => entry,
                // It was not there when the savepoint was asked for, and need not be in it.
                Err(_) if known.is_none() => continue,
                Err(it) => return Err(stage.wrong("lost namespace", it.to_string())),
            };
            stage.begin(entry)?;
            let Some((_, consumer)) = &mut stage.life else { continue };
            let age_ms = stage.config.retention.age_ms;
            let restored = consumer.poll(engine, (now_ms, age_ms), latest_ms, true)?;
            let seen = known.map_or(Ok(0), |it| it.find_again(&restored, now_ms, age_ms))?;
            for seen in restored.iter().skip(seen) {
                stage.take(seen, self.world.version.load(Ordering::Relaxed))?;
            }
        }
        Ok(())
    }
}

impl Stage {
    /// Each source stands where it was told to go, and at least where that was answered.
    fn settle_time(&mut self, status: &NamespaceStatus) -> Result<(), Violation> {
        let found = |source: &str| {
            let it = status.sources.iter().find(|it| it.source == source)?;
            it.watermark.map(Timestamp::as_millis)
        };
        for (mark, source) in self.marks.iter_mut().zip(&self.config.watermark.sources) {
            let found = found(source);
            if found < mark.certain || found > mark.told {
                let detail = format!("{}: {source} stands at {found:?}: {mark:?}", self.name);
                return Err(Violation::new("lost time", detail));
            }
            (mark.certain, mark.told) = (found, found);
        }
        let (expected, found) = (self.watermark(|mark| mark.certain), status.watermark);
        if found.map(Timestamp::as_millis) != expected {
            return Err(self.wrong("lost time", format!("{found:?}, not {expected:?}")));
        }
        Ok(())
    }

    fn settle_key(
        &self,
        key: &[u8],
        state: Option<&[u8]>,
        timers: &[Place],
        now: i64,
    ) -> Result<(), Violation> {
        let Some(model) = self.keys.get(key) else { return Ok(()) };
        let wrong = |kind, detail| {
            Err(self.wrong(kind, format!("{}: {detail}; expected is {model:?}", text(key))))
        };
        if !model.has_heard(self.heard()) {
            return wrong("not visited", format!("{:?}", self.heard()));
        }
        if !model.is_done() {
            return wrong("missing output", "all is at rest".to_owned());
        }
        if state != model.state().as_deref() {
            return wrong("wrong state", format!("{state:?}, not {:?}", model.state()));
        }
        let watermark = self.watermark(|mark| mark.certain);
        // One that has stopped does not show what is due still.
        let is_shown = |place: &&Place| {
            let until = if place.0 == Domain::Event { watermark } else { Some(now) };
            !self.halt.is_stopped || Some(place.1) > until || timers.contains(*place)
        };
        if !timers.iter().eq(model.timers().iter().filter(is_shown)) {
            return wrong("wrong timers", format!("{timers:?}"));
        }
        if self.is_halted() {
            return Ok(());
        }
        let is_due = |(domain, at, _): &&Place| match domain {
            Domain::Event => self.config.late_timers == LateTimers::Fire && Some(*at) <= watermark,
            Domain::Processing => self.config.overdue == OverduePolicy::Fire && *at <= now,
        };
        match timers.iter().find(is_due) {
            Some(place) => wrong("not fired", format!("{place:?} by {watermark:?} and {now}")),
            None => Ok(()),
        }
    }

    /// What was answered was taken; what was not will not be any more, unless it is sent again.
    fn settle_elements(&mut self) -> Result<(), Violation> {
        let open: Vec<u64> =
            self.producers.iter().filter_map(|it| it.open.clone()).flatten().collect();
        for (id, sent) in &mut self.sent {
            if sent.taken.is_none() && sent.answered.is_some() {
                let detail = format!("{}: {id}: {sent:?}", self.name);
                return Err(Violation::new("lost element", detail));
            }
            sent.is_gone |= sent.taken.is_none() && !open.contains(id);
        }
        Ok(())
    }
}
