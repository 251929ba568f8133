//! The walls of the house, held by tests that read the sources.
//!
//! - `purity`: everything in `core/src` outside `runtime/` takes time and input as arguments; it
//!   names no clock, thread, file, socket or random number.
//! - `layers`: a module of the core knows only the modules that the table in `layers.rs` grants it.
//! - `tidy`: lengths, headers, links, and words that must not stay behind.
//!
//! They read tokens, not text: what stands in a comment or in a string breaks no wall.
#![allow(clippy::unwrap_used, reason = "this crate is a test: a failure is its way to speak")]

mod layers;
mod paths;
mod purity;
mod sources;
mod tidy;

use sources::{Source, rust_files};

/// Fails with every breach that `breaches_of` finds in the sources of the core.
fn assert_core_keeps(rule: &str, breaches_of: fn(&Source) -> Vec<String>) {
    let breaches: Vec<String> = rust_files("core/src").iter().flat_map(breaches_of).collect();
    assert_no_breaches(rule, &breaches);
}

/// Checks how many breaches `breaches_of` finds in a file of this path that says this.
fn check_breaches(
    breaches_of: fn(&Source) -> Vec<String>,
    path: &str,
    text: &str,
    expected: usize,
) {
    let source = Source { path: path.to_owned(), text: text.to_owned() };
    assert_eq!(breaches_of(&source).len(), expected, "{path}: {text}");
}

/// Fails with every breach at once, one a line, so that one run shows all there is to mend.
fn assert_no_breaches(rule: &str, breaches: &[String]) {
    assert!(
        breaches.is_empty(),
        "{rule}\n{} breaches:\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    );
}
