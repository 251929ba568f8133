//! The fast way through a plain object.
//!
//! It reads flat objects of known fields with texts that escape nothing, whole numbers and any
//! payload, which is what programs send. Whatever else it meets, right or wrong, it answers `None`,
//! and the careful way decides. So it says nothing about errors, and where it answers it must
//! answer the same; a property test holds the two together.

use super::{
    Field, FieldSet, Fields, KeyField, PayloadField, check_depth, parse_domain, parse_only,
    parse_op,
};
use serde::Deserialize as _;
use serde_json::value::RawValue;
use std::borrow::Cow;
use stormwheel::duration::parse_duration;
use stormwheel::time::Timestamp;
use stormwheel::time::text::parse_time_text;

/// Decimal digits that fit into an `i64` whatever they are.
const PLAIN_DIGITS_MAX: usize = 18;

/// Reads an object in which these fields may stand, if it is plain.
#[inline]
pub(crate) fn scan(line: &str, known: FieldSet) -> Option<Fields<'_>> {
    let mut scanner = Scanner { line, at: 0 };
    let mut fields = Fields::default();
    scanner.expect(b'{')?;
    loop {
        let field = Field::named(scanner.text()?)?;
        if fields.given.has(field) || !known.has(field) {
            return None;
        }
        fields.given = fields.given.with(field);
        scanner.expect(b':')?;
        match field {
            Field::Op => fields.op = Some(parse_op(scanner.text()?).ok()?),
            Field::Key => fields.key = Some(KeyField::Text(Cow::Borrowed(scanner.text()?))),
            Field::Name => fields.name = Some(Cow::Borrowed(scanner.text()?)),
            Field::Domain => fields.domain = Some(parse_domain(scanner.text()?).ok()?),
            Field::At => fields.at = Some(scanner.time()?),
            Field::After => fields.after_ms = Some(parse_duration(scanner.text()?).ok()?),
            Field::Payload => fields.payload = Some(PayloadField::Json(scanner.raw(field)?)),
            Field::PayloadBase64 => fields.payload_base64 = Some(Cow::Borrowed(scanner.text()?)),
            Field::Spread => fields.spread_ms = Some(parse_duration(scanner.text()?).ok()?),
            Field::Resolution => fields.resolution_ms = Some(parse_duration(scanner.text()?).ok()?),
            Field::Only => fields.only = Some(parse_only(scanner.text()?).ok()?),
            Field::FireAt => fields.fire_at = Some(scanner.time()?),
            Field::Timestamp => fields.timestamp = Some(scanner.time()?),
            Field::Value => fields.value = Some(PayloadField::Json(scanner.raw(field)?)),
            Field::ValueBase64 => fields.value_base64 = Some(Cow::Borrowed(scanner.text()?)),
            Field::Input => fields.input = Some(scanner.digit()?),
            Field::Watermark => fields.watermark = Some(scanner.time()?),
        }
        match scanner.next()? {
            b',' => {}
            b'}' => return (scanner.at == line.len()).then_some(fields),
            _ => return None,
        }
    }
}

struct Scanner<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.line.as_bytes();
        while *bytes.get(self.at)? == b' ' {
            self.at += 1;
        }
        Some(bytes[self.at])
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// A text that escapes nothing.
    fn text(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        let rest = &self.line.as_bytes()[start..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
        self.at = start + length + 1;
        (rest[length] == b'"').then(|| &self.line[start..start + length])
    }

    /// A whole number that cannot overflow, or text.
    fn time(&mut self) -> Option<Timestamp> {
        if self.peek()? == b'"' {
            return parse_time_text(self.text()?).ok();
        }
        let rest = &self.line.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > PLAIN_DIGITS_MAX {
            return None;
        }
        let millis =
            rest[..digits].iter().fold(0, |millis, byte| millis * 10 + i64::from(byte - b'0'));
        // JSON has no leading zeros; a fraction or an exponent is refused by the careful way.
        let plain = match rest.first()? {
            b'0' => digits == 1,
            _ => digits > 0,
        };
        self.at += digits;
        plain.then(|| Timestamp::from_millis(millis))
    }

    /// A number of one digit.
    fn digit(&mut self) -> Option<u8> {
        let byte = self.next()?;
        byte.is_ascii_digit().then(|| byte - b'0')
    }

    /// Any JSON value but `null`, as it stands.
    fn raw(&mut self, field: Field) -> Option<&'a str> {
        // The deserializer would skip any space before the value, and its length would not tell.
        if matches!(self.peek()?, b'n' | b'\t' | b'\n' | b'\r') {
            return None;
        }
        let rest = &self.line[self.at..];
        let mut deserializer = serde_json::Deserializer::from_str(rest);
        let raw = <&RawValue>::deserialize(&mut deserializer).ok()?.get();
        self.at += raw.len();
        check_depth(field, raw).ok()?;
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Place, read};
    use super::*;
    use proptest::prelude::*;

    fn check_plain(line: &str) {
        let fast = scan(line, FieldSet::ALL).unwrap_or_else(|| panic!("not plain: {line}"));
        assert_eq!(Ok(fast), read(line.as_bytes(), FieldSet::ALL, Place::Line), "{line}");
    }

    #[test]
    fn what_programs_send_is_plain() {
        check_plain(r#"{"op":"register","key":"order-17","at":1767225600000,"payload":{"n":1}}"#);
        check_plain(r#"{"op":"register","key":"order-17","name":"expiry","after":"15m"}"#);
        check_plain(r#"{"op": "touch", "key": "ü", "after": "60s", "domain": "event"}"#);
        check_plain(r#"{"op":"delete","key":"~_w","fire_at":"2026-01-01T00:00:00Z"}"#);
        check_plain(r#"{"op":"register","key":"k","at":0,"payload":"\u00fc\"","only":"absent"}"#);
        check_plain(r#"{"at":999999999999999999,"spread":"1s","resolution":"PT1S"}"#);
        check_plain(r#"{"key":"k","timestamp":5,"value":{"n":1},"input":1}"#);
        check_plain(r#"{"key":"k","timestamp":5,"value_base64":"AA==","input": 9}"#);
        check_plain(r#"{"watermark":"2026-01-01T00:00:00Z"}"#);
        check_plain(r#"{ "payload" : [1, 2.5e3 , null] , "payload_base64" : "AA==" }"#);
    }

    #[test]
    fn the_rest_is_left_to_the_careful_way() {
        for line in [
            "",
            "{}",
            "{",
            r#"{"key":"a\u0062"}"#,
            r#"{"at":-5}"#,
            r#"{"at":01}"#,
            r#"{"at":1.5}"#,
            r#"{"at":1e3}"#,
            r#"{"at":9223372036854775807}"#,
            r#"{"fire_at":9300000000000000000}"#,
            "{\"payload\":\t \",\"op\":\"register\"}",
            "{\"payload\":\t1}",
            "{\"payload\":\n1}",
            "{\"payload\":\r1}",
            r#"{"payload":null}"#,
            r#"{"payload":{"n":1}"#,
            r#"{"payload":tru}"#,
            r#"{"key":"a","key":"b"}"#,
            r#"{"key":"a"}{"key":"b"}"#,
            r#"{"key":"a"} x"#,
            r#"{"kay":"a"}"#,
            "{\"key\":\"a\tb\"}",
            r#"{"input":10}"#,
            r#"{"input":01}"#,
            r#"{"input":"1"}"#,
            r#"{"value":null}"#,
        ] {
            assert_eq!(scan(line, FieldSet::ALL), None, "{line}");
        }
    }

    fn object() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            "-?[0-9]{1,20}(\\.[0-9]|e[0-9])?",
            "[0-9]{17,20}",
            "\"[a-z~.\\\\\" ü0-9]{0,6}\"",
            "\"(register|touch|event|later|15m|PT1S|2026-01-01T00:00:00Z)\"",
            Just("null".to_owned()),
            "[\\[\\]{}\":,a0 ]{0,8}",
        ];
        let name = (0..Field::ALL.len()).prop_map(|index| Field::ALL[index].as_str());
        let space = "[ \t\r\n]{0,2}";
        proptest::collection::vec((name, space, value, space), 0..5).prop_map(|members| {
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, before, value, after)| format!("\"{name}\":{before}{value}{after}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    proptest! {
        // At least so many; PROPTEST_CASES asks for more.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4_096)))]

        #[test]
        fn where_it_answers_it_answers_the_same(
            line in prop_oneof![object(), any::<String>(), "[{}\"a-z:,0-9 ]{0,40}"]
        ) {
            if let Some(fast) = scan(&line, FieldSet::ALL) {
                prop_assert_eq!(Ok(fast), read(line.as_bytes(), FieldSet::ALL, Place::Line));
            }
        }
    }
}
