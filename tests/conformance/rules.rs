//! Every rule of Flink's that is numbered has a case, or a line in `docs/semantics.md` that says how
//! it is with Stormwheel.

use crate::load;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// All rules.
fn all() -> Vec<String> {
    let numbered = |letter: char, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let between = ["F16a", "F16b", "F28b", "F28c", "F29b", "F29c", "F34b"].map(str::to_owned);
    numbered('F', 60).chain(between).chain(numbered('P', 9)).chain(numbered('A', 10)).collect()
}

#[test]
fn every_rule_has_a_case_or_a_line_in_the_semantics() {
    let rules = all();
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    let loaded = load::all();
    for it in &loaded {
        assert!(!it.case.rules.is_empty(), "{}: the case is about no rule", it.place);
        for rule in &it.case.rules {
            assert!(rules.contains(rule), "{}: there is no rule {rule}", it.place);
            *cases.entry(rule).or_default() += 1;
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/semantics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let without: Vec<&String> =
        rules.iter().filter(|rule| !cases.contains_key(rule.as_str())).collect();
    println!(
        "{} cases, {} of {} rules have one; without: {without:?}",
        loaded.len(),
        rules.len() - without.len(),
        rules.len()
    );
    let forgotten: Vec<&&String> =
        without.iter().filter(|rule| !words.contains(rule.as_str())).collect();
    assert!(forgotten.is_empty(), "neither a case nor a line in docs/semantics.md: {forgotten:?}");
}
