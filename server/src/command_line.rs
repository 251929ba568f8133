//! What the binary can be asked for at a shell, whichever functions are built into it.

use crate::builder::Program;
use crate::cli;
use crate::serve::{ConfigArgs, EXIT_CODES_HELP, serve, show_config};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::process::ExitCode;
use stormwheel::function::Operators;

/// Keyed timers that fire at their time, and never before.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_CODES_HELP, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a command the service is started.
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the service (also what happens without a command)
    #[command(after_help = EXIT_CODES_HELP)]
    Serve(ConfigArgs),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    #[command(flatten)]
    Client(cli::Command),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration and where each value came from
    Show(ConfigArgs),
}

/// The command line; the name and the version are the program's own.
fn command(program: Program) -> clap::Command {
    Arguments::command().name(program.name).version(program.version)
}

/// Does what the command line says, with these operators where the service is to be started.
pub(crate) fn run(program: Program, operators: &Operators) -> ExitCode {
    let matches = command(program).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match arguments.command {
        None => serve(&arguments.config, operators),
        Some(Command::Serve(config)) => serve(&config, operators),
        Some(Command::Config { command: ConfigCommand::Show(config) }) => show_config(&config),
        Some(Command::Client(command)) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: Program, expected: &str) {
        assert_eq!(command(program).render_version(), expected);
        command(program).debug_assert();
    }

    #[test]
    fn the_version_is_that_of_the_program() {
        check(Program::STORMWHEEL, concat!("stormwheel ", env!("CARGO_PKG_VERSION"), "\n"));
        let clicks = Program { name: "clicks", version: "7.1.0" };
        check(clicks, "clicks 7.1.0\n");
    }
}
