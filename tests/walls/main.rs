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

/// Fails with every breach at once, one a line, so that one run shows all there is to mend.
fn assert_no_breaches(rule: &str, breaches: &[String]) {
    assert!(
        breaches.is_empty(),
        "{rule}\n{} breaches:\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    );
}
