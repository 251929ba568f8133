//! The language of the scripts that callbacks run: commands, and the times that stand in them.
//!
//! Commands are read when they run, out of what the element or the state holds; and once when a case
//! is loaded, so that a slip is found there and not taken for a failing callback.

use crate::case::time_of;
use serde_json::Value;
use stormwheel::time::{Domain, Timestamp};

/// One command of a script.
#[derive(Debug)]
pub(crate) enum Command<'a> {
    Register {
        domain: Domain,
        time: Time,
        label: Label<'a>,
        then: Then<'a>,
    },
    Delete {
        domain: Domain,
        time: Option<Time>,
        label: Label<'a>,
    },
    DeleteAll,
    Emit(&'a Value),
    EmitTo(&'a str, &'a Value),
    Show(Vec<&'a str>),
    Set(&'a Value),
    Add(i64),
    Clear,
    /// Runs the rest if the state is (or is not) this.
    If {
        state: &'a Value,
        is_wanted: bool,
        rest: &'a [Value],
    },
    Fail(&'a str),
    Panic(&'a str),
}

/// What makes a timer itself, beside its key, its domain and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Label<'a> {
    None,
    Name(&'a str),
    Namespace(&'a str),
}

/// What a timer does when it fires.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then<'a> {
    /// It says which timer it is.
    Tell,
    /// It runs this script.
    Run(&'a Value),
    /// It runs the script that registers it.
    Same,
}

/// A time, or what it is reckoned from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    base: Base,
    plus: i64,
    /// It is rounded down to a multiple of this.
    unit: i64,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    Is(i64),
    Timestamp,
    Watermark,
    ProcessingTime,
}

/// What a callback can show.
pub(crate) const SHOWN: [&str; 12] = [
    "watermark",
    "processing_time",
    "timestamp",
    "domain",
    "name",
    "namespace",
    "key",
    "input",
    "timers",
    "count",
    "state",
    "broadcast",
];

/// Says what is wrong with a script, if anything is.
pub(crate) fn check(script: &Value) -> Result<(), String> {
    for it in commands(script)? {
        match read(it)? {
            Command::Register { then: Then::Run(script), .. } => check(script)?,
            Command::If { rest, .. } => check(&Value::Array(rest.to_vec()))?,
            _ => {}
        }
    }
    Ok(())
}

/// The commands of a script.
pub(crate) fn commands(script: &Value) -> Result<&[Value], String> {
    script.as_array().map(Vec::as_slice).ok_or_else(|| format!("{script} is no list of commands"))
}

/// Reads one command.
pub(crate) fn read(command: &Value) -> Result<Command<'_>, String> {
    let wrong = || format!("there is no command {command}");
    let [verb, rest @ ..] = commands(command)? else { return Err(wrong()) };
    Ok(match (verb.as_str().ok_or_else(wrong)?, rest) {
        (verb @ ("event" | "processing"), [time, options @ ..]) => {
            let (label, then) = read_options(options)?;
            Command::Register { domain: domain(verb), time: Time::read(time)?, label, then }
        }
        (verb @ ("delete_event" | "delete_processing"), [time, options @ ..]) => {
            let (label, then) = read_options(options)?;
            let is_named = matches!(label, Label::Name(_));
            if is_named != time.is_null() || !matches!(then, Then::Tell) {
                return Err(wrong());
            }
            let time = if is_named { None } else { Some(Time::read(time)?) };
            Command::Delete { domain: domain(&verb["delete_".len()..]), time, label }
        }
        ("delete_all", []) => Command::DeleteAll,
        ("emit", [value]) => Command::Emit(value),
        ("emit_to", [Value::String(tag), value]) => Command::EmitTo(tag, value),
        ("show", what @ [_, ..]) => {
            let what: Vec<&str> = what.iter().filter_map(Value::as_str).collect();
            if what.len() != rest.len() || !what.iter().all(|it| SHOWN.contains(it)) {
                return Err(wrong());
            }
            Command::Show(what)
        }
        ("set", [value]) => Command::Set(value),
        ("add", [Value::Number(n)]) => Command::Add(n.as_i64().ok_or_else(wrong)?),
        ("clear", []) => Command::Clear,
        (verb @ ("when" | "unless"), [state, Value::Array(rest)]) => {
            Command::If { state, is_wanted: verb == "when", rest }
        }
        ("fail", [Value::String(message)]) => Command::Fail(message),
        ("panic", [Value::String(message)]) => Command::Panic(message),
        _ => return Err(wrong()),
    })
}

fn domain(name: &str) -> Domain {
    if name == "event" { Domain::Event } else { Domain::Processing }
}

fn read_options(options: &[Value]) -> Result<(Label<'_>, Then<'_>), String> {
    let (mut label, mut then) = (Label::None, Then::Tell);
    let fields = match options {
        [] => return Ok((label, then)),
        [Value::Object(fields)] => fields,
        _ => return Err(format!("{options:?} are no options of a timer")),
    };
    for (name, value) in fields {
        match (name.as_str(), value, label) {
            ("name", Value::String(name), Label::None) => label = Label::Name(name),
            ("namespace", Value::String(name), Label::None) => label = Label::Namespace(name),
            ("do", Value::String(word), _) if word == "same" => then = Then::Same,
            ("do", Value::Array(_), _) => then = Then::Run(value),
            _ => return Err(format!("{name} is no option of a timer")),
        }
    }
    Ok((label, then))
}

impl Time {
    /// `7`, `"max"`, `"timestamp"`, `"watermark-5"`, `"processing_time+60/1000"`.
    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || format!("{value} is no time");
        let Some(text) = value.as_str() else {
            return Ok(Self { base: Base::Is(time_of(value)?), plus: 0, unit: 1 });
        };
        let (text, unit) = match text.split_once('/') {
            Some((text, unit)) => (text, unit.parse().map_err(|_| wrong())?),
            None => (text, 1),
        };
        let sign = text.find(['+', '-']).unwrap_or(text.len());
        let plus = &text[sign..];
        let plus = if plus.is_empty() { 0 } else { plus.parse().map_err(|_| wrong())? };
        let base = match &text[..sign] {
            "timestamp" => Base::Timestamp,
            "watermark" => Base::Watermark,
            "processing_time" => Base::ProcessingTime,
            end => Base::Is(time_of(&end.into()).map_err(|_| wrong())?),
        };
        Ok(Self { base, plus, unit })
    }

    /// The time that it is in a callback that sees these; `None`: what it is reckoned from is not
    /// there.
    pub(crate) fn at(
        self,
        timestamp: Timestamp,
        watermark: Option<Timestamp>,
        processing_time: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let base = match self.base {
            Base::Is(time) => Timestamp::from_millis(time),
            Base::Timestamp => timestamp,
            Base::Watermark => watermark?,
            Base::ProcessingTime => processing_time?,
        };
        Some(base.saturating_add(self.plus).floor_to(self.unit))
    }
}
