//! A shorter history with the same failure: events are left out, in halves, then in quarters, and so
//! on down to single ones, as long as what fails stays what failed.

use crate::model::Violation;
use crate::plan::Event;

/// Leaves out what `fails` does not need; it is asked at most `tries` times.
pub(crate) fn shrink(
    events: &[Event],
    tries: usize,
    mut fails: impl FnMut(&[Event]) -> Option<Violation>,
) -> Vec<Event> {
    let mut events = events.to_vec();
    let Some(kind) = fails(&events).map(|violation| violation.kind) else { return events };
    let mut left = tries;
    let mut piece = events.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut is_shorter = false;
        while at < events.len() {
            if left == 0 {
                return events;
            }
            left -= 1;
            let end = (at + piece).min(events.len());
            let rest: Vec<Event> = events[..at].iter().chain(&events[end..]).cloned().collect();
            if fails(&rest).is_some_and(|violation| violation.kind == kind) {
                events = rest;
                is_shorter = true;
            } else {
                at = end;
            }
        }
        if piece == 1 && !is_shorter {
            return events;
        }
        piece = (piece / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_it_takes_is_left() {
        let events: Vec<Event> = (0..100).map(Event::Pass).collect();
        let fails = |events: &[Event]| {
            let has = |it| events.contains(&Event::Pass(it));
            let is_failure = has(17) && has(71);
            is_failure.then(|| Violation::new("both", ""))
        };
        assert_eq!(shrink(&events, 1_000, fails), [Event::Pass(17), Event::Pass(71)]);
        let never = |_: &[Event]| None;
        assert_eq!(shrink(&events, 1_000, never).len(), 100);
    }
}
