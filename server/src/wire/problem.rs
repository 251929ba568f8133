//! Errors as RFC 9457 problem details.
//!
//! Every error that leaves the service is a [`Problem`] of a [`Kind`], and the kinds are a closed
//! list ([`kinds::ALL`]), each with a page of its own at `/problems/<slug>`. What the core refuses
//! (a [`Rejection`]) finds its kind by its slug.

pub mod kinds;

use super::json::{push_int, push_text};
use stormwheel::error::Rejection;

/// Every problem the service knows: its slug, status, title, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Last part of its address, `/problems/<slug>`.
    pub slug: &'static str,
    /// HTTP status.
    pub status: u16,
    /// One line, the same for all of the kind.
    pub title: &'static str,
    /// What it means and what to do, for the page at its address (plain text paragraphs).
    pub help: &'static str,
}

impl Kind {
    /// Whether load is to blame and not the request: it may well succeed later, unchanged.
    pub const fn is_load(&self) -> bool {
        matches!(self.status, 429 | 503 | 507)
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem.
    pub kind: &'static Kind,
    /// What is wrong here.
    pub detail: String,
    /// The field that is wrong.
    pub field: Option<String>,
    /// The bound that was met.
    pub limit: Option<u64>,
    /// What stood against it.
    pub actual: Option<u64>,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
    /// For a gap in the outputs: the earliest cursor that can be read from.
    pub earliest: Option<u64>,
}

/// Reads a member that is a number.
type NumberOf = fn(&Problem) -> Option<u64>;

impl Problem {
    /// Its members that are numbers, where they apply, in the order in which they are written.
    pub(crate) const NUMBERS: [(&str, NumberOf); 4] = [
        ("limit", |problem| problem.limit),
        ("actual", |problem| problem.actual),
        ("retry_after_ms", |problem| problem.retry_after_ms),
        ("earliest", |problem| problem.earliest),
    ];

    /// A problem of a kind (see `kinds`).
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            field: None,
            limit: None,
            actual: None,
            retry_after_ms: None,
            earliest: None,
        }
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the bound and what stood against it.
    #[must_use]
    pub fn bound(mut self, limit: u64, actual: u64) -> Self {
        self.limit = Some(limit);
        self.actual = Some(actual);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }

    /// The JSON object.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192 + self.detail.len());
        self.write_json(&mut out);
        out
    }

    /// Appends the JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        write_head(out, self.kind);
        out.extend_from_slice(b",\"detail\":");
        push_text(out, &self.detail);
        if let Some(field) = &self.field {
            out.extend_from_slice(b",\"field\":");
            push_text(out, field);
        }
        for (name, value_of) in Self::NUMBERS {
            if let Some(value) = value_of(self) {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                push_int(out, value);
            }
        }
        out.push(b'}');
    }
}

/// Appends the JSON object of a problem of which only the kind is told.
pub(crate) fn write_brief(out: &mut Vec<u8>, kind: &Kind, retry_after_ms: Option<u64>) {
    write_head(out, kind);
    if let Some(millis) = retry_after_ms {
        out.extend_from_slice(b",\"retry_after_ms\":");
        push_int(out, millis);
    }
    out.push(b'}');
}

fn write_head(out: &mut Vec<u8>, kind: &Kind) {
    out.extend_from_slice(b"{\"type\":\"/problems/");
    out.extend_from_slice(kind.slug.as_bytes());
    out.extend_from_slice(b"\",\"title\":");
    push_text(out, kind.title);
    out.extend_from_slice(b",\"status\":");
    push_int(out, kind.status);
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self {
            kind: kinds::of_rejection(&rejection),
            detail: rejection.to_string(),
            field: rejection.field().map(str::to_owned),
            limit: rejection.limit(),
            actual: rejection.actual(),
            retry_after_ms: rejection.retry_after_ms(),
            earliest: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use stormwheel::error::RejectionClass;

    fn check_json(problem: &Problem, expected: &str) {
        assert_eq!(String::from_utf8(problem.to_json()).unwrap(), expected);
    }

    #[test]
    fn absent_members_are_left_out() {
        check_json(
            &Problem::new(&kinds::NOT_FOUND, "there is no \"x\""),
            r#"{"type":"/problems/not-found","title":"No such address","status":404,"detail":"there is no \"x\""}"#,
        );
    }

    #[test]
    fn a_rejection_brings_its_field_and_its_bounds() {
        check_json(
            &Rejection::KeyTooLong { limit: 1024, actual: 2000 }.into(),
            r#"{"type":"/problems/invalid-key","title":"Not a key","status":400,"detail":"key has 2000 bytes, allowed are 1024","field":"key","limit":1024,"actual":2000}"#,
        );
        check_json(
            &Rejection::QueueFull { retry_after_ms: 40 }.into(),
            r#"{"type":"/problems/queue-full","title":"A queue is full","status":429,"detail":"the queue of the shard is full","retry_after_ms":40}"#,
        );
    }

    #[test]
    fn the_earliest_cursor_and_a_brief_form() {
        let mut gone = Problem::new(&kinds::CURSOR_GONE, "gone");
        gone.earliest = Some(7);
        assert!(gone.to_json().ends_with(b"\"earliest\":7}"));
        let mut out = Vec::new();
        write_brief(&mut out, &kinds::QUEUE_FULL, Some(5));
        assert_eq!(
            out,
            br#"{"type":"/problems/queue-full","title":"A queue is full","status":429,"retry_after_ms":5}"#
        );
    }

    #[test]
    fn slugs_are_unique_and_each_kind_says_what_to_do() {
        let slugs: HashSet<_> = kinds::ALL.iter().map(|kind| kind.slug).collect();
        assert_eq!(slugs.len(), kinds::ALL.len());
        for kind in kinds::ALL {
            assert!((400..600).contains(&kind.status), "{}", kind.slug);
            assert!(kind.help.len() > 80, "{} explains itself", kind.slug);
            assert!(!kind.title.ends_with('.'), "{}", kind.slug);
        }
    }

    #[test]
    fn every_rejection_has_a_kind_of_the_status_of_its_class() {
        let field = "after";
        for rejection in [
            Rejection::KeyEmpty,
            Rejection::KeyTooLong { limit: 1, actual: 2 },
            Rejection::NameEmpty,
            Rejection::NameTooLong { limit: 1, actual: 2 },
            Rejection::PayloadTooLarge { limit: 1, actual: 2 },
            Rejection::DurationNegative { field },
            Rejection::OptionInvalid { field, detail: String::new() },
            Rejection::NamespaceUnknown,
            Rejection::NamespaceNotEmpty { timers: 3 },
            Rejection::NamespacesExceeded { limit: 1 },
            Rejection::OptionFixed { field },
            Rejection::VersionConflict,
            Rejection::SourcesExceeded { limit: 1 },
            Rejection::SourceUnknown,
            Rejection::WatermarkUnset,
            Rejection::ClockUnset,
            Rejection::ClockNotManual,
            Rejection::TimeOverflow { field },
            Rejection::TimersPerKeyExceeded { limit: 1 },
            Rejection::TimersExceeded { limit: 1 },
            Rejection::QueueFull { retry_after_ms: 1 },
            Rejection::DiskFull { retry_after_ms: 1 },
            Rejection::Stopping,
        ] {
            let status = match rejection.class() {
                RejectionClass::BadRequest => 400,
                RejectionClass::NotFound => 404,
                RejectionClass::Conflict => 409,
                RejectionClass::TooLarge => 413,
                RejectionClass::Unprocessable => 422,
                RejectionClass::Overloaded => 429,
                RejectionClass::Unavailable => 503,
                RejectionClass::DiskFull => 507,
            };
            let slug = rejection.slug();
            let problem = Problem::from(rejection);
            assert_eq!(problem.kind.slug, slug);
            assert_eq!(problem.kind.status, status, "{slug}");
            assert_eq!(problem.kind.is_load(), matches!(status, 429 | 503 | 507));
        }
    }
}
