//! The identity of a data directory: what it is, and the numbers that never change.

use super::{DiskFault, read_full, write_all};
use crate::key_group::Layout;
use crate::log::segment::{
    JOURNAL_FOLDER, JournalSegment, OUTPUT_FOLDER, SPARE_FOLDER, parse_output, parse_spare,
};
use crate::ports::Disk;
use crate::snapshot::{ManifestName, ObjectName};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use thiserror::Error;

/// Where it stands.
pub(crate) const IDENTITY_FILE: &str = "stormwheel.json";
/// Where it is written before it stands there.
const IDENTITY_DRAFT: &str = "stormwheel.json.new";
const FORMAT: u32 = 1;
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Told apart by this from every other data directory.
    pub(crate) directory_id: [u8; 16],
    /// Key groups.
    pub(crate) max_parallelism: u16,
    /// Ordered sequences that key groups are spread over.
    pub(crate) lanes: u16,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum IdentityFault {
    /// The disk did not do what it was asked to.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// There is something else in it.
    #[error(
        "the data directory holds what is not Stormwheel's ({name}), and no {IDENTITY_FILE}; name an \
         empty directory, or one that is not there yet"
    )]
    Foreign { name: String },
    /// It is not there, and the rest of the directory is.
    #[error(
        "{IDENTITY_FILE} is missing, and {name}/ holds data: the directory was copied or restored in \
         part; bring {IDENTITY_FILE} back, or copy all of it again while no process has it"
    )]
    Lost { name: String },
    /// It cannot be read.
    #[error(
        "{IDENTITY_FILE} cannot be read ({detail}); bring it back from a copy of the directory"
    )]
    Damaged { detail: String },
    /// A later version made it.
    #[error(
        "the data directory has format {found}, this version knows up to {FORMAT}; start the \
         version that wrote it, or a later one"
    )]
    Newer { found: u32 },
    /// It was made with other numbers.
    #[error(
        "the data directory was made with {field} = {found}, which never changes, and {asked} was \
         asked for; leave {field} out to use what is there"
    )]
    Layout { field: &'static str, found: u16, asked: u16 },
}

/// As it is written: a person may read it.
#[derive(Serialize, Deserialize)]
struct Form {
    format: u32,
    #[serde(default)]
    directory: String,
    #[serde(default)]
    max_parallelism: u16,
    #[serde(default)]
    lanes: u16,
}

/// Only this much is read of what a later version may have drawn in another way.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The folders that hold data, the ones in which files are first.
const OWN: [&str; 6] = [
    JOURNAL_FOLDER,
    OUTPUT_FOLDER,
    "snapshots/manifests",
    "snapshots/objects",
    "snapshots",
    SPARE_FOLDER,
];
/// The lock of a process that owns the directory.
const LOCK_FILE: &str = "LOCK";
/// What a file system may have put into an empty folder.
const LOST_AND_FOUND: &str = "lost+found";

impl Identity {
    /// Reads the identity of a data directory. `None`: it is empty.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, IdentityFault> {
        let file = match disk.open(IDENTITY_FILE) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Self::check_empty(disk).map(|()| None);
            }
            Err(error) => return Err(DiskFault::new(IDENTITY_FILE, "open", error).into()),
        };
        let read = DiskFault::at(IDENTITY_FILE, "read");
        let length = file.len_bytes().map_err(read)?.min(IDENTITY_BYTES_MAX);
        let mut bytes = vec![0; length as usize];
        let count =
            read_full(&*file, 0, &mut bytes).map_err(DiskFault::at(IDENTITY_FILE, "read"))?;
        bytes.truncate(count);
        let damaged = |detail: String| IdentityFault::Damaged { detail };
        let FormatOnly { format } =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            return Err(IdentityFault::Newer { found: format });
        }
        if format == 0 {
            return Err(damaged("there is no format 0".to_owned()));
        }
        let form: Form =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let id = u128::from_str_radix(&form.directory, 16)
            .ok()
            .filter(|id| format!("{id:032x}") == form.directory)
            .ok_or_else(|| damaged("directory is not a number of 32 hexadecimal digits".into()))?;
        let Form { max_parallelism, lanes, .. } = form;
        Layout::new(max_parallelism, lanes, 1).map_err(damaged)?;
        Ok(Some(Self { directory_id: id.to_be_bytes(), max_parallelism, lanes }))
    }

    /// Whether a directory without an identity is one that a start may make its own.
    pub(crate) fn check_empty(disk: &dyn Disk) -> Result<(), IdentityFault> {
        let mut strange = None;
        for folder in OWN {
            for name in disk.list(folder).map_err(DiskFault::at(folder, "list"))? {
                if is_own(folder, &name) {
                    return Err(IdentityFault::Lost { name: folder.to_owned() });
                }
                strange = strange.or(Some(format!("{folder}/{name}")));
            }
        }
        let names = disk.list("").map_err(DiskFault::at("the data directory", "list"))?;
        let is_known = |name: &str| {
            [IDENTITY_DRAFT, LOCK_FILE, LOST_AND_FOUND].contains(&name) || OWN.contains(&name)
        };
        let strange = strange.or_else(|| names.into_iter().find(|name| !is_known(name)));
        strange.map_or(Ok(()), |name| Err(IdentityFault::Foreign { name }))
    }

    /// Writes the identity of a new data directory, durably.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), DiskFault> {
        let form = Form {
            format: FORMAT,
            directory: format!("{:032x}", u128::from_be_bytes(self.directory_id)),
            max_parallelism: self.max_parallelism,
            lanes: self.lanes,
        };
        let mut bytes = serde_json::to_vec_pretty(&form).expect("an identity is plain data");
        bytes.push(b'\n');
        match disk.remove(IDENTITY_DRAFT) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(DiskFault::new(IDENTITY_DRAFT, "remove", error));
            }
            _ => {}
        }
        let file = disk.create(IDENTITY_DRAFT).map_err(DiskFault::at(IDENTITY_DRAFT, "create"))?;
        write_all(&*file, 0, &bytes).map_err(DiskFault::at(IDENTITY_DRAFT, "write"))?;
        file.sync().map_err(DiskFault::at(IDENTITY_DRAFT, "sync"))?;
        disk.rename(IDENTITY_DRAFT, IDENTITY_FILE)
            .map_err(DiskFault::at(IDENTITY_FILE, "rename"))?;
        disk.sync_folder("").map_err(DiskFault::at("the data directory", "sync"))
    }

    /// Refuses numbers that are asked for and differ; 0 asks for nothing.
    pub(crate) fn check(&self, max_parallelism: u16, lanes: u16) -> Result<(), IdentityFault> {
        for (field, found, asked) in [
            ("max_parallelism", self.max_parallelism, max_parallelism),
            ("lanes", self.lanes, lanes),
        ] {
            if asked != 0 && asked != found {
                return Err(IdentityFault::Layout { field, found, asked });
            }
        }
        Ok(())
    }
}

/// Whether a file of this name in this folder is one that a service made.
fn is_own(folder: &str, name: &str) -> bool {
    let in_store = |prefix: &str| format!("{prefix}{name}");
    match folder {
        JOURNAL_FOLDER => JournalSegment::parse(name).is_some(),
        OUTPUT_FOLDER => parse_output(name).is_some(),
        SPARE_FOLDER => parse_spare(name).is_some(),
        "snapshots/manifests" => ManifestName::parse(&in_store("manifests/")).is_some(),
        "snapshots/objects" => ObjectName::parse(&in_store("objects/")).is_some(),
        _ => false,
    }
}
