//! Units as NDJSON: one operation a line.

use super::{key_bytes, push_decimal};
use crate::bench::due::DueTimes;
use crate::bench::plan::{Plan, Unit, Verb};

/// Replaces `out` by the lines of a unit; returns how many there are.
pub(crate) fn write_body(
    out: &mut Vec<u8>,
    plan: &Plan,
    unit: &Unit,
    verb: Verb,
    due: &DueTimes,
) -> u32 {
    out.clear();
    let mut lines = 0;
    for number in unit.numbers() {
        if verb == Verb::Delete && Plan::is_spared(number) {
            continue;
        }
        write_line(out, plan, number, verb, due);
        lines += 1;
    }
    lines
}

fn write_line(out: &mut Vec<u8>, plan: &Plan, number: u64, verb: Verb, due: &DueTimes) {
    let (key, name) = plan.identity(number);
    out.extend_from_slice(match verb {
        Verb::Register => b"{\"op\":\"register\",\"key\":\"".as_slice(),
        Verb::Touch => b"{\"op\":\"touch\",\"key\":\"".as_slice(),
        Verb::Delete => b"{\"op\":\"delete\",\"key\":\"".as_slice(),
    });
    out.extend_from_slice(&key_bytes(key));
    let is_named = plan.is_named();
    if is_named {
        out.extend_from_slice(b"\",\"name\":\"t");
        push_decimal(out, name as i64);
    }
    match verb {
        Verb::Touch => {
            out.extend_from_slice(b"\",\"after\":\"");
            push_decimal(out, plan.over_ms);
            out.extend_from_slice(b"ms\"}\n");
        }
        Verb::Delete if is_named => out.extend_from_slice(b"\"}\n"),
        Verb::Register | Verb::Delete => {
            out.extend_from_slice(b"\",\"at\":");
            push_decimal(out, due.due_ms(number));
            out.extend_from_slice(b"}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Workload, tests::plan};
    use serde_json::{Value, json};

    const ORIGIN: i64 = 1_767_225_600_000;

    /// The parsed lines of the unit, and its due times.
    fn check(plan: &Plan, unit: u64, verb: Verb, expected: impl Fn(&DueTimes, u64) -> Value) {
        let due = DueTimes::new(plan, ORIGIN);
        let unit = plan.unit(unit);
        due.note_sent(&unit, ORIGIN + 10);
        let mut body = Vec::new();
        let lines = write_body(&mut body, plan, &unit, verb, &due);
        let parsed: Vec<Value> = body
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(parsed.len(), lines as usize);
        let numbers = unit.numbers().filter(|n| verb != Verb::Delete || !Plan::is_spared(*n));
        let expected: Vec<Value> = numbers.map(|number| expected(&due, number)).collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn registrations() {
        check(
            &plan(Workload::Uniform, 100, 100, 10),
            9,
            Verb::Register,
            |due, number| json!({"op": "register", "key": format!("timer-{number:09}"), "at": due.due_ms(number)}),
        );
    }

    #[test]
    fn several_timers_of_a_key_have_names() {
        check(&plan(Workload::Uniform, 100, 30, 40), 1, Verb::Register, |due, number| {
            json!({"op": "register", "key": format!("timer-{:09}", number % 30),
                   "name": format!("t{}", number / 30), "at": due.due_ms(number)})
        });
        check(&plan(Workload::Cancel, 100, 30, 40), 1, Verb::Delete, |_, number| {
            json!({"op": "delete", "key": format!("timer-{:09}", number % 30),
                   "name": format!("t{}", number / 30)})
        });
    }

    #[test]
    fn deletes_spare_some_and_name_the_time() {
        check(
            &plan(Workload::Cancel, 20, 20, 20),
            0,
            Verb::Delete,
            |due, number| json!({"op": "delete", "key": format!("timer-{number:09}"), "at": due.due_ms(number)}),
        );
    }

    #[test]
    fn touches() {
        check(
            &plan(Workload::Heartbeat, 40, 10, 10),
            3,
            Verb::Touch,
            |_, number| json!({"op": "touch", "key": format!("timer-{number:09}"), "after": "5000ms"}),
        );
    }
}
