//! The processes that tests start, and where their binaries are.

use crate::http::Client;
use crate::wait::wait_until;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Starts that are tried if somebody else takes the free port first.
const STARTS_MAX: usize = 3;

/// What to do where the server was not built.
const HINT: &str = "`cargo build -p stormwheel-server -p count-with-timeout` builds it, and ./test does it for you";

/// The root of the repository.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent();
    root.expect("the tests are a folder of the workspace").to_path_buf()
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A running process that ends with this value. What it says goes to a file, and into the message
/// of a failure.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a binary in a folder. `hint` says what to do if there is no such binary.
    pub fn start<S: AsRef<OsStr>>(binary: &Path, args: &[S], folder: &Path, hint: &str) -> Self {
        let name = binary.file_name().unwrap().to_str().unwrap().to_owned();
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new(binary)
            .args(args)
            .current_dir(folder)
            // They are said to the tests; a server knows all variables that begin like these.
            .env_remove("STORMWHEEL_CRASH_CYCLES")
            .env_remove("STORMWHEEL_CRASH_SEED")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}; {hint}", binary.display()));
        Self { name, child, log }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        // Every bash has `kill` built in.
        let command = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("bash").args(["-c", &command]).status().unwrap();
        assert!(sent.success(), "{command}: {sent}");
    }

    /// Waits until it has ended, and gives its exit code; `None` if a signal ended it.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        wait_until("the process to end", || {
            let status = self.child.try_wait().unwrap();
            status.map(|status| status.code()).ok_or_else(|| self.log())
        })
    }

    /// Ends it the hard way (`kill -9`), wherever it stands.
    pub fn kill(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its number, as the system has it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Why it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(format!("{} ended with {status}:\n{}", self.name, self.log()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The real server, ready, in a folder of its own.
pub struct Server {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts `stormwheel serve` on a free port and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments.
    pub fn start_with(args: &[&str]) -> Self {
        Self::start_binary(&server_binary(), args)
    }

    /// Starts a service that was built around functions of its own.
    pub fn start_binary(binary: &Path, args: &[&str]) -> Self {
        for _ in 1..STARTS_MAX {
            if let Ok(server) = Self::try_start(binary, args) {
                return server;
            }
        }
        Self::try_start(binary, args).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn try_start(binary: &Path, args: &[&str]) -> Result<Self, String> {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{port}");
        let mut all = vec!["serve", "--listen", &listen];
        all.extend(args);
        // Nothing is kept unless somebody says where.
        if !args.contains(&"--data-dir") {
            all.push("--in-memory");
        }
        let process = Process::start(binary, &all, folder.path(), HINT);
        let mut server = Self { process, port, folder };
        let client = server.client();
        wait_until("the server to be ready", || {
            if let Some(reason) = server.process.ended() {
                return Ok(Err(reason));
            }
            let answer = client.try_get("/readyz").map_err(|error| error.to_string())?;
            if answer.status == 200 {
                Ok(Ok(()))
            } else {
                Err(format!("{} {}", answer.status, answer.text))
            }
        })?;
        Ok(server)
    }

    /// A client that talks to it.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// See [`Process::log`].
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// See [`Process::signal`].
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// See [`Process::wait_for_end`].
    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.process.wait_for_end()
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Runs `stormwheel` to its end and gives what it prints; the test fails if it does not succeed.
pub fn run_stormwheel(args: &[&str]) -> String {
    let binary = server_binary();
    let output = Command::new(&binary)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} does not start: {error}; {HINT}", binary.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `stormwheel` to its end, which must be a failure, and gives its exit code and what it says.
pub fn fail_stormwheel(args: &[&str]) -> (Option<i32>, String) {
    let binary = server_binary();
    let output = Command::new(&binary)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} does not start: {error}; {HINT}", binary.display()));
    assert!(!output.status.success(), "{args:?} succeeds");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Starts a service that is expected not to start, and gives its exit code and what it says.
pub fn refuse_start(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let all = [&["serve", "--listen", &listen][..], args].concat();
    let mut process = Process::start(&server_binary(), &all, folder.path(), HINT);
    let code = process.wait_for_end();
    (code, process.log())
}

/// The binary `stormwheel`, which was built beside this test.
pub fn server_binary() -> PathBuf {
    built_binary("stormwheel")
}

/// A binary that was built beside this test.
pub fn built_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().expect("a test lies in target/<profile>/deps");
    let profile = deps.parent().expect("a test lies in target/<profile>/deps");
    profile.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
