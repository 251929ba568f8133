//! The purity wall: outside `runtime/`, the core meets no machine.

use crate::paths::{NamedPath, placed_paths};
use crate::sources::{Source, module_of, root};
use crate::{assert_core_keeps, assert_no_breaches};
use std::fs;

/// What pure code may not name, and what to do instead.
const BANNED: [(&str, &str); 13] = [
    ("std::time::Instant", "time is an input"),
    ("std::time::SystemTime", "time is an input"),
    ("std::thread", "threads start in runtime/ only"),
    ("std::fs", "bytes in, bytes out; files are opened in runtime/"),
    ("std::net", "the core knows no network"),
    ("std::env", "configuration is an argument"),
    ("std::process", "only the binary ends the process"),
    ("std::io", "only what goes through the ports of a disk names its errors"),
    ("rand", "a random number is an input"),
    ("crossbeam_channel", "queues belong to runtime/"),
    ("core_affinity", "threads belong to runtime/"),
    ("rustix", "system calls belong to runtime/"),
    ("mimalloc", "allocators are chosen by binaries"),
];

/// What no part of the core may name or depend on, `runtime/` included.
const BANNED_IN_CORE: [&str; 9] = [
    "tokio",
    "axum",
    "http",
    "hyper",
    "tower",
    "prometheus",
    "tracing",
    "clap",
    "stormwheel_server",
];

/// Exceptions: a file or all files of a folder, and the path that they may name.
const GRANTED: [(&str, &str); 3] = [
    ("core/src/error.rs", "std::io"),
    ("core/src/ports.rs", "std::io"),
    // What goes through the ports of a disk or a store names their errors.
    ("core/src/storage/", "std::io"),
];

#[test]
fn pure_modules_name_no_machine() {
    assert_core_keeps(
        "core/src outside runtime/ takes time and input as arguments and returns effects",
        breaches_of,
    );
}

#[test]
fn the_core_depends_on_no_http_and_no_async_runtime() {
    let manifest = fs::read_to_string(root().join("core/Cargo.toml")).unwrap();
    let breaches: Vec<String> = BANNED_IN_CORE
        .iter()
        .filter(|name| {
            manifest.lines().any(|line| {
                let key = line.split(['.', '=', ' ']).next().unwrap_or("");
                key.replace('-', "_") == **name
            })
        })
        .map(|name| format!("core/Cargo.toml depends on {name}"))
        .collect();
    assert_no_breaches("the core is everything that is about time, and no more", &breaches);
}

fn breaches_of(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let is_runtime = module.first().is_some_and(|first| first == "runtime");
    let is_test_file = module.last().is_some_and(|last| last == "tests");
    let mut breaches = Vec::new();
    for (path, place) in placed_paths(source) {
        if let Some(name) = BANNED_IN_CORE.iter().find(|name| path.segments[0] == **name) {
            breaches.push(format!("{place}: the core knows no {name}"));
        }
        if is_runtime || is_test_file || path.in_tests {
            continue;
        }
        if let Some((banned, reason)) = BANNED.iter().find(|(banned, _)| touches(&path, banned))
            && !is_granted(&source.path, banned)
        {
            breaches.push(format!("{place}: {reason}"));
        }
    }
    breaches
}

fn is_granted(file: &str, banned: &str) -> bool {
    GRANTED.iter().any(|(granted, path)| {
        *path == banned && (file == *granted || granted.ends_with('/') && file.starts_with(granted))
    })
}

/// Whether a path reaches into what is banned, or takes in a whole module that holds it.
fn touches(path: &NamedPath, banned: &str) -> bool {
    let mut own: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let takes_all = own.last() == Some(&"*") || own.last() == Some(&"self") || own.len() == 2;
    if matches!(own.last(), Some(&"*" | &"self")) {
        own.pop();
    }
    let banned: Vec<&str> = banned.split("::").collect();
    own.starts_with(&banned) || (takes_all && banned.starts_with(&own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_breaches;

    fn check(path: &str, text: &str, expected: usize) {
        check_breaches(breaches_of, path, text, expected);
    }

    #[test]
    fn the_wall_stands_where_it_should() {
        check("core/src/lane.rs", "use std::time::Duration;", 0);
        check("core/src/lane.rs", "use std::time::{Duration, Instant};", 1);
        check("core/src/lane.rs", "use std::time;", 1);
        check("core/src/lane.rs", "use std::time::*;", 1);
        check("core/src/lane.rs", "use std::*;", 1);
        check("core/src/lane.rs", "use std::{fs, thread};", 2);
        check("core/src/lane.rs", "fn f() { std::thread::yield_now() }", 1);
        check("core/src/lane.rs", "use std::collections::BTreeMap;", 0);
        check("core/src/lane.rs", "mod tests { use std::env; }", 0);
        check("core/src/lane/tests.rs", "use std::env;", 0);
        check("core/src/storage/disk.rs", "use std::io;", 0);
        check("core/src/storage/disk.rs", "use std::fs;", 1);
        check("core/src/snapshot/object.rs", "use std::io;", 1);
        check("core/src/error.rs", "use std::io;", 0);
        check("core/src/error.rs", "use std::fs::File;", 1);
        check("core/src/storage/journal.rs", "use std::io;", 0);
        check("core/src/storage/journal.rs", "use std::fs::File;", 1);
        check("core/src/log/scan.rs", "use std::io;", 1);
        check("core/src/runtime/clock.rs", "use std::thread;", 0);
        check("core/src/runtime/clock.rs", "use tokio::sync::mpsc;", 1);
    }
}
