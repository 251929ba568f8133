//! Reads single fields out of JSON lines without parsing the rest. The walk is exact for any
//! order of fields and any payload (nested values are skipped, escapes respected), but it trusts
//! the server to write JSON: what it is handed is counted and compared, never acted upon.

use memchr::memchr;

/// The fields of the object that a line holds, in their order: raw names (without quotes) and raw
/// values. Ends early on what is no JSON object; then `is_complete` stays false.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    is_complete: bool,
}

impl<'a> Fields<'a> {
    /// Walks over a line.
    pub(crate) fn new(line: &'a [u8]) -> Self {
        match skip_space(line) {
            [b'{', rest @ ..] => Self { rest: skip_space(rest), is_complete: false },
            _ => Self { rest: &[], is_complete: false },
        }
    }

    /// Whether the closing brace was met.
    #[cfg(test)]
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn step(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (name, rest) = split_string(self.rest)?;
        let [b':', rest @ ..] = skip_space(rest) else {
            return None;
        };
        let (value, rest) = split_value(skip_space(rest))?;
        self.rest = match skip_space(rest) {
            [b',', rest @ ..] => skip_space(rest),
            rest @ [b'}', ..] => rest,
            _ => return None,
        };
        Some((&name[1..name.len() - 1], value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if let [b'}', ..] = self.rest {
            self.is_complete = true;
            return None;
        }
        let step = self.step();
        if step.is_none() {
            self.rest = &[];
        }
        step
    }
}

fn skip_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    text
}

/// A string with its quotes, and what follows.
fn split_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut end = 1;
    loop {
        end = find_quote_or_escape(text, end)?;
        if text[end] == b'"' {
            return Some(text.split_at(end + 1));
        }
        end += 2;
    }
}

const fn repeated(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Marks bytes of a word that are zero. The lowest mark is exact, those above it need not be.
const fn mark_zeros(word: u64) -> u64 {
    word.wrapping_sub(repeated(0x01)) & !word & repeated(0x80)
}

/// The next `"` or `\`, eight bytes at a time: most strings here end within the first eight, before
/// a search made for long texts has begun.
fn find_quote_or_escape(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = text.get(at..)?.first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let marks = mark_zeros(word ^ repeated(b'"')) | mark_zeros(word ^ repeated(b'\\'));
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(at + rest)
}

/// A value of any kind, and what follows.
fn split_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    match text.first()? {
        b'"' => split_string(text),
        b'{' | b'[' => split_nested(text),
        _ => {
            let end = text.iter().position(|byte| {
                matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
            })?;
            (end > 0).then(|| text.split_at(end))
        }
    }
}

fn split_nested(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 0_u32;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => {
                at += split_string(&text[at..])?.0.len();
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(text.split_at(at));
        }
    }
}

/// The content of a string value that has no escapes.
pub(crate) fn plain_text(value: &[u8]) -> Option<&[u8]> {
    let text = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr(b'\\', text).is_none().then_some(text)
}

/// An integer value.
pub(crate) fn integer(value: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Up to eighteen digits fit whatever they are.
    if digits.len() <= 18 {
        let mut total = 0_i64;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            total = total * 10 + i64::from(digit);
        }
        return Some(if is_negative { -total } else { total });
    }
    // Built up negatively, since `i64::MIN` has no positive counterpart.
    let mut total = 0_i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        total = total.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative { Some(total) } else { total.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
            ".{0,12}".prop_map(Value::from),
            r#"[\\"{}\[\],:a]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((r#"[\\"a-c]{0,3}"#, inner), 0..4)
                    .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_what_serde_finds(
            fields in prop::collection::vec((r#"[\\"a-e]{0,4}"#, value()), 0..6),
            is_pretty: bool,
        ) {
            let object: Map<String, Value> = fields.into_iter().collect();
            let text = if is_pretty {
                serde_json::to_string_pretty(&object).unwrap()
            } else {
                serde_json::to_string(&object).unwrap()
            };
            let mut walk = Fields::new(text.as_bytes());
            let mut found = Map::new();
            for (name, raw) in walk.by_ref() {
                let name = format!("\"{}\"", std::str::from_utf8(name).unwrap());
                let raw: Value = serde_json::from_slice(raw).unwrap();
                found.insert(serde_json::from_str(&name).unwrap(), raw);
            }
            prop_assert!(walk.is_complete());
            prop_assert_eq!(found, object);
        }

        #[test]
        fn never_panics_and_never_completes_what_is_cut(cut in 0_usize..40) {
            let text = br#"{"a":"x\"y","b":[1,{"c":"]"}],"d":-17 }"#;
            let cut = cut.min(text.len() - 1);
            let mut walk = Fields::new(&text[..cut]);
            prop_assert!(walk.by_ref().count() <= 3);
            prop_assert!(!walk.is_complete());
        }

        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Fields::new(&bytes).count();
            let _ = integer(&bytes);
        }

        #[test]
        fn integers_read_as_written(value: i64) {
            prop_assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }
    }

    #[test]
    fn what_is_no_integer_or_plain_text() {
        for text in ["", "-", "1.5", "1e3", "9223372036854775808", "\"1\"", "null"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(plain_text(br#""a\u0062""#), None);
        assert_eq!(plain_text(br#""ab""#), Some(b"ab".as_slice()));
    }
}
