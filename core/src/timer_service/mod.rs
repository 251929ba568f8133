//! Timers for a program of your own: no server, no stream, with files behind them or without.
//!
//! ```
//! use std::time::Duration;
//! use stormwheel::TimerService;
//!
//! let timers = TimerService::in_memory()?;
//! timers.schedule("order-17", Duration::from_millis(20), "not paid yet")?;
//!
//! let fire = timers.next()?;
//! assert_eq!((fire.key(), fire.payload()), (&b"order-17"[..], &b"not paid yet"[..]));
//! fire.ack()?;
//! # Ok::<(), stormwheel::timer_service::Error>(())
//! ```
//!
//! - [`TimerService::in_memory`] forgets everything as it goes; [`TimerService::open`] keeps it in a
//!   directory. Everything else is the same.
//! - What is scheduled or cancelled with [`TimerService::open`] is durable when the call returns.
//!   Many at once are one wait: [`TimerService::batch`], or several threads.
//! - A timer never fires before its time, and fires at least once: a fire comes again after a
//!   restart until it is acknowledged ([`Fire::ack`]), and then never again.
//! - Time is the machine's, and fires come by themselves; or, with [`Options::manual_clock`], it only
//!   moves when [`TimerService::poll_due`] says so.
//! - Nothing here needs an async runtime, and everything works with any: [`TimerService::stream`].
//!
//! `docs/timer-service.md` has all of it on one page.

mod acks;
mod answer;
mod batch;
mod consumers;
mod core;
mod delivery;
mod error;
mod fire;
mod fires;
mod options;
mod park;
#[cfg(test)]
mod tests;

pub use crate::namespace::OverduePolicy;
pub use crate::op::{Applied, Outcome, ResultKind, When};
pub use crate::output::OutputId;
pub use crate::time::Timestamp;
pub use answer::Answer;
pub use batch::TimerBatch;
pub use error::Error;
pub use fire::Fire;
pub use fires::{FireStream, Fires};
pub use options::Options;

use self::core::Core;
use crate::op::{PayloadBuf, TimerView};
use crate::ports::MachineClock as _;
use crate::runtime::SystemClock;
use park::Parker;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// See the module. A clone is the same service; it closes when the last one goes.
#[derive(Clone)]
pub struct TimerService {
    handle: Arc<Handle>,
}

/// Closes the service as it goes.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.core.close();
    }
}

/// What became of a timer that was scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// When it is due: what [`TimerService::cancel`] wants to know.
    pub fire_at: Timestamp,
    /// In one word: `Created`; `Replaced` or `Unchanged` for a named timer that was there; or
    /// `Duplicate`: the key has an unnamed timer of that time, which stays as it is.
    pub result: ResultKind,
}

/// A timer that is scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Its key.
    pub key: Vec<u8>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// When it is due.
    pub fire_at: Timestamp,
    /// What was scheduled with it.
    pub payload: Vec<u8>,
}

impl TimerService {
    /// A service in memory, on the machine's clock.
    pub fn in_memory() -> Result<Self, Error> {
        Options::new().in_memory()
    }

    /// A service that keeps everything in this directory, on the machine's clock. The directory is
    /// made if there is none; one process has it at a time.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open(directory)
    }

    fn over(core: Arc<Core>) -> Self {
        Self { handle: Arc::new(Handle { core }) }
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Schedules a timer: at a time ([`Timestamp`], `SystemTime`), or so long from now (`Duration`).
    ///
    /// A key may have many. One of the same key and the same millisecond is the same timer: the
    /// second call changes nothing, and says `Duplicate`. Give them names, or keys of their own, where
    /// that matters.
    ///
    /// ```
    /// # use stormwheel::timer_service::{Options, ResultKind, Timestamp};
    /// # let timers = Options::new().manual_clock().in_memory()?;
    /// let noon = Timestamp::from_millis(1_767_225_600_000);
    /// assert_eq!(timers.schedule("user-1", noon, "lunch")?.result, ResultKind::Created);
    /// assert_eq!(timers.schedule("user-1", noon, "dinner")?.result, ResultKind::Duplicate);
    /// assert_eq!(timers.list("user-1")?[0].payload, b"lunch");
    /// assert!(timers.cancel("user-1", noon)?);
    /// # Ok::<(), stormwheel::timer_service::Error>(())
    /// ```
    pub fn schedule(
        &self,
        key: impl AsRef<[u8]>,
        when: impl Into<When>,
        payload: impl AsRef<[u8]>,
    ) -> Result<Scheduled, Error> {
        let applied = self.one(|batch| batch.schedule(key, when, payload))?;
        Ok(scheduled(&applied))
    }

    /// Schedules a timer of this name; it takes the place of the one that the key has of that name.
    ///
    /// ```
    /// # use stormwheel::timer_service::{Options, ResultKind, Timestamp};
    /// # let timers = Options::new().manual_clock().in_memory()?;
    /// timers.schedule_named("session-1", "expiry", Timestamp::from_millis(1_000), "")?;
    /// let moved = timers.schedule_named("session-1", "expiry", Timestamp::from_millis(2_000), "")?;
    /// assert_eq!(moved.result, ResultKind::Replaced);
    /// assert!(timers.poll_due(Timestamp::from_millis(1_000))?.is_empty());
    /// assert_eq!(timers.poll_due(Timestamp::from_millis(2_000))?.len(), 1);
    /// # Ok::<(), stormwheel::timer_service::Error>(())
    /// ```
    pub fn schedule_named(
        &self,
        key: impl AsRef<[u8]>,
        name: &str,
        when: impl Into<When>,
        payload: impl AsRef<[u8]>,
    ) -> Result<Scheduled, Error> {
        let applied = self.one(|batch| batch.schedule_named(key, name, when, payload))?;
        Ok(scheduled(&applied))
    }

    /// Cancels the unnamed timer that is due then. `true`: it never fires. `false`: there is none, or
    /// it has fired, whether or not anybody has seen the fire yet.
    pub fn cancel(&self, key: impl AsRef<[u8]>, fire_at: Timestamp) -> Result<bool, Error> {
        Ok(self.one(|batch| batch.cancel(key, fire_at))?.cancelled > 0)
    }

    /// Cancels the timer of this name; the answer is that of [`TimerService::cancel`].
    pub fn cancel_named(&self, key: impl AsRef<[u8]>, name: &str) -> Result<bool, Error> {
        Ok(self.one(|batch| batch.cancel_named(key, name))?.cancelled > 0)
    }

    /// Cancels all timers of a key; how many these were. None of them ever fires.
    pub fn cancel_all(&self, key: impl AsRef<[u8]>) -> Result<u32, Error> {
        Ok(self.one(|batch| batch.cancel_all(key))?.cancelled)
    }

    /// A batch: many operations, one wait.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let timers = stormwheel::TimerService::in_memory()?;
    /// let mut batch = timers.batch()?;
    /// for number in 0..1_000 {
    ///     batch.schedule(format!("order-{number}"), Duration::from_secs(60), "")?;
    /// }
    /// assert!(batch.commit()?.iter().all(Result::is_ok));
    /// assert_eq!(timers.len(), 1_000);
    /// # Ok::<(), stormwheel::timer_service::Error>(())
    /// ```
    pub fn batch(&self) -> Result<TimerBatch, Error> {
        TimerBatch::new(self.core())
    }

    fn one(
        &self,
        push: impl FnOnce(&mut TimerBatch) -> Result<(), Error>,
    ) -> Result<Applied, Error> {
        let mut batch = self.batch()?;
        push(&mut batch)?;
        let outcome = batch.commit()?.pop().ok_or(Error::Unanswered)?;
        Ok(outcome?)
    }

    /// The timers of a key that have not fired, in the order in which they will.
    pub fn list(&self, key: impl AsRef<[u8]>) -> Result<Vec<Timer>, Error> {
        let timers = self.core().list(key.as_ref()).wait()?;
        Ok(timers.into_iter().map(Timer::from).collect())
    }

    /// Whether the key has an unnamed timer that is due then.
    pub fn exists(&self, key: impl AsRef<[u8]>, fire_at: Timestamp) -> Result<bool, Error> {
        let timers = self.list(key)?;
        Ok(timers.iter().any(|timer| timer.name.is_none() && timer.fire_at == fire_at))
    }

    /// Whether the key has a timer of this name.
    pub fn exists_named(&self, key: impl AsRef<[u8]>, name: &str) -> Result<bool, Error> {
        let timers = self.list(key)?;
        Ok(timers.iter().any(|timer| timer.name.as_deref() == Some(name)))
    }

    /// How many timers have not fired yet.
    pub fn len(&self) -> u64 {
        self.core().timers.pending()
    }

    /// Whether no timer is left that has not fired.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is due at or before `now` and was not handed out yet, in the order of time, then of
    /// keys, then of names. It never waits for time to pass.
    ///
    /// With a manual clock this is what moves it; a time before the one that it reads moves nothing. On
    /// the machine's clock time passes by itself, and `now` can only leave out what is due later:
    /// nothing fires before its time, however late a time is asked for.
    ///
    /// ```
    /// use stormwheel::timer_service::{Options, Timestamp};
    ///
    /// let at = Timestamp::from_millis;
    /// let timers = Options::new().manual_clock().in_memory()?;
    /// timers.schedule("b", at(20), "")?;
    /// timers.schedule("a", at(10), "")?;
    /// timers.schedule("c", at(30), "")?;
    /// let fires = timers.poll_due(at(20))?;
    /// assert_eq!(fires.iter().map(|fire| fire.key()).collect::<Vec<_>>(), [b"a", b"b"]);
    /// timers.ack_all(&fires)?;
    /// # Ok::<(), stormwheel::timer_service::Error>(())
    /// ```
    pub fn poll_due(&self, now: impl Into<Timestamp>) -> Result<Vec<Fire>, Error> {
        let now = now.into();
        if self.core().is_manual() {
            self.core().set_clock(now).wait()?;
        } else {
            self.core().fired().wait()?;
        }
        self.core().take_until(now)
    }

    /// Moves a manual clock, and says how many timers fired of it: for those who take the fires with
    /// [`TimerService::next`] or a stream, one at a time, however many they are.
    pub fn advance(&self, now: impl Into<Timestamp>) -> Result<u64, Error> {
        self.core().set_clock(now.into()).wait()
    }

    /// The next fire; waits until there is one. [`Error::Closed`] once the service is closed.
    ///
    /// Each fire is handed to one caller: several threads share the work.
    pub fn next(&self) -> Result<Fire, Error> {
        self.wait_until(None)?.ok_or(Error::Closed)
    }

    /// The next fire, if there is one within this time.
    pub fn next_timeout(&self, timeout: Duration) -> Result<Option<Fire>, Error> {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.wait_until(Some(SystemClock.boottime_ms().saturating_add(timeout_ms)))
    }

    /// The next fire, if there is one now. What fell due this instant may take another: unlike
    /// [`TimerService::poll_due`] this only looks.
    pub fn try_next(&self) -> Result<Option<Fire>, Error> {
        self.core().try_next()
    }

    fn wait_until(&self, deadline_ms: Option<i64>) -> Result<Option<Fire>, Error> {
        let consumer = self.core().join();
        let parker = Arc::<Parker>::default();
        let waker = Waker::from(Arc::clone(&parker));
        loop {
            match self.core().poll_next(&consumer, &mut Context::from_waker(&waker)) {
                Poll::Ready(Some(fire)) => return fire.map(Some),
                Poll::Ready(None) => return Err(Error::Closed),
                Poll::Pending => {}
            }
            let left_ms = deadline_ms.map(|deadline| deadline - SystemClock.boottime_ms());
            if left_ms.is_some_and(|left| left <= 0) {
                return Ok(None);
            }
            parker.park(left_ms.map(|left| Duration::from_millis(left as u64)));
        }
    }

    /// All fires, as they come, until the service is closed.
    pub fn fires(&self) -> Fires {
        Fires::new(self.clone())
    }

    /// All fires, as they come, for async code: a `Stream`, with a `next` of its own.
    pub fn stream(&self) -> FireStream {
        FireStream::new(self.clone())
    }

    /// Acknowledges these fires: they never come again. Waits until that is durable, once for all.
    pub fn ack_all<'a>(&self, fires: impl IntoIterator<Item = &'a Fire>) -> Result<(), Error> {
        self.submit_ack_all(fires)?.wait()
    }

    /// The same, without waiting. Fires of another service are refused, and then all are.
    pub fn submit_ack_all<'a>(
        &self,
        fires: impl IntoIterator<Item = &'a Fire>,
    ) -> Result<Answer<()>, Error> {
        let mut cursors = Vec::new();
        for fire in fires {
            if !fire.is_of(self.core()) {
                return Err(Error::OtherService);
            }
            cursors.push(fire.cursor);
        }
        Ok(self.core().ack(&cursors))
    }

    /// Hands out again what was handed out and not acknowledged, as a restart would; for a handler
    /// that has failed and is to try once more.
    pub fn redeliver(&self) -> Result<(), Error> {
        self.core().redeliver()
    }

    /// Closes, for all clones: answers what is under way, ends iterators and streams, leaves the
    /// directory to others. [`Error::Failed`]: the disk has failed, before or just now.
    pub fn close(&self) -> Result<(), Error> {
        self.core().close()
    }
}

fn scheduled(applied: &Applied) -> Scheduled {
    // A registration always says when.
    let fire_at = applied.fire_at.unwrap_or(Timestamp::MAX);
    Scheduled { fire_at, result: applied.result }
}

impl From<TimerView> for Timer {
    fn from(view: TimerView) -> Self {
        let TimerView { fire_at, key, name, payload, .. } = view;
        let payload = match payload {
            Some(PayloadBuf::Json(bytes) | PayloadBuf::Binary(bytes)) => bytes,
            None => Vec::new(),
        };
        Self { key, name, fire_at, payload }
    }
}

impl std::fmt::Debug for TimerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimerService").field("len", &self.len()).finish_non_exhaustive()
    }
}
