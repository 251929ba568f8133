//! The files that the walls look at.
//!
//! Walks the working tree itself instead of asking git, so that the tests also run from an unpacked
//! archive. What is built or stored while running (`target`, data folders) is left out by name.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 4] = [".git", "stormwheel-data", "node_modules", "__pycache__"];
/// How the folders of what was built begin.
const BUILT: &str = "target";

/// One file of the repository.
pub(crate) struct Source {
    /// Its path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the tests are a folder of the workspace").to_path_buf()
}

/// Every text file below `folder` ("" is the whole repository), sorted by path.
pub(crate) fn text_files(folder: &str) -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut pending = vec![root.join(folder)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let kind = entry.file_type().unwrap();
            let is_ours = !SKIPPED.iter().any(|skipped| name == *skipped)
                && !name.to_string_lossy().starts_with(BUILT);
            if kind.is_dir() && is_ours {
                pending.push(entry.path());
            }
            if !kind.is_file() || name == ".git" {
                continue;
            }
            if let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap()) {
                let path = entry.path();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.push(Source { path: path.replace('\\', "/"), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Every Rust file below `folder`.
pub(crate) fn rust_files(folder: &str) -> Vec<Source> {
    let mut sources = text_files(folder);
    sources.retain(|source| has_extension(&source.path, "rs"));
    assert!(!sources.is_empty(), "there are no sources in {folder}");
    sources
}

/// Whether a path ends in `.extension`.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|own| own == extension)
}

/// The module of a file of the core: `core/src/wheel/level.rs` is `["wheel", "level"]`.
pub(crate) fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("core/src/").expect("a file of the core");
    let mut module: Vec<String> =
        inner.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

#[test]
fn files_map_to_modules() {
    assert_eq!(module_of("core/src/lib.rs"), Vec::<String>::new());
    assert_eq!(module_of("core/src/time.rs"), ["time"]);
    assert_eq!(module_of("core/src/wheel/mod.rs"), ["wheel"]);
    assert_eq!(module_of("core/src/wheel/level.rs"), ["wheel", "level"]);
}
