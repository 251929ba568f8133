//! Typed functions in a host of a few lines: what a callback sees, asks for and leaves behind.

use super::host::{Host, HostOutput};
use super::*;
use crate::limits::{CALL_BYTES_MAX, STATE_BYTES_MAX};
use crate::namespace::NamespaceConfig;
use crate::op::Payload;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::marker::PhantomData;

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn out(key: &str, timestamp: impl Into<Option<i64>>, value: &str) -> HostOutput {
    let (key, value) = (key.to_owned(), value.to_owned());
    HostOutput { key, tag: None, timestamp: timestamp.into(), value }
}

struct CountWithTimeout;

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    count: u64,
    last: Timestamp,
}

impl KeyedProcessFunction for CountWithTimeout {
    type Input = String;
    type State = Seen;
    type Output = (String, u64);

    fn process_element(
        &mut self,
        _value: String,
        state: &mut Seen,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        state.count += 1;
        state.last = ctx.timestamp();
        ctx.timers().register_event_time(state.last + 60_000);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Seen,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        if time == state.last + 60_000 {
            ctx.emit((ctx.key_str()?.to_owned(), state.count));
            ctx.clear_state();
        }
        Ok(())
    }
}

#[test]
fn counts_with_a_timeout_and_keeps_nothing_once_it_is_over() {
    let mut host = Host::new(operator(CountWithTimeout).unwrap());
    host.element("a", 1_000, "\"x\"").unwrap();
    host.element("a", 2_000, "\"y\"").unwrap();
    host.element("b", 1_500, "\"z\"").unwrap();
    host.advance_watermark(61_999);
    assert_eq!(host.take_outputs(), [out("b", 61_500, "[\"b\",1]")]);
    assert_eq!(host.keys(), 1);
    host.advance_watermark(62_000);
    assert_eq!(host.take_outputs(), [out("a", 62_000, "[\"a\",2]")]);
    assert_eq!(host.keys(), 0);
}

/// Does what its input, a list of words, says; on a timer, says which one it was.
struct Script;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sum(i64);

const SIDE: OutputTag<i64> = OutputTag::new("side");
const NO_TAG: OutputTag<i64> = OutputTag::new("");

impl KeyedProcessFunction for Script {
    type Input = Vec<(String, i64)>;
    type State = Sum;
    type Output = serde_json::Value;

    fn process_element(
        &mut self,
        steps: Self::Input,
        state: &mut Sum,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        for (step, n) in steps {
            match step.as_str() {
                "event" => ctx.timers().register_event_time(ms(n)),
                "processing" => ctx.timers().register_processing_time(ms(n)),
                "undo" => ctx.timers().delete_event_time(ms(n)),
                "named" => ctx.timers().named("n").register_event_time(ms(n)),
                "unname" => ctx.timers().named("n").delete_event_time(),
                "in a" => ctx.timers().in_namespace("a").register_event_time(ms(n)),
                "in b" => ctx.timers().in_namespace(b"b\xff").register_event_time(ms(n)),
                "out of a" => ctx.timers().in_namespace("a").delete_event_time(ms(n)),
                "no a" => ctx.timers().in_namespace("a").delete_all(),
                "none" => ctx.timers().delete_all(),
                "list" => {
                    let timers = ctx.timers().list();
                    let named = |it: &FunctionTimer| match &it.id {
                        TimerId::Unnamed => "-".to_owned(),
                        TimerId::Named(name) => name.to_string(),
                        TimerId::InNamespace(bytes) => format!("{bytes:?}"),
                    };
                    let timers: Vec<_> =
                        timers.iter().map(|it| (it.time.as_millis(), named(it))).collect();
                    assert_eq!(ctx.timers().count(), timers.len());
                    ctx.emit(json!(timers));
                }
                "has" => {
                    let has = ctx.timers().contains(Domain::Event, ms(n));
                    let named = ctx.timers().named("n").time(Domain::Event);
                    let in_a = ctx.timers().in_namespace("a").contains(Domain::Event, ms(n));
                    ctx.emit(json!([has, named, in_a]));
                }
                "add" => state.0 += n,
                "clear" => ctx.clear_state(),
                "side" => ctx.emit_to(&SIDE, n),
                "at" => ctx.emit_at(ms(n), json!(n)),
                "sum" => ctx.emit(json!([state.0, ctx.watermark(), ctx.processing_time()])),
                "no name" => ctx.timers().named("").register_event_time(ms(n)),
                "no tag" => ctx.emit_to(&NO_TAG, n),
                "too much" => ctx.emit(json!(vec![0_u8; CALL_BYTES_MAX])),
                "fail" => return Err(FunctionError::new("as asked")),
                "error" => drop("x".parse::<i64>()?),
                "panic" => panic!("at {n}"),
                other => return Err(FunctionError::new(format!("no step {other}"))),
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Sum,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        state.0 += 1;
        let (domain, name, namespace) = (ctx.domain(), ctx.name(), ctx.namespace());
        ctx.emit(json!([time, domain, name, namespace]));
        ctx.emit_to(&SIDE, state.0);
        Ok(())
    }
}

fn script() -> Host {
    Host::new(operator(Script).unwrap())
}

fn values(host: &mut Host) -> Vec<String> {
    host.take_outputs().into_iter().map(|output| output.value).collect()
}

#[test]
fn timers_are_read_as_they_will_be_once_the_callback_has_returned() {
    let mut host = script();
    host.element(
        "k",
        0,
        r#"[["event",5],["event",5],["named",9],["named",7],["in a",5],["in b",5],["has",5],["list",0]]"#,
    )
    .unwrap();
    assert_eq!(
        values(&mut host),
        ["[true,7,true]", r#"[[5,"-"],[5,"[97]"],[5,"[98, 255]"],[7,"n"]]"#]
    );
    assert_eq!(host.timers("k").len(), 4);
    let steps =
        r#"[["undo",5],["out of a",5],["has",5],["in a",6],["no a",0],["unname",0],["list",0]]"#;
    host.element("k", 0, steps).unwrap();
    assert_eq!(values(&mut host), ["[false,7,false]", r#"[[5,"[98, 255]"]]"#]);
    host.element("k", 0, r#"[["event",3],["none",0],["list",0]]"#).unwrap();
    assert_eq!(values(&mut host), ["[]"]);
    assert_eq!(host.keys(), 0);
}

#[test]
fn a_timer_says_which_one_it_was_and_stamps_what_is_emitted() {
    let mut host = script();
    host.advance_clock(100);
    let steps =
        r#"[["sum",0],["at",3],["side",4],["processing",200],["event",5],["in b",5],["named",6]]"#;
    host.element("k", 50, steps).unwrap();
    let side = |timestamp, value: &str| HostOutput {
        tag: Some("side".to_owned()),
        ..out("k", timestamp, value)
    };
    assert_eq!(
        host.take_outputs(),
        [out("k", 50, "[0,null,100]"), out("k", 3, "3"), side(50, "4")]
    );
    host.advance_watermark(6);
    assert_eq!(
        host.take_outputs(),
        [
            out("k", 5, "[5,\"event\",null,null]"),
            side(5, "1"),
            out("k", 5, "[5,\"event\",null,[98,255]]"),
            side(5, "2"),
            out("k", 6, "[6,\"event\",\"n\",null]"),
            side(6, "3"),
        ]
    );
    host.advance_clock(250);
    let main = out("k", None, "[200,\"processing\",null,null]");
    assert_eq!(host.take_outputs(), [main, side(200, "4")]);
}

#[test]
fn a_callback_that_fails_leaves_nothing_of_what_it_asked_for() {
    let mut host = script();
    host.element("k", 0, r#"[["add",2],["event",5]]"#).unwrap();
    let before = (host.state("k").map(<[u8]>::to_vec), host.timers("k"));
    for (last, message) in [
        ("fail", "as asked"),
        ("panic", "the callback panicked: at 7"),
        ("error", "invalid digit found in string"),
        ("no name", "the name of a timer is empty"),
        ("no tag", "the tag of a side output has 0 bytes, allowed are 1 to 128"),
        ("too much", "a value has "),
    ] {
        let steps =
            json!([["add", 9], ["side", 1], ["none", 0], ["in a", 8], [last, 7], ["add", 1]]);
        let error = host.element("k", 0, &steps.to_string()).unwrap_err();
        assert!(error.message().starts_with(message), "{error}");
        assert_eq!(host.take_outputs(), []);
        assert_eq!((host.state("k").map(<[u8]>::to_vec), host.timers("k")), before);
    }
    let error = host.element("k", 0, "{\"not\":\"this\"}").unwrap_err();
    assert!(
        error.message().starts_with("the element is not what the function takes: invalid type")
    );
}

#[test]
fn a_state_that_equals_a_new_one_is_none() {
    let mut host = script();
    host.element("k", 0, r#"[["add",0]]"#).unwrap();
    assert_eq!((host.state("k"), host.keys()), (None, 0));
    host.element("k", 0, r#"[["add",3]]"#).unwrap();
    // The version, then 3 in zigzag.
    assert_eq!(host.state("k"), Some(&[1, 6][..]));
    host.element("k", 0, r#"[["add",-3]]"#).unwrap();
    assert_eq!((host.state("k"), host.keys()), (None, 0));
    host.element("k", 0, r#"[["add",3]]"#).unwrap();
    host.element("k", 0, r#"[["clear",0],["add",5]]"#).unwrap();
    assert_eq!((host.state("k"), host.keys()), (None, 0));
}

#[test]
fn what_is_written_down_is_told_from_what_was_there() {
    let mut scratch = Scratch::default();
    let timers = NoTimers;
    let at = |state| CallAt {
        key: b"k",
        timestamp: ms(0),
        domain: None,
        watermark: None,
        processing_time: None,
        is_ending: false,
        lateness_ms: 0,
        state,
    };
    let mut call = Call::new(at(Some(b"old")), &timers, &mut scratch);
    call.set_state(b"new");
    assert_eq!((call.state(), call.stored_state()), (Some(&b"new"[..]), Some(&b"old"[..])));
    call.set_state(b"old");
    assert_eq!(call.scratch.new_state(), NewState::Keep);
    call.clear_state();
    assert_eq!((call.state(), call.scratch.new_state()), (None, NewState::Clear));
    let mut call = Call::new(at(None), &timers, &mut scratch);
    call.set_state(b"new");
    call.clear_state();
    assert_eq!(call.scratch.new_state(), NewState::Keep);
    call.set_state(&vec![0; STATE_BYTES_MAX + 1]);
    let error = call.scratch.take_failure().unwrap_err();
    assert_eq!(error.message(), "the key's state has 1048577 bytes, allowed are 1048576");
}

struct NoTimers;

impl StoredTimers for NoTimers {
    fn find(&self, _: Domain, _: StoredId<'_>) -> Option<Timestamp> {
        None
    }

    fn for_each(&self, _: Domain, _: &mut dyn FnMut(Timestamp, Option<&str>)) {}

    fn count(&self) -> usize {
        0
    }
}

/// A second version of what `Script` keeps.
struct Average;

#[derive(Debug, Default, Serialize, Deserialize)]
struct SumAndCount(i64, u64);

impl KeyedProcessFunction for Average {
    type Input = i64;
    type State = SumAndCount;
    type Output = i64;

    const STATE_VERSION: u32 = 2;

    fn migrate_state(version: u32, bytes: &[u8]) -> Result<SumAndCount> {
        match version {
            1 => Ok(SumAndCount(i64::from(bytes[0]) / 2, 1)),
            other => Err(FunctionError::new(format!("version {other} is too old"))),
        }
    }

    fn process_element(
        &mut self,
        value: i64,
        state: &mut SumAndCount,
        ctx: &mut Context<i64>,
    ) -> Result<()> {
        state.0 += value;
        state.1 += 1;
        ctx.emit(state.0 / state.1 as i64);
        Ok(())
    }
}

/// A function whose state is of this type.
struct Keeps<S>(PhantomData<fn(S)>);

impl<S: Default + Serialize + DeserializeOwned + 'static> KeyedProcessFunction for Keeps<S> {
    type Input = u64;
    type State = S;
    type Output = u64;

    fn process_element(&mut self, _: u64, _: &mut S, _: &mut Context<u64>) -> Result<()> {
        Ok(())
    }
}

impl<S: Default + Serialize + DeserializeOwned + 'static> KeyedCoProcessFunction for Keeps<S> {
    type Input1 = u64;
    type Input2 = u64;
    type State = S;
    type Output = u64;

    fn process_element1(&mut self, _: u64, _: &mut S, _: &mut Context<u64>) -> Result<()> {
        Ok(())
    }

    fn process_element2(&mut self, _: u64, _: &mut S, _: &mut Context<u64>) -> Result<()> {
        Ok(())
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    second: u64,
}

#[test]
fn a_state_that_cannot_be_read_back_is_refused_at_once() {
    fn made<S: Default + Serialize + DeserializeOwned + 'static>() -> [Option<FunctionError>; 2] {
        let made = [operator(Keeps::<S>(PhantomData)), co_operator(Keeps::<S>(PhantomData))];
        made.map(Result::err)
    }
    assert_eq!(made::<(u64, Option<String>)>(), [None, None]);
    for error in made::<Value>().into_iter().chain(made::<Skips>()) {
        let error = error.expect("it is refused");
        let message = error.message();
        assert!(message.starts_with("the state's type cannot be read back: "), "{message}");
    }
}

#[test]
fn a_state_of_another_version_is_taken_over_or_refused() {
    let (timers, mut scratch) = (NoTimers, Scratch::default());
    let mut average = Instance::of(operator(Average).unwrap());
    let mut check = |state: &[u8], expected: Result<&[u8], &str>| {
        let at = CallAt {
            key: b"k",
            timestamp: ms(0),
            domain: None,
            watermark: None,
            processing_time: None,
            is_ending: false,
            lateness_ms: 0,
            state: Some(state),
        };
        let value = if expected == Err("script") { "[]" } else { "5" };
        let element =
            Element { timestamp: ms(0), input: 0, value: Payload::Json(value.as_bytes()) };
        match (process_element(&mut average, at, &timers, &mut scratch, element), expected) {
            (Ok(()), Ok(state)) => assert_eq!(scratch.new_state(), NewState::Set(state)),
            (Err(error), Err(message)) => assert_eq!(error.message(), message),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    };
    check(&[2, 6, 1], Ok(&[2, 16, 2]));
    check(&[1, 6], Ok(&[2, 16, 2]));
    let unreadable = |why: &str| format!("the key's state cannot be read: {why}");
    check(&[9, 6], Err(&unreadable("version 9 is too old")));
    check(&[2, 6, 1, 0], Err(&unreadable("1 bytes are left over")));
    let cut = "Hit the end of buffer, expected more data";
    check(&[2, 6], Err(&unreadable(cut)));
    check(&[], Err(&unreadable(cut)));
}

#[test]
fn operators_are_made_by_name_from_options() {
    let operators =
        Operators::default().with_function("script", || Script).with("sized", |options| {
            let size = options["size"].as_u64().ok_or_else(|| FunctionError::new("no size"))?;
            assert!(size < 10, "size {size}");
            operator(Average)
        });
    assert_eq!(operators.names().collect::<Vec<_>>(), ["script", "sized"]);
    let check = |name: &str, options: serde_json::Value, expected: Result<(), &str>| {
        let operator = name.to_owned();
        let config = NamespaceConfig { operator, options, ..NamespaceConfig::default() };
        let made = operators.check(&config).map_err(|rejection| rejection.to_string());
        assert_eq!(made, expected.map_err(str::to_owned));
    };
    check("script", json!(null), Ok(()));
    check("script", json!({}), Ok(()));
    let unwanted = "options: operator `script`: the operator takes no options";
    check("script", json!({"a": 1}), Err(unwanted));
    check("sized", json!({"size": 3}), Ok(()));
    check("sized", json!({}), Err("options: operator `sized`: no size"));
    let panicked = "options: operator `sized`: the callback panicked: size 30";
    check("sized", json!({"size": 30}), Err(panicked));
    check("timers", json!({}), Ok(()));
    let unknown = "operator: there is no operator `none`; there is `timers`, `script`, `sized`";
    check("none", json!({}), Err(unknown));
}
