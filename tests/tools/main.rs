//! What stands in a data directory, met as a user meets it: the commands that look into it, starts
//! that are refused, and directories that earlier versions wrote.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is a test: a failure is its way to speak"
)]

mod fixtures;
mod looking;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use stormwheel_tests::{Server, refuse_start};
use tempfile::TempDir;

/// Small files, and the same layout wherever it runs.
const LAYOUT: [&str; 10] = [
    "--shards",
    "2",
    "--set",
    "lanes=4",
    "--set",
    "max_parallelism=8",
    "--set",
    "segment_bytes=4MiB",
    "--set",
    "checkpoint.interval=1h",
];

/// A data directory that goes with the test.
struct Data {
    folder: TempDir,
}

impl Data {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One that a service wrote and was killed on: 20 timers in a checkpoint, 20 behind it.
    fn written() -> Self {
        let data = Self::new();
        let server = data.serve();
        let client = server.client();
        register(&server, 0..20);
        client.post("/v1/checkpoints?wait=30s", "").expect_status(200);
        register(&server, 20..40);
        client
            .put("/v1/keys/now/timers/t", r#"{"at":1,"payload":{"secret":1}}"#)
            .expect_status(201);
        server.signal("KILL");
        drop(server);
        data
    }

    /// One with an output and a savepoint behind a graceful stop.
    fn with_savepoint() -> Self {
        let data = Self::new();
        let mut server = data.serve();
        register(&server, 0..20);
        let client = server.client();
        client.put("/v1/keys/now/timers/t", r#"{"at":1}"#).expect_status(201);
        client.get("/v1/outputs?limit=1&wait=10s").expect_status(200);
        client.post("/v1/savepoints?wait=30s", "").expect_status(200);
        server.signal("TERM");
        assert_eq!(server.wait_for_end(), Some(0), "{}", server.log());
        data
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    fn serve(&self) -> Server {
        let text = self.text();
        let mut args = vec!["--data-dir", &text];
        args.extend(LAYOUT);
        Server::start_with(&args)
    }

    /// A start is refused, and only `LOCK` may have changed. What it says.
    fn refused(&self, code: i32) -> String {
        let mut before = files(&self.path());
        let text = self.text();
        let mut args = vec!["--data-dir", &text];
        args.extend(LAYOUT);
        let (found, said) = refuse_start(&args);
        assert_eq!(found, Some(code), "{said}");
        let mut after = files(&self.path());
        before.remove(Path::new("LOCK"));
        after.remove(Path::new("LOCK"));
        assert!(before == after, "something was changed: {said}");
        said
    }

    fn names(&self, below: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join(below)).unwrap();
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }
}

fn register(server: &Server, keys: std::ops::Range<u32>) {
    let lines = keys.map(|n| {
        format!("{{\"op\":\"register\",\"key\":\"k{n}\",\"at\":4102444800000,\"payload\":{{\"n\":{n}}}}}\n")
    });
    server.client().post_lines("/v1/timers/batch", &lines.collect::<String>()).expect_status(200);
}

/// All files below a folder: when they were changed, and their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            found.insert(name, (changed, fs::read(&path).unwrap()));
        }
    }
    found
}

/// Changes a file.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
