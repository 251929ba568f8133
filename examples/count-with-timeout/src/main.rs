//! A function of one's own in the service. It counts the elements of each key, and emits the count
//! once the key has been silent for a minute of event time.
//!
//! ```text
//! cargo run -p count-with-timeout -- serve --in-memory
//! curl -X PUT localhost:7400/v1/namespaces/clicks -d '{"operator":"count-with-timeout"}'
//! curl localhost:7400/v1/namespaces/clicks/elements --data-binary '
//!   {"key":"anna","timestamp":1000,"value":"/home"}
//!   {"key":"anna","timestamp":2000,"value":"/cart"}
//!   {"watermark":62000}'
//! curl 'localhost:7400/v1/namespaces/clicks/outputs?limit=1'
//! ```

use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use stormwheel::function::{Context, KeyedProcessFunction, OnTimerContext, Result};
use stormwheel::time::Timestamp;
use stormwheel_server::Server;

fn main() -> ExitCode {
    Server::builder()
        .program(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .operator("count-with-timeout", || CountWithTimeout)
        .run()
}

/// Emits (key, count) once a key has been silent for a minute of event time.
struct CountWithTimeout;

/// What is kept for each key.
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
        // Each element has registered a timer; only the last one's finds the key silent.
        if time == state.last + 60_000 {
            ctx.emit((ctx.key_str()?.to_owned(), state.count));
        }
        Ok(())
    }
}
