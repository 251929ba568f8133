//! What the commands that look into a data directory share: opening it for reading only, next to a
//! service that may be running on it, and the exit codes.

use super::{Failure, print};
use crate::serve::{EXIT_CORRUPTION, EXIT_DIRECTORY};
use crate::store::ObjectSnapshots;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stormwheel::ports::SnapshotStore;
use stormwheel::runtime::FolderDisk;
use stormwheel::storage::{Finding, Inspection, Weight, inspect};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// How often is looked again if a service changes files under our eyes.
const LOOKS_MAX: usize = 3;

/// Which directory.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "./stormwheel-data")]
    pub(super) data_dir: PathBuf,
    /// Where its snapshots are, if not in it: `snapshots.url` of the configuration
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    snapshots_url: String,
}

/// What was found in a data directory.
pub(super) struct Looked {
    pub(super) disk: FolderDisk,
    pub(super) found: Inspection,
    /// Who has it; an error: that cannot be told here.
    pub(super) holder: std::io::Result<Option<u32>>,
}

impl Place {
    /// Looks at everything, and changes nothing.
    pub(super) async fn look(&self) -> Result<Looked, Failure> {
        let (place, runtime) = (self.clone(), Handle::current());
        let looked = spawn_blocking(move || place.look_here(runtime));
        looked.await.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
    }

    fn look_here(&self, runtime: Handle) -> Result<Looked, Failure> {
        let folder = &self.data_dir;
        let disk = FolderDisk::open_read_only(folder).map_err(|fault| {
            let sentence = format!("{fault}; name the data directory with --data-dir");
            Failure::Directory { code: EXIT_DIRECTORY, sentence }
        })?;
        let store = ObjectSnapshots::open(&self.snapshots_url, folder, runtime)
            .map_err(|detail| Failure::Usage(format!("--snapshots-url: {detail}")))?;
        let store: Arc<dyn SnapshotStore> = Arc::new(store);
        let holder = FolderDisk::holder(folder);
        let mut found = inspect(&disk, &store);
        let is_in_use = !matches!(&holder, Ok(None));
        for _ in 1..LOOKS_MAX {
            if !is_in_use || found.worst() <= Some(Weight::Note) {
                break;
            }
            // What is being written looks torn, and what is being renamed looks lost.
            let again = inspect(&disk, &store);
            if again.worst() < found.worst() {
                found = again;
            }
        }
        Ok(Looked { disk, found, holder })
    }
}

impl Looked {
    /// What is to be said if a service is at work.
    pub(super) fn in_use(&self) -> Option<String> {
        let pid = (*self.holder.as_ref().ok()?)?;
        let who = if pid == 0 { "another process".to_owned() } else { format!("process {pid}") };
        Some(format!("{who} has the directory: it goes on meanwhile, and the figures move"))
    }

    /// Says so if the figures may move.
    pub(super) fn tell_holder(&self) {
        if let Some(sentence) = self.in_use() {
            print::line(&sentence);
        }
    }

    /// What the process ends with.
    pub(super) fn verdict(&self, folder: &Path) -> Result<(), Failure> {
        let code = match self.found.worst() {
            Some(Weight::Stops) => EXIT_CORRUPTION,
            Some(Weight::Refused) => EXIT_DIRECTORY,
            _ => return Ok(()),
        };
        let count = self.found.findings.iter().filter(|it| it.weight >= Weight::Refused).count();
        let sentence = format!(
            "{}: a start would be refused ({count} {})",
            folder.display(),
            if count == 1 { "reason" } else { "reasons" }
        );
        Err(Failure::Directory { code, sentence })
    }
}

impl Looked {
    /// What a check of everything ends with: damage that a start gets along with is damage too.
    pub(super) fn wholeness(&self, folder: &Path) -> Result<(), Failure> {
        self.verdict(folder)?;
        let is_damage = |it: &&Finding| matches!(it.weight, Weight::Copy | Weight::Healed);
        let count = self.found.findings.iter().filter(is_damage).count();
        if count == 0 {
            return Ok(());
        }
        let what =
            if count == 1 { "one place is".to_owned() } else { format!("{count} places are") };
        let sentence = format!("{}: a start goes well, but {what} damaged", folder.display());
        Err(Failure::Directory { code: EXIT_CORRUPTION, sentence })
    }
}

/// What comes of a finding.
pub(super) fn outcome(finding: &Finding) -> &'static str {
    match finding.weight {
        Weight::Note => "harmless",
        Weight::Torn => {
            "an unfinished end: the next start cuts it off; nobody was ever told of what stands there"
        }
        Weight::Copy => {
            "this savepoint cannot be restored: make another one; a start is not concerned"
        }
        Weight::Healed => {
            "an older checkpoint and a longer piece of the log make it good; the next checkpoint \
             replaces it"
        }
        Weight::Refused => "the start is refused: this directory is not for this version or place",
        Weight::Stops => {
            "the start is refused, and changes nothing: keep a copy of the directory as it is; then bring \
             the file back from a backup that is as new as the rest, or restore a savepoint into a \
             new directory"
        }
    }
}
