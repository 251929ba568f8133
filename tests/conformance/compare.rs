//! What has to come out against what comes out.

use crate::case::{Expected, Output};
use std::collections::BTreeSet;

/// Outputs that were expected, and those that came, since both were compared last.
#[derive(Clone, Default)]
pub(crate) struct Expectation {
    pub(crate) expected: Vec<Expected>,
    pub(crate) came: Vec<Output>,
}

impl Expectation {
    /// Compares the two, in their order for each key or over all keys, and begins anew.
    pub(crate) fn settle(&mut self, is_ordered: bool) -> Result<(), String> {
        let Self { expected, came } = std::mem::take(self);
        let fits = |key: Option<&str>| {
            let expected: Vec<_> =
                expected.iter().filter(|it| key.is_none_or(|key| it.key == key)).collect();
            let came: Vec<_> =
                came.iter().filter(|it| key.is_none_or(|key| it.key == key)).collect();
            expected.len() == came.len() && expected.iter().zip(came).all(|(it, is)| it.fits(is))
        };
        let keys = expected.iter().map(|it| it.key.as_str());
        let keys: BTreeSet<&str> = keys.chain(came.iter().map(|it| it.key.as_str())).collect();
        if keys.iter().all(|key| fits(Some(key))) && (!is_ordered || fits(None)) {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        let came: Vec<String> = came.iter().map(ToString::to_string).collect();
        let lines = |outputs: Vec<String>| outputs.join("\n        ");
        let (expected, came) = (lines(expected), lines(came));
        Err(format!("expected is\n        {expected}\n      came\n        {came}"))
    }
}

#[test]
fn what_differs_is_seen() {
    fn settle(expected: &str, came: &[(&str, i64)], is_ordered: bool) -> bool {
        let output = |(key, n): &(&str, i64)| Output {
            key: (*key).to_owned(),
            value: (*n).into(),
            timestamp: None,
            tag: None,
        };
        let expected = serde_json::from_str(expected).unwrap();
        let came = came.iter().map(output).collect();
        Expectation { expected, came }.settle(is_ordered).is_ok()
    }
    let two = r#"[{"key":"a","value":1},{"key":"b","value":2}]"#;
    assert!(settle(two, &[("a", 1), ("b", 2)], true));
    assert!(settle(two, &[("b", 2), ("a", 1)], false));
    assert!(!settle(two, &[("b", 2), ("a", 1)], true));
    assert!(!settle(two, &[("a", 1)], false));
    assert!(!settle(two, &[("a", 1), ("b", 2), ("b", 2)], false));
    assert!(!settle(two, &[("a", 1), ("b", 3)], false));
    assert!(!settle(two, &[("a", 1), ("c", 2)], false));
    assert!(settle(r#"[{"value":1},{}]"#, &[("k", 1), ("k", 7)], false));
    assert!(!settle(r#"[{"value":1},{"value":2}]"#, &[("k", 2), ("k", 1)], false));
    assert!(!settle(r#"[{"value":1,"timestamp":0}]"#, &[("k", 1)], false));
    assert!(!settle(r#"[{"value":1,"tag":"t"}]"#, &[("k", 1)], false));
    assert!(!settle("[]", &[("k", 1)], false));
}
