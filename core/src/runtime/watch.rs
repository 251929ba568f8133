//! How long the threads that write have been at what they do: a disk or a store that hangs holds a
//! thread in a system call, and only others can tell of it.

use super::engine::WriterStatus;
use crate::ports::MachineClock;
use std::sync::atomic::{AtomicI64, Ordering};

/// See the module. Nothing is ordered by it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) journals: Vec<Work>,
    pub(super) outputs: Work,
    pub(super) checkpoints: Work,
}

/// The work of one thread.
#[derive(Debug)]
pub(super) struct Work {
    /// When its present piece began, by the time since the machine started.
    began_ms: AtomicI64,
}

/// No piece of work is under way.
const RESTING: i64 = i64::MIN;

impl Default for Work {
    fn default() -> Self {
        Self { began_ms: AtomicI64::new(RESTING) }
    }
}

impl Work {
    /// Does a piece of it.
    pub(super) fn watched<T>(&self, machine: &dyn MachineClock, work: impl FnOnce() -> T) -> T {
        self.began_ms.store(machine.boottime_ms(), Ordering::Relaxed);
        let done = work();
        self.began_ms.store(RESTING, Ordering::Relaxed);
        done
    }

    fn since_ms(&self, now_ms: i64) -> Option<i64> {
        let began_ms = self.began_ms.load(Ordering::Relaxed);
        (began_ms != RESTING).then(|| now_ms.saturating_sub(began_ms).max(0))
    }
}

impl Watch {
    /// With so many journals.
    pub(super) fn new(journals: u16) -> Self {
        let journals = (0..journals).map(|_| Work::default()).collect();
        Self { journals, outputs: Work::default(), checkpoints: Work::default() }
    }

    /// Whoever is at it, at this time since the machine started.
    pub(super) fn status(&self, now_ms: i64) -> Vec<WriterStatus> {
        let journals = self.journals.iter().enumerate();
        let journals = journals.map(|(index, it)| (format!("journal {index}"), it, true));
        let others = [
            ("outputs".to_owned(), &self.outputs, true),
            ("checkpoints".to_owned(), &self.checkpoints, false),
        ];
        let at_it = journals.chain(others).filter_map(|(name, work, is_waited_for)| {
            Some(WriterStatus { name, since_ms: work.since_ms(now_ms)?, is_waited_for })
        });
        at_it.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl MachineClock for At {
        fn realtime_ms(&self) -> i64 {
            0
        }

        fn boottime_ms(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn who_is_at_work_is_told_with_since_when() {
        let watch = Watch::new(2);
        assert_eq!(watch.status(5), []);
        watch.journals[1].watched(&At(5), || {
            watch.checkpoints.watched(&At(7), || {
                let name = |index: usize| watch.status(10)[index].name.clone();
                let since: Vec<i64> = watch.status(10).iter().map(|it| it.since_ms).collect();
                assert_eq!(
                    (name(0), name(1), since),
                    ("journal 1".into(), "checkpoints".into(), vec![5, 3])
                );
            });
        });
        assert_eq!(watch.status(20), []);
    }
}
