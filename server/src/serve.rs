//! `stormwheel serve` and `stormwheel config show`: flags to configuration, and the life of the
//! process from the first log line to the exit code.

use crate::config::{Effective, Layers, ServerConfig};
use crate::logging;
use crate::service::{RunningServer, Server, StartError};
use clap::Args;
use rustix::fs::Mode;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use stormwheel::function::Operators;
use stormwheel::runtime::{Fault, FaultKind, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All went well.
pub const EXIT_OK: u8 = 0;
/// Something failed while running.
pub const EXIT_FAILURE: u8 = 1;
/// The command line or the configuration is wrong: starting again would not help.
pub const EXIT_USAGE: u8 = 2;

/// The data directory cannot be used: in use, not ours, of another layout, newer, read-only.
/// Starting again would not help.
pub const EXIT_DIRECTORY: u8 = 3;
/// What was durable is not there, or is not what was written. Starting again would not help.
pub const EXIT_CORRUPTION: u8 = 4;
/// The disk failed: a write or a sync, after which nobody can tell what is on it.
pub const EXIT_DISK: u8 = 5;

/// What `--help` says of exit codes.
pub const EXIT_CODES_HELP: &str = "Exit codes: 0 done or stopped as asked, 1 failed (an address in \
use, a stop that took too long or was cut short by a second signal), 2 wrong usage or configuration, 3 the data directory \
cannot be used (in use, read-only, not one, of another layout or a newer version), 4 the data directory is damaged, 5 the disk \
failed a write or a sync. After 2, 3 and 4 starting again would not help.";

/// How long a poisoned service goes on telling so before the process ends.
const POISONED_LINGER: Duration = Duration::from_millis(500);

/// Flags that set keys of the configuration.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
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
    /// Where everything is kept [default: ./stormwheel-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Keep nothing: what is acknowledged is gone when the process ends
    #[arg(long)]
    in_memory: bool,
    /// Follow the tail of a log that another version wrote, with this one's rules
    #[arg(long)]
    replay_with_this_version: bool,
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
        for (key, is_set) in [
            ("insecure_listen", self.insecure_listen),
            ("in_memory", self.in_memory),
            ("replay_with_this_version", self.replay_with_this_version),
            ("pin", self.pin),
        ] {
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
pub fn serve(args: &ConfigArgs, operators: &Operators) -> ExitCode {
    let config = match args.load() {
        Ok(effective) => effective.config,
        Err(message) => return fail(EXIT_USAGE, &message),
    };
    if let Err(message) = logging::start(config.log_format, &config.log_level) {
        return fail(EXIT_USAGE, &message);
    }
    logging::take_panics_of_functions();
    keep_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("stormwheel-http")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILURE, &format!("threads cannot be started: {error}")),
    };
    let data_dir = config.data_dir.clone();
    let ended = runtime.block_on(run(config, operators));
    // Whatever still runs was given its time, and must not hold up the end of the process.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let (code, hint) = told(&error, &data_dir);
            fail(code, &format!("{error}{hint}"))
        }
    }
}

/// From here on whatever is made, by whichever library, is for this user alone.
pub(crate) fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// The exit code of a service that did not start, and what to do about it.
fn told(error: &StartError, data_dir: &Path) -> (u8, String) {
    let fault = match error {
        StartError::Config(_) => return (EXIT_USAGE, String::new()),
        StartError::Directory(fault) => {
            return (EXIT_DIRECTORY, access_hint(fault.is_refused()));
        }
        StartError::Engine(fault) => fault,
        StartError::Listen { .. } | StartError::BrokeOff | StartError::Metrics(_) => {
            return (EXIT_FAILURE, String::new());
        }
    };
    let hint = match fault.kind() {
        FaultKind::Directory => {
            access_hint(matches!(fault, Fault::Disk(disk) if disk.is_refused()))
        }
        FaultKind::Corruption => {
            let folder = data_dir.display();
            format!(
                "; `stormwheel log verify --data-dir {folder}` names all that is damaged, \
                 `stormwheel doctor --data-dir {folder}` says what can be done.\nNothing was repaired or \
                 removed: keep a copy of {folder} as it is before anything is tried."
            )
        }
        FaultKind::Options | FaultKind::Disk | FaultKind::Machine => String::new(),
    };
    (exit_code_of(fault.kind()), hint)
}

/// What the process ends with that cannot go on for such a fault.
pub(crate) const fn exit_code_of(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::Options => EXIT_USAGE,
        FaultKind::Directory => EXIT_DIRECTORY,
        FaultKind::Corruption => EXIT_CORRUPTION,
        FaultKind::Disk => EXIT_DISK,
        FaultKind::Machine => EXIT_FAILURE,
    }
}

fn access_hint(is_refused: bool) -> String {
    let hint = "\nThe user that runs the service must be able to read and write there.";
    if is_refused { hint.to_owned() } else { String::new() }
}

/// The life of the service; how it ended is the exit code.
async fn run(config: ServerConfig, operators: &Operators) -> Result<u8, StartError> {
    let (shards, in_memory) = (config.shards, config.in_memory);
    let data_dir = config.data_dir.clone();
    let mut signals = StopSignals::listen();
    let server = tokio::select! {
        started = Server::start_with(config, Arc::new(SystemClock), operators) => started?,
        // Recovery has changed nothing that the next one does not find: it can be left at any time.
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the start was over");
            return Ok(EXIT_OK);
        }
    };
    let local = server.local_addr();
    let version = env!("CARGO_PKG_VERSION");
    if in_memory {
        tracing::info!(listen = %local, shards, version, "serving; nothing is kept: all is in memory");
    } else {
        tracing::info!(listen = %local, shards, version, data_dir = %data_dir.display(), "serving");
    }
    tell_recovery(&server);
    greet(local);
    let signal = tokio::select! {
        signal = signals.next() => signal,
        reason = server.poisoned() => {
            tracing::error!(
                reason,
                "nothing can be written any more; what was acknowledged is safe, and the process ends"
            );
            // Requests that still come are told so by the engine.
            tokio::time::sleep(POISONED_LINGER).await;
            return Ok(EXIT_DISK);
        }
    };
    tracing::info!(signal, "stopping");
    let engine = server.engine().clone();
    let stopped = tokio::select! {
        clean = server.stop() => {
            tracing::info!(clean, "stopped");
            clean
        }
        signal = signals.next() => {
            tracing::warn!(signal, "told to stop again, ending at once");
            false
        }
    };
    if let Some(reason) = engine.durability().poisoned {
        tracing::error!(reason, "the last writes failed");
        return Ok(EXIT_DISK);
    }
    Ok(if stopped { EXIT_OK } else { EXIT_FAILURE })
}

/// A clock that is behind by less is not worth a word.
const CLOCK_OFFSET_WORTH_TELLING_MS: i64 = 1_000;

/// What the start found in the data directory.
fn tell_recovery(server: &RunningServer) {
    let Some(found) = server.engine().durability().recovered else {
        return;
    };
    tracing::info!(
        seconds = found.seconds,
        loaded_keys = found.loaded_keys,
        replayed_bytes = found.replayed_bytes,
        replayed_records = found.replayed_records,
        downtime_ms = found.downtime_ms,
        "recovered"
    );
    for torn in found.torn_tails {
        // A crash in the middle of a write leaves one; nobody was told of what stood there.
        tracing::warn!(detail = torn, "an unfinished end of the log was cut off");
    }
    for damage in found.healed {
        tracing::error!(
            damage,
            "a checkpoint is damaged; the one before it and a longer piece of the log made it good"
        );
    }
    if let Some(first) = found.strangers.first() {
        tracing::warn!(
            count = found.strangers.len(),
            first,
            "there are names in the data directory or where snapshots go that are not ours; they are \
             left alone, and `stormwheel doctor` names them all"
        );
    }
    let clock = server.engine().status().clock;
    if clock.offset_ms > CLOCK_OFFSET_WORTH_TELLING_MS {
        tracing::warn!(
            behind_ms = clock.offset_ms,
            "the machine's clock stands before the time that timers have come to: they wait until \
             it has caught up, and none fires early"
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use stormwheel::runtime::FolderFault;

    fn check(error: &StartError, expected: u8) {
        let (code, hint) = told(error, Path::new("data"));
        assert_eq!(code, expected, "{error}");
        assert_eq!(hint.contains("copy of data"), code == EXIT_CORRUPTION, "{hint}");
    }

    #[test]
    fn a_start_that_fails_says_by_its_code_whether_another_one_helps() {
        check(&StartError::Config("listen: no".to_owned()), EXIT_USAGE);
        check(&Fault::Options { detail: "shards".to_owned() }.into(), EXIT_USAGE);
        let (path, action) = (PathBuf::from("data"), "create");
        let fault = FolderFault::Io { path, action, source: ErrorKind::PermissionDenied.into() };
        check(&fault.into(), EXIT_DIRECTORY);
        let source = ErrorKind::OutOfMemory.into();
        check(&Fault::Thread { name: "shard-0".to_owned(), source }.into(), EXIT_FAILURE);
        check(&StartError::BrokeOff, EXIT_FAILURE);
    }
}
