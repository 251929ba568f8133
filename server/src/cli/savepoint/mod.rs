//! `savepoint` and `restore`: copies of what the service holds, made over HTTP; looked at, taken
//! apart and restored from a folder, without a server.

mod export;

use super::{Client, Failure, Target, client, print};
use crate::serve::{EXIT_DIRECTORY, exit_code_of, keep_private};
use crate::service::random_id;
use crate::store::ObjectSnapshots;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stormwheel::ports::{Disk, MachineClock as _, SnapshotStore};
use stormwheel::runtime::{Fault, FolderDisk, SEGMENT_BYTES_DEFAULT, SystemClock};
use stormwheel::storage::{RestoreFault, RestoreOptions, SavepointFault, SavepointReader, restore};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// `stormwheel savepoint`.
#[derive(Debug, Args)]
#[command(after_help = "\
A savepoint is a folder below savepoints/ in the snapshot store; it can be copied as a folder.

Examples:
  stormwheel savepoint create
  stormwheel savepoint verify stormwheel-data/snapshots/savepoints/sp-20260101T000000Z-0001
  stormwheel savepoint export PATH --format parquet -o timers.parquet
  stormwheel savepoint export PATH --states
  stormwheel restore --from PATH --data-dir other-data --lanes 64")]
pub struct Savepoint {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have the server make one, and wait until it is stored
    Create {
        #[command(flatten)]
        target: Target,
        /// Copy this namespace only; may be repeated
        #[arg(long, short, value_name = "NAME")]
        namespace: Vec<String>,
    },
    /// Those that the server has
    List {
        #[command(flatten)]
        target: Target,
    },
    /// What the savepoint in a folder says of itself
    Inspect {
        /// The folder with the file `savepoint`
        path: PathBuf,
    },
    /// Read all of the savepoint in a folder, and say whether it is whole
    Verify {
        /// The folder with the file `savepoint`
        path: PathBuf,
    },
    /// Write the timers of the savepoint in a folder, one row each; or what its functions keep
    Export {
        /// The folder with the file `savepoint`
        path: PathBuf,
        /// Not the timers, but what functions keep for each key
        #[arg(long)]
        states: bool,
        /// Form of the rows
        #[arg(long, value_enum, default_value_t = export::Format::Ndjson)]
        format: export::Format,
        /// Where to; NDJSON goes to the terminal if nothing is said
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `stormwheel restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The data directory must be empty or absent. Every namespace begins a new life: its outputs have new \
cursors and ids, and consumers begin without a cursor.")]
pub struct Restore {
    /// The folder with the file `savepoint`
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// The new data directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Lanes of the new data directory [default: as in the savepoint]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    lanes: u16,
    /// Key groups of the new data directory [default: as in the savepoint]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    max_parallelism: u16,
    /// Where its snapshots go, if not into the data directory: what `snapshots.url` will be
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    snapshots_url: String,
}

impl Savepoint {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Create { target, namespace } => create(&target, &namespace).await,
            Action::List { target } => list(&target).await,
            Action::Inspect { path } => {
                let inspected = offline(path, |reader| Ok(inspect(&reader))).await?;
                print::line(&inspected);
                Ok(())
            }
            Action::Verify { path } => {
                let inspected = offline(path, |reader| {
                    reader.verify().map_err(unusable)?;
                    Ok(format!("{}\nevery byte is as it was written", inspect(&reader)))
                });
                print::line(&inspected.await?);
                Ok(())
            }
            Action::Export { path, states, format, output } => {
                let write = if states {
                    export::export::<export::States>
                } else {
                    export::export::<export::Timers>
                };
                let rows = offline(path, move |reader| write(&reader, format, output.as_deref()));
                if let Some(told) = rows.await? {
                    print::line(&told);
                }
                Ok(())
            }
        }
    }
}

impl Restore {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let handle = Handle::current();
        let restored = spawn_blocking(move || self.restore(&handle)).await;
        print::line(&restored.map_err(failed)??);
        Ok(())
    }

    fn restore(&self, handle: &Handle) -> Result<String, Failure> {
        keep_private();
        let reader = open(&self.from, handle)?;
        let disk: Arc<dyn Disk> = Arc::new(FolderDisk::open(&self.data_dir).map_err(failed)?);
        let store = ObjectSnapshots::open(&self.snapshots_url, &self.data_dir, handle.clone())
            .map_err(|detail| Failure::Usage(format!("--snapshots-url: {detail}")))?;
        let store: Arc<dyn SnapshotStore> = Arc::new(store);
        let options = RestoreOptions {
            directory_id: random_id().ok_or_else(|| failed("the system has no random numbers"))?,
            max_parallelism: self.max_parallelism,
            lanes: self.lanes,
            now_ms: SystemClock.realtime_ms(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
        };
        let info = restore(&reader, &disk, &store, &options).map_err(unrestored)?;
        Ok(format!(
            "restored {} namespaces with {} keys, {} timers and {} outputs into {} (lanes {}, \
             max_parallelism {})\nstart it with: stormwheel serve --data-dir {}",
            info.namespaces,
            info.keys,
            info.timers,
            info.outputs,
            self.data_dir.display(),
            info.lanes,
            info.max_parallelism,
            self.data_dir.display()
        ))
    }
}

async fn create(target: &Target, namespaces: &[String]) -> Result<(), Failure> {
    let client = Client::new(&target.server)?;
    let body = if namespaces.is_empty() { json!({}) } else { json!({ "namespaces": namespaces }) };
    let path = format!("/v1/savepoints{}", client::query([("wait", Some("10m".to_owned()))]));
    let answer = client.send(Method::POST, &path, Some(body.to_string())).await?;
    if target.json {
        print::raw(&answer.body);
    } else {
        let made = answer.json()?;
        print::line(&table(std::slice::from_ref(&made)));
    }
    Ok(())
}

async fn list(target: &Target) -> Result<(), Failure> {
    let client = Client::new(&target.server)?;
    let answer = client.send(Method::GET, "/v1/savepoints", None).await?;
    if target.json {
        print::raw(&answer.body);
        return Ok(());
    }
    let answer = answer.json()?;
    let all = answer.get("savepoints").and_then(Value::as_array);
    print::line(&table(all.map_or(&[][..], Vec::as_slice)));
    Ok(())
}

fn table(savepoints: &[Value]) -> String {
    let rows: Vec<Vec<String>> = savepoints
        .iter()
        .map(|it| {
            let text = |name: &str| it.get(name).and_then(Value::as_str).unwrap_or_default();
            let bytes = it.get("bytes").and_then(Value::as_u64);
            let namespaces = it.get("namespaces").and_then(Value::as_array);
            let timers = namespaces
                .map(|all| all.iter().filter_map(|it| it.get("timers")?.as_u64()).sum::<u64>());
            let number = |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
            vec![
                text("savepoint").to_owned(),
                text("status").to_owned(),
                number(namespaces.map(|all| all.len() as u64)),
                number(timers),
                number(bytes),
                text("failure").to_owned(),
            ]
        })
        .collect();
    print::table(&["SAVEPOINT", "STATUS", "NAMESPACES", "TIMERS", "BYTES", ""], &rows)
}

/// Works on the savepoint in a folder, where it may wait for files.
async fn offline<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(SavepointReader) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let handle = Handle::current();
    let done = spawn_blocking(move || work(open(&path, &handle)?)).await;
    done.map_err(failed)?
}

fn open(path: &Path, handle: &Handle) -> Result<SavepointReader, Failure> {
    let store = Arc::new(ObjectSnapshots::folder(path.to_owned(), handle.clone()));
    SavepointReader::open(store, "").map_err(|fault| match fault {
        SavepointFault::Missing { .. } => Failure::Failed(format!("{}: {fault}", path.display())),
        fault => unusable(fault),
    })
}

/// A savepoint that cannot be used ends a command as a data directory ends a start.
fn unusable(fault: SavepointFault) -> Failure {
    match fault {
        SavepointFault::Disk(disk) => ended(&disk.into()),
        SavepointFault::Snapshot(snapshot) => ended(&snapshot.into()),
        fault => failed(fault),
    }
}

fn unrestored(fault: RestoreFault) -> Failure {
    match fault {
        RestoreFault::Savepoint(fault) => unusable(fault),
        RestoreFault::Directory(fault) => ended(&fault.into()),
        RestoreFault::Outputs(fault) => ended(&Fault::Outputs(fault)),
        RestoreFault::NotEmpty { .. } => {
            Failure::Directory { code: EXIT_DIRECTORY, sentence: fault.to_string() }
        }
        fault => failed(fault),
    }
}

fn ended(fault: &Fault) -> Failure {
    Failure::Directory { code: exit_code_of(fault.kind()), sentence: fault.to_string() }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

fn inspect(reader: &SavepointReader) -> String {
    let it = reader.summary();
    let rows: Vec<Vec<String>> = it
        .namespaces
        .iter()
        .map(|(name, counts)| {
            std::iter::once(name.clone()).chain(counts.map(|count| count.to_string())).collect()
        })
        .collect();
    let facts = [
        ("savepoint", it.id),
        ("made", print::time(it.created_ms)),
        ("clock", print::time(it.now_ms)),
        ("of directory", it.directory),
        ("engine version", it.engine_version.to_string()),
        ("max_parallelism", it.max_parallelism.to_string()),
        ("lanes", it.lanes.to_string()),
        ("files", format!("{} of state, {} of outputs", it.object_files, it.output_files)),
        ("bytes", it.bytes.to_string()),
    ];
    let facts = facts.map(|(name, value)| format!("{name:<16} {value}")).join("\n");
    format!("{facts}\n\n{}", print::table(&["NAMESPACE", "KEYS", "TIMERS", "OUTPUTS"], &rows))
}
