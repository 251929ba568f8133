//! The cases, out of the files beside this one.

use crate::case::Case;
use std::collections::BTreeSet;
use std::path::Path;

/// The files, in the order of their chapters.
const FILES: [&str; 13] = [
    "identity",
    "processing_time",
    "callbacks",
    "range",
    "watermarks",
    "snapshots",
    "functions",
    "broadcasts",
    "close",
    "windows",
    "named",
    "pyflink",
    "alibaba",
];

/// A case, and where it stands.
pub(crate) struct Loaded {
    pub(crate) place: String,
    pub(crate) case: Case,
}

/// All cases.
pub(crate) fn all() -> Vec<Loaded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases");
    let mut loaded = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(format!("{file}.jsonl"))).unwrap();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}.jsonl:{}", index + 1);
            let case =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            loaded.push(Loaded { place, case });
        }
    }
    loaded
}

#[test]
fn every_file_is_read_and_every_case_has_a_name_of_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, FILES.len(), "a file of cases is not in the list");
    let cases = all();
    let names: BTreeSet<&str> = cases.iter().map(|it| it.case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

#[test]
fn what_is_no_case_is_refused() {
    for (line, flaw) in [
        (r#"{"name":"n","rules":[],"steps":[{"watermarks":1}]}"#, "unknown field `watermarks`"),
        (r#"{"name":"n","rules":[],"steps":[{"watermark":1,"clock":1}]}"#, "not 2"),
        (r#"{"name":"n","rules":[],"steps":[{"expect":[]}]}"#, "not 0"),
        (r#"{"name":"n","rules":[],"steps":[{"source":"a","clock":1}]}"#, "a `source` without"),
        (r#"{"name":"n","rules":[],"steps":[{"element":{}}]}"#, "one of `do` and `value`"),
        (r#"{"name":"n","rules":[],"steps":[{"element":{"do":[["emitt",1]]}}]}"#, "no command"),
        (r#"{"name":"n","rules":[],"steps":[{"element":{"do":[["event","tomorrow"]]}}]}"#, "time"),
        (r#"{"name":"n","rules":[],"steps":[{"broadcast":{"do":[["emitt",1]]}}]}"#, "no command"),
        (
            r#"{"name":"n","rules":[],"steps":[{"element":{"do":[["when",1,[["show","x"]]]]}}]}"#,
            "no command",
        ),
    ] {
        let error = serde_json::from_str::<Case>(line).expect_err(line).to_string();
        assert!(error.contains(flaw), "{error}");
    }
}
