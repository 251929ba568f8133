//! Snapshots in an object store: a local folder, or a bucket.
//!
//! The port is synchronous, the library is not: each call waits on a runtime that it holds, so it
//! must come from a plain thread and never from one of that runtime. Objects are put by creating
//! them, never by writing over one; a local folder syncs the file and its folder before a put
//! returns, and is made by the first put.

use futures_util::StreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::error::Error as _;
use std::fs::{DirBuilder, File, read_dir, remove_file};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use stormwheel::ports::SnapshotStore;
use stormwheel::storage::is_snapshot_name;
use tokio::runtime::Handle;

/// What timers carry is nobody's business but the service's.
const FOLDER_MODE: u32 = 0o700;

/// A [`SnapshotStore`] over an object store.
pub struct ObjectSnapshots {
    place: Place,
    /// Stands before each name, with a `/` at its end; or empty.
    prefix: String,
    runtime: Handle,
}

enum Place {
    /// A folder that may not be there yet.
    Folder { folder: PathBuf, opened: OnceLock<LocalFileSystem>, swept: OnceLock<()> },
    /// Anything else.
    Store(Arc<dyn ObjectStore>),
}

impl ObjectSnapshots {
    /// The place of `snapshots.url`; where that is empty, a folder in the data directory.
    pub fn open(url: &str, data_dir: &Path, runtime: Handle) -> Result<Self, String> {
        if url.is_empty() {
            return Ok(Self::folder(data_dir.join("snapshots"), runtime));
        }
        let (scheme, rest) = split_url(url)?;
        if scheme == "file" {
            return Ok(Self::folder(PathBuf::from(rest), runtime));
        }
        bucket(rest, runtime)
    }

    /// Below a folder of this machine.
    pub fn folder(folder: PathBuf, runtime: Handle) -> Self {
        let place = Place::Folder { folder, opened: OnceLock::new(), swept: OnceLock::new() };
        Self { place, prefix: String::new(), runtime }
    }

    /// In any store, below a prefix.
    pub fn store(store: Arc<dyn ObjectStore>, prefix: &str, runtime: Handle) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { place: Place::Store(store), prefix, runtime }
    }

    /// The store; `None`: a folder that nobody has put anything into yet.
    fn opened(&self) -> io::Result<Option<&dyn ObjectStore>> {
        match &self.place {
            Place::Store(store) => Ok(Some(store.as_ref())),
            Place::Folder { folder, opened, .. } => {
                if opened.get().is_none() {
                    if !folder.try_exists()? {
                        return Ok(None);
                    }
                    let local = LocalFileSystem::new_with_prefix(folder)
                        .map_err(|error| told("open", &folder.to_string_lossy(), &error))?;
                    // Whoever was faster opened the same folder.
                    let _ = opened.set(local.with_fsync(true));
                }
                Ok(opened.get().map(|local| local as &dyn ObjectStore))
            }
        }
    }

    fn path(&self, name: &str) -> io::Result<ObjectPath> {
        ObjectPath::parse(format!("{}{name}", self.prefix))
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))
    }
}

impl SnapshotStore for ObjectSnapshots {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.path(name)?;
        if let Place::Folder { folder, opened, swept } = &self.place {
            if opened.get().is_none() {
                DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
                if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
                    File::open(above)?.sync_all()?;
                }
            }
            // Who puts owns the place: no other put of this process has begun, and there is no
            // other process.
            swept.get_or_init(|| sweep(folder));
        }
        let store = self.opened()?.ok_or(ErrorKind::NotFound)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = store.put_opts(&path, PutPayload::from(bytes), create);
        self.runtime.block_on(put).map(drop).map_err(|error| told("put", name, &error))
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name)?;
        let store = self.opened()?.ok_or(ErrorKind::NotFound)?;
        let get = async { store.get(&path).await?.bytes().await };
        let bytes = self.runtime.block_on(get).map_err(|error| told("get", name, &error))?;
        Ok(bytes.into())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let Some(store) = self.opened()? else {
            return Ok(Vec::new());
        };
        // A store lists by whole parts of a name; the rest of the prefix is for us to look at.
        let start = format!("{}{prefix}", self.prefix);
        let folder = start.rsplit_once('/').map(|(folder, _)| folder);
        let folder = folder
            .map(ObjectPath::parse)
            .transpose()
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let mut names = Vec::new();
        let listing = async {
            let mut found = store.list(folder.as_ref());
            while let Some(object) = found.next().await {
                let location = object?.location;
                if let Some(name) = location.as_ref().strip_prefix(&self.prefix)
                    && name.starts_with(prefix)
                {
                    names.push(name.to_owned());
                }
            }
            Ok(())
        };
        self.runtime.block_on(listing).map_err(|error| told("list", prefix, &error))?;
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        let Some(store) = self.opened()? else {
            return Ok(());
        };
        match self.runtime.block_on(store.delete(&path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told("remove", name, &error)),
        }
    }
}

/// Removes what a crash left of puts that were under way: the library writes `name#1` and then gives
/// the file its name. Nobody lists them, so nobody else would ever remove them.
fn sweep(folder: &Path) {
    let files = |folder: &Path| {
        let entries = read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut paths = Vec::new();
    let mut folders = files(folder);
    // As deep as names go: savepoints/{id}/objects/{n}.
    for _ in 0..3 {
        folders = folders.iter().flat_map(|path| files(path)).collect();
        paths.extend(folders.iter().cloned());
    }
    for path in paths {
        let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
        let is_staged =
            name.and_then(|name| name.rsplit_once('#')).is_some_and(|(name, number)| {
                let is_number =
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
                is_number && is_snapshot_name(name)
            });
        if is_staged && let Err(error) = remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished snapshot stays behind");
        }
    }
}

/// Checks `snapshots.url` as far as that goes without opening anything.
pub fn check_url(url: &str) -> Result<(), String> {
    if url.is_empty() { Ok(()) } else { split_url(url).map(drop) }
}

fn split_url(url: &str) -> Result<(&str, &str), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!(
            "`{url}` is not an address; write file:///a/folder or s3://bucket/prefix, or leave it \
             empty for a folder in the data directory"
        ));
    };
    match scheme {
        "file" if Path::new(rest).is_absolute() => Ok((scheme, rest)),
        "file" => Err(format!("`{url}` is not an absolute path; write file:///a/folder")),
        "s3" if !cfg!(feature = "s3") => {
            Err(format!("`{url}` needs a build with the feature `s3`, and this is one without"))
        }
        "s3" if rest.split('/').next().is_none_or(str::is_empty) => {
            Err(format!("`{url}` names no bucket; write s3://bucket/prefix"))
        }
        "s3" => Ok((scheme, rest)),
        other => Err(format!("`{other}` is not known; there are file:// and s3://")),
    }
}

/// A bucket of S3; keys, region and endpoint come from the usual variables of the environment.
#[cfg(feature = "s3")]
fn bucket(rest: &str, runtime: Handle) -> Result<ObjectSnapshots, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let store = object_store::aws::AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        // A put that creates is a conditional one, which the service has to honour.
        .with_conditional_put(object_store::aws::S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(ObjectSnapshots::store(Arc::new(store), prefix, runtime))
}

#[cfg(not(feature = "s3"))]
fn bucket(rest: &str, _: Handle) -> Result<ObjectSnapshots, String> {
    Err(format!("s3://{rest} needs a build with the feature `s3`"))
}

/// An error of the library as one of the port: its kind, what was tried, and all it says.
fn told(action: &str, name: &str, error: &object_store::Error) -> io::Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        object_store::Error::PermissionDenied { .. } => ErrorKind::PermissionDenied,
        other => {
            let mut kind = ErrorKind::Other;
            let mut source = other.source();
            while let Some(cause) = source {
                if let Some(io) = cause.downcast_ref::<io::Error>() {
                    kind = io.kind();
                }
                source = cause.source();
            }
            kind
        }
    };
    io::Error::new(kind, format!("cannot {action} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::fs::create_dir_all;
    use tokio::runtime::Runtime;

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// What every store has to do.
    fn check(store: &dyn SnapshotStore) {
        assert_eq!(store.list("").unwrap(), Vec::<String>::new());
        assert_eq!(store.get("objects/a").unwrap_err().kind(), ErrorKind::NotFound);
        store.remove("objects/a").unwrap();
        for name in ["objects/b", "objects/ab", "manifests/1", "objects/a"] {
            store.put(name, name.as_bytes().to_vec()).unwrap();
        }
        let taken = store.put("objects/a", b"other".to_vec()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(store.get("objects/a").unwrap(), b"objects/a");
        assert_eq!(store.list("objects/").unwrap(), ["objects/a", "objects/ab", "objects/b"]);
        assert_eq!(store.list("objects/a").unwrap(), ["objects/a", "objects/ab"]);
        assert_eq!(store.list("").unwrap().len(), 4);
        assert_eq!(store.list("nothing/").unwrap(), Vec::<String>::new());
        store.remove("objects/a").unwrap();
        store.remove("objects/a").unwrap();
        assert_eq!(store.get("objects/a").unwrap_err().kind(), ErrorKind::NotFound);
        store.put("objects/a", Vec::new()).unwrap();
        assert_eq!(store.get("objects/a").unwrap(), b"");
    }

    #[test]
    fn a_folder_is_a_store_and_is_made_by_the_first_put() {
        let runtime = runtime();
        let data_dir = tempfile::tempdir().unwrap();
        let open = || ObjectSnapshots::open("", data_dir.path(), runtime.handle().clone()).unwrap();
        open().list("objects/").unwrap();
        assert!(!data_dir.path().join("snapshots").exists());
        check(&open());
        assert_eq!(open().get("objects/b").unwrap(), b"objects/b");
        assert!(data_dir.path().join("snapshots/manifests/1").is_file());
    }

    #[test]
    fn what_a_crash_left_of_a_put_goes_with_the_first_put() {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let objects = folder.path().join("objects");
        create_dir_all(&objects).unwrap();
        let [own, other] = ["00000001-00000001-0001", "00000001-00000001-0002"];
        let (own_draft, other_draft) = (format!("{own}#1"), format!("{other}#12"));
        for name in [own, &own_draft, &other_draft, "b#1", "c#x"] {
            std::fs::write(objects.join(name), "a").unwrap();
        }
        let store = ObjectSnapshots::folder(folder.path().to_owned(), runtime.handle().clone());
        assert_eq!(store.get(&format!("objects/{own}")).unwrap(), b"a");
        assert!(objects.join(own_draft).exists(), "who only reads changes nothing");
        store.put("objects/d", Vec::new()).unwrap();
        let mut left: Vec<_> =
            read_dir(&objects).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort_unstable();
        assert_eq!(left, [own, "b#1", "c#x", "d"], "what is not ours stays");
    }

    #[test]
    fn any_other_store_is_one_too_with_and_without_a_prefix() {
        let runtime = runtime();
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for prefix in ["", "a/b/"] {
            check(&ObjectSnapshots::store(memory.clone(), prefix, runtime.handle().clone()));
            // The next one has the store to itself.
            let all = ObjectSnapshots::store(memory.clone(), "", runtime.handle().clone());
            for name in all.list("").unwrap() {
                assert!(name.starts_with(prefix), "{name}");
                all.remove(&name).unwrap();
            }
        }
    }

    #[test]
    fn a_failure_keeps_its_kind_and_names_the_object() {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        std::fs::write(&place, b"").unwrap();
        let store = ObjectSnapshots::folder(place, runtime.handle().clone());
        assert!(store.put("objects/a", Vec::new()).is_err());
        let outside = store.get("../a").unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::InvalidInput);
        let full = io::Error::from(ErrorKind::StorageFull);
        let full = object_store::Error::Generic { store: "x", source: Box::new(full) };
        let full = told("put", "objects/a", &full);
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert!(full.to_string().contains("put objects/a"), "{full}");
    }

    #[test]
    fn addresses_are_checked_before_anything_is_opened() {
        for good in ["", "file:///var/lib/snapshots"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("/var/lib", "not an address"),
            ("file://var/lib", "absolute"),
            ("ftp://x", "`ftp`"),
            #[cfg(not(feature = "s3"))]
            ("s3://bucket/a", "feature `s3`"),
            #[cfg(feature = "s3")]
            ("s3://", "no bucket"),
        ] {
            let message = check_url(bad).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
