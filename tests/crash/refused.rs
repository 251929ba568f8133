//! Bad luck at the start: data directories that cannot be used. Each is refused before anything is
//! written, with an exit code that tells a supervisor not to try again, and a sentence on what to
//! do.

use crate::folder::{Folder, Mounted, files, tree};
use crate::rng::Rng;
use crate::server::{Durable, Starter};
use crate::shared::Shared;
use crate::worker::Manners;
use crate::world::{End, LIVE, World};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory cannot be used as it is.
const EXIT_DIRECTORY: i32 = 3;
/// What was durable is damaged.
const EXIT_CORRUPTION: i32 = 4;
/// Which files are what.
const IDENTITY: &str = "stormwheel.json";
const LOCK: &str = "LOCK";

/// No checkpoint by itself: the journals hold everything.
const ARGS: [&str; 4] = ["--set", "segment_bytes=4MiB", "--set", "checkpoint.interval=0s"];

/// Bytes that are flipped in files of each kind.
const FLIPS: usize = 5;
/// Segments that a filled directory has at least.
const SEGMENTS_MIN: usize = 3;

/// A directory that a server was loaded on, and killed.
fn filled() -> (Folder, Starter) {
    let (folder, starter, mut world, mut server) = loaded();
    world.load(&mut server, 50, End::Kill);
    (folder, starter)
}

/// The same with checkpoints and what came behind them.
fn filled_over_checkpoints() -> (Folder, Starter) {
    let (folder, starter, mut world, mut server) = loaded();
    for _ in 0..2 {
        server.client().post("/v1/checkpoints?wait=1m", "").expect_status(200);
        world.load(&mut server, 50, End::Stop);
    }
    world.load(&mut server, 50, End::Kill);
    (folder, starter)
}

/// A server whose journal has several segments.
fn loaded() -> (Folder, Starter, World, Durable) {
    let folder = Folder::new();
    let starter = Starter::new(folder.path(), &ARGS);
    let manners = Manners { keys: 60, is_producer: false, mixes_acks: false, checks_acks: false };
    let mut world = World::new(5, 2, manners);
    let mut server = starter.start(&["--shards", "1"]);
    world.set_up(&server.client());
    while files(&folder.path().join("journal")).len() < SEGMENTS_MIN {
        world.load(&mut server, 100, End::Stop);
    }
    (folder, starter, world, server)
}

/// A start on this directory must end with this code, say all of this, and change nothing.
fn check_refused(starter: &Starter, more: &[&str], code: i32, said: &[&str]) {
    let before = contents(&starter.data_dir);
    let Err(refusal) = starter.try_start(more) else { panic!("it started") };
    assert_eq!(refusal.code, Some(code), "{}", refusal.log);
    for part in said {
        assert!(refusal.log.contains(part), "{part} is not in: {}", refusal.log);
    }
    let after = contents(&starter.data_dir);
    for path in before.iter().chain(&after).map(|(path, _)| path) {
        let of = |tree: &[(PathBuf, Option<Vec<u8>>)]| {
            tree.iter().find(|(other, _)| other == path).map(|(_, bytes)| bytes.clone())
        };
        assert!(of(&before) == of(&after), "{} was changed", path.display());
    }
}

/// All that is in a directory. The lock of an earlier owner stands for nothing.
fn contents(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let has_identity = folder.join(IDENTITY).exists();
    let is_ours = |path: &Path| has_identity && path.ends_with(LOCK);
    tree(folder).into_iter().filter(|(path, _)| !is_ours(path)).collect()
}

/// A copy of a directory, to be harmed.
fn copied(folder: &Path) -> Folder {
    let copy = Folder::new();
    for (path, bytes) in tree(folder) {
        let to = copy.path().join(path.strip_prefix(folder).expect("it lies in there"));
        match bytes {
            Some(bytes) => {
                fs::create_dir_all(to.parent().expect("a folder")).unwrap();
                fs::write(to, bytes).unwrap();
            }
            None => fs::create_dir_all(to).unwrap(),
        }
    }
    copy
}

/// What a client can still see of the load: what is far, and what had fired by then.
fn seen(server: &Durable, far_from: i64, fires: usize) -> (Vec<String>, Vec<String>) {
    let client = server.client();
    let base = format!("/v1/namespaces/{LIVE}");
    let far =
        client.get(&format!("{base}/timers?limit=1000&due_after={far_from}")).expect_status(200);
    let far = far.json()["timers"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let fired = client.get(&format!("{base}/outputs?limit={fires}")).expect_status(200);
    (far, fired.text.lines().map(str::to_owned).collect())
}

fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_directory_that_is_in_use_names_who_uses_it() {
    let folder = Folder::new();
    let starter = Starter::new(folder.path(), &ARGS);
    let server: Durable = starter.start(&[]);
    let Err(refusal) = starter.try_start(&[]) else { panic!("two on one directory") };
    assert_eq!(refusal.code, Some(EXIT_DIRECTORY), "{}", refusal.log);
    assert!(refusal.log.contains(&server.id().to_string()), "{}", refusal.log);
    server.client().get("/readyz").expect_status(200);
    drop(server);
    // A lock ends with its owner, however that ended.
    starter.start(&[]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    for name in ["notes.txt", "photos/cat.jpg", "journal/2025-01-01.md"] {
        let folder = Folder::new();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).unwrap();
        fs::write(&path, "dear diary").unwrap();
        let starter = Starter::new(folder.path(), &ARGS);
        check_refused(&starter, &[], EXIT_DIRECTORY, &["not Stormwheel's"]);
    }
}

#[test]
fn numbers_that_never_change_are_not_changed() {
    let folder = Folder::new();
    let starter = Starter::new(folder.path(), &ARGS);
    assert_eq!(starter.start(&[]).stop(), Some(0));
    for key in ["max_parallelism", "lanes"] {
        let other = format!("{key}=64");
        check_refused(&starter, &["--set", &other], EXIT_DIRECTORY, &[key, "64"]);
    }
    starter.start(&[]);
}

#[test]
fn a_newer_format_is_for_a_newer_version() {
    let (folder, starter) = filled();
    change(&folder.path().join(IDENTITY), "\"format\": 1", "\"format\": 2");
    check_refused(&starter, &[], EXIT_DIRECTORY, &["format 2", "version"]);
}

#[test]
fn a_directory_that_cannot_be_written_says_so() {
    let (folder, starter) = filled();
    let Some(view) = Mounted::read_only(folder.path()) else {
        // Whoever may not mount is not root either, and is kept out by modes.
        let modes = fs::metadata(folder.path()).unwrap().permissions();
        let mut read_only = modes.clone();
        read_only.set_readonly(true);
        fs::set_permissions(folder.path().join(LOCK), read_only.clone()).unwrap();
        fs::set_permissions(folder.path(), read_only).unwrap();
        check_unwritable(&starter);
        fs::set_permissions(folder.path(), modes).unwrap();
        return;
    };
    check_unwritable(&Starter { data_dir: view.path().to_path_buf(), ..starter });
}

fn check_unwritable(starter: &Starter) {
    let data_dir = starter.data_dir.to_str().expect("a path of ours is text");
    check_refused(starter, &[], EXIT_DIRECTORY, &[data_dir]);
}

#[test]
fn a_copy_without_its_identity_is_no_new_directory() {
    let (folder, starter) = filled();
    fs::remove_file(folder.path().join(IDENTITY)).unwrap();
    fs::remove_file(folder.path().join(LOCK)).unwrap();
    check_refused(&starter, &[], EXIT_DIRECTORY, &[IDENTITY]);
    // Whatever is left of it says whose it is.
    for gone in ["journal", "outputs"] {
        fs::remove_dir_all(folder.path().join(gone)).unwrap();
        check_refused(&starter, &[], EXIT_DIRECTORY, &[IDENTITY]);
    }
}

#[test]
fn a_copy_without_a_whole_folder_is_corrupt() {
    for gone in ["journal", "outputs", "snapshots"] {
        let (folder, starter) = filled_over_checkpoints();
        fs::remove_dir_all(folder.path().join(gone)).unwrap();
        check_refused(&starter, &[], EXIT_CORRUPTION, &["missing", "stormwheel log verify"]);
    }
}

#[test]
fn a_copy_without_one_of_its_segments_is_corrupt() {
    let (folder, starter) = filled();
    let segments = files(&folder.path().join("journal"));
    // The very last is there in advance, and empty.
    for missing in &segments[..segments.len() - 1] {
        let kept = fs::read(missing).unwrap();
        fs::remove_file(missing).unwrap();
        check_refused(&starter, &[], EXIT_CORRUPTION, &["missing", "stormwheel log verify"]);
        fs::write(missing, kept).unwrap();
    }
    starter.start(&[]);
}

#[test]
fn a_flipped_byte_in_what_was_durable_is_told_with_its_file() {
    let (folder, starter) = filled();
    let segment = files(&folder.path().join("journal")).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let whole = fs::read(&segment).unwrap();
    // The header page; the first block's header; its body.
    for at in [17, 4096 + 24, 4096 + 70] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&segment, &flipped).unwrap();
        check_refused(&starter, &[], EXIT_CORRUPTION, &[name, "stormwheel log verify"]);
    }
    fs::write(&segment, whole).unwrap();
    starter.start(&[]);
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_does_no_harm() {
    let (folder, starter) = filled_over_checkpoints();
    let whole = copied(folder.path());
    let far_from = 30 * 60_000 + Shared::new().wall_ms();
    let with =
        |folder: &Folder| Starter { data_dir: folder.path().to_path_buf(), ..starter.clone() };
    let expected = seen(&with(&whole).start(&[]), far_from, 200);
    assert!(!expected.0.is_empty() && expected.1.len() == 200, "{expected:?}");
    let mut rng = Rng::new(5, 9);
    for kind in ["journal", "outputs", "snapshots/objects", "snapshots/manifests"] {
        let files = files(&folder.path().join(kind));
        for _ in 0..FLIPS {
            let file = &files[rng.below(files.len() as u64) as usize];
            let name = file.file_name().unwrap().to_str().unwrap();
            let harmed = copied(folder.path());
            let path = harmed.path().join(file.strip_prefix(folder.path()).expect("in there"));
            let mut bytes = fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty") as u64;
            let at = rng.below(used + 1) as usize;
            bytes[at] ^= 1 << rng.below(8);
            fs::write(&path, bytes).unwrap();
            match with(&harmed).try_start(&[]) {
                Ok(server) => {
                    let found = seen(&server, far_from, 200);
                    assert!(found == expected, "byte {at} of {kind}/{name}:\n{}", server.log());
                }
                Err(refusal) => {
                    assert_eq!(
                        refusal.code,
                        Some(EXIT_CORRUPTION),
                        "{kind}/{name}: {}",
                        refusal.log
                    );
                    assert!(refusal.log.contains(name), "{at} of {kind}/{name}: {}", refusal.log);
                }
            }
        }
    }
}
