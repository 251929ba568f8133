//! The script with broadcasts: one runs a script over the broadcast state, and may bring another one
//! that runs over each key's.

use crate::case::Broadcast;
use crate::command::{Command, commands, read};
use crate::script::{Cause, Kept, Told, fire_beside, json_of, process_beside};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stormwheel::function::{
    BroadcastContext, Context, FunctionError, KeyedBroadcastProcessFunction, OnTimerContext,
    OutputTag, Result, VisitContext,
};
use stormwheel::time::Timestamp;

/// See the module.
pub(crate) struct ScriptWithBroadcasts;

/// What is broadcast.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldAll {
    #[serde(rename = "do")]
    script: Value,
    visit: Option<Value>,
}

/// The state that scripts of broadcasts see, as JSON.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shared(Option<String>);

impl KeyedBroadcastProcessFunction for ScriptWithBroadcasts {
    type Input = Told;
    type Broadcast = ToldAll;
    type State = Kept;
    type BroadcastState = Shared;
    type Output = Value;

    fn process_element(
        &mut self,
        told: Told,
        kept: &mut Kept,
        shared: &Shared,
        ctx: &mut Context<Value>,
    ) -> Result<()> {
        process_beside(&told, Cause::beside(shared.0.as_deref()), kept, ctx)
    }

    fn process_broadcast(
        &mut self,
        told: ToldAll,
        shared: &mut Shared,
        ctx: &mut BroadcastContext<Self>,
    ) -> Result<()> {
        run(&told.script, &mut shared.0, ctx)?;
        if let Some(script) = told.visit {
            ctx.apply_to_keyed_state(move |kept, ctx| match &mut kept.state {
                None => Ok(()),
                state => run(&script, state, ctx),
            });
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        kept: &mut Kept,
        shared: &Shared,
        ctx: &mut OnTimerContext<Value>,
    ) -> Result<()> {
        fire_beside(time, shared.0.as_deref(), kept, ctx)
    }
}

/// What scripts that touch no timers do to their surroundings.
trait Surroundings {
    fn show(&self, what: &str) -> Result<Value>;
    fn emit(&mut self, value: Value);
    fn emit_to(&mut self, tag: &str, value: &Value);
}

impl Surroundings for BroadcastContext<'_, ScriptWithBroadcasts> {
    fn show(&self, what: &str) -> Result<Value> {
        Ok(match what {
            "watermark" => json!(self.watermark()),
            "processing_time" => json!(self.processing_time()),
            "timestamp" => json!(self.timestamp()),
            other => return Err(FunctionError::new(format!("there is no {other} to show"))),
        })
    }

    fn emit(&mut self, value: Value) {
        self.emit(value);
    }

    fn emit_to(&mut self, tag: &str, value: &Value) {
        self.emit_to(&OutputTag::named(tag.to_owned()), value);
    }
}

impl Surroundings for VisitContext<'_, Value> {
    fn show(&self, what: &str) -> Result<Value> {
        Ok(match what {
            "watermark" => json!(self.watermark()),
            "processing_time" => json!(self.processing_time()),
            "timestamp" => json!(self.timestamp()),
            "key" => json!(self.key_str()?),
            other => return Err(FunctionError::new(format!("there is no {other} to show"))),
        })
    }

    fn emit(&mut self, value: Value) {
        self.emit(value);
    }

    fn emit_to(&mut self, tag: &str, value: &Value) {
        self.emit_to(&OutputTag::named(tag.to_owned()), value);
    }
}

/// Runs a script over a state.
fn run(script: &Value, state: &mut Option<String>, at: &mut impl Surroundings) -> Result<()> {
    each(commands(script).map_err(FunctionError::new)?, state, at)
}

fn each(script: &[Value], state: &mut Option<String>, at: &mut impl Surroundings) -> Result<()> {
    for command in script {
        match read(command).map_err(FunctionError::new)? {
            Command::Emit(value) => at.emit(value.clone()),
            Command::EmitTo(tag, value) => at.emit_to(tag, value),
            Command::Show(what) => {
                let mut shown = Map::new();
                for what in what {
                    let is_state = what == "state";
                    let value = if is_state { json_of(state.as_deref())? } else { at.show(what)? };
                    shown.insert(what.to_owned(), value);
                }
                at.emit(Value::Object(shown));
            }
            Command::Set(value) => *state = Some(value.to_string()),
            Command::Add(n) => {
                *state = Some((json_of(state.as_deref())?.as_i64().unwrap_or(0) + n).to_string());
            }
            Command::Clear => *state = None,
            Command::If { state: wanted, is_wanted, rest } => {
                if (json_of(state.as_deref())? == *wanted) == is_wanted {
                    each(rest, state, at)?;
                }
            }
            Command::Fail(message) => return Err(FunctionError::new(message)),
            Command::Panic(message) => std::panic::resume_unwind(Box::new(message.to_owned())),
            Command::Register { .. } | Command::Delete { .. } | Command::DeleteAll => {
                return Err(FunctionError::new("there are no timers here"));
            }
        }
    }
    Ok(())
}

impl Broadcast {
    /// As it is sent.
    pub(crate) fn value(&self) -> Value {
        let mut value = json!({ "do": self.script });
        if let Some(visit) = &self.visit {
            value["visit"] = visit.clone();
        }
        value
    }
}
