//! The function whose callbacks do as elements and timers tell them to.
//!
//! What a timer is to do is kept in its key's state, until it has fired. Whether there is such a
//! timer it asks the engine, so that what it keeps can be too much and does no harm.

use crate::command::{Command, Label, Then, Time, commands, read};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stormwheel::function::{
    CallContext, Context, FunctionError, FunctionTimer, KeyedCoProcessFunction,
    KeyedProcessFunction, OnTimerContext, OutputTag, Result, TimerId,
};
use stormwheel::time::{Domain, Timestamp};

/// See the module.
pub(crate) struct Script;

/// The same, over two inputs.
pub(crate) struct ScriptOfTwo;

/// An element.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    #[serde(rename = "do")]
    script: Value,
}

/// What is kept for a key.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The state that scripts see, as JSON.
    pub(crate) state: Option<String>,
    /// What timers are to do, as JSON.
    scripts: BTreeMap<KeptTimer, String>,
}

/// A timer, as it is kept: domain, class and text of its label, and its time unless it has a name.
type KeptTimer = (bool, u8, String, i64);

/// What a callback is about.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cause<'a> {
    domain: Option<Domain>,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    input: u8,
    /// The broadcast state, as JSON.
    broadcast: Option<&'a str>,
}

impl<'a> Cause<'a> {
    /// An element, beside this broadcast state.
    pub(crate) fn beside(broadcast: Option<&'a str>) -> Self {
        Self { broadcast, ..Self::default() }
    }
}

impl KeyedProcessFunction for Script {
    type Input = Told;
    type State = Kept;
    type Output = Value;

    fn process_element(
        &mut self,
        told: Told,
        kept: &mut Kept,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        process(&told, 0, kept, ctx)
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        kept: &mut Kept,
        ctx: &mut OnTimerContext<Value>,
    ) -> Result<()> {
        fire(time, kept, ctx)
    }
}

impl KeyedCoProcessFunction for ScriptOfTwo {
    type Input1 = Told;
    type Input2 = Told;
    type State = Kept;
    type Output = Value;

    fn process_element1(
        &mut self,
        told: Told,
        kept: &mut Kept,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        process(&told, 0, kept, ctx)
    }

    fn process_element2(
        &mut self,
        told: Told,
        kept: &mut Kept,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        process(&told, 1, kept, ctx)
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        kept: &mut Kept,
        ctx: &mut OnTimerContext<Value>,
    ) -> Result<()> {
        fire(time, kept, ctx)
    }
}

fn process(told: &Told, input: u8, kept: &mut Kept, ctx: &mut Context<Value>) -> Result<()> {
    process_beside(told, Cause { input, ..Cause::default() }, kept, ctx)
}

pub(crate) fn process_beside(
    told: &Told,
    cause: Cause<'_>,
    kept: &mut Kept,
    ctx: &mut Context<Value>,
) -> Result<()> {
    Run { script: &told.script, cause }.all(kept, ctx)
}

fn fire(time: Timestamp, kept: &mut Kept, ctx: &mut OnTimerContext<Value>) -> Result<()> {
    fire_beside(time, None, kept, ctx)
}

pub(crate) fn fire_beside(
    time: Timestamp,
    broadcast: Option<&str>,
    kept: &mut Kept,
    ctx: &mut OnTimerContext<Value>,
) -> Result<()> {
    let (domain, name) = (ctx.domain(), ctx.name());
    let namespace = ctx.namespace().map(std::str::from_utf8).transpose()?;
    let label = match (name, namespace) {
        (Some(name), _) => Label::Name(name),
        (None, Some(namespace)) => Label::Namespace(namespace),
        (None, None) => Label::None,
    };
    let script = match kept.scripts.remove(&kept_timer(domain, time, label)) {
        Some(script) => serde_json::from_str(&script)?,
        None => json!([["emit", described(domain, time, label)]]),
    };
    let cause = Cause { domain: Some(domain), name, namespace, input: 0, broadcast };
    Run { script: &script, cause }.all(kept, ctx)
}

/// One callback.
struct Run<'a> {
    /// What it runs, whole.
    script: &'a Value,
    cause: Cause<'a>,
}

impl Run<'_> {
    fn all<C>(&self, kept: &mut Kept, ctx: &mut CallContext<'_, Value, C>) -> Result<()> {
        self.each(commands(self.script).map_err(FunctionError::new)?, kept, ctx)
    }

    fn each<C>(
        &self,
        script: &[Value],
        kept: &mut Kept,
        ctx: &mut CallContext<'_, Value, C>,
    ) -> Result<()> {
        script.iter().try_for_each(|command| {
            let command = read(command).map_err(FunctionError::new)?;
            self.one(&command, kept, ctx)
        })
    }

    fn one<C>(
        &self,
        command: &Command<'_>,
        kept: &mut Kept,
        ctx: &mut CallContext<'_, Value, C>,
    ) -> Result<()> {
        match *command {
            Command::Register { domain, time, label, then } => {
                let time = at(time, ctx)?;
                if stands(ctx, domain, time, label) {
                    return Ok(());
                }
                match label {
                    Label::None => ctx.timers().register(domain, time),
                    Label::Name(name) => ctx.timers().named(name).register(domain, time),
                    Label::Namespace(name) => {
                        ctx.timers().in_namespace(name).register(domain, time);
                    }
                }
                let timer = kept_timer(domain, time, label);
                match then {
                    Then::Tell => drop(kept.scripts.remove(&timer)),
                    Then::Run(script) => drop(kept.scripts.insert(timer, script.to_string())),
                    Then::Same => drop(kept.scripts.insert(timer, self.script.to_string())),
                }
            }
            Command::Delete { domain, time, label } => {
                let time = time.map_or(Ok(Timestamp::MIN), |time| at(time, ctx))?;
                match label {
                    Label::None => ctx.timers().delete(domain, time),
                    Label::Name(name) => ctx.timers().named(name).delete(domain),
                    Label::Namespace(name) => ctx.timers().in_namespace(name).delete(domain, time),
                }
                kept.scripts.remove(&kept_timer(domain, time, label));
            }
            Command::DeleteAll => {
                ctx.timers().delete_all();
                kept.scripts.clear();
            }
            Command::Emit(value) => ctx.emit(value.clone()),
            Command::EmitTo(tag, value) => {
                ctx.emit_to(&OutputTag::named(tag.to_owned()), value);
            }
            Command::Show(ref what) => {
                let mut shown = Map::new();
                for what in what {
                    shown.insert((*what).to_owned(), self.show(what, kept, ctx)?);
                }
                ctx.emit(Value::Object(shown));
            }
            Command::Set(value) => kept.state = Some(value.to_string()),
            Command::Add(n) => {
                let sum = state(kept)?.as_i64().unwrap_or(0) + n;
                kept.state = Some(sum.to_string());
            }
            Command::Clear => kept.state = None,
            Command::If { state: wanted, is_wanted, rest } => {
                if (state(kept)? == *wanted) == is_wanted {
                    self.each(rest, kept, ctx)?;
                }
            }
            Command::Fail(message) => return Err(FunctionError::new(message)),
            // As a panic goes, but without a word on the way.
            Command::Panic(message) => std::panic::resume_unwind(Box::new(message.to_owned())),
        }
        Ok(())
    }

    fn show<C>(
        &self,
        what: &str,
        kept: &Kept,
        ctx: &mut CallContext<'_, Value, C>,
    ) -> Result<Value> {
        let cause = self.cause;
        Ok(match what {
            "watermark" => json!(ctx.watermark()),
            "processing_time" => json!(ctx.processing_time()),
            "timestamp" => json!(ctx.timestamp()),
            "domain" => json!(cause.domain),
            "name" => json!(cause.name),
            "namespace" => json!(cause.namespace),
            "key" => json!(ctx.key_str()?),
            "input" => json!(cause.input),
            "timers" => {
                let timers = ctx.timers().list();
                timers.iter().map(described_timer).collect::<Result<Value>>()?
            }
            "count" => json!(ctx.timers().count()),
            "state" => state(kept)?,
            "broadcast" => json_of(cause.broadcast)?,
            other => return Err(FunctionError::new(format!("there is no {other} to show"))),
        })
    }
}

fn at<C>(time: Time, ctx: &CallContext<'_, Value, C>) -> Result<Timestamp> {
    time.at(ctx.timestamp(), ctx.watermark(), ctx.processing_time())
        .ok_or_else(|| FunctionError::new("what the time is reckoned from is not there yet"))
}

/// Whether there is a timer exactly like this: then registering it changes nothing.
fn stands<C>(
    ctx: &mut CallContext<'_, Value, C>,
    domain: Domain,
    time: Timestamp,
    label: Label<'_>,
) -> bool {
    match label {
        Label::None => ctx.timers().contains(domain, time),
        Label::Name(name) => ctx.timers().named(name).time(domain) == Some(time),
        Label::Namespace(name) => ctx.timers().in_namespace(name).contains(domain, time),
    }
}

fn state(kept: &Kept) -> Result<Value> {
    json_of(kept.state.as_deref())
}

/// What is kept as JSON.
pub(crate) fn json_of(text: Option<&str>) -> Result<Value> {
    Ok(text.map_or(Ok(Value::Null), serde_json::from_str)?)
}

fn kept_timer(domain: Domain, time: Timestamp, label: Label<'_>) -> KeptTimer {
    let is_event = domain == Domain::Event;
    match label {
        Label::None => (is_event, 0, String::new(), time.as_millis()),
        Label::Name(name) => (is_event, 1, name.to_owned(), 0),
        Label::Namespace(name) => (is_event, 2, name.to_owned(), time.as_millis()),
    }
}

/// A timer as cases write it: `["event", 10, {"name": "n"}]`.
fn described(domain: Domain, time: Timestamp, label: Label<'_>) -> Value {
    match label {
        Label::None => json!([domain, time]),
        Label::Name(name) => json!([domain, time, { "name": name }]),
        Label::Namespace(name) => json!([domain, time, { "namespace": name }]),
    }
}

fn described_timer(timer: &FunctionTimer) -> Result<Value> {
    let label = match &timer.id {
        TimerId::Unnamed => Label::None,
        TimerId::Named(name) => Label::Name(name),
        TimerId::InNamespace(name) => Label::Namespace(std::str::from_utf8(name)?),
    };
    Ok(described(timer.domain, timer.time, label))
}
