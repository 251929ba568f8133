//! Savepoints, made while requests go on: each can be read whole from the moment it is answered for,
//! and a node that goes on from one, in another directory with other numbers of key groups, lanes and
//! shards, holds what some cut through all lanes holds. That is what a crash leaves, at any moment
//! between the question and the answer.

use crate::act::Fired;
use crate::model::Violation;
use crate::outputs::{Consumer, Seen};
use crate::rng::Rng;
use crate::run::{ROUNDS_MAX, Run};
use crate::space::Told;
use std::sync::{Arc, Mutex, PoisonError};
use stormwheel::error::Rejection;
use stormwheel::ports::MachineClock;
use stormwheel::runtime::{Engine, SavepointInfo};
use stormwheel::storage::RestoreOptions;

/// Steps by chance for which a savepoint is waited for, while requests go on.
const STEPS: usize = 400;

impl Run {
    /// What was answered for is there, and all that is there is whole.
    pub(crate) fn check_savepoints(&mut self, engine: &Engine) -> Result<(), Violation> {
        let infos = engine.savepoints();
        for id in &self.client.savepoints {
            if !infos.iter().any(|info| info.id == *id && info.failure.is_none()) {
                return Err(Violation::new("lost savepoint", id.clone()));
            }
        }
        for info in infos.iter().filter(|info| info.failure.is_none() && info.ended_ms.is_some()) {
            if self.whole.insert(info.id.clone()) {
                let read = self.world.savepoint(&info.id).and_then(|reader| reader.verify());
                read.map_err(|fault| Violation::new("damaged savepoint", fault.to_string()))?;
                self.summary.savepoints += 1;
            }
        }
        Ok(())
    }

    /// Makes a savepoint while requests go on, and goes on from it in another directory.
    pub(crate) fn restore(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        self.world.machine.calm();
        self.world.disk.set_capacity(u64::MAX);
        if self.broken.is_some() || self.world.free_bytes.is_some() {
            return Ok(());
        }
        self.client.shadow = Some(self.client.spaces.clone());
        let shadow_functions = self.functions.stages.clone();
        let info = self.make_savepoint(rng);
        let shadow = self.client.shadow.take().unwrap_or_default();
        let Some(info) = info? else { return Ok(()) };
        let before = std::mem::replace(&mut self.client.spaces, shadow);
        for (space, before) in self.client.spaces.iter_mut().zip(before) {
            if let (Some(life), Some(before)) = (&mut space.life, before.life)
                && life.entry.id == before.entry.id
            {
                life.producers = before.producers;
            }
        }
        self.restored_functions(shadow_functions);
        self.world.drop_node();
        self.client.crash(self.may_refuse)?;
        self.functions.crash();
        for life in self.client.spaces.iter_mut().filter_map(|space| space.life.as_mut()) {
            life.model.restored();
        }
        let is_exact = self.move_to(&info, rng)?;
        self.shards = 1 + rng.below(8) as u16;
        self.world.clock.pass(if rng.below(2) == 0 { 0 } else { rng.within(1, 500) });
        self.open()?;
        self.find_again()?;
        self.settle()?;
        let layout = self.world.setup.layout();
        self.client.layout = layout;
        for life in self.client.spaces.iter_mut().filter_map(|space| space.life.as_mut()) {
            life.model.relayout(layout);
            if !is_exact {
                // Joined key groups may take what was sent last once more.
                life.producers.iter_mut().for_each(|producer| producer.open = None);
            }
        }
        for stage in self.functions.stages.iter_mut().filter(|_| !is_exact) {
            stage.producers.iter_mut().for_each(|producer| producer.open = None);
        }
        self.summary.restores += 1;
        Ok(())
    }

    /// `None`: it was given up.
    fn make_savepoint(&mut self, rng: &mut Rng) -> Result<Option<SavepointInfo>, Violation> {
        let answer: Arc<Mutex<Option<Result<SavepointInfo, Rejection>>>> = Arc::default();
        let mine = Arc::clone(&answer);
        let engine = self.world.engine().clone();
        let reply = move |it| *mine.lock().unwrap_or_else(PoisonError::into_inner) = Some(it);
        engine.savepoint(None, Box::new(reply));
        for step in 0..STEPS + ROUNDS_MAX {
            if self.broken.is_some() {
                return Ok(None);
            }
            if let Some(it) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.world.machine.trace(&format!("savepoint: {it:?}"));
                return Ok(it.ok());
            }
            if step >= STEPS {
                self.round()?;
                self.world.clock.pass(1);
                continue;
            }
            if rng.below(12) == 0 {
                let now = self.world.now_ms();
                match rng.below(3) {
                    0 => self.functions.ask(&engine, rng, now)?,
                    _ => self.client.ask_beside(&engine, rng, now),
                }
                self.after()?;
            }
            self.world.clock.pass(i64::from(rng.below(60) == 0));
            let parts = self.world.parts();
            self.step(*rng.pick(&parts))?;
        }
        Err(Violation::new("no answer", "to the question for a savepoint"))
    }

    /// Restores, also once the power went in the middle of it. Returns whether producers' requests are
    /// still told apart exactly.
    fn move_to(&mut self, info: &SavepointInfo, rng: &mut Rng) -> Result<bool, Violation> {
        let old = self.world.setup.max_parallelism;
        let max_parallelism = match rng.below(4) {
            0 => old,
            1 => old * 2,
            2 => old * 3,
            _ => 1 + rng.below(24) as u16,
        };
        let options = RestoreOptions {
            directory_id: u128::from(rng.next()).to_le_bytes(),
            max_parallelism,
            lanes: 1 + rng.below(u64::from(max_parallelism.min(8))) as u16,
            now_ms: self.world.clock.realtime_ms(),
            segment_bytes: self.world.setup.segment_bytes,
        };
        let calls = (rng.below(3) == 0).then(|| 1 + rng.below(80));
        let mut outcome = self.world.restore(&info.id, &options, calls);
        let is_down = self.world.machine.is_down();
        self.world.machine.come_up();
        if outcome.is_err() && is_down {
            outcome = self.world.restore(&info.id, &options, None);
        }
        outcome.map_err(|fault| Violation::new("no restore", format!("{}: {fault}", info.id)))?;
        if rng.below(2) == 0 {
            self.world.disk.cut_power(rng);
        } else {
            self.world.disk.kill();
        }
        self.client.savepoints.clear();
        self.whole.clear();
        Ok(max_parallelism.is_multiple_of(old))
    }

    /// Takes the namespaces of the new directory for those of the old one, with the outputs that they
    /// have already.
    fn find_again(&mut self) -> Result<(), Violation> {
        let engine = self.world.engine().clone();
        let (now_ms, latest_ms) = (self.world.now_ms(), self.world.clock.latest_ms());
        for space in &mut self.client.spaces {
            // What is not there any more, or not yet, is looked at with everything else.
            let Ok(entry) = engine.namespace(space.name) else { continue };
            let Some(life) = &mut space.life else { continue };
            let is_told = match &space.told {
                Some(Told::Configure { config, .. }) => *config == *entry.config,
                _ => false,
            };
            if *life.entry.config != *entry.config && !is_told {
                let detail = format!("{}: {:?}", space.name, entry.config);
                return Err(Violation::new("wrong configuration", detail));
            }
            let age_ms = entry.config.retention.age_ms;
            let mut consumer = Consumer::new(entry.id);
            consumer.may_be_early = life.consumer.may_be_early;
            let restored = consumer.poll(&engine, (now_ms, age_ms), latest_ms, true)?;
            let known = life.consumer.find_again(&restored, now_ms, age_ms)?;
            for seen in restored.into_iter().skip(known) {
                self.world.machine.trace(&format!("{seen:?}"));
                let Seen { key, timer, due_by, .. } = seen;
                life.model.output(&key, Fired { timer, due_by })?;
            }
            life.consumer = consumer;
            space.renew(entry, self.client.layout, now_ms)?;
        }
        self.find_functions_again(&engine)
    }
}
