//! What happens in a world, event by event. Each event carries the seed of its own chance, so that
//! leaving one out (as shrinking does) changes no other.

use crate::machine::{Fault, Rates};
use crate::rng::Rng;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The client asks for something.
    Ask(u64),
    /// Somebody has elements for a function, or a watermark.
    Call(u64),
    /// Many keys are to have a timer for the same millisecond, so far ahead.
    Storm(i64, u64),
    /// So many steps, of parts by chance.
    Steps(u32, u64),
    /// Each part, until none has anything to do.
    Work,
    /// Time passes.
    Pass(i64),
    /// The real-time clock is set, relative to where it stands.
    SetClock(i64),
    /// It goes faster or slower than true time.
    Drift(i64),
    /// Somebody accepts a leap of the clock.
    Accept,
    /// A call goes wrong, so many from now.
    Fault(u64, Fault),
    /// Calls go wrong by themselves from now on.
    Rates(u32, u32, u32),
    /// So many bytes are free, or as many as one likes.
    Free(Option<u64>),
    /// Nothing more goes wrong; everything is checked.
    Settle,
    /// The node is closed gracefully and opened again with another number of shards.
    Reopen(u16),
    Crash(Crash),
    /// A savepoint is made while requests go on; another node goes on from it, in another directory.
    Restore(u64),
}

/// How the node comes to an end, and starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crash {
    /// In the middle of which I/O call from now, if it is made; 0: between two of them.
    pub(crate) in_calls: u64,
    /// The power goes, not only the process.
    pub(crate) is_power: bool,
    pub(crate) shards: u16,
    /// With `max_disk_bytes` so much above what the files have; the next check starts without it.
    pub(crate) free_bytes: Option<u64>,
    /// How long it stays down.
    pub(crate) down_ms: i64,
    /// Recoveries that crash in turn, each in the middle of which call.
    pub(crate) again: Vec<u64>,
    /// Everything is checked once it is up again, before anything else is asked.
    pub(crate) is_checked: bool,
    pub(crate) seed: u64,
}

impl Crash {
    /// The process dies, and is started again at once.
    pub(crate) const fn plain(seed: u64) -> Self {
        Self {
            in_calls: 0,
            is_power: false,
            shards: 1,
            free_bytes: None,
            down_ms: 0,
            again: Vec::new(),
            is_checked: true,
            seed,
        }
    }
}

/// A history for a seed.
pub(crate) fn draw(rng: &mut Rng) -> Vec<Event> {
    let count = 40 + rng.below(160);
    let is_calm = rng.below(4) == 0;
    let mut events = Vec::new();
    for _ in 0..count {
        if rng.below(45) == 0 {
            storm(rng, &mut events);
        }
        if rng.below(90) == 0 {
            events.push(Event::Restore(rng.next()));
        }
        events.push(event(rng, is_calm));
    }
    events.push(Event::Settle);
    events
}

fn event(rng: &mut Rng, is_calm: bool) -> Event {
    let weights = if is_calm {
        [40, 25, 3, 14, 1, 1, 1, 0, 0, 0, 2, 1, 6, 16]
    } else {
        [40, 25, 3, 14, 2, 1, 1, 3, 1, 2, 1, 1, 6, 16]
    };
    match rng.weighted(&weights) {
        0 => Event::Ask(rng.next()),
        1 => Event::Steps(1 + rng.below(10) as u32, rng.next()),
        2 => Event::Work,
        3 => Event::Pass(span(rng)),
        4 => Event::SetClock(match rng.below(6) {
            0 => rng.within(-3_600_000, 3_600_000),
            1 => 86_400_000 * rng.within(-3_650, 3_650),
            _ => rng.within(-500, 500),
        }),
        5 => Event::Drift(rng.within(-500, 500)),
        6 => Event::Accept,
        7 => Event::Fault(1 + rng.below(60), *rng.pick(&Fault::ALL)),
        8 => Event::Rates(rng.below(3) as u32, rng.below(60) as u32, rng.below(60) as u32),
        9 => Event::Free((rng.below(3) > 0).then(|| rng.below(80_000))),
        10 => Event::Settle,
        11 => Event::Reopen(1 + rng.below(8) as u16),
        12 => Event::Crash(crash(rng)),
        _ => Event::Call(rng.next()),
    }
}

fn crash(rng: &mut Rng) -> Crash {
    Crash {
        in_calls: if rng.below(3) == 0 { 0 } else { 1 + rng.below(40) },
        is_power: rng.below(3) > 0,
        shards: 1 + rng.below(8) as u16,
        free_bytes: (rng.below(12) == 0).then(|| rng.below(600_000)),
        down_ms: span(rng),
        again: (0..rng.below(8).saturating_sub(5)).map(|_| 1 + rng.below(120)).collect(),
        is_checked: rng.below(4) > 0,
        seed: rng.next(),
    }
}

/// A storm that is due, and often the end of the node in the middle of it.
fn storm(rng: &mut Rng, events: &mut Vec<Event>) {
    let in_ms = rng.within(1, 60);
    events.extend([Event::Storm(in_ms, rng.next()), Event::Work, Event::Pass(in_ms)]);
    events.push(Event::Steps(1 + rng.below(16) as u32, rng.next()));
    if rng.below(3) > 0 {
        events.push(Event::Crash(crash(rng)));
    }
}

/// A span of time: none, some milliseconds, or days.
fn span(rng: &mut Rng) -> i64 {
    match rng.below(20) {
        0 => rng.within(1_000, 100_000),
        1 => rng.within(1_000_000, 1_000_000_000),
        2..=5 => rng.within(50, 500),
        _ => rng.within(0, 30),
    }
}

impl Event {
    pub(crate) fn rates(&self) -> Option<Rates> {
        match self {
            Self::Rates(eio, eintr, short) => {
                Some(Rates { eio: *eio, eintr: *eintr, short: *short, sync: 0 })
            }
            _ => None,
        }
    }
}
