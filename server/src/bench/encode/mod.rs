//! Units to request bytes, one file for each format. What they share is here: the spelling of
//! keys and names, and a request's head.

pub(crate) mod arrow;
pub(crate) mod ndjson;
pub(crate) mod single;

use super::plan::{Format, Plan};

/// Every key begins with this, and nine digits follow: fifteen bytes.
pub(crate) const KEY_PREFIX: &[u8] = b"timer-";
const KEY_DIGITS: usize = 9;
/// Length of a key.
pub(crate) const KEY_BYTES: usize = KEY_PREFIX.len() + KEY_DIGITS;
/// Names are this and a number.
pub(crate) const NAME_PREFIX: &[u8] = b"t";
/// The server's default name of a touched timer.
pub(crate) const TOUCH_NAME: &[u8] = b"timeout";

/// "00" to "99": half the divisions.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

/// The key of this number.
pub(crate) fn key_bytes(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    key[..KEY_PREFIX.len()].copy_from_slice(KEY_PREFIX);
    // Nine digits: four pairs and the first.
    let mut rest = number as u32;
    for pair in key[KEY_PREFIX.len() + 1..].rchunks_exact_mut(2) {
        pair.copy_from_slice(&DIGIT_PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    key[KEY_PREFIX.len()] = b'0' + (rest % 10) as u8;
    key
}

/// The number of a key, if it is one of ours.
pub(crate) fn key_number(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(KEY_PREFIX)?;
    if digits.len() == KEY_DIGITS { digits_value(digits) } else { None }
}

/// The number of a name, if it is one of ours.
pub(crate) fn name_number(name: &[u8]) -> Option<u64> {
    digits_value(name.strip_prefix(NAME_PREFIX)?)
}

fn digits_value(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    while rest >= 100 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// The head of the batch requests of a run; only the length differs from one to the next.
#[derive(Debug)]
pub(crate) struct BatchHead {
    prefix: Vec<u8>,
}

impl BatchHead {
    /// For one namespace and format.
    pub(crate) fn new(plan: &Plan, authority: &str) -> Self {
        let content_type = match plan.format {
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Ndjson | Format::Single => "application/x-ndjson",
        };
        let prefix = format!(
            "POST /v1/namespaces/{}/timers/batch HTTP/1.1\r\nHost: {authority}\r\n\
             Content-Type: {content_type}\r\nContent-Length: ",
            plan.namespace
        );
        Self { prefix: prefix.into_bytes() }
    }

    /// Replaces `out` by the head of a body of that length.
    pub(crate) fn write(&self, out: &mut Vec<u8>, body_bytes: usize) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        push_decimal(out, body_bytes as i64);
        out.extend_from_slice(b"\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_fifteen_bytes_and_read_back() {
        for number in [0, 7, 99_999_999] {
            assert_eq!(key_number(&key_bytes(number)), Some(number));
        }
        assert_eq!(&key_bytes(42), b"timer-000000042");
        for foreign in [&b"timer-42"[..], b"probe-000000042", b"timer-00000004x", b""] {
            assert_eq!(key_number(foreign), None);
        }
        assert_eq!(
            (name_number(b"t12"), name_number(b"t"), name_number(b"12")),
            (Some(12), None, None)
        );
    }

    #[test]
    fn decimals_are_what_format_says() {
        for value in [0, 7, -7, 10, 1_767_225_600_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
