//! Keys as text: UTF-8 as it is, or `~` + unpadded base64url.
//!
//! One spelling for paths, JSON and outputs, so that what an output shows can be pasted into a
//! path. `~` is needed for what is not UTF-8, for a key that starts with `~` itself, and for `.`
//! and `..`, which clients and proxies take out of paths.

use super::problem::{Problem, kinds};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;
use stormwheel::error::Rejection;
use stormwheel::limits::KEY_BYTES_MAX;
use stormwheel::text::clip;

/// The bytes of a key as spelled in JSON or in a (percent-decoded) path.
pub fn parse_key(text: &str) -> Result<Cow<'_, [u8]>, Problem> {
    let key = match text.as_bytes() {
        [b'~', spelled @ ..] => Cow::Owned(decode(spelled)?),
        b"." | b".." => {
            let detail = format!(
                "`{text}` is a step in a path; spell this key `{}`",
                format_key(text.as_bytes())
            );
            return Err(Problem::new(&kinds::INVALID_KEY, detail).field("key"));
        }
        plain => Cow::Borrowed(plain),
    };
    check_length(&key)?;
    Ok(key)
}

/// What keys start with: spelled like a key, but `.` and `..` need no `~`.
pub fn parse_key_prefix(text: &str) -> Result<Vec<u8>, Problem> {
    let prefix = match text.as_bytes() {
        [b'~', spelled @ ..] => decode(spelled).map_err(|problem| problem.field("key_prefix"))?,
        plain => plain.to_vec(),
    };
    check_length(&prefix).map_err(|problem| problem.field("key_prefix"))?;
    Ok(prefix)
}

/// The spelling of a key.
pub fn format_key(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with('~') && text != "." && text != ".." => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(1 + key.len().div_ceil(3) * 4);
            text.push('~');
            URL_SAFE_NO_PAD.encode_string(key, &mut text);
            Cow::Owned(text)
        }
    }
}

/// Refuses a key that is empty or too long.
pub(crate) fn check_length(key: &[u8]) -> Result<(), Problem> {
    if key.is_empty() {
        return Err(Rejection::KeyEmpty.into());
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Rejection::KeyTooLong { limit: KEY_BYTES_MAX, actual: key.len() }.into());
    }
    Ok(())
}

fn decode(spelled: &[u8]) -> Result<Vec<u8>, Problem> {
    // Refused before it is decoded: what comes of it would be too long as well.
    let decoded_bytes = spelled.len() / 4 * 3;
    if decoded_bytes > KEY_BYTES_MAX + 3 {
        return Err(Rejection::KeyTooLong { limit: KEY_BYTES_MAX, actual: decoded_bytes }.into());
    }
    URL_SAFE_NO_PAD.decode(spelled).map_err(|error| {
        let spelled = String::from_utf8_lossy(spelled);
        let detail = format!(
            "a key that starts with `~` goes on with unpadded base64url, and `{}` is none: {}",
            clip(&spelled),
            error.to_string().to_lowercase()
        );
        Problem::new(&kinds::INVALID_KEY, detail).field("key")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[u8]) {
        assert_eq!(parse_key(text).unwrap(), expected, "{text}");
    }

    fn check_refused(text: &str, part: &str) {
        let problem = parse_key(text).unwrap_err();
        assert_eq!(problem.kind, &kinds::INVALID_KEY, "{text}");
        assert_eq!(problem.field.as_deref(), Some("key"), "{text}");
        assert!(problem.detail.contains(part), "{text}: {}", problem.detail);
    }

    #[test]
    fn text_stands_as_it_is() {
        check("order-17", b"order-17");
        check("a/b ü\n", "a/b ü\n".as_bytes());
        check("...", b"...");
        check("a~", b"a~");
        assert!(matches!(parse_key("k").unwrap(), Cow::Borrowed(_)));
        assert!(matches!(format_key(b"k"), Cow::Borrowed("k")));
    }

    #[test]
    fn a_tilde_announces_base64url() {
        check("~_w", b"\xff");
        check("~Lg", b".");
        check("~YQ", b"a");
        assert_eq!(format_key(b"\xff"), "~_w");
        assert_eq!(format_key(b"."), "~Lg");
        assert_eq!(format_key(b".."), "~Li4");
        assert_eq!(format_key(b"~x"), "~fng");
    }

    #[test]
    fn what_is_no_key_is_refused_and_says_why() {
        check_refused("", "empty");
        check_refused("~", "empty");
        check_refused(".", "`~Lg`");
        check_refused("..", "`~Li4`");
        check_refused("~a", "base64url");
        check_refused("~YQ==", "unpadded");
        check_refused("~a/b+", "base64url");
        check_refused("~YR", "base64url");
        check_refused("~ü", "base64url");
        check_refused(&"k".repeat(1_025), "1025 bytes, allowed are 1024");
        check_refused(&format!("~{}", "A".repeat(1_368)), "allowed are 1024");
        check_refused(&format!("~{}", "A".repeat(1_000_000)), "allowed are 1024");
        assert!(parse_key(&"k".repeat(1_024)).is_ok());
        assert_eq!(parse_key(&format_key(&[0xff; 1_024])).unwrap().len(), 1_024);
    }

    #[test]
    fn a_prefix_may_be_a_dot() {
        assert_eq!(parse_key_prefix(".").unwrap(), b".");
        assert_eq!(parse_key_prefix("~_w").unwrap(), b"\xff");
        for bad in ["", "~!"] {
            let problem = parse_key_prefix(bad).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("key_prefix"));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            key in prop_oneof![
                proptest::collection::vec(any::<u8>(), 1..64),
                "[.~a]{1,3}".prop_map(String::into_bytes),
            ]
        ) {
            let text = format_key(&key);
            prop_assert_eq!(parse_key(&text).unwrap().into_owned(), key);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse_key(&text);
        }
    }
}
