//! The real server on a data directory that outlives it.

use crate::rng::Rng;
use crate::shared::linger;
use std::path::{Path, PathBuf};
use stormwheel_tests::{Client, Process, free_port, server_binary, wait_until};
use tempfile::TempDir;

/// Starts that are tried if somebody else takes the free port first.
const STARTS_MAX: usize = 5;
/// What to do where the server was not built.
const HINT: &str = "`cargo build -p stormwheel-server` builds it, and ./test does it for you";

/// A running server.
pub(crate) struct Durable {
    process: Process,
    port: u16,
    /// It runs here and logs here; its data lie elsewhere.
    _home: TempDir,
}

/// A start that came to nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it said.
    pub(crate) log: String,
}

/// How servers are started on one directory.
#[derive(Debug, Clone)]
pub(crate) struct Starter {
    pub(crate) data_dir: PathBuf,
    /// Besides `--listen` and `--data-dir`.
    pub(crate) args: Vec<String>,
}

impl Starter {
    pub(crate) fn new(data_dir: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { data_dir: data_dir.to_path_buf(), args }
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn start(&self, more: &[&str]) -> Durable {
        for _ in 1..STARTS_MAX {
            match self.try_start(more) {
                Ok(server) => return server,
                Err(refusal) if refusal.log.contains("in use") => {}
                Err(refusal) => panic!("exit code {:?}:\n{}", refusal.code, refusal.log),
            }
        }
        self.try_start(more).unwrap_or_else(|refusal| panic!("{}", refusal.log))
    }

    /// The same, but an end before it is ready is an answer.
    pub(crate) fn try_start(&self, more: &[&str]) -> Result<Durable, Refusal> {
        let mut server = self.spawn(more);
        let client = server.client();
        let has_ended = wait_until("the server to be ready", || {
            if server.process.ended().is_some() {
                return Ok(true);
            }
            let answer = client.try_get("/readyz").map_err(|error| error.to_string())?;
            let is_ready = answer.status == 200;
            is_ready.then_some(false).ok_or_else(|| format!("{} {}", answer.status, answer.text))
        });
        if has_ended {
            let code = server.wait_for_end();
            return Err(Refusal { code, log: server.log() });
        }
        Ok(server)
    }

    /// Starts a server and kills it before it is ready, or soon after.
    pub(crate) fn start_and_kill(&self, rng: &mut Rng, more: &[&str]) {
        let mut server = self.spawn(more);
        linger(rng.below(60_000));
        server.kill();
    }

    fn spawn(&self, more: &[&str]) -> Durable {
        let port = free_port();
        let home = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{port}");
        let data_dir = self.data_dir.to_str().expect("a path of ours is text");
        let mut args = vec!["serve", "--listen", &listen, "--data-dir", data_dir];
        args.extend(self.args.iter().map(String::as_str));
        args.extend(more);
        let process = Process::start(&server_binary(), &args, home.path(), HINT);
        Durable { process, port, _home: home }
    }
}

impl Durable {
    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Its number, as the system has it.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to stop and waits until it has; gives the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.process.signal("TERM");
        self.process.wait_for_end()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        self.process.wait_for_end()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}
