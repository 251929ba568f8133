//! A consumer of the output log that trusts nobody: it resumes from its cursor, reads everything
//! again after each restart, and compares.

use crate::act::Timer;
use crate::model::{Violation, text};
use std::collections::BTreeMap;
use std::fmt;
use stormwheel::op::Payload;
use stormwheel::output::{Cursor, NamespaceId, OutputId, OutputRecord};
use stormwheel::runtime::{Engine, ReadRejection};
use stormwheel::time::Domain;

/// An output as it was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) cursor: u64,
    pub(crate) id: OutputId,
    pub(crate) key: Vec<u8>,
    pub(crate) timer: Timer,
    pub(crate) due_by: i64,
    /// The side output that a function's value went to.
    pub(crate) tag: Option<String>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cursor, id, key, timer, due_by, tag } = self;
        let tag = tag.as_deref().unwrap_or_default();
        write!(f, "{cursor} {id} {} {timer:?} due by {due_by} {tag}", text(key))
    }
}

/// What was read of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) namespace: NamespaceId,
    seen: Vec<Seen>,
    /// By the engine's clock, when each was not there yet: it may be as old as that.
    unseen_ms: Vec<i64>,
    polled_ms: i64,
    /// The engine was started anew since the last look.
    pub(crate) is_anew: bool,
    /// It was, and longer ago than outputs are kept for: some may have gone unseen.
    pub(crate) is_late: bool,
    /// Timers may have fired before their time: the clock of the namespace may have come to its end.
    pub(crate) may_be_early: bool,
    /// By key: position and ordinal of its last output.
    last: BTreeMap<Vec<u8>, (u64, u32)>,
}

/// How many bytes are asked for at a time: small, so that resuming is exercised.
const READ_BYTES: usize = 512;

impl Consumer {
    pub(crate) fn new(namespace: NamespaceId) -> Self {
        let (seen, unseen_ms, last) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self {
            namespace,
            seen,
            unseen_ms,
            polled_ms: i64::MIN / 2,
            is_anew: false,
            is_late: false,
            may_be_early: false,
            last,
        }
    }

    /// Reads what has come since. `now_ms` is what the engine's clock reads, `age_ms` how long outputs
    /// are kept, `latest_ms` the latest time that any clock ever showed.
    pub(crate) fn poll(
        &mut self,
        engine: &Engine,
        (now_ms, age_ms): (i64, i64),
        latest_ms: i64,
        is_calm: bool,
    ) -> Result<Vec<Seen>, Violation> {
        // A segment that went with other namespaces' old outputs leaves a gap behind for one that was
        // quiet meanwhile, from the next start on. If there was anything of its own in it, the oracle
        // misses that.
        let earliest = engine.outputs().earliest(self.namespace);
        let after = self.seen.last().map_or(earliest, |seen| Cursor(seen.cursor).max(earliest));
        let is_old = self.polled_ms > i64::MIN / 2 && now_ms - self.polled_ms >= age_ms;
        self.is_late |= std::mem::take(&mut self.is_anew) && is_old;
        let new = self.read(engine, after, is_calm)?;
        for seen in &new {
            self.check(seen, latest_ms)?;
            self.last.insert(seen.key.clone(), (seen.id.position, seen.id.ordinal));
        }
        self.seen.extend(new.iter().cloned());
        self.unseen_ms.resize(self.seen.len(), self.polled_ms);
        self.polled_ms = now_ms;
        Ok(new)
    }

    /// Reads all behind a cursor. A fault of the disk ends it early, unless there are to be none.
    fn read(
        &self,
        engine: &Engine,
        mut after: Cursor,
        is_calm: bool,
    ) -> Result<Vec<Seen>, Violation> {
        let mut all: Vec<Seen> = Vec::new();
        loop {
            let read = engine.outputs().read(self.namespace, after, READ_BYTES);
            if matches!(read, Err(ReadRejection::Fault(_))) && !is_calm {
                return Ok(all);
            }
            let read = read.map_err(|rejection| {
                let detail = format!("{:?} after {after:?}: {rejection:?}", self.namespace);
                Violation::new("output log", detail)
            })?;
            let before = all.len();
            for block in &read.blocks {
                all.extend(block.after(after).map(|(cursor, record)| seen(cursor, &record)));
                if let Some(last) = all.last() {
                    after = Cursor(last.cursor);
                }
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }

    /// A log was restored, of which a new consumer has read this: it begins with what this one has seen,
    /// but for what was old enough to go. Returns how much of it that is.
    pub(crate) fn find_again(
        &self,
        restored: &[Seen],
        now_ms: i64,
        age_ms: i64,
    ) -> Result<usize, Violation> {
        let is_same = |a: &Seen, b: &Seen| {
            let id = OutputId { namespace: b.id.namespace, ..a.id };
            id == b.id
                && (&a.key, &a.timer, a.due_by, &a.tag) == (&b.key, &b.timer, b.due_by, &b.tag)
        };
        let first = restored.first();
        let gone = first.and_then(|first| self.seen.iter().position(|it| is_same(it, first)));
        let gone = gone.unwrap_or(self.seen.len());
        if let Some(young) = self.unseen_ms[..gone].iter().position(|at| now_ms - at < age_ms) {
            let detail = format!("too young not to be restored: {:?}", self.seen[young]);
            return Err(Violation::new("output lost", detail));
        }
        let kept = &self.seen[gone..];
        let is_whole = kept.len() <= restored.len();
        if !is_whole || !kept.iter().zip(restored).all(|(before, now)| is_same(before, now)) {
            let detail = format!("was {kept:?}, restored was {restored:?}");
            return Err(Violation::new("output changed", detail));
        }
        Ok(kept.len())
    }

    fn check(&self, seen: &Seen, latest_ms: i64) -> Result<(), Violation> {
        let wrong = |kind, what: &str| {
            Err(Violation::new(kind, format!("key {}: {what}: {seen:?}", text(&seen.key))))
        };
        if seen.id.namespace != self.namespace {
            return wrong("unknown output", "an output of another namespace");
        }
        if seen.due_by < seen.timer.fire_at && !self.may_be_early {
            return wrong("early", "fired before its time");
        }
        let is_own = self.may_be_early && seen.due_by == seen.timer.fire_at;
        if seen.timer.domain == Domain::Processing && seen.due_by > latest_ms && !is_own {
            return wrong("early", &format!("no clock ever showed more than {latest_ms}"));
        }
        let at = (seen.id.position, seen.id.ordinal);
        if self.last.get(&seen.key).is_some_and(|last| *last >= at) {
            return wrong("output twice", "its id does not follow that of the key's last output");
        }
        Ok(())
    }

    /// Reads everything once more: what was seen stands where it stood, and nothing in between.
    /// What is older than the namespace keeps outputs may be gone.
    pub(crate) fn verify(
        &self,
        engine: &Engine,
        now_ms: i64,
        age_ms: i64,
    ) -> Result<(), Violation> {
        let Some(first) = self.seen.first() else { return Ok(()) };
        let earliest = engine.outputs().earliest(self.namespace).0;
        let gone = self.seen.iter().take_while(|seen| seen.cursor <= earliest).count();
        let (old, kept) = self.seen.split_at(gone);
        if let Some(young) = self.unseen_ms[..gone].iter().position(|at| now_ms - at < age_ms) {
            let detail = format!("too young to go: {:?}", old[young]);
            return Err(Violation::new("output lost", detail));
        }
        let again = self.read(engine, Cursor(earliest.max(first.cursor - 1)), true)?;
        let differs = kept.iter().zip(&again).find(|(before, now)| before != now);
        if let Some((before, now)) = differs {
            let detail = format!("was {before:?}, is {now:?}");
            return Err(Violation::new("output changed", detail));
        }
        if again.len() < kept.len() {
            let detail = format!("first one gone: {:?}", kept[again.len()]);
            return Err(Violation::new("output lost", detail));
        }
        Ok(())
    }
}

fn seen(cursor: Cursor, record: &OutputRecord<'_>) -> Seen {
    let payload = record.payload.map(|payload| match payload {
        Payload::Json(bytes) => (true, bytes.to_vec()),
        Payload::Binary(bytes) => (false, bytes.to_vec()),
    });
    Seen {
        cursor: cursor.0,
        id: record.id,
        key: record.key.to_vec(),
        timer: Timer {
            domain: record.domain,
            fire_at: record.fire_at.as_millis(),
            name: record.name.map(str::to_owned),
            payload,
        },
        due_by: record.due_by.as_millis(),
        tag: record.kind.tag().map(str::to_owned),
    }
}
