//! The client as a whole, which outlives the servers: its workers, its consumers, and what they
//! remember.

use crate::act::Outcome;
use crate::consumer::Consumer;
use crate::driver::{self, Driver};
use crate::findings::{Finding, Findings};
use crate::history::Breach;
use crate::rng::Rng;
use crate::server::Durable;
use crate::shared::{Shared, linger};
use crate::worker::{Manners, NEAR_MS, Worker};
use std::sync::atomic::Ordering;
use std::thread;
use stormwheel_tests::{Client, wait_until};

/// The namespace on the system's clock, with a watermark.
pub(crate) const LIVE: &str = "live";
/// The namespace on a manual clock.
pub(crate) const MANUAL: &str = "manual";

/// Looks at what still does not add up, and the pause between them: half a minute in all, which
/// only a failure takes.
const LOOKS_MAX: usize = 1_200;
const LOOK_PAUSE_US: u64 = 25_000;

/// How a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// `kill -9`, whatever is under way.
    Kill,
    /// All answers are waited for.
    Stop,
}

/// The client.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) shared: Shared,
    workers: Vec<Worker>,
    consumers: [Consumer; 2],
    driver: Driver,
    rng: Rng,
    seed: u64,
}

impl World {
    /// A client that draws by a seed. Workers take turns in the two namespaces and in sending a
    /// producer, if any does.
    pub(crate) fn new(seed: u64, workers: usize, manners: Manners) -> Self {
        let worker = |index: usize| {
            let namespace = if index % 3 == 2 { MANUAL } else { LIVE };
            let is_producer = manners.is_producer && index.is_multiple_of(2);
            let rng = Rng::new(seed, 100 + index as u64);
            Worker::new(format!("w{index}"), namespace, Manners { is_producer, ..manners }, rng)
        };
        Self {
            shared: Shared::new(),
            workers: (0..workers).map(worker).collect(),
            consumers: [Consumer::new(LIVE), Consumer::new(MANUAL)],
            driver: Driver::new(Rng::new(seed, 1), manners.checks_acks),
            rng: Rng::new(seed, 2),
            seed,
        }
    }

    /// Makes the namespaces.
    pub(crate) fn set_up(&self, client: &Client) {
        driver::set_up(client, &self.shared);
    }

    /// Loads the server until so many further requests were sent, then ends it as asked.
    pub(crate) fn load(&mut self, server: &mut Durable, requests: u64, end: End) {
        let shared = &self.shared;
        shared.is_over.store(false, Ordering::SeqCst);
        shared.is_killed.store(false, Ordering::SeqCst);
        let until = shared.requests.load(Ordering::SeqCst) + requests;
        let linger_us = self.rng.below(3_000);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in &mut self.workers {
                let client = server.client();
                threads.push(scope.spawn(move || worker.run(&client, shared)));
            }
            let client = server.client();
            let driver = &mut self.driver;
            threads.push(scope.spawn(move || driver.run(&client, shared)));
            for consumer in &mut self.consumers {
                let client = server.client();
                threads.push(scope.spawn(move || match end {
                    End::Kill => consumer.follow(&client, shared),
                    End::Stop => {
                        while !shared.is_over() {
                            consumer.drain(&client, shared);
                            linger(LOOK_PAUSE_US);
                        }
                    }
                }));
            }
            wait_until("the load", || {
                let sent = shared.requests.load(Ordering::SeqCst);
                // A thread that has ended has failed, and is about to say so.
                let is_done =
                    sent >= until || threads.iter().any(thread::ScopedJoinHandle::is_finished);
                is_done.then_some(()).ok_or_else(|| format!("{sent} of {until} requests"))
            });
            match end {
                End::Kill => {
                    linger(linger_us);
                    shared.is_killed.store(true, Ordering::SeqCst);
                    server.kill();
                }
                End::Stop => shared.is_over.store(true, Ordering::SeqCst),
            }
        });
    }

    /// Lets everything near run out, then compares what stands and what has fired with what was
    /// asked and answered. The test fails if they do not agree.
    pub(crate) fn verify(&mut self, client: &Client) {
        let mut findings = Findings::default();
        if let Err(what) = self.driver.check(client, &self.shared) {
            findings.add(Finding::Lost, || what);
        }
        driver::settle(client, &self.shared, 2 * NEAR_MS);
        let near_until = self.shared.near_until.load(Ordering::SeqCst);
        wait_until("what is near to fall due", || {
            let now = self.shared.wall_ms();
            (now > near_until).then_some(()).ok_or_else(|| format!("{} ms", near_until - now))
        });
        for worker in &mut self.workers {
            worker.read_all(client, &self.shared);
        }
        for look in 1.. {
            for index in 0..self.consumers.len() {
                self.consumers[index].drain(client, &self.shared);
                self.hand_out_fires(index, &mut findings);
            }
            if self.settle(client, &mut findings, look == LOOKS_MAX) {
                break;
            }
            linger(LOOK_PAUSE_US);
        }
        for consumer in &mut self.consumers {
            consumer.audit(client);
            findings.merge(std::mem::take(&mut consumer.findings));
        }
        assert!(findings.is_empty(), "{findings}{}", self.told());
    }

    /// Reads all outputs once more from the beginning.
    pub(crate) fn audit_all(&mut self, client: &Client) {
        for consumer in &mut self.consumers {
            consumer.audit_all(client);
            assert!(consumer.findings.is_empty(), "{}", consumer.findings);
        }
    }

    /// What went on, in a line.
    pub(crate) fn told(&self) -> String {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
        let fires: usize = self.consumers.iter().map(Consumer::count).sum();
        format!(
            "seed {}: {} requests, {} operations answered, {} repeated, {} refused, {} unanswered, \
             {fires} fires",
            self.seed,
            read(&self.shared.requests),
            read(&self.shared.answered),
            read(&self.shared.repeated),
            read(&self.shared.refused),
            read(&self.shared.unknown),
        )
    }

    fn hand_out_fires(&mut self, consumer: usize, findings: &mut Findings) {
        for (key, fire) in self.consumers[consumer].take_fires() {
            let namespace = [LIVE, MANUAL][consumer];
            let history = key.split_once('-').and_then(|(worker, number)| {
                let number: usize = number.parse().ok()?;
                let mut workers = self.workers.iter_mut();
                let worker =
                    workers.find(|one| one.name == worker && one.namespace == namespace)?;
                worker.histories.get_mut(number)
            });
            match history {
                Some(history) => history.enter_fire(fire),
                None => findings.add(Finding::Unknown, || format!("{namespace} {key} {fire:?}")),
            }
        }
    }

    /// Settles every key that adds up. What does not yet is looked at again, unless this is the
    /// last look; true if nothing is left.
    fn settle(&mut self, client: &Client, findings: &mut Findings, is_last: bool) -> bool {
        let mut is_settled = true;
        let now = [self.shared.wall_ms(), self.shared.clock.acknowledged()];
        let watermark = self.shared.watermark.acknowledged();
        for worker in &mut self.workers {
            let now = now[usize::from(worker.is_manual)];
            for key in worker.unsettled() {
                let history = &mut worker.histories[key];
                let is_stuck = match history.last().map(|event| &event.outcome) {
                    Some(Outcome::Timers(shown)) => shown.iter().any(|timer| {
                        timer.fire_at <= if timer.slot.is_event { watermark } else { now }
                    }),
                    _ => true,
                };
                let breach = if is_stuck { Err(Breach::Lost) } else { history.settle() };
                let kind = match breach {
                    Ok(()) => continue,
                    Err(Breach::Lost) if !is_last => {
                        is_settled = false;
                        history.forget_look();
                        worker.look(client, &self.shared, key);
                        continue;
                    }
                    Err(Breach::Lost) if is_stuck => Finding::Stuck,
                    Err(Breach::Lost) => Finding::Lost,
                    Err(Breach::Fired) => Finding::Cancelled,
                    Err(Breach::Contradiction) => Finding::Contradiction,
                };
                findings.add(kind, || history.told());
            }
        }
        is_settled || is_last
    }
}
