//! The functions that the tests of elements run, and the service around them.

use crate::harness::{Answer, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stormwheel::function::{
    Context, FunctionError, KeyedProcessFunction, OnTimerContext, OutputTag, Result, operator,
};
use stormwheel::time::Timestamp;
use stormwheel_server::config::ServerConfig;
use stormwheel_server::{Server, ServerBuilder};

/// Sums the numbers of a key, and emits the sum once the key has been silent for `gap_ms` of event
/// time.
struct Sum {
    gap_ms: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Summed {
    sum: i64,
    last: Timestamp,
}

/// An element of [`Sum`]: the columns of an Arrow stream are its fields.
#[derive(Deserialize)]
struct Amount {
    n: i64,
    #[serde(default)]
    note: Option<String>,
}

impl KeyedProcessFunction for Sum {
    type Input = Amount;
    type State = Summed;
    type Output = i64;

    fn process_element(
        &mut self,
        value: Amount,
        state: &mut Summed,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        if value.n < 0 {
            return Err(FunctionError::new(format!("{} is negative", value.n)));
        }
        assert!(value.n < 1_000, "{} is too much", value.n);
        if let Some(note) = value.note {
            ctx.emit_to(&OutputTag::new("notes"), note);
        }
        state.sum += value.n;
        state.last = ctx.timestamp();
        ctx.timers().register_event_time(state.last + self.gap_ms);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut Summed,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        if time == state.last + self.gap_ms {
            ctx.emit(state.sum);
            ctx.clear_state();
        }
        Ok(())
    }
}

/// Says back what it is given, in processing time: again after a second, as `[value]`.
struct Echo;

impl KeyedProcessFunction for Echo {
    type Input = Value;
    type State = Option<String>;
    type Output = Value;

    fn process_element(
        &mut self,
        value: Value,
        state: &mut Option<String>,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        *state = Some(value.to_string());
        if let Some(now) = ctx.processing_time() {
            ctx.timers().named("again").register_processing_time(now + 1_000);
        }
        ctx.emit(value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        state: &mut Option<String>,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        let value: Value = serde_json::from_str(state.as_deref().unwrap_or("null"))?;
        ctx.emit(Value::Array(vec![value]));
        ctx.clear_state();
        Ok(())
    }
}

/// Emits when a timer fires that it has registered ten milliseconds after each element, unless it is
/// broken.
struct Fuse {
    is_broken: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FuseOptions {
    broken: bool,
}

impl KeyedProcessFunction for Fuse {
    type Input = Value;
    type State = u32;
    type Output = u32;

    fn process_element(
        &mut self,
        _: Value,
        count: &mut u32,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        *count += 1;
        let time = ctx.timestamp() + 10;
        ctx.timers().named("fuse").register_event_time(time);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _time: Timestamp,
        count: &mut u32,
        ctx: &mut OnTimerContext<Self::Output>,
    ) -> Result<()> {
        ctx.emit(*count);
        if self.is_broken { Err(FunctionError::new("the fuse is broken")) } else { Ok(()) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SumOptions {
    gap_ms: Option<i64>,
}

/// A service that has them, as `sum` (with the option `gap_ms`, 10 unless said), `echo`, and `fuse` (with
/// the option `broken`).
pub(crate) fn functions() -> ServerBuilder {
    let builder = Server::builder().operator("echo", || Echo).operator_with("fuse", |options| {
        let options = Option::<FuseOptions>::deserialize(options)?.unwrap_or_default();
        operator(Fuse { is_broken: options.broken })
    });
    builder.operator_with("sum", |options| {
        let options = if options.is_null() {
            SumOptions::default()
        } else {
            SumOptions::deserialize(options)?
        };
        let gap_ms = options.gap_ms.unwrap_or(10);
        if gap_ms < 1 {
            return Err(FunctionError::new(format!("gap_ms is {gap_ms}, it must be at least 1")));
        }
        operator(Sum { gap_ms })
    })
}

/// A service with a namespace `m` of this configuration, which may run one of the functions.
pub(crate) async fn running(config: &str) -> Service {
    running_with(config, |_| {}).await
}

/// The same, configured by `change`.
pub(crate) async fn running_with(config: &str, change: impl FnOnce(&mut ServerConfig)) -> Service {
    let service = Service::start_built(functions(), change).await;
    service.put("/v1/namespaces/m", config).await.expect(201);
    service
}

impl Service {
    /// Sends elements to `m`.
    pub(crate) async fn elements(&self, query: &str, lines: &str) -> Answer {
        self.post(&format!("/v1/namespaces/m/elements{query}"), lines).await
    }

    /// The values that `m` has emitted: key, tag, timestamp and value of each, by key.
    pub(crate) async fn values(&self, query: &str) -> Vec<String> {
        let path = format!("/v1/namespaces/m/outputs?limit=10000{query}");
        let lines = self.get(&path).await.expect(200).lines();
        let mut values: Vec<String> = lines
            .iter()
            .map(|line| {
                assert!(line["id"].is_string() && line["cursor"].is_u64(), "{line}");
                let key = line["key"].as_str().unwrap();
                let tag = line["tag"].as_str().map(|tag| format!(" [{tag}]")).unwrap_or_default();
                let timestamp =
                    line.get("timestamp").map(|at| format!(" @{at}")).unwrap_or_default();
                format!("{key}{tag}{timestamp} {}", line["value"])
            })
            .collect();
        // What one key emits is in order already.
        values.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
        values
    }

    /// Waits until `m` has settled at a watermark.
    pub(crate) async fn watermark(&self, source: &str, to: i64) -> Value {
        let path = format!("/v1/namespaces/m/watermarks/{source}?settle=true");
        self.put(&path, &format!("{{\"watermark\":{to}}}")).await.expect(200).json()
    }
}
