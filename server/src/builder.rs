//! A service with functions of the user's own.
//!
//! ```no_run
//! use stormwheel::function::{Context, KeyedProcessFunction, Result};
//! use stormwheel_server::Server;
//!
//! /// Hands on what comes, with a number for each key.
//! struct Number;
//!
//! impl KeyedProcessFunction for Number {
//!     type Input = String;
//!     type State = u64;
//!     type Output = (u64, String);
//!
//!     fn process_element(
//!         &mut self,
//!         value: String,
//!         state: &mut u64,
//!         ctx: &mut Context<Self::Output>,
//!     ) -> Result<()> {
//!         *state += 1;
//!         ctx.emit((*state, value));
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Server::builder().operator("number", || Number).run()
//! }
//! ```

use crate::command_line;
use crate::config::ServerConfig;
use crate::service::{RunningServer, Server, StartError};
use serde_json::Value;
use std::process::ExitCode;
use std::sync::Arc;
use stormwheel::function::{
    self, KeyedBatchFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    KeyedProcessFunction, Operator, Operators,
};
use stormwheel::namespace::{OPERATOR_TIMERS, is_identifier};
use stormwheel::operators::built_in;
use stormwheel::ports::MachineClock;

/// Gathers the functions that namespaces can run, then starts the service. See the module.
#[derive(Debug, Clone)]
#[must_use = "it is nothing until it runs"]
pub struct ServerBuilder {
    operators: Operators,
    program: Program,
}

/// What the program is called, and its version: what `--version` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Program {
    /// The service as it is, whatever functions are built into it.
    pub(crate) const STORMWHEEL: Self =
        Self { name: "stormwheel", version: env!("CARGO_PKG_VERSION") };
}

impl Default for ServerBuilder {
    /// The operators that need no code; one that is added under the name of such a one replaces it.
    fn default() -> Self {
        Self { operators: built_in(), program: Program::STORMWHEEL }
    }
}

impl ServerBuilder {
    /// Adds a function that takes no options, under the name by which namespaces choose it:
    /// `PUT /v1/namespaces/{ns}` with `{"operator": name}`. `make` makes an instance of it; each lane
    /// of a namespace has its own.
    pub fn operator<F: KeyedProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self { operators: self.operators.with_function(name, make), ..self }
    }

    /// The same for a function of two inputs.
    pub fn co_operator<F: KeyedCoProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self { operators: self.operators.with_co_function(name, make), ..self }
    }

    /// The same for a function over columns.
    pub fn batch_operator<F: KeyedBatchFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self { operators: self.operators.with_batch_function(name, make), ..self }
    }

    /// The same for a function with broadcasts.
    pub fn broadcast_operator<F: KeyedBroadcastProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self { operators: self.operators.with_broadcast_function(name, make), ..self }
    }

    /// Adds an operator that is made from the namespace's `options`; what `make` says of bad ones is
    /// what the caller is told. [`function::operator`] makes one of a typed function.
    pub fn operator_with(
        self,
        name: &str,
        make: impl Fn(&Value) -> function::Result<Box<dyn Operator>> + Send + Sync + 'static,
    ) -> Self {
        Self { operators: self.operators.with(name, make), ..self }
    }

    /// Says what the program is called, as `--version` tells it:
    /// `.program(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))`. Unless said it is `stormwheel`,
    /// in the version that it is built with.
    pub fn program(self, name: &'static str, version: &'static str) -> Self {
        Self { program: Program { name, version }, ..self }
    }

    /// Does what the command line says, as the binary `stormwheel` does: starts the service, or is a
    /// client of one. The whole of `main`.
    pub fn run(self) -> ExitCode {
        command_line::run(self.program, &self.operators)
    }

    /// Starts the service in this process. Must be called inside a tokio runtime.
    pub async fn start(
        self,
        config: ServerConfig,
        clock: Arc<dyn MachineClock>,
    ) -> Result<RunningServer, StartError> {
        Server::start_with(config, clock, &self.operators).await
    }
}

impl Server {
    /// A service with functions of one's own.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

/// Refuses operators that no namespace could choose.
pub(crate) fn check_names(operators: &Operators) -> Result<(), StartError> {
    for name in operators.names() {
        let why = if name == OPERATOR_TIMERS {
            "is always there, and cannot be another one"
        } else if !is_identifier(name) {
            "is no name: an operator is named [A-Za-z0-9][A-Za-z0-9._-]{0,127}"
        } else {
            continue;
        };
        return Err(StartError::Config(format!("operator `{name}` {why}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, part: Option<&str>) {
        let make = |_: &Value| Err(function::FunctionError::new("never made"));
        let builder = Server::builder().operator_with(name, make);
        let said = check_names(&builder.operators).err().map(|error| error.to_string());
        match (said, part) {
            (None, None) => {}
            (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
            (said, _) => panic!("{name}: {said:?}"),
        }
    }

    #[test]
    fn an_operator_has_a_name_that_can_be_chosen() {
        check("count-with-timeout", None);
        check("timers", Some("`timers` is always there"));
        check("two words", Some("is no name"));
        check("", Some("is no name"));
    }
}
