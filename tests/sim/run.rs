//! One world from its beginning to its end: a plain loop on one thread that lets the events of a
//! plan happen, and holds the engine to the ledger.

use crate::act::Fired;
use crate::client::Client;
use crate::functions::Functions;
use crate::model::Violation;
use crate::outputs::Seen;
use crate::plan::{self, Crash, Event};
use crate::rng::Rng;
use crate::stage::Stage;
use crate::world::{Setup, Stepped, World, is_of_the_disk};
use std::collections::BTreeSet;
use std::sync::Arc;
use stormwheel::namespace::OverduePolicy;
use stormwheel::runtime::{Engine, Fault};

/// What a world came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) trace: u64,
    pub(crate) crashes: u64,
    /// Those that came while what was due was firing.
    pub(crate) amid_storms: u64,
    pub(crate) acknowledged: u64,
    pub(crate) outputs: u64,
    pub(crate) checks: u64,
    pub(crate) checkpoints: u64,
    /// Namespaces that were paused and resumed.
    pub(crate) pauses: u64,
    /// Namespaces that were closed.
    pub(crate) closes: u64,
    /// Sources that were found idle by their silence.
    pub(crate) silences: u64,
    /// Timers that restarts found due, by policy, as the engine counts them.
    pub(crate) overdue: [u64; OverduePolicy::NAMES.len()],
    /// Savepoints that were read back, and those that a node went on from.
    pub(crate) savepoints: u64,
    pub(crate) restores: u64,
    /// Elements that functions have taken, and callbacks that were held to the model.
    pub(crate) elements: u64,
    pub(crate) callbacks: u64,
    /// Namespaces that their functions have stopped, as they were found at rest.
    pub(crate) stops: u64,
    /// Namespaces of timers that were not followed any more at the end.
    pub(crate) lost: u64,
    /// Broadcasts that have told of themselves.
    pub(crate) broadcasts: u64,
    pub(crate) calls: u64,
    pub(crate) faults: u64,
}

impl Summary {
    /// Counts another one in; the traces stay apart.
    pub(crate) fn add(&mut self, it: &Self) {
        for (sum, count) in self.overdue.iter_mut().zip(it.overdue) {
            *sum += count;
        }
        for (sum, count) in [
            (&mut self.crashes, it.crashes),
            (&mut self.amid_storms, it.amid_storms),
            (&mut self.acknowledged, it.acknowledged),
            (&mut self.outputs, it.outputs),
            (&mut self.checks, it.checks),
            (&mut self.checkpoints, it.checkpoints),
            (&mut self.pauses, it.pauses),
            (&mut self.closes, it.closes),
            (&mut self.silences, it.silences),
            (&mut self.savepoints, it.savepoints),
            (&mut self.restores, it.restores),
            (&mut self.elements, it.elements),
            (&mut self.callbacks, it.callbacks),
            (&mut self.stops, it.stops),
            (&mut self.lost, it.lost),
            (&mut self.broadcasts, it.broadcasts),
            (&mut self.calls, it.calls),
            (&mut self.faults, it.faults),
        ] {
            *sum += count;
        }
    }
}

/// Rounds over all parts within which a node must come to rest once nothing goes wrong.
pub(crate) const ROUNDS_MAX: usize = 10_000;
/// Steps for which a machine that is about to go down is waited for.
const STEPS_TO_CRASH: usize = 60;
/// With so many bytes a queue is never full.
const QUEUE_BYTES_AMPLE: usize = 1 << 20;
/// Rounds without work after which a node is at rest: time passes between them.
const QUIET_ROUNDS: usize = 3;

/// See the module.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) functions: Functions,
    pub(crate) shards: u16,
    /// Why the node is good for nothing any more.
    pub(crate) broken: Option<String>,
    /// Time stands still also while the node comes to rest.
    pub(crate) is_frozen: bool,
    /// Requests may have been refused: the queues are short, or the disk was full.
    pub(crate) may_refuse: bool,
    /// Savepoints that were read back.
    pub(crate) whole: BTreeSet<String>,
    /// Faults that were met before the last start.
    faults_before: u64,
    pub(crate) summary: Summary,
}

/// Plays the history of a seed.
pub(crate) fn play(
    seed: u64,
    setup: &Setup,
    events: &[Event],
) -> (Result<Summary, Violation>, Vec<String>) {
    play_told(seed, setup, events, false)
}

/// The same; with `is_told` the story comes with it.
pub(crate) fn play_told(
    seed: u64,
    setup: &Setup,
    events: &[Event],
    is_told: bool,
) -> (Result<Summary, Violation>, Vec<String>) {
    let mut run = Run::new(seed, setup);
    if is_told {
        run.world.machine.tell();
    }
    let machine = run.world.machine.clone();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run.start(1)?;
        for event in events {
            run.world.machine.trace(&format!("{event:?}"));
            run.happen(event)?;
        }
        Ok(run.summary())
    }));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new("panic", text.unwrap_or_default()))
    });
    (outcome, machine.story())
}

/// The setup and the history that belong to a seed.
pub(crate) fn history(seed: u64) -> (Setup, Vec<Event>) {
    let mut rng = Rng::new(seed);
    let setup = Setup::draw(&mut rng);
    let events = plan::draw(&mut rng);
    (setup, events)
}

impl Run {
    pub(crate) fn new(seed: u64, setup: &Setup) -> Self {
        let world = World::new(seed, setup.clone());
        let functions = Functions::new(Arc::clone(&world.version));
        Self {
            world,
            client: Client::new(setup),
            functions,
            shards: 1,
            broken: None,
            is_frozen: false,
            may_refuse: setup.queue_bytes_max < QUEUE_BYTES_AMPLE,
            whole: BTreeSet::new(),
            faults_before: 0,
            summary: Summary::default(),
        }
    }

    /// A run over a world with nothing running, and a client that knows nothing.
    pub(crate) fn over(world: World) -> Self {
        let setup = world.setup.clone();
        let functions = Functions::new(Arc::clone(&world.version));
        Self { world, functions, ..Self::new(0, &setup) }
    }

    /// A call goes wrong, so many from now.
    pub(crate) fn fail_in(&mut self, calls: u64, fault: crate::machine::Fault) {
        self.may_refuse |= fault == crate::machine::Fault::Enospc;
        self.world.machine.fail_in(calls, fault);
    }

    /// A checkpoint is taken, whatever it takes.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Violation> {
        let info = self.ask(stormwheel::runtime::Engine::checkpoint)?;
        match info.map(|info| info.failure) {
            Ok(None) => self.rest(),
            other => Err(Violation::new("no checkpoint", format!("{other:?}"))),
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            trace: self.world.machine.trace_hash(),
            acknowledged: self.client.acknowledged,
            checkpoints: self.client.checkpoints,
            pauses: self.client.pauses,
            closes: self.client.closes,
            elements: self.functions.taken,
            callbacks: self.functions.callbacks,
            lost: self.client.spaces.iter().filter(|it| it.is_given_up()).count() as u64,
            broadcasts: self.functions.stages.iter().map(Stage::broadcasts).sum(),
            calls: self.world.machine.calls(),
            faults: self.world.machine.met().len() as u64,
            ..self.summary.clone()
        }
    }

    /// Opens the first node; the namespace `default` is there once it has come to rest. A call that
    /// goes wrong meanwhile costs an attempt.
    pub(crate) fn start(&mut self, shards: u16) -> Result<(), Violation> {
        self.shards = shards;
        loop {
            match self.try_open() {
                Ok(()) => match self.rest() {
                    Ok(()) => break,
                    Err(_) if self.broken.is_some() => {}
                    Err(violation) => return Err(violation),
                },
                Err(fault) if is_of_the_disk(&fault) && self.may_fail() => {}
                Err(fault) => return Err(Violation::new("does not start", fault.to_string())),
            }
            self.go_down(true, &mut Rng::new(u64::from(shards)));
        }
        let now = self.world.now_ms();
        let entry = self.world.engine().namespace("default");
        let entry = entry.map_err(|rejection| {
            Violation::new("lost namespace", format!("default: {rejection}"))
        })?;
        let layout = self.world.setup.layout();
        self.client.spaces[0].adopt(entry, layout, now)
    }

    pub(crate) fn open(&mut self) -> Result<(), Violation> {
        match self.try_open() {
            Ok(()) => Ok(()),
            Err(fault) => Err(Violation::new("does not start", fault.to_string())),
        }
    }

    fn try_open(&mut self) -> Result<(), Fault> {
        self.broken = None;
        self.faults_before = self.world.machine.met().len() as u64;
        self.world.open(self.shards)?;
        let now = self.world.now_ms();
        let recovered = self.world.engine().durability().recovered;
        let down_ms = recovered.map_or(0, |it| it.downtime_ms);
        let layout = self.world.setup.layout();
        self.world.machine.trace(&format!("down for {down_ms} ms until {now}"));
        for space in &mut self.client.spaces {
            space.restarted(now);
            if let Some(life) = &mut space.life {
                life.model.recovered(now, now - down_ms, layout);
                life.consumer.is_anew = true;
            }
        }
        Ok(())
    }

    pub(crate) fn happen(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Ask(seed) => {
                let now = self.world.now_ms();
                self.client.ask(self.world.engine(), &mut Rng::new(*seed), now);
                self.after()?;
            }
            Event::Call(seed) => {
                let now = self.world.now_ms();
                self.functions.ask(self.world.engine(), &mut Rng::new(*seed), now)?;
                self.after()?;
            }
            Event::Storm(in_ms, seed) => {
                let now = self.world.now_ms();
                self.client.storm(self.world.engine(), &mut Rng::new(*seed), now, *in_ms);
                self.after()?;
            }
            Event::Steps(count, seed) => {
                let mut rng = Rng::new(*seed);
                for _ in 0..*count {
                    let parts = self.world.parts();
                    self.step(*rng.pick(&parts))?;
                }
            }
            Event::Work => {
                for _ in 0..4 {
                    self.round()?;
                }
            }
            Event::Pass(millis) => self.world.clock.pass(*millis),
            Event::SetClock(millis) => self.world.clock.step(*millis),
            Event::Drift(ppm) => self.world.clock.set_drift(*ppm),
            Event::Accept => {
                self.world.engine().accept_clock();
            }
            Event::Fault(calls, fault) => self.fail_in(*calls, *fault),
            Event::Rates(..) => {
                if let Some(rates) = event.rates() {
                    self.world.machine.set_rates(rates);
                }
            }
            Event::Free(bytes) => {
                self.may_refuse |= bytes.is_some();
                let used = self.world.disk.used_bytes();
                self.world.disk.set_capacity(bytes.map_or(u64::MAX, |free| used + free));
            }
            Event::Settle => self.settle()?,
            Event::Reopen(shards) => self.reopen(*shards)?,
            Event::Crash(crash) => self.crash(crash)?,
            Event::Restore(seed) => self.restore(&mut Rng::new(*seed))?,
        }
        if let Some(reason) = self.broken.take() {
            self.world.machine.trace(&reason);
            let seed = self.world.machine.draw(u64::MAX);
            let (is_power, shards) = (seed.is_multiple_of(2), self.shards);
            self.crash(&Crash { is_power, shards, down_ms: 1, ..Crash::plain(seed) })?;
        }
        Ok(())
    }

    /// A step of one part, and what can be seen after it.
    pub(crate) fn step(&mut self, part: stormwheel::runtime::NodePart) -> Result<bool, Violation> {
        if self.broken.is_some() || !self.world.is_open() {
            return Ok(false);
        }
        let stepped = self.world.step(part);
        self.world.machine.trace(&format!("{part:?}: {stepped:?}"));
        self.after()?;
        match stepped {
            Stepped::Did => Ok(true),
            Stepped::Idle | Stepped::Full(_) => Ok(false),
            Stepped::Broken(reason) => {
                self.broken = Some(reason);
                Ok(false)
            }
        }
    }

    /// Looks at the clock, at what was answered, and at what can be read.
    pub(crate) fn after(&mut self) -> Result<(), Violation> {
        let now = self.world.now_ms();
        let latest_ms = self.world.clock.latest_ms();
        if now > latest_ms {
            let detail =
                format!("the engine reads {now}, no clock ever showed more than {latest_ms}");
            return Err(Violation::new("early", detail));
        }
        for space in self.client.spaces.iter_mut().chain(self.client.shadow.iter_mut().flatten()) {
            space.clock_reads(now);
        }
        let engine = self.world.engine().clone();
        self.client.hear(&engine, now)?;
        self.functions.hear(&engine)?;
        for line in self.client.log.drain(..).chain(self.functions.log.drain(..)) {
            self.world.machine.trace(&line);
        }
        self.consume(&engine, false)?;
        self.consume_functions(&engine, false)
    }

    pub(crate) fn consume(&mut self, engine: &Engine, is_calm: bool) -> Result<(), Violation> {
        let (now_ms, latest_ms) = (self.world.now_ms(), self.world.clock.latest_ms());
        for space in &mut self.client.spaces {
            let Some(life) = &mut space.life else { continue };
            if self.world.machine.is_down() {
                continue;
            }
            let age_ms = life.entry.config.retention.age_ms;
            for seen in life.consumer.poll(engine, (now_ms, age_ms), latest_ms, is_calm)? {
                self.world.machine.trace(&format!("{seen:?}"));
                self.summary.outputs += 1;
                let Seen { key, timer, due_by, .. } = seen;
                life.model.output(&key, Fired { timer, due_by })?;
            }
            if life.consumer.is_late {
                // Nobody can tell any more what it should have seen.
                self.world.machine.trace("a consumer came too late");
                space.lose();
            }
        }
        Ok(())
    }

    pub(crate) fn round(&mut self) -> Result<bool, Violation> {
        let mut is_busy = false;
        for part in self.world.parts() {
            is_busy |= self.step(part)?;
        }
        Ok(is_busy)
    }

    /// Steps until nothing is left to do. Fails if that never comes.
    pub(crate) fn rest(&mut self) -> Result<(), Violation> {
        let mut quiet = 0;
        for round in 0..ROUNDS_MAX {
            let is_busy = self.round()?;
            if let Some(reason) = &self.broken {
                return Err(Violation::new("broke without a fault", reason.clone()));
            }
            if is_busy {
                quiet = 0;
                // Some work is paced.
                self.pass(if round < 100 { 0 } else { 10 });
                continue;
            }
            if self.world.engine().status().clock.held_step_ms.is_some() {
                self.world.engine().accept_clock();
                continue;
            }
            quiet += 1;
            if quiet >= QUIET_ROUNDS && self.waiting() == 0 {
                return Ok(());
            }
            self.pass(7);
        }
        let what = if self.waiting() > 0 { "no answer" } else { "no rest" };
        let detail = format!("after {ROUNDS_MAX} rounds; {} wait", self.waiting());
        Err(Violation::new(what, detail))
    }

    fn pass(&self, millis: i64) {
        self.world.clock.pass(if self.is_frozen { 0 } else { millis });
    }

    fn reopen(&mut self, shards: u16) -> Result<(), Violation> {
        self.settle()?;
        if self.broken.is_some() {
            return Ok(());
        }
        if self.world.machine.is_down() {
            // In the middle of what the node goes on without.
            return self.crash(&Crash { shards, ..Crash::plain(0) });
        }
        let met = self.world.machine.met().len();
        if let Err(reason) = self.world.close(ROUNDS_MAX) {
            if self.world.machine.met().len() == met {
                return Err(Violation::new("broke without a fault", reason));
            }
            return self.crash(&Crash { shards, ..Crash::plain(0) });
        }
        self.client.crash(self.may_refuse)?;
        self.functions.crash();
        self.shards = shards;
        match self.try_open() {
            Ok(()) => self.settle(),
            Err(fault) if is_of_the_disk(&fault) && self.may_fail() => {
                self.crash(&Crash { shards, ..Crash::plain(0) })
            }
            Err(fault) => Err(Violation::new("does not start", fault.to_string())),
        }
    }

    pub(crate) fn crash(&mut self, crash: &Crash) -> Result<(), Violation> {
        let mut rng = Rng::new(crash.seed);
        if crash.in_calls > 0 {
            self.world.machine.go_down_in(crash.in_calls);
            let parts = self.world.parts();
            for _ in 0..STEPS_TO_CRASH {
                if self.world.machine.is_down() || self.broken.is_some() {
                    break;
                }
                self.step(*rng.pick(&parts))?;
            }
        }
        self.go_down(crash.is_power, &mut rng);
        self.client.crash(self.may_refuse)?;
        self.functions.crash();
        self.world.clock.pass(crash.down_ms);
        if crash.is_power {
            self.world.clock.boot();
        }
        self.shards = crash.shards;
        self.world.free_bytes = crash.free_bytes;
        self.may_refuse |= crash.free_bytes.is_some();
        let mut again = crash.again.iter();
        loop {
            if let Some(calls) = again.next() {
                self.world.machine.go_down_in(*calls);
            }
            match self.try_open() {
                Ok(()) => break,
                Err(_) if self.world.machine.is_down() => self.go_down(crash.is_power, &mut rng),
                Err(fault) if is_of_the_disk(&fault) && self.may_fail() => {
                    // What goes wrong by itself must not keep it down for ever, nor a full disk.
                    self.world.machine.calm();
                    self.world.disk.set_capacity(u64::MAX);
                    self.world.free_bytes = None;
                    self.world.drop_node();
                    self.world.disk.kill();
                }
                Err(fault) => return Err(Violation::new("does not start", fault.to_string())),
            }
        }
        if crash.is_checked { self.settle() } else { Ok(()) }
    }

    /// Whether a call to the disk may have failed.
    fn may_fail(&self) -> bool {
        self.world.disk.is_limited()
            || self.world.free_bytes.is_some()
            || self.world.machine.met().len() as u64 > self.faults_before
    }

    fn go_down(&mut self, is_power: bool, rng: &mut Rng) {
        self.world.machine.go_down();
        if self.world.is_open() {
            let is_amid = self.world.engine().metrics().oldest_due_ms.is_some();
            self.summary.amid_storms += u64::from(is_amid);
            let overdue = self.world.engine().metrics().overdue_at_restart;
            for (sum, count) in self.summary.overdue.iter_mut().zip(overdue) {
                *sum += count;
            }
        }
        self.world.drop_node();
        if is_power {
            self.world.disk.cut_power(rng);
        } else {
            self.world.disk.kill();
        }
        self.world.machine.come_up();
        self.summary.crashes += 1;
    }
}
