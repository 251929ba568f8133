//! Query parameters, read strictly.
//!
//! A parameter that the route does not declare, an empty one, or one that stands twice and must
//! not is refused by name together with the list of those that are known: a mistyped filter on a
//! delete must never be read as "no filter".

use super::kinds::query_problem;
use crate::wire::problem::{Problem, kinds};
use crate::wire::time::TimeFormat;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use stormwheel::duration::parse_duration;
use stormwheel::time::text::parse_time_text;
use stormwheel::time::{Domain, Timestamp};

/// A query parameter that a route knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// How its value is spelled, for the documentation.
    pub kind: ParamKind,
    /// It may stand more than once.
    pub repeated: bool,
    /// What it does.
    pub summary: &'static str,
}

/// How the value of a parameter is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text; the empty one too where `repeated` filters need it.
    Text,
    /// Text that may be empty (`tag=` means the main output).
    TextOrEmpty,
    /// A whole number.
    Integer,
    /// Epoch milliseconds or RFC 3339.
    Time,
    /// "90s", "1h30m", ISO 8601.
    Duration,
    /// `true` or `false`; the bare name means `true`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Param {
    /// A parameter that stands once at most.
    pub const fn one(name: &'static str, kind: ParamKind, summary: &'static str) -> Self {
        Self { name, kind, repeated: false, summary }
    }

    /// A parameter that may be repeated.
    pub const fn many(name: &'static str, kind: ParamKind, summary: &'static str) -> Self {
        Self { name, kind, repeated: true, summary }
    }
}

/// The parameters of one request, in their order, all of them known to the route.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the part behind `?`.
    pub(super) fn parse(raw: Option<&str>, known: &'static [Param]) -> Result<Self, Problem> {
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
            return Ok(Self::default());
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in raw.split('&') {
            let (name, value) =
                part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
            let name = decode(name)?;
            let Some(param) = known.iter().find(|param| param.name == name) else {
                return Err(unknown(&name, known));
            };
            if !param.repeated && pairs.iter().any(|(other, _)| *other == name) {
                return Err(query_problem(&name, "stands more than once"));
            }
            let value = match value {
                None if param.kind == ParamKind::Flag => "true".to_owned(),
                None => return Err(query_problem(&name, "has no value")),
                Some(value) => decode(value)?,
            };
            if value.is_empty() && param.kind != ParamKind::TextOrEmpty {
                return Err(query_problem(&name, "is empty"));
            }
            if let ParamKind::Word(words) = param.kind
                && !words.contains(&value.as_str())
            {
                let detail = format!("is `{value}`; it can be {}", words.join(", "));
                return Err(query_problem(&name, &detail));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// All of them, in order.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is up.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(query_problem(name, &format!("is `{other}`; it can be true or false")))
            }
        }
    }

    /// A whole number between bounds.
    pub(super) fn integer(
        &self,
        name: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            Ok(number) => {
                let detail = format!("is {number}; allowed is {least} to {most}");
                let mut problem = query_problem(name, &detail);
                problem.limit = Some(if number > most { most } else { least });
                problem.actual = Some(number);
                Err(problem)
            }
            Err(_) => Err(query_problem(
                name,
                &format!("is `{text}`; allowed is a whole number from {least} to {most}"),
            )),
        }
    }

    /// A point in time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.text(name)
            .map(|text| {
                let text = with_plus(text);
                parse_time_text(&text).map_err(|detail| query_problem(name, &detail))
            })
            .transpose()
    }

    /// A duration that is not negative, in milliseconds.
    pub(super) fn duration_ms(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match parse_duration(text) {
            Ok(millis) if millis >= 0 => Ok(Some(millis)),
            Ok(_) => Err(query_problem(name, "is negative")),
            Err(detail) => Err(query_problem(name, &detail)),
        }
    }

    /// `domain`, where it is given.
    pub(super) fn domain(&self) -> Option<Domain> {
        // Any other word was refused when the query was read.
        self.text("domain").map(|word| match word {
            "event" => Domain::Event,
            _ => Domain::Processing,
        })
    }

    /// `times=rfc3339`.
    pub(super) fn time_format(&self) -> TimeFormat {
        match self.text("times") {
            Some("rfc3339") => TimeFormat::Rfc3339,
            _ => TimeFormat::Millis,
        }
    }
}

/// A time with an offset, `…T00:00:00+01:00`, whose plus was not escaped and so became a space. No
/// time has a space there.
pub(super) fn with_plus(text: &str) -> Cow<'_, str> {
    const OFFSET_BYTES: usize = "+01:00".len();
    let at = text.len().saturating_sub(OFFSET_BYTES);
    if text.as_bytes().get(at) != Some(&b' ') || at < "2026-01-01T00:00:00".len() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}+{}", &text[..at], &text[at + 1..]))
}

fn decode(text: &str) -> Result<String, Problem> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| {
        Problem::new(
            &kinds::INVALID_QUERY,
            "the query is not UTF-8 once its percent signs are decoded",
        )
    })
}

fn unknown(name: &str, known: &[Param]) -> Problem {
    let names: Vec<_> = known.iter().map(|param| param.name).collect();
    let detail = match (name.is_empty(), names.is_empty()) {
        (true, true) => "an empty parameter; this call takes none".to_owned(),
        (true, false) => format!("an empty parameter; known are {}", names.join(", ")),
        (false, true) => format!("`{name}` is not a parameter here; this call takes none"),
        (false, false) => {
            format!("`{name}` is not a parameter here; known are {}", names.join(", "))
        }
    };
    Problem::new(&kinds::INVALID_QUERY, detail).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Param] = &[
        Param::one("limit", ParamKind::Integer, ""),
        Param::one("verbose", ParamKind::Flag, ""),
        Param::many("tag", ParamKind::TextOrEmpty, ""),
        Param::one("domain", ParamKind::Word(&["event", "processing"]), ""),
        Param::one("key_prefix", ParamKind::Text, ""),
    ];

    fn check_refused(raw: &str, field: &str, part: &str) {
        let problem = Query::parse(Some(raw), KNOWN)
            .and_then(|query| {
                query.flag("verbose")?;
                query.integer("limit", 1, 1_000).map(|_| ())
            })
            .unwrap_err();
        assert_eq!(problem.kind.slug, "invalid-query", "{raw}");
        assert_eq!(problem.field.as_deref(), Some(field), "{raw}");
        assert!(problem.detail.contains(part), "{raw}: {}", problem.detail);
    }

    #[test]
    fn what_is_known_is_read() {
        let raw = "limit=5&verbose&tag=&tag=late&domain=event&key_prefix=a%2Fb+c%C3%A4";
        let query = Query::parse(Some(raw), KNOWN).unwrap();
        assert_eq!(query.integer("limit", 1, 1_000).unwrap(), Some(5));
        assert!(query.flag("verbose").unwrap());
        assert_eq!(query.domain(), Some(Domain::Event));
        assert_eq!(query.text("key_prefix"), Some("a/b cä"));
        let tags = query.pairs().iter().filter(|(name, _)| name == "tag");
        assert_eq!(tags.count(), 2);
        assert!(Query::parse(None, KNOWN).unwrap().pairs().is_empty());
    }

    #[test]
    fn a_plus_of_an_offset_needs_no_escape() {
        const AT: &[Param] = &[Param::one("at", ParamKind::Time, "")];
        for (raw, expected) in [
            ("at=1970-01-01T01:00:00+01:00", Some(0)),
            ("at=1970-01-01T01:00:00.5+01:00", Some(500)),
            ("at=1970-01-01T01:00:00%2B01:00", Some(0)),
            ("at=1970-01-01+00:00:00Z", Some(0)),
            ("at=1970-01-01+01:00:00+01:00", Some(0)),
            ("at=1970-01-01T01:00:00++01:00", None),
            ("at=1970-01-01T+01:00", None),
            ("at=+01:00", None),
        ] {
            let query = Query::parse(Some(raw), AT).unwrap();
            let found = query.time("at").ok().flatten().map(Timestamp::as_millis);
            assert_eq!(found, expected, "{raw}");
        }
    }

    #[test]
    fn what_is_not_is_refused_by_name() {
        check_refused("att=5", "att", "known are limit, verbose, tag");
        check_refused("limit=", "limit", "is empty");
        check_refused("limit", "limit", "has no value");
        check_refused("limit=5&limit=6", "limit", "more than once");
        check_refused("limit=x", "limit", "whole number from 1 to 1000");
        check_refused("limit=-1", "limit", "whole number");
        check_refused("limit=1001", "limit", "allowed is 1 to 1000");
        check_refused("domain=evnt", "domain", "event, processing");
        check_refused("verbose=yes", "verbose", "true or false");
        check_refused("limit=5&", "", "an empty parameter");
        let not_text = Query::parse(Some("key_prefix=%FF"), KNOWN).unwrap_err();
        assert!(not_text.detail.contains("UTF-8"));
    }
}
