//! The commands a person uses at a shell. Most are thin clients of the HTTP surface: such a one builds
//! one request, prints the answer short and aligned (or as it came, with `--json`), and ends with 1
//! and a sentence on stderr if the server refuses or is not there. `log` and `doctor` look into a
//! data directory instead, and need no server.

mod client;
mod directory;
mod doctor;
mod elements;
mod failure;
mod health;
mod lines;
mod log;
mod namespaces;
mod outputs;
mod print;
mod savepoint;
mod timers;

use crate::bench;
use clap::{Args, Subcommand};
use std::process::ExitCode;

pub(crate) use client::{Client, Stream};
pub(crate) use failure::Failure;
pub(crate) use lines::LineBuffer;
pub(crate) use print::{line as print_line, table};

/// The client commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register, look up, cancel and follow timers
    Timers(timers::Timers),
    /// Send elements to a function, and move its watermark
    Elements(elements::Elements),
    /// Read what fired
    Outputs(outputs::Outputs),
    /// List, make, change and delete namespaces
    Namespaces(namespaces::Namespaces),
    /// Ask whether the server is ready, and why not
    Health(health::Health),
    /// See to the server's clock
    Clock(health::Clock),
    /// Make, look at, check and take apart copies of what the server holds
    Savepoint(savepoint::Savepoint),
    /// Make a data directory of a savepoint
    Restore(savepoint::Restore),
    /// Look into a data directory's log: what is there, whether it is whole, each record
    Log(log::Log),
    /// Check a data directory from all sides, and explain what to do
    Doctor(doctor::Doctor),
    /// Load the server, measure it, and verify every fire
    Bench(bench::Bench),
}

impl Command {
    /// Runs the command to its end, on a runtime of its own. Zero is success, 1 a refusal, a
    /// server that is not there, or a failed verification, 2 a command line that cannot be meant, 3
    /// and 4 a data directory that cannot be used or is damaged.
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let done = match runtime {
            Ok(runtime) => runtime.block_on(self.answer()),
            Err(error) => Err(Failure::Failed(format!("no runtime can be started: {error}"))),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                print::error(&failure.to_string());
                failure.exit_code()
            }
        }
    }

    async fn answer(self) -> Result<(), Failure> {
        match self {
            Self::Timers(command) => command.run().await,
            Self::Elements(command) => command.run().await,
            Self::Outputs(command) => command.run().await,
            Self::Namespaces(command) => command.run().await,
            Self::Health(command) => command.run().await,
            Self::Clock(command) => command.run().await,
            Self::Savepoint(command) => command.run().await,
            Self::Restore(command) => command.run().await,
            Self::Log(command) => command.run().await,
            Self::Doctor(command) => command.run().await,
            Self::Bench(command) => command.run().await,
        }
    }
}

/// Whom to ask, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// The server's address
    #[arg(
        long,
        global = true,
        env = "STORMWHEEL_SERVER",
        default_value = "http://127.0.0.1:7400",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// Print answers as the server sent them
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A target, and a namespace there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    target: Target,
    /// The namespace
    #[arg(
        long,
        short,
        global = true,
        env = "STORMWHEEL_NAMESPACE",
        default_value = "default",
        value_name = "NAME"
    )]
    namespace: String,
}

impl Place {
    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.target.server)
    }

    /// A path below the namespace.
    fn path(&self, below: &str) -> String {
        format!("/v1/namespaces/{}{below}", client::escape(&self.namespace))
    }
}

/// A time argument as JSON: digits as a number, all else as text for the server to judge.
fn json_time(text: &str) -> serde_json::Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CLIENT_VARIABLES;
    use clap::{CommandFactory, Parser};
    use std::collections::BTreeSet;

    #[derive(Debug, Parser)]
    struct Shell {
        #[command(subcommand)]
        _command: Command,
    }

    /// Whether a command line is understood.
    fn check(line: &str, is_good: bool) {
        let words = std::iter::once("stormwheel").chain(line.split(' '));
        let parsed = Shell::try_parse_from(words);
        assert_eq!(parsed.is_ok(), is_good, "{line}: {:?}", parsed.err().map(|e| e.to_string()));
    }

    #[test]
    fn the_definition_holds_together() {
        Shell::command().debug_assert();
    }

    fn variables_of(command: &clap::Command) -> BTreeSet<String> {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        let own = own.map(|name| name.to_str().unwrap().to_owned());
        own.chain(command.get_subcommands().flat_map(variables_of)).collect()
    }

    #[test]
    fn serve_knows_the_variables_of_the_commands() {
        let known = CLIENT_VARIABLES.map(str::to_owned);
        assert_eq!(variables_of(&Shell::command()), BTreeSet::from(known));
    }

    #[test]
    fn command_lines() {
        check("timers put order-17 --after 3s --follow", true);
        check("timers put order-17 --name n --at 1767225600000 --payload {} --domain event", true);
        check("timers put order-17", false);
        check("timers put order-17 --after -1s", true);
        check("timers touch order-17 --after -1s", true);
        check("timers put order-17 --at 1 --after 3s", false);
        check("timers cancel order-17", false);
        check("timers cancel order-17 --all", true);
        check("timers cancel order-17 --name a --all", false);
        check("timers get order-17 expiry --server http://127.0.0.1:1 --json -n other", true);
        check("timers list", true);
        check("timers list order-17", true);
        check("timers touch device-9 --after 60s", true);
        check("elements put a {} --timestamp -5 --input 1 --source s -n clicks", true);
        check("elements put a", false);
        check("elements watermark -5 --source s", true);
        check("outputs --follow --key a --key b --tag late", true);
        check("namespaces create n --clock manual", true);
        check("namespaces create n --clock sundial", false);
        check("namespaces delete n --force", true);
        check("health", true);
        check("clock accept", true);
        check("savepoint create -n a -n b --json", true);
        check("savepoint list", true);
        check("savepoint verify path", true);
        check("savepoint export path --format parquet -o file", true);
        check("savepoint export path --format xml", false);
        check("savepoint export path --states -o file", true);
        check("restore --from path --data-dir dir --lanes 64 --max-parallelism 512", true);
        check("restore --from path", false);
        check("log inspect --data-dir d --json", true);
        check("log verify", true);
        check("log dump --data-dir d --lane 3 --from 17 --limit 5 --payloads", true);
        check("log dump --lane x", false);
        check("log", false);
        check("doctor --data-dir d", true);
        check("bench --quick", true);
        check("bench --workload storm --timers 1000000 --format arrow --closed", true);
        check("bench --workload namespaces --namespaces 100", true);
        check("bench --workload elements --format arrow --keys 1000 --batch 5000", true);
        check("bench --closed --rate 5", false);
    }
}
