//! The few pieces of JSON that the hot paths write by hand: integers, texts, base64, separators.
//!
//! Everything appends to a `Vec<u8>` and allocates nothing of its own. Texts without a byte that
//! needs escaping are copied as they are; the others go through `serde_json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appends an integer.
pub(crate) fn push_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a text in quotes, escaped where it must be.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    // Counted rather than searched: the loop has no exit, so it is done many bytes at a time.
    let escapes = text.bytes().filter(|byte| matches!(byte, ..0x20 | b'"' | b'\\')).count();
    if escapes > 0 {
        serde_json::to_writer(&mut *out, text).expect("a text is JSON, and a Vec takes every byte");
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

/// Appends bytes in quotes, as standard base64 with padding.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    let length = bytes.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert_eq!(written, Ok(length), "four characters for three bytes");
    out.push(b'"');
}

/// Appends a number in lower-case hexadecimal, with at least `digits_min` digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64, digits_min: u32) {
    let digits = (64 - value.leading_zeros()).div_ceil(4).max(digits_min);
    for index in (0..digits).rev() {
        let nibble = (value >> (4 * index)) & 0xf;
        out.push(b"0123456789abcdef"[nibble as usize]);
    }
}

/// How deep a JSON text is nested, counted without parsing it: brackets outside of texts.
pub(crate) fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hexadecimal_is_as_the_formatter_has_it() {
        for value in [0, 1, 15, 16, 255, 0x1234, u64::MAX] {
            assert_eq!(written(|out| push_hex(out, value, 1)), format!("{value:x}"), "{value}");
            assert_eq!(written(|out| push_hex(out, value, 16)), format!("{value:016x}"));
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        for (json, expected) in [
            ("1", 0),
            ("\"[[[[\"", 0),
            ("{}", 1),
            ("[[],[]]", 2),
            (r#"{"a":"\"[","b":[{}]}"#, 3),
            ("[[[", 3),
            ("\"\\", 0),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn texts_are_read_back(text in any::<String>()) {
            let json = written(|out| push_text(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn base64_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = written(|out| push_base64(out, &bytes));
            prop_assert_eq!(STANDARD.decode(json.trim_matches('"')).unwrap(), bytes);
        }
    }
}
