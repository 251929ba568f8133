//! Broadcasts on their way to all lanes: one step each, so that all lanes take them in one order.
//! What a producer sent before is known here, and goes out once.

use super::{Change, ControlEffect, Controls, Ticket, Waiting};
use crate::error::Rejection;
use crate::limits::{BROADCAST_BYTES_UNDER_WAY_MAX, BROADCASTS_UNDER_WAY_MAX, PRODUCERS_MAX};
use crate::namespace::{Broadcast, BroadcastResult, ClockKind, CommandReply};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// When a refused broadcast makes sense again.
const RETRY_AFTER_MS: u64 = 100;

/// A broadcast as all lanes hear it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BroadcastStep {
    /// The lane that speaks for all: it emits what is emitted once.
    pub(crate) home: u16,
    pub(crate) timestamp: Timestamp,
    /// What the namespace's clock read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) now: Option<Timestamp>,
    /// JSON.
    pub(crate) value: Arc<str>,
}

/// The producers of a namespace's broadcasts, each with the last sequence that was taken. Those that
/// were heard of last stand at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub(crate) struct BroadcastProducers(Vec<(String, u64)>);

impl BroadcastProducers {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a broadcast of a producer. Returns whether it is new: no later one was taken either.
    fn take(&mut self, producer: &str, sequence: u64) -> bool {
        if let Some(place) = self.0.iter().position(|(known, _)| known == producer) {
            if sequence <= self.0[place].1 {
                return false;
            }
            self.0.remove(place);
        } else if self.0.len() >= PRODUCERS_MAX {
            self.0.remove(0);
        }
        self.0.push((producer.to_owned(), sequence));
        true
    }
}

impl Controls {
    pub(super) fn broadcast(
        &mut self,
        ticket: Ticket,
        name: &str,
        it: &Broadcast,
        settle: bool,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let home = self.lane;
        let control = self.control(name)?;
        control.check_open()?;
        control.check_going()?;
        let reply = |result| CommandReply::Broadcast { result, visited: 0 };
        if let Some((producer, sequence)) = &it.producer
            && !control.broadcasters.take(producer, *sequence)
        {
            return Ok(Some(reply(BroadcastResult::Repeated)));
        }
        let now = match control.config.clock {
            ClockKind::System => Some(now),
            // What a paused one has taken in meanwhile the lanes do not know yet.
            ClockKind::Manual => {
                control.paused.as_ref().map_or(control.manual_now, |paused| paused.clock)
            }
        };
        let (id, number) = (control.id, control.next_step());
        let step = BroadcastStep { home, timestamp: it.timestamp, now, value: it.value.clone() };
        let waiting = Waiting::new(ticket, settle, reply(BroadcastResult::Processed));
        self.send(id, number, Change::Broadcast(step), None, Some(waiting), effects);
        Ok(None)
    }

    /// Refuses one more broadcast while there are as many under way as there may be. Asked before
    /// anything is written down: a replay does not know what is under way.
    pub(crate) fn check_broadcasts_under_way(&self, bytes: usize) -> Result<(), Rejection> {
        let under_way = self.in_flight.values().filter_map(|step| match &step.change {
            Change::Broadcast(it) => Some(it.value.len()),
            _ => None,
        });
        let (count, sum) = under_way.fold((0, bytes), |(count, sum), len| (count + 1, sum + len));
        // One alone is always let in.
        let is_full =
            count >= BROADCASTS_UNDER_WAY_MAX || count > 0 && sum > BROADCAST_BYTES_UNDER_WAY_MAX;
        if is_full {
            return Err(Rejection::QueueFull { retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{
        Asked, ClockChange, Command, ControlsState, NamespaceConfig, Step, StepDone,
    };
    use crate::output::NamespaceId;

    fn command(controls: &mut Controls, command: Command) -> Vec<ControlEffect> {
        let asked = Asked::new("n".to_owned(), command);
        let mut effects = Vec::new();
        controls.command(Ticket(1), &asked, Timestamp::from_millis(50), &mut effects);
        effects
    }

    fn fresh(clock: ClockKind) -> Controls {
        let mut controls = Controls::new(3, 8);
        let config = NamespaceConfig { clock, ..NamespaceConfig::default() };
        command(&mut controls, Command::Put { config, expected_version: None });
        controls
    }

    fn broadcast(bytes: usize, producer: Option<(&str, u64)>) -> Command {
        Command::Broadcast(Broadcast {
            timestamp: Timestamp::from_millis(7),
            value: "x".repeat(bytes).into(),
            producer: producer.map(|(name, sequence)| (name.to_owned(), sequence)),
        })
    }

    /// The broadcast that an effect sends to all lanes.
    fn sent(effects: &[ControlEffect]) -> Option<(NamespaceId, u64, BroadcastStep)> {
        effects.iter().find_map(|effect| match effect {
            ControlEffect::Send(Step { namespace, number, change: Change::Broadcast(it) }) => {
                Some((*namespace, *number, it.clone()))
            }
            _ => None,
        })
    }

    #[test]
    fn no_more_are_under_way_than_may_be() {
        const MIB: usize = 1 << 20;
        let mut controls = fresh(ClockKind::System);
        assert_eq!(controls.check_broadcasts_under_way(100 * MIB), Ok(()), "one alone");
        let mut numbers = Vec::new();
        for _ in 0..4 {
            assert_eq!(controls.check_broadcasts_under_way(MIB), Ok(()));
            numbers.push(sent(&command(&mut controls, broadcast(MIB, None))).expect("it is sent"));
        }
        let full = Err(Rejection::QueueFull { retry_after_ms: RETRY_AFTER_MS });
        assert_eq!(controls.check_broadcasts_under_way(1), full);
        let (namespace, number, _) = numbers.remove(0);
        for is_settled in [false, true] {
            for _ in 0..8 {
                assert_eq!(controls.check_broadcasts_under_way(1), full);
                let (timers, is_failed) = (0, false);
                let done = StepDone { namespace, number, is_settled, timers, is_failed };
                controls.step_done(done, &mut Vec::new());
            }
        }
        assert_eq!(controls.check_broadcasts_under_way(MIB), Ok(()));
        for _ in 3..BROADCASTS_UNDER_WAY_MAX {
            assert_eq!(controls.check_broadcasts_under_way(1), Ok(()));
            command(&mut controls, broadcast(1, None));
        }
        assert_eq!(controls.check_broadcasts_under_way(1), full);
    }

    #[test]
    fn the_lanes_hear_the_clock_that_they_know() {
        let mut system = fresh(ClockKind::System);
        let now = |effects: Vec<ControlEffect>| sent(&effects).expect("it is sent").2.now;
        let at = |millis| Some(Timestamp::from_millis(millis));
        assert_eq!(now(command(&mut system, broadcast(1, None))), at(50));
        let mut manual = fresh(ClockKind::Manual);
        assert_eq!(now(command(&mut manual, broadcast(1, None))), None);
        let set = |to| Command::Clock(ClockChange::Set(Timestamp::from_millis(to)));
        command(&mut manual, set(5));
        assert_eq!(now(command(&mut manual, broadcast(1, None))), at(5));
        command(&mut manual, Command::Pause);
        command(&mut manual, set(9));
        assert_eq!(now(command(&mut manual, broadcast(1, None))), at(5));
        command(&mut manual, Command::Resume);
        assert_eq!(now(command(&mut manual, broadcast(1, None))), at(9));
        let step = sent(&command(&mut manual, broadcast(2, None))).expect("it is sent").2;
        assert_eq!((step.home, step.timestamp, &*step.value), (3, Timestamp::from_millis(7), "xx"));
    }

    #[test]
    fn what_was_taken_of_a_producer_is_written_down_and_the_longest_silent_is_forgotten() {
        let mut controls = fresh(ClockKind::System);
        let is_sent = |controls: &mut Controls, name: &str, sequence| {
            sent(&command(controls, broadcast(1, Some((name, sequence))))).is_some()
        };
        assert!(is_sent(&mut controls, "a", 5));
        assert!(!is_sent(&mut controls, "a", 5) && !is_sent(&mut controls, "a", 4));
        let state = controls.to_state();
        let text = serde_json::to_string(&state).expect("it is plain data");
        assert!(text.contains(r#""broadcasters":[["a",5]]"#), "{text}");
        let state: ControlsState = serde_json::from_str(&text).expect("it was just written");
        let mut controls = Controls::from_state(3, 8, state);
        assert!(!is_sent(&mut controls, "a", 5));
        for n in 0..PRODUCERS_MAX - 1 {
            assert!(is_sent(&mut controls, &format!("p{n}"), 1));
        }
        assert!(is_sent(&mut controls, "a", 6), "it was heard of meanwhile");
        assert!(is_sent(&mut controls, "one more", 1));
        assert!(!is_sent(&mut controls, "a", 6));
        assert!(is_sent(&mut controls, "p0", 1), "it was forgotten");
        // Written as before there were any.
        let plain = fresh(ClockKind::System).to_state();
        let text = serde_json::to_string(&plain).expect("it is plain data");
        assert!(!text.contains("broadcasters"), "{text}");
        assert_eq!(serde_json::from_str::<ControlsState>(&text).ok(), Some(plain));
    }
}
