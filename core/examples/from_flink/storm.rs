//! A storm, spread: ten thousand timers of one hour, fired over ten minutes.
//!
//! Flink's guides leave that to the program. Here a namespace of timers has `spread`, by which each
//! timer moves later by a part of it that its key decides: the same one today and after a restart. A
//! function adds `stormwheel::time::spread_offset` to the time that it registers.

use stormwheel::error::Rejection;
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Action, Only, Op, Register, When};
use stormwheel::solo::Solo;
use stormwheel::time::{Domain, Timestamp, spread_offset};

const KEYS: usize = 10_000;
const MINUTES: usize = 10;
const MINUTE: i64 = 60_000;
const SPREAD: i64 = MINUTE * MINUTES as i64;

pub(crate) fn run() -> Result<(), Rejection> {
    let start = Timestamp::from_millis(0);
    let hour = start + 60 * MINUTE;
    let config = NamespaceConfig { spread_ms: SPREAD, ..NamespaceConfig::default() };
    let mut timers = Solo::new(&config, start)?;

    let on_the_hour = Action::Register(Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(hour),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    });
    let keys: Vec<String> = (0..KEYS).map(|n| format!("report {n}")).collect();
    let ops: Vec<_> =
        keys.iter().map(|key| Op { key: key.as_bytes(), action: on_the_hour }).collect();
    for outcome in timers.apply(&ops, start) {
        outcome?;
    }

    timers.advance(hour - 1, |_| unreachable!("none fires before its time"));
    let mut fired = [0; MINUTES + 1];
    let end = hour + SPREAD;
    for (minute, fired) in fired.iter_mut().enumerate() {
        let now = (hour + MINUTE * minute as i64 + MINUTE - 1).min(end);
        timers.advance(now, |_| *fired += 1);
    }
    assert_eq!(fired.iter().sum::<usize>(), KEYS);
    // Spread evenly, it would be a thousand in each of the ten.
    assert!(fired[..MINUTES].iter().all(|fired| (850..1_150).contains(fired)), "{fired:?}");

    let offset = spread_offset(b"report 1", None, SPREAD);
    assert!((0..=SPREAD).contains(&offset));
    assert_eq!(offset, spread_offset(b"report 1", None, SPREAD), "the key decides, not chance");
    Ok(())
}
