//! Order in the files: headers, lengths, links, and words that must not stay behind.

use crate::assert_no_breaches;
use crate::sources::{has_extension, root, rust_files, text_files};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Lines of a Rust file. Beyond it, the file is two.
const LINES_MAX: usize = 600;
/// Lines of a file of tests (`tests.rs`).
const TEST_LINES_MAX: usize = 800;

/// The crates of the workspace.
const CRATES: [&str; 4] = ["core", "server", "benches", "tests"];

/// Marks of unfinished work. Put together here so that this file is not a breach of its own rule.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// The beginnings of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

#[test]
fn files_are_short_and_say_what_they_own() {
    let mut breaches = Vec::new();
    for source in CRATES.iter().flat_map(|folder| rust_files(folder)) {
        let lines = source.text.lines().count();
        let is_test_file = Path::new(&source.path).file_name().unwrap() == "tests.rs";
        let lines_max = if is_test_file { TEST_LINES_MAX } else { LINES_MAX };
        if lines > lines_max {
            breaches.push(format!("{} has {lines} lines, allowed are {lines_max}", source.path));
        }
        if !source.text.starts_with("//!") {
            breaches.push(format!("{} does not start with a `//!` paragraph", source.path));
        }
    }
    assert_no_breaches("a file is of one subject and says which", &breaches);
}

#[test]
fn nothing_unfinished_and_no_path_of_one_machine_stays_behind() {
    let mut breaches = Vec::new();
    for source in text_files("") {
        for (index, line) in source.text.lines().enumerate() {
            for word in UNFINISHED.iter().chain(&MACHINE_PATHS) {
                if contains_from_start(line, word) {
                    breaches.push(format!("{}:{}: {word}", source.path, index + 1));
                }
            }
        }
    }
    assert_no_breaches("finish it, or open an issue", &breaches);
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let page = root().join("docs/guarantees.md");
    let page = std::fs::read_to_string(page).expect("the page of guarantees is there");
    let sources: Vec<String> =
        CRATES.iter().flat_map(|folder| rust_files(folder)).map(|source| source.text).collect();
    let mut breaches = Vec::new();
    let sentences = page.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    assert!(sentences.count() >= 15, "the sentences are numbered");
    // Odd pieces stand between backticks; a test's name has an underscore and nothing but letters.
    let names = page.split('`').skip(1).step_by(2).filter(|name| {
        name.contains('_') && name.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    });
    for name in names.filter(|name| !KEYS.contains(name)) {
        if !sources.iter().any(|text| text.contains(&format!("fn {name}("))) {
            breaches.push(format!("docs/guarantees.md names {name}, which is no test"));
        }
    }
    assert_no_breaches("what is promised is held by a test", &breaches);
}

/// Names in the guarantees that are of the service's surface.
const KEYS: [&str; 2] = ["in_memory", "stormwheel_timer_lateness_seconds"];

#[test]
fn links_between_documents_lead_somewhere() {
    let documents: BTreeMap<String, String> = text_files("")
        .into_iter()
        .filter(|source| has_extension(&source.path, "md"))
        .map(|source| (source.path, source.text))
        .collect();
    let mut breaches = Vec::new();
    for (path, text) in &documents {
        for (line, target) in links(text) {
            if let Some(reason) = broken(path, &target, &documents) {
                breaches.push(format!("{path}:{line}: ({target}) {reason}"));
            }
        }
    }
    assert_no_breaches("a reader who clicks arrives", &breaches);
}

/// Whether a line holds `word` where a word or a path can start.
fn contains_from_start(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"._-}$".contains(before))
    })
}

/// The targets of inline links and images, with their lines; fenced code holds none.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, prose) in prose_lines(text) {
        let mut rest = prose;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            found.push((line, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        (!is_fence && !is_fenced).then_some((index + 1, line))
    })
}

/// Why a link leads nowhere; `None` if it leads somewhere, or out of the repository.
fn broken(from: &str, target: &str, documents: &BTreeMap<String, String>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() {
        from.to_owned()
    } else {
        normalised(&Path::new(from).parent().unwrap().join(file))
    };
    if !root().join(&file).exists() {
        return Some(format!("there is no {file}"));
    }
    let text = documents.get(&file)?;
    let has_anchor = anchor.is_empty()
        || prose_lines(text)
            .filter(|(_, line)| line.starts_with('#'))
            .any(|(_, line)| slug(line) == anchor);
    (!has_anchor).then(|| format!("{file} has no heading #{anchor}"))
}

/// A relative path without `.` and `..`.
fn normalised(path: &Path) -> String {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(part) => parts.push(part),
            _ => {}
        }
    }
    parts.to_str().unwrap().to_owned()
}

/// The anchor that a forge gives to a heading.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_only_where_they_start() {
        let mark = UNFINISHED[0];
        assert!(contains_from_start(&format!("// {mark}: later"), mark));
        assert!(!contains_from_start(&format!("MASTO{mark}N"), mark));
        assert!(!contains_from_start(&format!(".{}x", MACHINE_PATHS[0]), MACHINE_PATHS[0]));
        assert!(contains_from_start(&format!("cd {}x", MACHINE_PATHS[0]), MACHINE_PATHS[0]));
    }

    #[test]
    fn links_are_found_and_followed() {
        let text = "[a](b.md#c-d) ![i](x.svg \"t\")\n```\n[no](no.md)\n```\n[u](https://e.org/)";
        let found: Vec<String> = links(text).into_iter().map(|(_, target)| target).collect();
        assert_eq!(found, ["b.md#c-d", "x.svg", "https://e.org/"]);

        let documents = BTreeMap::from([("README.md".to_owned(), "## What `it` is\n".to_owned())]);
        assert_eq!(broken("README.md", "#what-it-is", &documents), None);
        assert!(broken("README.md", "#what-it-was", &documents).is_some());
        assert!(broken("docs/a.md", "nowhere.md", &documents).is_some());
        assert_eq!(broken("docs/a.md", "../core/src/lib.rs", &documents), None);
    }
}
