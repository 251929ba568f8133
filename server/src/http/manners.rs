//! What every request must keep to before its call looks at it: headers, media types, origins.
//!
//! One pass over the headers fills [`Head`]; the checks read it. Nothing here reads a body or knows
//! what a call does. Refusing beats ignoring: a header that would have promised something gets an
//! answer that says so.

use super::producer::ProducerHeaders;
use crate::wire::problem::{Problem, kinds};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a request's path, query and headers; more are answered with 431.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A form in which a call answers or reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
    /// `application/vnd.apache.arrow.stream`.
    Arrow,
    /// `text/event-stream`.
    EventStream,
    /// `text/html`.
    Html,
    /// `text/plain`.
    Text,
}

impl Media {
    /// Its name in headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::EventStream => "text/event-stream",
            Self::Html => "text/html",
            Self::Text => "text/plain",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        Some(if is("application/json") || is("application/merge-patch+json") {
            Self::Json
        } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl")
        {
            Self::Ndjson
        } else if is("application/vnd.apache.arrow.stream") {
            Self::Arrow
        } else {
            return None;
        })
    }
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// The headers that matter, borrowed from the request.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    accept: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    content_encoding: Option<&'a HeaderValue>,
    origin: Option<&'a HeaderValue>,
    host: Option<&'a HeaderValue>,
    /// `Last-Event-ID`.
    pub last_event_id: Option<&'a HeaderValue>,
    /// `Content-Length`, where it is a number.
    pub content_length: Option<u64>,
    /// `If-None-Match: *`.
    pub only_absent: bool,
    /// A header that asks for what is not done, by name.
    refused: Option<&'a HeaderName>,
    /// Who sends it, and which of its requests it is.
    pub producer: ProducerHeaders<'a>,
    /// A header that stands more than once although only one of its values can hold.
    repeated: Option<&'a HeaderName>,
    accepts: usize,
    bytes: usize,
}

impl<'a> Head<'a> {
    /// Sorts the headers of a request.
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            head.bytes += name.as_str().len() + value.len();
            let mut once = |place: &mut Option<&'a HeaderValue>| {
                if place.replace(value).is_some() {
                    head.repeated = Some(name);
                }
            };
            match name.as_str() {
                "accept" => {
                    head.accept = Some(value);
                    head.accepts += 1;
                }
                "content-type" => once(&mut head.content_type),
                "content-encoding" => once(&mut head.content_encoding),
                "content-length" => {
                    head.content_length =
                        value.to_str().ok().and_then(|text| text.trim().parse().ok());
                }
                "origin" => once(&mut head.origin),
                "host" => once(&mut head.host),
                "last-event-id" => once(&mut head.last_event_id),
                "if-none-match" if value.as_bytes() == b"*" => head.only_absent = true,
                "if-none-match"
                | "if-match"
                | "if-modified-since"
                | "if-unmodified-since"
                | "if-range"
                | "idempotency-key" => head.refused = Some(name),
                other => head.producer.take(other, value),
            }
        }
        head
    }

    /// Refuses heads that are too large.
    pub(crate) fn check_size(&self, target_bytes: usize) -> Result<(), Problem> {
        let bytes = self.bytes + target_bytes;
        if bytes <= HEAD_BYTES_MAX {
            return Ok(());
        }
        let detail =
            format!("path, query and headers have {bytes} bytes, allowed are {HEAD_BYTES_MAX}");
        Err(Problem::new(&kinds::HEADERS_TOO_LARGE, detail)
            .bound(HEAD_BYTES_MAX as u64, bytes as u64))
    }

    /// Refuses a head in which what may stand once stands twice: whoever reads it next might take
    /// the other value.
    pub(super) fn check_repeated(&self) -> Result<(), Problem> {
        let Some(name) = self.repeated else {
            return Ok(());
        };
        let detail = format!("`{name}` stands more than once, and only one of them can hold");
        Err(Problem::new(&kinds::UNSUPPORTED_HEADER, detail).field(name.as_str()))
    }

    /// Refuses conditions that are not kept and promises that are not given.
    pub(super) fn check_conditions(&self, registers: bool) -> Result<(), Problem> {
        if let Some(name) = self.refused {
            return Err(invalid_header(name.as_str()));
        }
        if self.only_absent && !registers {
            return Err(invalid_header("if-none-match"));
        }
        Ok(())
    }

    /// Refuses pages of other origins and, on loopback, other names for it.
    pub(super) fn check_origin(&self, local: SocketAddr) -> Result<(), Problem> {
        let host = self.host.and_then(|host| host.to_str().ok());
        if local.ip().is_loopback()
            && let Some(host) = host
            && !is_loopback_name(host)
        {
            let detail = format!("this service listens on loopback and is not `{host}`");
            return Err(Problem::new(&kinds::FOREIGN_HOST, detail).field("Host"));
        }
        let Some(origin) = self.origin else {
            return Ok(());
        };
        let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(
            |(_, authority)| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)),
        );
        if own {
            return Ok(());
        }
        let detail = format!("`{}` is not the origin of this service", shown(origin));
        Err(Problem::new(&kinds::FOREIGN_ORIGIN, detail).field("Origin"))
    }

    /// What the body is, among what the call reads; the first is taken where nothing is said.
    pub(super) fn body_media(&self, reads: &'static [Media]) -> Result<Media, Problem> {
        let first = reads.first().copied().unwrap_or(Media::Json);
        let Some(value) = self.content_type else {
            return Ok(first);
        };
        let text = value.to_str().unwrap_or_default();
        let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
        let name = name.trim();
        // `curl -d` says so of any body. A page of another origin could too, without asking first.
        if name.eq_ignore_ascii_case("application/x-www-form-urlencoded") && self.origin.is_none() {
            return Ok(first);
        }
        let charset = parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        if charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
            && let Some(media) = Media::named(name)
        {
            if reads.contains(&media) {
                return Ok(media);
            }
            // A single JSON object is a line too.
            if media == Media::Json && first == Media::Ndjson {
                return Ok(first);
            }
        }
        let detail = format!("the body is `{text}`; this call reads {}", names(reads));
        Err(Problem::new(&kinds::UNSUPPORTED_MEDIA_TYPE, detail).field("Content-Type"))
    }

    /// How the body is compressed.
    pub(super) fn encoding(&self) -> Result<Encoding, Problem> {
        let Some(value) = self.content_encoding else {
            return Ok(Encoding::Identity);
        };
        match value.as_bytes().to_ascii_lowercase().as_slice() {
            b"identity" => Ok(Encoding::Identity),
            b"gzip" | b"x-gzip" => Ok(Encoding::Gzip),
            b"zstd" => Ok(Encoding::Zstd),
            _ => {
                let detail = format!(
                    "the body's encoding is `{}`; read are gzip, zstd and identity, one at a time",
                    shown(value)
                );
                Err(Problem::new(&kinds::UNSUPPORTED_MEDIA_TYPE, detail).field("Content-Encoding"))
            }
        }
    }

    /// The form of the answer that the client likes best, the call's first one on a tie.
    pub(super) fn answer_media(&self, gives: &'static [Media]) -> Result<Media, Problem> {
        let first = gives.first().copied().unwrap_or(Media::Json);
        let Some(value) = self.accept else {
            return Ok(first);
        };
        // More than one header is rare; together they are one list, of which the last counts here
        // only if it stands alone.
        if self.accepts > 1 || value.as_bytes() == b"*/*" {
            return Ok(first);
        }
        let text = value.to_str().unwrap_or("*/*");
        let mut best: Option<(Media, f32)> = None;
        for media in gives {
            let quality = quality_of(text, *media);
            if quality > 0.0 && best.is_none_or(|(_, other)| quality > other) {
                best = Some((*media, quality));
            }
        }
        best.map(|(media, _)| media).ok_or_else(|| {
            let detail = format!("`{text}` is accepted; this call answers {}", names(gives));
            Problem::new(&kinds::NOT_ACCEPTABLE, detail).field("Accept")
        })
    }
}

/// How much an `Accept` header likes a form: the most specific range that matches says it.
fn quality_of(accept: &str, media: Media) -> f32 {
    let name = media.as_str();
    let (kind, _) = name.split_once('/').unwrap_or((name, ""));
    let mut found = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';');
        let pattern = parts.next().unwrap_or_default().trim();
        let specific = if pattern.eq_ignore_ascii_case(name)
            || (media == Media::Ndjson && Media::named(pattern) == Some(Media::Ndjson))
        {
            3
        } else if pattern.strip_suffix("/*").is_some_and(|prefix| prefix.eq_ignore_ascii_case(kind))
        {
            2
        } else if pattern == "*/*" {
            1
        } else {
            continue;
        };
        let quality = parts
            .find_map(|parameter| parameter.trim().strip_prefix("q="))
            .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        if specific > found.0 {
            found = (specific, quality);
        }
    }
    found.1
}

fn invalid_header(name: &str) -> Problem {
    let detail = format!(
        "`{name}` is not kept here, and nothing was done. Retrying a named registration, one with \
         `at`, or a delete is harmless without it; `If-None-Match: *` on a registration means \
         `only: absent`"
    );
    Problem::new(&kinds::UNSUPPORTED_HEADER, detail).field(name)
}

fn names(media: &[Media]) -> String {
    let names: Vec<_> = media.iter().map(|media| media.as_str()).collect();
    names.join(", ")
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).chars().take(200).collect()
}

/// Whether a `Host` header means this machine's loopback.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 7400);

    fn check_origin(pairs: &[(&'static str, &'static str)], slug: Option<&str>) {
        let headers = headers(pairs);
        let found = Head::read(&headers).check_origin(SocketAddr::from(LOCAL));
        assert_eq!(found.err().map(|problem| problem.kind.slug), slug, "{pairs:?}");
    }

    #[test]
    fn foreign_origins_and_hosts_are_refused() {
        check_origin(&[], None);
        check_origin(&[("host", "127.0.0.1:7400")], None);
        check_origin(&[("host", "localhost")], None);
        check_origin(&[("host", "[::1]:7400")], None);
        check_origin(&[("host", "app.localhost:1")], None);
        check_origin(&[("host", "evil.example")], Some("foreign-host"));
        check_origin(&[("host", "localhost.evil.example")], Some("foreign-host"));
        check_origin(&[("host", "10.0.0.1:7400")], Some("foreign-host"));
        let own = ("host", "localhost:7400");
        check_origin(&[own, ("origin", "http://localhost:7400")], None);
        check_origin(&[own, ("origin", "http://localhost:8000")], Some("foreign-origin"));
        check_origin(&[own, ("origin", "null")], Some("foreign-origin"));
        check_origin(&[("origin", "http://localhost:7400")], Some("foreign-origin"));
    }

    #[test]
    fn a_host_name_is_free_beyond_loopback() {
        let headers = headers(&[("host", "timers.example:7400")]);
        let open = SocketAddr::from(([10, 0, 0, 1], 7400));
        assert!(Head::read(&headers).check_origin(open).is_ok());
    }

    fn check_body(value: &'static str, reads: &'static [Media], expected: Option<Media>) {
        let headers = headers(&[("content-type", value)]);
        let found = Head::read(&headers).body_media(reads);
        assert_eq!(found.ok(), expected, "{value}");
    }

    #[test]
    fn content_types() {
        const SINGLE: &[Media] = &[Media::Json];
        const BATCH: &[Media] = &[Media::Ndjson, Media::Arrow];
        check_body("application/json", SINGLE, Some(Media::Json));
        check_body("Application/JSON; charset=UTF-8", SINGLE, Some(Media::Json));
        check_body("application/json; charset=latin1", SINGLE, None);
        check_body("application/x-www-form-urlencoded", SINGLE, Some(Media::Json));
        check_body("text/plain", SINGLE, None);
        check_body("application/x-ndjson", SINGLE, None);
        check_body("application/x-ndjson", BATCH, Some(Media::Ndjson));
        check_body("application/json", BATCH, Some(Media::Ndjson));
        check_body("application/vnd.apache.arrow.stream", BATCH, Some(Media::Arrow));
        let form = headers(&[
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", "http://evil.example"),
        ]);
        let problem = Head::read(&form).body_media(SINGLE).unwrap_err();
        assert_eq!(problem.kind.status, 415);
    }

    fn check_accept(value: &'static str, expected: Option<Media>) {
        const GIVES: &[Media] = &[Media::Ndjson, Media::EventStream];
        let headers = headers(&[("accept", value)]);
        let found = Head::read(&headers).answer_media(GIVES);
        assert_eq!(found.ok(), expected, "{value}");
    }

    #[test]
    fn accept_picks_the_best_or_nothing() {
        check_accept("*/*", Some(Media::Ndjson));
        check_accept("text/event-stream", Some(Media::EventStream));
        check_accept("text/*", Some(Media::EventStream));
        check_accept("application/ndjson", Some(Media::Ndjson));
        check_accept(
            "application/x-ndjson;q=0.1, text/event-stream;q=0.9",
            Some(Media::EventStream),
        );
        check_accept("*/*, text/event-stream;q=0", Some(Media::Ndjson));
        check_accept("image/png", None);
        check_accept("application/json", None);
    }

    fn check_condition(name: &'static str, value: &'static str, registers: bool, ok: bool) {
        let headers = headers(&[(name, value)]);
        let found = Head::read(&headers).check_conditions(registers);
        assert_eq!(found.is_ok(), ok, "{name}: {value}");
    }

    #[test]
    fn conditions_are_kept_or_refused_but_never_ignored() {
        check_condition("if-none-match", "*", true, true);
        check_condition("if-none-match", "*", false, false);
        check_condition("if-none-match", "\"abc\"", true, false);
        check_condition("if-match", "*", true, false);
        check_condition("if-unmodified-since", "x", true, false);
        check_condition("idempotency-key", "x", true, false);
        check_condition("x-other", "1", true, true);
    }

    #[test]
    fn what_may_stand_once_stands_once() {
        let check = |name: &'static str, ok: bool| {
            let mut headers = headers(&[("x-other", "1")]);
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
            assert_eq!(Head::read(&headers).check_repeated().is_ok(), ok, "{name}");
        };
        for name in ["host", "origin", "content-type", "content-encoding", "last-event-id"] {
            check(name, false);
        }
        check("accept", true);
        check("x-other", true);
    }

    #[test]
    fn encodings() {
        let of = |value: &'static str| {
            let headers = headers(&[("content-encoding", value)]);
            Head::read(&headers).encoding().ok()
        };
        assert_eq!(of("gzip"), Some(Encoding::Gzip));
        assert_eq!(of("ZSTD"), Some(Encoding::Zstd));
        assert_eq!(of("identity"), Some(Encoding::Identity));
        assert_eq!(of("br"), None);
        assert_eq!(of("gzip, zstd"), None);
    }
}
