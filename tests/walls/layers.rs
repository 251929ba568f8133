//! The layering of the core: arrows point inward only.
//!
//! `runtime → shard → lane → partition → {keyed, wheel} → time`, with the vocabulary that travels
//! between them (operations, outputs, records, errors) beside `time`. To add a module, give it a
//! row; to let it know another one, name that one in its row. The table itself may hold no circle.

use crate::paths::placed_paths;
use crate::sources::{Source, module_of, rust_files};
use crate::{assert_core_keeps, assert_no_breaches};
use std::collections::BTreeSet;

/// A module of the core, and the modules that it may name. What a module holds in its own folder
/// counts as itself unless it has a row of its own.
const LAYERS: &[(&str, &[&str])] = &[
    // The ground: numbers with a meaning.
    ("limits", &[]),
    ("prefetch", &[]),
    ("text", &[]),
    ("duration", &["text"]),
    ("key_group", &["limits"]),
    ("time", &["key_group", "text"]),
    ("error", &["time", "limits"]),
    // What travels between the layers.
    ("op", &["time", "error", "limits"]),
    ("output", &["time", "key_group", "op"]),
    ("query", &["time", "limits", "op"]),
    ("namespace", &["text", "time", "error", "limits", "output"]),
    ("log", &["time", "key_group", "error", "limits", "op", "output", "namespace"]),
    ("ports", &["time", "key_group", "error", "output", "namespace", "log"]),
    // What users write, and what calls it.
    ("function", &["text", "time", "error", "limits", "op", "namespace"]),
    ("operators", &["text", "duration", "time", "limits", "op", "namespace", "function"]),
    // The parts of the core of the core: none knows another, save the timeline, which joins them.
    ("stats", &["op", "namespace"]),
    ("held", &["time", "key_group", "namespace"]),
    ("due_counts", &["time", "query"]),
    ("wheel", &["time"]),
    ("keyed", &["prefetch", "time", "key_group", "limits", "error", "op"]),
    ("watermark", &["time", "limits", "error", "namespace"]),
    (
        "namespace::control",
        &["time", "key_group", "limits", "error", "output", "namespace", "watermark"],
    ),
    (
        "snapshot",
        &[
            "time",
            "key_group",
            "limits",
            "op",
            "output",
            "namespace",
            "held",
            "keyed",
            "namespace::control",
        ],
    ),
    // What drives files and stores, through their ports.
    (
        "storage",
        &[
            "time",
            "key_group",
            "error",
            "limits",
            "op",
            "output",
            "namespace",
            "log",
            "ports",
            "held",
            "snapshot",
        ],
    ),
    ("timeline", &["time", "query", "namespace", "held", "due_counts", "wheel", "keyed"]),
    // Each knows those above it.
    (
        "partition",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "query",
            "namespace",
            "log",
            "stats",
            "held",
            "due_counts",
            "wheel",
            "keyed",
            "snapshot",
            "timeline",
        ],
    ),
    (
        "lane",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "query",
            "namespace",
            "log",
            "ports",
            "stats",
            "held",
            "due_counts",
            "wheel",
            "keyed",
            "watermark",
            "namespace::control",
            "snapshot",
            "timeline",
            "partition",
        ],
    ),
    (
        "shard",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "query",
            "namespace",
            "log",
            "ports",
            "stats",
            "due_counts",
            "wheel",
            "keyed",
            "watermark",
            "namespace::control",
            "snapshot",
            "held",
            "partition",
            "prefetch",
            "lane",
        ],
    ),
    // It is tested with the built-in operators, too.
    (
        "shard::tests",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "query",
            "namespace",
            "log",
            "ports",
            "stats",
            "due_counts",
            "wheel",
            "keyed",
            "watermark",
            "namespace::control",
            "snapshot",
            "held",
            "partition",
            "lane",
            "operators",
            "shard",
        ],
    ),
    // The whole core on the thread that calls it: for benches, tests and embedding.
    (
        "solo",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "namespace",
            "log",
            "ports",
            "shard",
        ],
    ),
    // The only place where the core meets the machine: it may know everything, and nobody inside
    // knows it.
    (
        "runtime",
        &[
            "time",
            "key_group",
            "limits",
            "error",
            "function",
            "op",
            "output",
            "query",
            "namespace",
            "log",
            "ports",
            "snapshot",
            "storage",
            "stats",
            "due_counts",
            "watermark",
            "namespace::control",
            "lane",
            "shard",
        ],
    ),
    // The whole engine, for those who test their functions.
    (
        "testing",
        &[
            "time",
            "error",
            "limits",
            "op",
            "output",
            "namespace",
            "function",
            "ports",
            "storage",
            "solo",
            "runtime",
        ],
    ),
    // The built-in operators are tested against the engine, too.
    (
        "operators::tests",
        &[
            "time",
            "error",
            "limits",
            "op",
            "output",
            "namespace",
            "function",
            "operators",
            "solo",
            "testing",
        ],
    ),
    // For those who want timers in a program of their own: a face on the engine, as the server is.
    (
        "timer_service",
        &["time", "error", "limits", "op", "output", "namespace", "ports", "storage", "runtime"],
    ),
];

#[test]
fn modules_know_only_what_the_table_grants() {
    assert_core_keeps(
        "arrows point inward only: see the table in tests/walls/layers.rs",
        breaches_of,
    );
}

#[test]
fn every_module_of_the_core_has_a_row() {
    let modules: BTreeSet<String> = rust_files("core/src")
        .iter()
        .filter_map(|source| module_of(&source.path).into_iter().next())
        .collect();
    let missing: Vec<String> = modules
        .iter()
        .filter(|module| !LAYERS.iter().any(|(name, _)| name == module))
        .map(|module| format!("core/src/{module} has no row"))
        .collect();
    assert_no_breaches("a new module needs its place in tests/walls/layers.rs", &missing);
}

#[test]
fn every_row_has_a_module() {
    let modules: Vec<String> =
        rust_files("core/src").iter().map(|source| module_of(&source.path).join("::")).collect();
    let dead: Vec<String> = LAYERS
        .iter()
        .filter(|(name, _)| !modules.iter().any(|module| module == name))
        .map(|(name, _)| format!("there is no core/src/{name}"))
        .collect();
    assert_no_breaches("a row without a module grants what nobody sees", &dead);
}

/// A row may only name rows above it: so there is no circle, and the table reads inside out.
#[test]
fn the_table_holds_no_circle() {
    let mut above = BTreeSet::new();
    let mut breaches = Vec::new();
    for (module, known) in LAYERS {
        for name in *known {
            if !above.contains(name) {
                breaches.push(format!("{module} names {name}, which does not stand above it"));
            }
        }
        assert!(above.insert(*module), "{module} has two rows");
    }
    assert_no_breaches("rows stand below everything they know", &breaches);
}

fn breaches_of(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    // The root only declares the modules.
    let Some((own, known)) = row_of(&module) else {
        return Vec::new();
    };
    let mut breaches = Vec::new();
    for (path, place) in placed_paths(source) {
        if path.segments[0] != "crate" {
            continue;
        }
        match row_of(&path.segments[1..]) {
            Some((other, _)) if other == own || known.contains(&other) => {}
            Some((other, _)) => breaches.push(format!("{place}: {own} does not know {other}")),
            None => breaches.push(format!("{place}: name the module it comes from")),
        }
    }
    breaches
}

/// The row of a module, or of the closest folder around it that has one.
fn row_of(module: &[String]) -> Option<(&'static str, &'static [&'static str])> {
    let mut name = module.to_vec();
    while !name.is_empty() {
        let joined = name.join("::");
        if let Some(row) = LAYERS.iter().find(|(module, _)| *module == joined) {
            return Some(*row);
        }
        name.pop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_breaches;

    fn check(path: &str, text: &str, expected: usize) {
        check_breaches(breaches_of, path, text, expected);
    }

    #[test]
    fn arrows_point_inward() {
        check("core/src/wheel/level.rs", "use crate::time::Timestamp;", 0);
        check("core/src/wheel/level.rs", "use super::bucket::Bucket;", 0);
        check("core/src/wheel/level.rs", "use crate::keyed::Slot;", 1);
        check("core/src/wheel/level.rs", "use super::super::keyed::Slot;", 1);
        check("core/src/partition.rs", "use crate::{keyed, wheel, lane};", 1);
        check("core/src/lane.rs", "fn f() { crate::runtime::Engine::start() }", 1);
        check("core/src/lane.rs", "use crate::Timestamp;", 1);
        check("core/src/lib.rs", "pub use crate::runtime::Engine;", 0);
        check("core/src/time.rs", "mod tests { use super::*; }", 0);
    }
}
