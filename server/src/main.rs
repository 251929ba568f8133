//! The `stormwheel` binary: which command was asked for, and nothing else.

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use std::process::ExitCode;
use stormwheel_server::cli;
use stormwheel_server::serve::{ConfigArgs, EXIT_CODES_HELP, serve, show_config};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => serve(&arguments.config),
        Some(Command::Serve(config)) => serve(&config),
        Some(Command::Config { command: ConfigCommand::Show(config) }) => show_config(&config),
        Some(Command::Client(command)) => command.run(),
    }
}
