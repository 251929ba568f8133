//! The values of elements: JSON text, and the fields that an operator needs of it.
//!
//! A value is handed on as the text that it came as, byte for byte, and what is not needed of it is
//! not decoded.

use crate::function::{Element, FunctionError, Result};
use crate::op::Payload;
use crate::text::clip;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// The text of an element's value.
pub(super) fn json_text<'a>(element: &Element<'a>) -> Result<&'a str> {
    match element.value {
        Payload::Json(text) => Ok(std::str::from_utf8(text)?),
        Payload::Binary(_) => {
            Err(FunctionError::new("the element is binary, and the operator takes JSON"))
        }
    }
}

/// Where a field stands in values: a JSON pointer (RFC 6901), `/order/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// The pointer of this text. One that is none says so once its options are read.
    pub(super) fn of(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self { text: text.to_owned(), steps: Vec::new() })
    }

    /// Reads a pointer, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let clipped = clip(text);
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("`{clipped}` is no JSON pointer: it begins with `/`, or is empty"));
        }
        let unescape = |step: &str| {
            let mut pieces = step.split('~');
            let mut unescaped = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                let (escaped, rest) = match piece.as_bytes().first() {
                    Some(b'0') => ('~', &piece[1..]),
                    Some(b'1') => ('/', &piece[1..]),
                    _ => {
                        return Err(format!(
                            "`{clipped}` is no JSON pointer: `~` is written `~0`, and `/` `~1`"
                        ));
                    }
                };
                unescaped.push(escaped);
                unescaped.push_str(rest);
            }
            Ok(unescaped)
        };
        let steps = text.split('/').skip(1).map(unescape).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The JSON text of the field, if the value has it; of a field that stands twice, the last one.
    pub(super) fn find<'v>(&self, value: &'v str) -> Result<Option<&'v str>> {
        if self.steps.is_empty() {
            return Ok(Some(value.trim_ascii()));
        }
        let mut reader = serde_json::Deserializer::from_str(value);
        let found = Find(&self.steps).deserialize(&mut reader).map_err(|error| {
            FunctionError::from(error).while_doing("the element's value is no JSON")
        })?;
        Ok(found.map(RawValue::get))
    }

    /// The field's JSON text, or the error that the value has none.
    pub(super) fn require<'v>(&self, value: &'v str) -> Result<&'v str> {
        self.find(value)?.ok_or_else(|| {
            FunctionError::new(format!("the element's value has no field `{}`", clip(&self.text)))
        })
    }

    /// The error that the field is not what the operator needs.
    pub(super) fn wrong(&self, field: &str, detail: &str) -> FunctionError {
        let (path, field) = (clip(&self.text), clip(field));
        FunctionError::new(format!("the field `{path}` of the element's value is {field}{detail}"))
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Goes along the steps of a pointer.
struct Find<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => Deserialize::deserialize(reader).map(Some),
            [step, rest @ ..] => reader.deserialize_any(Step { step, rest }),
        }
    }
}

/// One step into an object or a list; there is nothing inside of anything else.
struct Step<'p> {
    step: &'p str,
    rest: &'p [String],
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(IsName(self.step))? {
            if is_it {
                found = members.next_value_seed(Find(self.rest))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let is_index = self.step == "0" || !self.step.starts_with(['0', '+']);
        let mut ahead = self.step.parse::<usize>().ok().filter(|_| is_index);
        let mut found = None;
        loop {
            if ahead == Some(0) {
                match items.next_element_seed(Find(self.rest))? {
                    Some(it) => found = it,
                    None => return Ok(None),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            ahead = ahead.and_then(|ahead| ahead.checked_sub(1));
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has this name.
struct IsName<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use serde_json::Value;

    const DOCUMENT: &str = r#" {"a": {"b": [10, {"c": "x\"y"}, null]}, "a/b": 1.50, "m~n": true,
        "": {"": {}}, "\u00e9": 9, "twice": 1, "twice": [2], "0": "zero", "list": [[1], [2, 3]]} "#;

    fn find<'v>(pointer: &str, value: &'v str) -> Option<&'v str> {
        Pointer::parse(pointer).unwrap().find(value).unwrap()
    }

    #[test]
    fn a_field_is_found_as_it_was_written() {
        for (pointer, expected) in [
            ("", Some(DOCUMENT.trim())),
            ("/a", Some(r#"{"b": [10, {"c": "x\"y"}, null]}"#)),
            ("/a/b/0", Some("10")),
            ("/a/b/1/c", Some(r#""x\"y""#)),
            ("/a/b/2", Some("null")),
            ("/a/b/2/x", None),
            ("/a/b/3", None),
            ("/a/b/00", None),
            ("/a/b/+1", None),
            ("/a/b/-", None),
            ("/a~1b", Some("1.50")),
            ("/m~0n", Some("true")),
            ("/", Some(r#"{"": {}}"#)),
            ("//", Some("{}")),
            ("/é", Some("9")),
            ("/twice", Some("[2]")),
            ("/0", Some("\"zero\"")),
            ("/list/1/1", Some("3")),
            ("/list/0/1", None),
            ("/none", None),
            ("/a~1b/x", None),
            ("/m~0n/x", None),
            ("/0/x", None),
        ] {
            assert_eq!(find(pointer, DOCUMENT), expected, "{pointer}");
            // What the whole document says, decoded.
            let whole: Value = serde_json::from_str(DOCUMENT).unwrap();
            let field = find(pointer, DOCUMENT).map(|text| serde_json::from_str(text).unwrap());
            assert_eq!(field.as_ref(), whole.pointer(pointer), "{pointer}");
        }
        assert_eq!(find("/a", "7"), None);
        assert_eq!(find("/a", "-7"), None);
    }

    #[test]
    fn what_is_passed_by_may_be_deep() {
        let deep = format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(find("/a", &deep), Some("1"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("a", "`a` is no JSON pointer: it begins with `/`, or is empty"),
            ("/a~", "`/a~` is no JSON pointer: `~` is written `~0`, and `/` `~1`"),
            ("/~2", "`/~2` is no JSON pointer: `~` is written `~0`, and `/` `~1`"),
        ] {
            assert_eq!(Pointer::parse(text), Err(why.to_owned()));
        }
        let pointer = Pointer::parse("/a/b").unwrap();
        let missing = pointer.require("{\"a\":{}}").unwrap_err();
        assert_eq!(missing.message(), "the element's value has no field `/a/b`");
        let wrong = pointer.wrong("true", ", not a number");
        assert_eq!(
            wrong.message(),
            "the field `/a/b` of the element's value is true, not a number"
        );
        let cut = pointer.find("{\"a\":").unwrap_err();
        assert!(cut.message().starts_with("the element's value is no JSON: EOF"), "{cut}");
        let binary = Element { timestamp: Timestamp::MIN, input: 0, value: Payload::Binary(b"x") };
        let refused = json_text(&binary).unwrap_err();
        assert_eq!(refused.message(), "the element is binary, and the operator takes JSON");
    }
}
