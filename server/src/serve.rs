//! `stormwheel serve` and `stormwheel config show`: flags to configuration, and the life of the
//! process from the first log line to the exit code.

use crate::config::{Effective, Layers, ServerConfig};
use crate::logging;
use crate::service::{Server, StartError};
use clap::Args;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use stormwheel::runtime::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All went well.
pub const EXIT_OK: u8 = 0;
/// Something failed while running.
pub const EXIT_FAILURE: u8 = 1;
/// The command line or the configuration is wrong: starting again would not help.
pub const EXIT_USAGE: u8 = 2;

/// What `--help` says of exit codes.
pub const EXIT_CODES_HELP: &str = "Exit codes: 0 done or stopped as asked, 1 failed (an address in \
use, a stop that took too long or was cut short by a second signal), 2 wrong usage or configuration (starting again would not help).";

/// Flags that set keys of the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// TOML file to read
    #[arg(
        long,
        value_name = "FILE",
        help = "TOML file to read [default: $STORMWHEEL_CONFIG, or ./stormwheel.toml if it is there]"
    )]
    config: Option<PathBuf>,
    /// Address and port to serve HTTP on [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Listen beyond loopback although nothing authenticates yet
    #[arg(long)]
    insecure_listen: bool,
    /// Where durable state will live; for now everything is in memory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Threads that own keys [default: half of the cores]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Pin each shard's thread to a core
    #[arg(long)]
    pin: bool,
    /// auto (text on a terminal, JSON elsewhere), json or text
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug (with one line a request) or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any key of the configuration, as `config show` lists them; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The configuration of all layers.
    pub fn load(&self) -> Result<Effective, String> {
        let layers = Layers {
            file: self.config.clone(),
            folder: PathBuf::from("."),
            environment: std::env::vars_os().collect(),
            flags: self.flags()?,
        };
        layers.load()
    }

    fn flags(&self) -> Result<Vec<(String, String)>, String> {
        let mut flags = Vec::new();
        for assignment in &self.set {
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| format!("--set {assignment}: write KEY=VALUE"))?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        for (key, value) in [
            ("listen", &self.listen),
            ("data_dir", &self.data_dir),
            ("shards", &self.shards),
            ("log_format", &self.log_format),
            ("log_level", &self.log_level),
        ] {
            if let Some(value) = value {
                flags.push((key.to_owned(), value.clone()));
            }
        }
        for (key, is_set) in [("insecure_listen", self.insecure_listen), ("pin", self.pin)] {
            if is_set {
                flags.push((key.to_owned(), "true".to_owned()));
            }
        }
        Ok(flags)
    }
}

/// `config show`.
pub fn show_config(args: &ConfigArgs) -> ExitCode {
    match args.load() {
        Ok(effective) => {
            // A reader that closed the pipe has seen enough.
            drop(io::stdout().write_all(effective.render().as_bytes()));
            ExitCode::from(EXIT_OK)
        }
        Err(message) => fail(EXIT_USAGE, &message),
    }
}

/// `serve`: runs until it is told to stop.
pub fn serve(args: &ConfigArgs) -> ExitCode {
    let config = match args.load() {
        Ok(effective) => effective.config,
        Err(message) => return fail(EXIT_USAGE, &message),
    };
    if let Err(message) = logging::start(config.log_format, &config.log_level) {
        return fail(EXIT_USAGE, &message);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("stormwheel-http")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILURE, &format!("threads cannot be started: {error}")),
    };
    let ended = runtime.block_on(run(config));
    // Whatever still runs was given its time, and must not hold up the end of the process.
    runtime.shutdown_background();
    match ended {
        Ok(true) => ExitCode::from(EXIT_OK),
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(error @ (StartError::Config(_) | StartError::Engine(_))) => {
            fail(EXIT_USAGE, &error.to_string())
        }
        Err(error) => fail(EXIT_FAILURE, &error.to_string()),
    }
}

async fn run(config: ServerConfig) -> Result<bool, StartError> {
    let shards = config.shards;
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    let local = server.local_addr();
    tracing::info!(
        listen = %local,
        shards,
        version = env!("CARGO_PKG_VERSION"),
        "serving; state is in memory and gone when the process ends"
    );
    greet(local);
    let mut signals = StopSignals::listen();
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    tokio::select! {
        clean = server.stop() => {
            tracing::info!(clean, "stopped");
            Ok(clean)
        }
        signal = signals.next() => {
            tracing::warn!(signal, "told to stop again, ending at once");
            Ok(false)
        }
    }
}

/// On a terminal: where it listens, and something to try.
fn greet(local: SocketAddr) {
    let mut terminal = io::stdout();
    if !terminal.is_terminal() {
        return;
    }
    let greeting = format!(
        "\n  Stormwheel listens on http://{local}\n\n  \
         watch what fires:  curl -N 'http://{local}/v1/outputs?cursor=latest'\n  \
         let one fire:      curl -X PUT http://{local}/v1/keys/hello/timers/first -d '{{\"after\":\"2s\"}}'\n\n"
    );
    // Nobody is there to be told if a terminal cannot be written to.
    drop(terminal.write_all(greeting.as_bytes()));
}

/// The signals that ask for a stop.
struct StopSignals(Option<(Signal, Signal)>);

impl StopSignals {
    fn listen() -> Self {
        let terminate = signal(SignalKind::terminate());
        let interrupt = signal(SignalKind::interrupt());
        let signals = terminate.and_then(|terminate| Ok((terminate, interrupt?)));
        if let Err(error) = &signals {
            // Without handlers the signals end the process by themselves.
            tracing::warn!(%error, "signals cannot be listened for; a stop will not be graceful");
        }
        Self(signals.ok())
    }

    /// Waits for the next one.
    async fn next(&mut self) -> &'static str {
        let Some((terminate, interrupt)) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

/// Says what is wrong and gives the exit code.
pub fn fail(code: u8, message: &str) -> ExitCode {
    // Logging may not have been started, and this is the last thing that is said.
    drop(writeln!(io::stderr(), "stormwheel: {message}"));
    ExitCode::from(code)
}
