//! The one form that all JSON texts of the same value have: no white space, the members in the order of
//! their names, one way to write each character. Numbers stay as they are, so that none meets another
//! that is only nearly the same.

use crate::function::{FunctionError, Result};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Levels of objects and lists in a value that is compared as a whole.
const DEPTH_MAX: u32 = 128;

/// Appends the form of a text.
pub(super) fn push_canonical(out: &mut Vec<u8>, text: &str) -> Result<()> {
    push_level(out, text.trim_ascii(), DEPTH_MAX)
}

fn push_level(out: &mut Vec<u8>, text: &str, depth: u32) -> Result<()> {
    let Some(below) = depth.checked_sub(1) else {
        return Err(FunctionError::new(format!(
            "the element has more than {DEPTH_MAX} levels of objects and lists"
        )));
    };
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name)?;
                out.push(b':');
                push_level(out, value.get(), below)?;
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_level(out, item.get(), below)?;
            }
            out.push(b']');
        }
        Some(b'"') => {
            let decoded: String = serde_json::from_str(text)?;
            serde_json::to_writer(out, &decoded)?;
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_form() {
        let form = |text: &str| {
            let mut out = Vec::new();
            push_canonical(&mut out, text).map(|()| String::from_utf8(out).unwrap())
        };
        for (text, expected) in [
            (r#" { "b" : [ 1, {} , [] ], "\u0061": "\u00e9\n" } "#, r#"{"a":"é\n","b":[1,{},[]]}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1.0", "1.0"),
            ("true", "true"),
            ("\"\\/\"", "\"/\""),
        ] {
            assert_eq!(form(text).unwrap(), expected);
        }
        let deep = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(form(&deep(127)).unwrap(), deep(127));
        let error = form(&deep(100_000)).unwrap_err();
        assert_eq!(error.message(), "the element has more than 128 levels of objects and lists");
    }
}
