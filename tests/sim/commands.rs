//! What the client tells namespaces as a whole: configurations, their end, watermarks and clocks.
//!
//! A namespace is told one thing at a time, so that after a crash it either was told that or was not.

use crate::client::{Asked, Client, Fate, Reply, fate};
use crate::draw;
use crate::model::Violation;
use crate::rng::Rng;
use crate::space::{Life, Told};
use stormwheel::error::Rejection;
use stormwheel::namespace::{ClockChange, Command, CommandReply, OverduePolicy, SourceChange};
use stormwheel::runtime::Engine;
use stormwheel::time::Timestamp;

impl Client {
    pub(crate) fn command(
        &mut self,
        engine: &Engine,
        space: usize,
        command: Command,
        settle: bool,
    ) {
        let name = self.spaces[space].name;
        self.log.push(format!("{} to {name}: {command:?}, settle: {settle}", self.next + 1));
        let reply = self.reply(Asked::Command { space }, Reply::Command);
        engine.command(name, command, settle, reply);
    }

    pub(crate) fn configure(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64) {
        let it = &mut self.spaces[space];
        if it.busy > 0 {
            return;
        }
        let mut config = draw::config(rng, it.name);
        let is_fixed = |life: &&Life| {
            let is_manual = life.model.rules.is_manual && life.model.is_paused();
            it.is_restarted || is_manual
        };
        if let Some(life) = it.life.as_ref().filter(is_fixed) {
            // What was due at the restart may be waiting for its decision; a manual clock is not
            // followed through anything but `fire`.
            config.overdue = life.entry.config.overdue;
        }
        let marks = it.life.as_ref().map(|life| life.model.marks()).unwrap_or_default();
        if let Some(life) = &mut it.life {
            life.model.rules.overdue.push(config.overdue);
        }
        it.configured_ms = now;
        it.told = Some(Told::Configure { config: config.clone(), marks });
        self.command(engine, space, Command::Put { config, expected_version: None }, false);
    }

    pub(crate) fn delete(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        if self.spaces[space].busy > 0 {
            return;
        }
        self.spaces[space].told = Some(Told::Delete);
        self.command(engine, space, Command::Delete { force: rng.below(4) > 0 }, false);
    }

    pub(crate) fn source(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64) {
        let Some(life) = &mut self.spaces[space].life else { return };
        let names = life.sources.names();
        if names.is_empty() || life.sources.is_unclear() {
            return;
        }
        let source = rng.pick(&names).clone();
        let mut after = life.sources.clone();
        let is_closed = life.closed.is_some();
        let (change, result) = if rng.below(5) == 0 {
            (SourceChange::Idle, after.idle(&source))
        } else {
            let from = life.sources.watermark(&source).unwrap_or(now - 100);
            let to = if rng.below(8) == 0 { from - 5 } else { from + rng.within(0, 150) };
            (SourceChange::Watermark(Timestamp::from_millis(to)), after.report(&source, to, now))
        };
        if is_closed {
            self.refused_as_closed(engine, space, Command::Source { source, change });
            return;
        }
        let marks = life.model.marks();
        let advances = &mut life.model.rules.advances[0];
        let next = after.combined().filter(|to| advances.last().is_none_or(|last| to > last));
        advances.extend(next);
        self.spaces[space].told = Some(Told::Source { after, result, marks });
        self.command(engine, space, Command::Source { source, change }, rng.below(2) == 0);
    }

    pub(crate) fn clock(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let Some(life) = &mut self.spaces[space].life else { return };
        if !life.model.rules.is_manual {
            return;
        }
        let standing = life.model.rules.advances[1].last().copied();
        let by = rng.within(-20, 150);
        let (to, change) = match standing {
            Some(at) if rng.below(2) == 0 && by >= 0 => (at + by, ClockChange::Advance(by)),
            _ => {
                let to = standing.unwrap_or(10_000) + by;
                (to, ClockChange::Set(Timestamp::from_millis(to)))
            }
        };
        if life.is_at_its_end() {
            self.refused_as_closed(engine, space, Command::Clock(change));
            return;
        }
        let advanced = standing.is_none_or(|at| to > at);
        let marks = life.model.marks();
        if advanced {
            life.model.rules.advances[1].push(to);
        }
        self.spaces[space].told = Some(Told::Clock { to, advanced, marks });
        self.command(engine, space, Command::Clock(change), true);
    }

    /// Lets the time of a namespace stand still, or go on.
    pub(crate) fn pause_or_resume(&mut self, engine: &Engine, space: usize) {
        let it = &mut self.spaces[space];
        let Some(life) = it.life.as_ref().filter(|_| !it.is_restarted) else { return };
        // How far its time has come by then nobody could tell.
        if life.sources.is_unclear() {
            return;
        }
        // Whether what is under way comes before or after a resume nobody could tell.
        if life.model.is_paused() && it.busy > 0 {
            return;
        }
        let model = &life.model;
        let fires = model.rules.overdue.iter().all(|it| *it == OverduePolicy::Fire);
        if model.rules.is_manual && !fires {
            return;
        }
        if life.is_at_its_end() {
            self.refused_as_closed(engine, space, Command::Pause);
            return;
        }
        let (mark, marks) = (model.clock_mark(), model.marks());
        let (told, command) = if model.is_paused() {
            (Told::Resume { mark, marks }, Command::Resume)
        } else {
            (Told::Pause { mark, since: Vec::new(), marks }, Command::Pause)
        };
        it.told = Some(told);
        self.command(engine, space, command, false);
    }

    /// A namespace has answered to what it was told.
    pub(crate) fn told(
        &mut self,
        engine: &Engine,
        now: i64,
        space: usize,
        reply: &Result<CommandReply, Rejection>,
    ) -> Result<(), Violation> {
        let Some(told) = self.spaces[space].told.take() else { return Ok(()) };
        let name = self.spaces[space].name;
        let wrong = |reply: &Result<CommandReply, Rejection>, told: &Told| {
            Err(Violation::new("wrong answer", format!("{name}: {told:?}: {reply:?}")))
        };
        match fate(reply.as_ref().err()) {
            Fate::Unknown => {
                self.spaces[space].told = Some(told);
                return Ok(());
            }
            Fate::NotDone => {
                self.refused += 1;
                self.untold(space, &told);
                return Ok(());
            }
            Fate::Done => {}
        }
        self.acknowledged += 1;
        match (&told, reply) {
            (Told::Configure { config, marks }, Ok(CommandReply::Configured { .. })) => {
                let it = &mut self.spaces[space];
                if let Some(life) = &mut it.life {
                    life.model.all_certain(marks)?;
                }
                let entry = engine.namespace(name).map_err(|rejection| {
                    Violation::new("lost namespace", format!("{name}: {rejection}"))
                })?;
                if *entry.config != *config {
                    return wrong(reply, &told);
                }
                it.adopt(entry, self.layout, now)?;
            }
            (
                Told::Source { after, result, marks },
                Ok(CommandReply::Source { result: found, watermark, .. }),
            ) if result == found => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                life.sources = after.clone();
                life.sources.heard(now);
                let advances = &life.model.rules.advances[0];
                if watermark.map(Timestamp::as_millis) != advances.last().copied() {
                    return wrong(reply, &told);
                }
                let moved = advances.len();
                if moved > life.model.done[0] {
                    life.model.done[0] = moved;
                    // In a pause the lanes hear of it later.
                    if !life.model.is_paused() {
                        life.model.all_certain(marks)?;
                    }
                }
            }
            (
                Told::Clock { to, advanced, marks },
                Ok(CommandReply::Clock { advanced: found, now, .. }),
            ) if advanced == found && (!advanced || now.as_millis() == *to) => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                life.model.done[1] = life.model.rules.advances[1].len();
                if *advanced && !life.model.is_paused() {
                    life.model.all_certain(marks)?;
                }
            }
            (Told::Pause { mark, marks, .. }, Ok(CommandReply::Paused { changed: true })) => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                life.model.all_certain(marks)?;
                life.model.pause(life.model.clock_since(*mark));
            }
            (Told::Resume { mark, marks }, Ok(CommandReply::Resumed { changed: true })) => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                life.model.all_certain(marks)?;
                life.model.resume(&life.model.clock_since(*mark));
                self.pauses += 1;
            }
            (Told::Close { timers, changed, marks }, Ok(CommandReply::Closed { .. })) => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                if !life.are_closed(*timers, *changed, reply) {
                    return wrong(reply, &told);
                }
                life.model.all_certain(marks)?;
                life.has_closed(*timers, *changed);
                self.closes += u64::from(*changed);
            }
            (Told::Refused(slug), Err(rejection)) if rejection.slug() == *slug => {}
            (Told::Delete, Ok(CommandReply::Deleted { .. })) => self.spaces[space].life = None,
            (Told::Delete, Err(Rejection::NamespaceNotEmpty { .. }))
            | (Told::Configure { .. }, Err(Rejection::OptionFixed { .. })) => {}
            _ => return wrong(reply, &told),
        }
        Ok(())
    }

    /// What a namespace was told last never reached it.
    fn untold(&mut self, space: usize, told: &Told) {
        if let Some(life) = &mut self.spaces[space].life {
            let model = &mut life.model;
            match told {
                Told::Source { .. } => model.rules.advances[0].truncate(model.done[0]),
                Told::Clock { .. } => model.rules.advances[1].truncate(model.done[1]),
                Told::Close { .. } => model.not_ended(life.closed.is_some()),
                _ => {}
            }
        }
    }
}
