//! The options of an operator: read one by one, so that every error names the option by its path.
//!
//! An option that is null counts as left out. One that nobody asks for is refused in the end.

use super::value::Pointer;
use crate::duration::{format_duration, parse_duration};
use crate::function::{FunctionError, Result};
use crate::limits::SPAN_MS_MAX;
use crate::text::clip;
use crate::time::Domain;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// An object of options, and which of its members were asked for.
pub(super) struct Options<'a> {
    /// Where it stands in the namespace's options: empty, or `window.` with its dot.
    path: String,
    members: Option<&'a Map<String, Value>>,
    known: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// The options of a namespace. None at all are an empty object.
    pub(super) fn open(options: &'a Value) -> Result<Self> {
        let path = String::new();
        match options {
            Value::Null => Ok(Self { path, members: None, known: Vec::new() }),
            Value::Object(members) => Ok(Self { path, members: Some(members), known: Vec::new() }),
            other => {
                Err(FunctionError::new(format!("the options are {}, not an object", shown(other))))
            }
        }
    }

    /// Refuses what nobody has asked for.
    pub(super) fn close(self) -> Result<()> {
        for name in self.members.into_iter().flat_map(Map::keys) {
            if !self.known.iter().any(|known| known == name) {
                let path = self.path(clip(name));
                let known = match &*self.known {
                    [] => "none here".to_owned(),
                    known => known.join(", "),
                };
                return Err(FunctionError::new(format!(
                    "there is no option `{path}`; there are {known}"
                )));
            }
        }
        Ok(())
    }

    /// An option as it stands; `None`: it is left out.
    pub(super) fn value(&mut self, name: &'a str) -> Option<&'a Value> {
        self.known.push(name);
        self.members?.get(name).filter(|value| !value.is_null())
    }

    /// The options inside of an option.
    pub(super) fn section(&mut self, name: &'a str) -> Result<Option<Options<'a>>> {
        let path = format!("{}.", self.path(name));
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(members)) => {
                Ok(Some(Options { path, members: Some(members), known: Vec::new() }))
            }
            Some(other) => Err(self.wrong(name, format!("is {}, not an object", shown(other)))),
        }
    }

    /// A length of time in milliseconds: text such as "90s", or a whole number of milliseconds.
    pub(super) fn duration(&mut self, name: &'a str) -> Result<Option<i64>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let millis = match value {
            Value::String(text) => {
                parse_duration(text).map_err(|flaw| self.wrong(name, format!(": {flaw}")))?
            }
            other => other.as_i64().ok_or_else(|| {
                let shown = shown(other);
                self.wrong(
                    name,
                    format!("is {shown}; write a duration, such as \"90s\", or milliseconds"),
                )
            })?,
        };
        Ok(Some(millis))
    }

    /// Such a length of time, from a millisecond to a hundred years.
    pub(super) fn span(&mut self, name: &'a str) -> Result<Option<i64>> {
        let millis = self.duration(name)?;
        if let Some(millis) = millis {
            self.within(name, millis, 1..=SPAN_MS_MAX, |millis| format_duration(*millis))?;
        }
        Ok(millis)
    }

    /// A count within its bounds.
    pub(super) fn count(
        &mut self,
        name: &'a str,
        bounds: RangeInclusive<u64>,
    ) -> Result<Option<u64>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let count = value.as_u64().ok_or_else(|| {
            self.wrong(name, format!("is {}, not a whole number from 0 on", shown(value)))
        })?;
        self.within(name, count, bounds, u64::to_string)?;
        Ok(Some(count))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &'a str, default: bool) -> Result<bool> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.wrong(name, format!("is {}, allowed are true and false", shown(other))))
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'a str,
        words: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(name, format!("is {}, allowed are {}", shown(value), known.join(", ")))
        })
    }

    /// Which clock it follows.
    pub(super) fn domain(&mut self, default: Domain) -> Result<Domain> {
        let domains = [("processing", Domain::Processing), ("event", Domain::Event)];
        Ok(self.word("domain", &domains)?.unwrap_or(default))
    }

    /// Where a field stands in the values.
    pub(super) fn pointer(&mut self, name: &'a str) -> Result<Option<Pointer>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                Pointer::parse(text).map(Some).map_err(|flaw| self.wrong(name, format!(": {flaw}")))
            }
            Some(other) => Err(self.wrong(
                name,
                format!("is {}; write a JSON pointer, such as \"/order/id\"", shown(other)),
            )),
        }
    }

    /// What cannot be left out; `example` says what it may be.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>, example: &str) -> Result<T> {
        let path = self.path(name);
        value.ok_or_else(|| FunctionError::new(format!("`{path}` is missing, such as {example}")))
    }

    /// Refuses what is beyond its bounds.
    pub(super) fn within<T: PartialOrd + Copy>(
        &self,
        name: &str,
        value: T,
        bounds: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Result<()> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let (value, least, most) = (show(&value), show(bounds.start()), show(bounds.end()));
        Err(self.wrong(name, format!("is {value}, allowed is {least} to {most}")))
    }

    /// The error that an option is not what it may be: `detail` says what it is.
    pub(super) fn wrong(&self, name: &str, detail: impl Display) -> FunctionError {
        let (path, detail) = (self.path(name), detail.to_string());
        let gap = if detail.starts_with(':') { "" } else { " " };
        FunctionError::new(format!("`{path}`{gap}{detail}"))
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
}

/// What stands there, short enough to be repeated.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", clip(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq)]
    struct Read {
        after: i64,
        offset: Option<i64>,
        domain: Domain,
        leading: bool,
        times: Option<u64>,
        size: Option<i64>,
        at: Option<Pointer>,
    }

    fn read(options: &Value) -> Result<Read> {
        let mut options = Options::open(options)?;
        let after = options.span("after")?;
        let mut window = options.section("window")?;
        let read = Read {
            after: options.required("after", after, "\"90s\"")?,
            offset: options.duration("offset")?,
            domain: options.domain(Domain::Processing)?,
            leading: options.flag("leading", true)?,
            times: options.count("times", 1..=10)?,
            size: window.as_mut().map(|window| window.span("size")).transpose()?.flatten(),
            at: options.pointer("at")?,
        };
        window.map(Options::close).transpose()?;
        options.close()?;
        Ok(read)
    }

    fn check_refused(options: &Value, expected: &str) {
        assert_eq!(read(options).map_err(|error| error.to_string()), Err(expected.to_owned()));
    }

    #[test]
    fn options_are_read_with_their_defaults() {
        let plain = Read {
            after: 90_000,
            offset: None,
            domain: Domain::Processing,
            leading: true,
            times: None,
            size: None,
            at: None,
        };
        assert_eq!(read(&json!({"after": "90s"})).unwrap(), plain);
        assert_eq!(read(&json!({"after": 90_000, "times": null})).unwrap(), plain);
        let full = json!({
            "after": "PT60S", "offset": "-1m", "domain": "event", "leading": false, "times": 10,
            "window": {"size": "1h"}, "at": "/a",
        });
        let expected = Read {
            after: 60_000,
            offset: Some(-60_000),
            domain: Domain::Event,
            leading: false,
            times: Some(10),
            size: Some(3_600_000),
            at: Some(Pointer::parse("/a").unwrap()),
        };
        assert_eq!(read(&full).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        check_refused(&json!(5), "the options are 5, not an object");
        check_refused(&json!(null), "`after` is missing, such as \"90s\"");
        check_refused(
            &json!({"after": "5min"}),
            "`after`: `5min`: there is no unit `min`; units are w, d, h, m, s, ms",
        );
        let no_duration = "write a duration, such as \"90s\", or milliseconds";
        check_refused(&json!({"after": 1.5}), &format!("`after` is 1.5; {no_duration}"));
        check_refused(&json!({"after": [1]}), &format!("`after` is a list; {no_duration}"));
        check_refused(&json!({"after": 0}), "`after` is 0s, allowed is 1ms to 36525d");
        check_refused(&json!({"after": "-1s"}), "`after` is -1s, allowed is 1ms to 36525d");
        check_refused(
            &json!({"after": 1, "domain": "wall"}),
            "`domain` is \"wall\", allowed are processing, event",
        );
        check_refused(
            &json!({"after": 1, "leading": "yes"}),
            "`leading` is \"yes\", allowed are true and false",
        );
        check_refused(&json!({"after": 1, "times": 0}), "`times` is 0, allowed is 1 to 10");
        check_refused(
            &json!({"after": 1, "times": -1}),
            "`times` is -1, not a whole number from 0 on",
        );
        check_refused(&json!({"after": 1, "window": 1}), "`window` is 1, not an object");
        check_refused(
            &json!({"after": 1, "window": {"size": 0}}),
            "`window.size` is 0s, allowed is 1ms to 36525d",
        );
        check_refused(
            &json!({"after": 1, "window": {"gap": 0}}),
            "there is no option `window.gap`; there are size",
        );
        check_refused(
            &json!({"after": 1, "aftre": 1}),
            "there is no option `aftre`; there are after, window, offset, domain, leading, times, at",
        );
        check_refused(
            &json!({"after": 1, "at": "a"}),
            "`at`: `a` is no JSON pointer: it begins with `/`, or is empty",
        );
        check_refused(
            &json!({"after": 1, "at": 1}),
            "`at` is 1; write a JSON pointer, such as \"/order/id\"",
        );
    }
}
