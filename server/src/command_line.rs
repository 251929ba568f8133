//! What the binary can be asked for at a shell, whichever functions are built into it.

use crate::cli;
use crate::serve::{ConfigArgs, EXIT_CODES_HELP, serve, show_config};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use stormwheel::function::Operators;

/// Keyed timers that fire at their time, and never before.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES_HELP, args_conflicts_with_subcommands = true)]
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

/// Does what the command line says, with these operators where the service is to be started.
pub(crate) fn run(operators: &Operators) -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => serve(&arguments.config, operators),
        Some(Command::Serve(config)) => serve(&config, operators),
        Some(Command::Config { command: ConfigCommand::Show(config) }) => show_config(&config),
        Some(Command::Client(command)) => command.run(),
    }
}
