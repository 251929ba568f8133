//! What the threads of the client share: clocks, counters, and values that only rise.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A value that the client only ever raises: what was acknowledged holds, what was sent may.
#[derive(Debug)]
pub(crate) struct Gauge {
    acknowledged: AtomicI64,
    sent: AtomicI64,
}

impl Gauge {
    pub(crate) fn new(value: i64) -> Self {
        Self { acknowledged: AtomicI64::new(value), sent: AtomicI64::new(value) }
    }

    pub(crate) fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub(crate) fn sent(&self) -> i64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Raises what is sent by so much, and says to what.
    pub(crate) fn raise(&self, by: i64) -> i64 {
        self.sent.fetch_add(by, Ordering::SeqCst) + by
    }

    pub(crate) fn acknowledge(&self, value: i64) {
        self.acknowledged.fetch_max(value, Ordering::SeqCst);
    }

    /// Checks what the server holds now; from here on it is what holds.
    pub(crate) fn check(&self, what: &str, held: i64) -> Result<(), String> {
        let allowed = self.acknowledged()..=self.sent();
        self.acknowledge(held);
        if allowed.contains(&held) {
            return Ok(());
        }
        Err(format!("{what} is {held}, allowed is {allowed:?}: acknowledged to sent"))
    }
}

/// Shared by all threads over all cycles.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The load ends.
    pub(crate) is_over: AtomicBool,
    /// The server is about to be killed: connections may die.
    pub(crate) is_killed: AtomicBool,
    /// Requests sent.
    pub(crate) requests: AtomicU64,
    /// Operations answered.
    pub(crate) answered: AtomicU64,
    /// Operations refused for load or for want of room.
    pub(crate) refused: AtomicU64,
    /// Operations without an answer.
    pub(crate) unknown: AtomicU64,
    /// Operations that were asked for again, and had been done the first time.
    pub(crate) repeated: AtomicU64,
    /// Numbers of registrations and requests.
    pub(crate) serial: AtomicU64,
    /// The watermark of the namespace on the system's clock.
    pub(crate) watermark: Gauge,
    /// The clock of the other namespace, which is manual.
    pub(crate) clock: Gauge,
    /// A number in the configuration.
    pub(crate) limit: Gauge,
    /// The latest time at which a near timer falls due on the system's clock.
    pub(crate) near_until: AtomicI64,
    wall: AtomicI64,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            is_over: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            watermark: Gauge::new(1_000_000),
            clock: Gauge::new(5_000_000),
            limit: Gauge::new(1_000_000),
            near_until: AtomicI64::new(0),
            wall: AtomicI64::new(0),
        }
    }

    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// A connection died. That is news if nobody killed the server.
    pub(crate) fn died(&self, what: &dyn std::fmt::Display) {
        let was_killed = self.is_killed.load(Ordering::SeqCst);
        assert!(was_killed, "the connection died, but nobody had killed the server: {what}");
    }

    /// The machine's clock in milliseconds, never running backward: like the server's.
    pub(crate) fn wall_ms(&self) -> i64 {
        let now = read_wall().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        self.wall.fetch_max(now, Ordering::SeqCst).max(now)
    }
}

#[allow(clippy::disallowed_methods, reason = "early is said of the machine's clock")]
fn read_wall() -> SystemTime {
    SystemTime::now()
}

/// A pause that nothing depends on: it only moves the instant of a kill.
#[allow(clippy::disallowed_methods, reason = "the instant of a kill is drawn, not waited for")]
pub(crate) fn linger(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
