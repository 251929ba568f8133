//! What was promised and what came: the producer's side (acknowledged, refused, cancelled), the
//! consumer's side (fired, and everything odd about a fire), and the verdict over both. One bit a
//! timer and side; the two sides are written by two threads and meet only in the verdict.

use super::due::DueTimes;
use super::plan::Plan;
use super::report::group_thousands;
use serde::Serialize;

/// Examples kept of what went wrong, by each side; the counts go on.
const EXAMPLES_MAX: usize = 5;

/// A bit for each timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// All clear.
    pub(crate) fn new(len: u64) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize] }
    }

    /// Sets a bit; false if it was set before.
    pub(crate) fn set(&mut self, index: u64) -> bool {
        let (word, bit) = (&mut self.words[(index / 64) as usize], 1 << (index % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// The first of so many that is clear.
    pub(crate) fn first_clear(&self, len: u64) -> Option<u64> {
        let at = self.words.iter().position(|word| *word != u64::MAX)?;
        let index = at as u64 * 64 + u64::from(self.words[at].trailing_ones());
        (index < len).then_some(index)
    }

    /// How many are set.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Promises {
    /// The server said that the timer exists.
    pub(crate) acknowledged: Bitmap,
    /// The server said no.
    pub(crate) refused: Bitmap,
    /// The server promised that it never fires.
    pub(crate) cancelled: Bitmap,
}

impl Promises {
    /// Nothing promised yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let empty = Bitmap::new(plan.identities());
        Self { acknowledged: empty.clone(), refused: empty.clone(), cancelled: empty }
    }

    /// How many timers have to fire.
    pub(crate) fn expected(&self) -> u64 {
        let pairs = self.acknowledged.words.iter().zip(&self.cancelled.words);
        pairs
            .map(|(acknowledged, cancelled)| u64::from((acknowledged & !cancelled).count_ones()))
            .sum()
    }
}

/// One fire as read from the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FireLine {
    pub(crate) number: u64,
    pub(crate) fire_at: i64,
    pub(crate) fired_at: i64,
}

/// The consumer's side.
#[derive(Debug)]
pub(crate) struct Fires {
    seen: Bitmap,
    /// Fires of timers of this run, repeated ones too.
    pub(crate) count: u64,
    duplicates: u64,
    early: u64,
    wrong_time: u64,
    unknown: u64,
    examples: Vec<String>,
}

impl Fires {
    /// None seen yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            seen: Bitmap::new(plan.identities()),
            count: 0,
            duplicates: 0,
            early: 0,
            wrong_time: 0,
            unknown: 0,
            examples: Vec::new(),
        }
    }

    /// Enters a fire that arrived at a time of this machine's wall clock.
    pub(crate) fn enter(&mut self, fire: FireLine, arrived_us: i64, due: &DueTimes) {
        self.count += 1;
        if !self.seen.set(fire.number) {
            self.duplicates += 1;
            self.keep(|| format!("timer {} fired again", fire.number));
        }
        if fire.fired_at < fire.fire_at || arrived_us < fire.fire_at.saturating_mul(1000) {
            self.early += 1;
            self.keep(|| {
                let FireLine { number, fire_at, fired_at } = fire;
                format!("timer {number} of {fire_at} fired at {fired_at}, read at {arrived_us} us")
            });
        }
        match due.expected_ms(fire.number) {
            None => {
                self.unknown += 1;
                self.keep(|| format!("timer {} fired before it was registered", fire.number));
            }
            Some(expected) if !expected.contains(&fire.fire_at) => {
                self.wrong_time += 1;
                self.keep(|| {
                    let (from, to) = (expected.start(), expected.end());
                    format!("timer {} has fire_at {}, not {from}..={to}", fire.number, fire.fire_at)
                });
            }
            Some(_) => {}
        }
    }

    /// Enters a line that is no fire of this run.
    pub(crate) fn enter_unknown(&mut self, line: &[u8]) {
        self.unknown += 1;
        self.keep(|| {
            format!("unknown line: {}", String::from_utf8_lossy(&line[..line.len().min(200)]))
        });
    }

    fn keep(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// Whether the server kept its promises, and how often not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Every promise was kept.
    pub(crate) ok: bool,
    /// Timers that had to fire.
    pub(crate) expected: u64,
    pub(crate) fired: u64,
    pub(crate) missing: u64,
    pub(crate) duplicates: u64,
    pub(crate) early: u64,
    /// A `fire_at` that is not the one asked for; with heartbeats, not the last deadline.
    pub(crate) wrong_time: u64,
    pub(crate) unknown: u64,
    pub(crate) cancelled_but_fired: u64,
    pub(crate) refused_but_fired: u64,
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Adds the verdict over a part of a run, of this name.
    pub(crate) fn add(&mut self, part: &str, other: Self) {
        let Self { ok, expected, fired, missing, duplicates, early, .. } = other;
        self.ok &= ok;
        self.expected += expected;
        self.fired += fired;
        self.missing += missing;
        self.duplicates += duplicates;
        self.early += early;
        self.wrong_time += other.wrong_time;
        self.unknown += other.unknown;
        self.cancelled_but_fired += other.cancelled_but_fired;
        self.refused_but_fired += other.refused_but_fired;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        let named = other.examples.into_iter().map(|example| format!("{part}: {example}"));
        self.examples.extend(named.take(room));
    }

    /// In a line, for a person.
    pub(crate) fn to_text(&self) -> String {
        let Self { missing, duplicates, early, .. } = self;
        let rest =
            self.wrong_time + self.unknown + self.cancelled_but_fired + self.refused_but_fired;
        let expected = group_thousands(self.expected);
        if self.ok {
            return format!(
                "verified    {expected} timers fired once each, none early, none missing"
            );
        }
        format!(
            "verified    of {expected} timers {missing} missing, {duplicates} repeated, {early} early, \
             {rest} otherwise wrong"
        )
    }
}

/// Holds the two sides against each other.
pub(crate) fn verify(promises: &Promises, fires: &Fires) -> Verdict {
    let mut verdict = Verdict {
        expected: promises.expected(),
        fired: fires.seen.count(),
        duplicates: fires.duplicates,
        early: fires.early,
        wrong_time: fires.wrong_time,
        unknown: fires.unknown,
        examples: fires.examples.clone(),
        ..Verdict::default()
    };
    // The examples of one side must not crowd out the other's.
    let examples_max = verdict.examples.len() + EXAMPLES_MAX;
    for (index, seen) in fires.seen.words.iter().enumerate() {
        let acknowledged = promises.acknowledged.words[index];
        let cancelled = promises.cancelled.words[index];
        let refused = promises.refused.words[index] & !acknowledged;
        let missing = acknowledged & !cancelled & !seen;
        verdict.missing += u64::from(missing.count_ones());
        verdict.cancelled_but_fired += u64::from((cancelled & seen).count_ones());
        verdict.refused_but_fired += u64::from((refused & seen).count_ones());
        for (bits, what) in [
            (missing, "is missing"),
            (cancelled & seen, "was cancelled but fired"),
            (refused & seen, "was refused but fired"),
        ] {
            if bits != 0 && verdict.examples.len() < examples_max {
                let number = index as u64 * 64 + u64::from(bits.trailing_zeros());
                verdict.examples.push(format!("timer {number} {what}"));
            }
        }
    }
    let violations = [
        verdict.missing,
        verdict.duplicates,
        verdict.early,
        verdict.wrong_time,
        verdict.unknown,
        verdict.cancelled_but_fired,
        verdict.refused_but_fired,
    ];
    verdict.ok = violations.iter().all(|count| *count == 0);
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Workload, tests::plan};
    use super::*;

    const ORIGIN: i64 = 1_767_225_600_000;

    /// A run of 100 timers, all acknowledged and fired as they should, but for what `change` does.
    fn check(
        change: impl FnOnce(&mut Promises, &mut Vec<FireLine>),
        expected: impl FnOnce(&mut Verdict),
    ) {
        let plan = plan(Workload::Uniform, 100, 100, 100);
        let due = DueTimes::new(&plan, ORIGIN);
        due.note_sent(&plan.unit(0), ORIGIN);
        let mut promises = Promises::new(&plan);
        let mut sent = Vec::new();
        for number in 0..100 {
            promises.acknowledged.set(number);
            let fire_at = due.due_ms(number);
            sent.push(FireLine { number, fire_at, fired_at: fire_at });
        }
        change(&mut promises, &mut sent);
        let mut fires = Fires::new(&plan);
        for fire in sent {
            fires.enter(fire, fire.fired_at * 1000 + 20, &due);
        }
        let mut verdict = verify(&promises, &fires);
        assert_eq!(verdict.examples.is_empty(), verdict.ok, "{:?}", verdict.examples);
        verdict.examples.clear();
        let mut good = Verdict { expected: 100, fired: 100, ok: true, ..Verdict::default() };
        expected(&mut good);
        assert_eq!(verdict, good);
    }

    #[test]
    fn a_run_without_fault() {
        check(|_, _| {}, |_| {});
    }

    #[test]
    fn a_missing_fire() {
        check(
            |_, fires| {
                fires.remove(77);
            },
            |verdict| (verdict.missing, verdict.fired, verdict.ok) = (1, 99, false),
        );
    }

    #[test]
    fn a_fire_that_comes_twice() {
        check(
            |_, fires| fires.push(fires[3]),
            |verdict| (verdict.duplicates, verdict.ok) = (1, false),
        );
    }

    #[test]
    fn an_early_fire() {
        check(
            |_, fires| fires[9].fired_at -= 1,
            |verdict| (verdict.early, verdict.ok) = (1, false),
        );
    }

    #[test]
    fn a_fire_of_another_time() {
        check(
            |_, fires| {
                fires[9].fire_at += 1;
                fires[9].fired_at += 1;
            },
            |verdict| (verdict.wrong_time, verdict.ok) = (1, false),
        );
    }

    #[test]
    fn a_cancelled_timer_must_not_fire_and_is_not_missed() {
        check(
            |promises, fires| {
                promises.cancelled.set(64);
                promises.cancelled.set(65);
                fires.remove(65);
            },
            |verdict| {
                (verdict.expected, verdict.fired) = (98, 99);
                (verdict.cancelled_but_fired, verdict.ok) = (1, false);
            },
        );
    }

    #[test]
    fn a_refused_timer_must_not_fire() {
        check(
            |promises, _| {
                promises.acknowledged = Bitmap::new(100);
                for number in 0..99 {
                    promises.acknowledged.set(number);
                }
                promises.refused.set(99);
            },
            |verdict| (verdict.expected, verdict.refused_but_fired, verdict.ok) = (99, 1, false),
        );
    }

    #[test]
    fn a_fire_that_was_never_sent_and_a_foreign_line() {
        let plan = plan(Workload::Uniform, 100, 100, 100);
        let due = DueTimes::new(&plan, ORIGIN);
        let mut fires = Fires::new(&plan);
        fires.enter(FireLine { number: 1, fire_at: 5, fired_at: 5 }, 5000, &due);
        fires.enter_unknown(b"{\"key\":\"x\"}");
        let verdict = verify(&Promises::new(&plan), &fires);
        assert_eq!((verdict.unknown, verdict.ok), (2, false));
    }
}
