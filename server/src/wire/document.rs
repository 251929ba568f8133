//! JSON documents of small bodies (configurations, clocks, watermarks), read strictly.
//!
//! A member that stands twice is refused by its path: JSON leaves open which of the two counts, and
//! whoever wrote both meant one of them. Operations on timers have a reader of their own
//! ([`super::fields`]), which keeps to the same rules.

use super::fields::DEPTH_MAX;
pub(crate) use super::fields::message;
use super::json::depth;
use super::problem::{Problem, kinds};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use stormwheel::text::clip;

/// Reads a whole body as one JSON value.
pub(crate) fn parse_document(body: &[u8]) -> Result<Value, Problem> {
    if let Err(utf8) = std::str::from_utf8(body) {
        let detail = format!("byte {} is not UTF-8", utf8.valid_up_to() + 1);
        return Err(Problem::new(&kinds::INVALID_UTF8, detail));
    }
    let depth = depth(body);
    if depth > DEPTH_MAX {
        let detail = format!("the body is nested {depth} deep, allowed is {DEPTH_MAX}");
        return Err(
            Problem::new(&kinds::INVALID_JSON, detail).bound(DEPTH_MAX as u64, depth as u64)
        );
    }
    if body.trim_ascii().is_empty() {
        let detail = "the body is empty; a JSON object was expected";
        return Err(Problem::new(&kinds::INVALID_JSON, detail));
    }
    let mut twice = None;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let strict = Strict { path: String::new(), twice: &mut twice };
    let read = strict.deserialize(&mut deserializer);
    let error = match read.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(path) = twice {
        let path = clip(&path);
        return Err(
            Problem::new(&kinds::INVALID_FIELD, format!("`{path}` stands twice")).field(path)
        );
    }
    let detail = format!("{} at line {}, column {}", message(&error), error.line(), error.column());
    Err(Problem::new(&kinds::INVALID_JSON, detail))
}

/// A value below a path; notes the path of a member that stands twice.
struct Strict<'t> {
    path: String,
    twice: &'t mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let Self { path, twice } = self;
        let mut array = Vec::new();
        while let Some(element) =
            elements.next_element_seed(Strict { path: path.clone(), twice: &mut *twice })?
        {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Self { path, twice } = self;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if object.contains_key(&name) {
                *twice = Some(path);
                return Err(A::Error::custom("duplicate member"));
            }
            let value = members.next_value_seed(Strict { path, twice: &mut *twice })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check_refused(body: &[u8], slug: &str, field: Option<&str>, part: &str) {
        let problem = parse_document(body).unwrap_err();
        assert_eq!(problem.kind.slug, slug, "{}", problem.detail);
        assert_eq!(problem.field.as_deref(), field, "{}", problem.detail);
        assert!(problem.detail.contains(part), "{}", problem.detail);
    }

    #[test]
    fn what_stands_twice_is_refused_by_its_path() {
        check_refused(br#"{"now":5,"now":9}"#, "invalid-field", Some("now"), "twice");
        let nested = br#"{"a":[{"b":{"c":1,"d":2,"c":1}}]}"#;
        check_refused(nested, "invalid-field", Some("a.b.c"), "twice");
        check_refused(br#"{"a":1,"\u0061":1}"#, "invalid-field", Some("a"), "twice");
        let long = format!("{{\"{0}\":1,\"{0}\":2}}", "x".repeat(100_000));
        let problem = parse_document(long.as_bytes()).unwrap_err();
        assert!(problem.to_json().len() < 1_000, "what is refused is not repeated at length");
        assert_eq!(parse_document(br#"[{"a":1},{"a":1}]"#).unwrap(), json!([{"a":1},{"a":1}]));
    }

    #[test]
    fn what_is_no_document_is_refused_and_says_why() {
        check_refused(b"", "invalid-json", None, "empty");
        check_refused(b" \n", "invalid-json", None, "empty");
        check_refused(b"{", "invalid-json", None, "line 1, column 1");
        check_refused(b"{} x", "invalid-json", None, "trailing");
        check_refused(b"{\"a\":\"\xff\"}", "invalid-utf8", None, "byte 7");
        check_refused("[".repeat(33).as_bytes(), "invalid-json", None, "33 deep");
    }

    proptest! {
        #[test]
        fn else_it_reads_as_any_reader_does(body in "[\\[\\]{}\":,a0.e -]{0,24}") {
            let plain: Result<Value, _> = serde_json::from_str(&body);
            match (parse_document(body.as_bytes()), plain) {
                (Ok(strict), Ok(plain)) => prop_assert_eq!(strict, plain),
                (Err(problem), Ok(_)) => prop_assert!(problem.detail.contains("twice")),
                (strict, Err(_)) => prop_assert!(strict.is_err()),
            }
        }
    }
}
