//! What can go wrong between a shell and the server, in sentences that say what to do.

use serde::Deserialize;
use std::process::ExitCode;
use thiserror::Error;

/// An RFC 9457 problem as the server sends it; unknown members are of no interest here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    field: Option<String>,
    limit: Option<u64>,
    actual: Option<u64>,
    retry_after_ms: Option<u64>,
}

/// Why a command failed. Its `Display` is what the person reads.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Nobody listens.
    #[error(
        "no server answers at {server} ({source})\n\
         start one with `stormwheel serve`, or name another with --server or STORMWHEEL_SERVER"
    )]
    Unreachable { server: String, source: std::io::Error },
    /// The connection broke, or the peer speaks something else.
    #[error("the connection to {server} broke: {what}")]
    Broken { server: String, what: String },
    /// The server refused; `body` is what it said, word for word.
    #[error("{}", .problem.sentence())]
    Refused { problem: Box<Problem>, body: String },
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A data directory cannot be used, or is damaged.
    #[error("{sentence}")]
    Directory { code: u8, sentence: String },
    /// A measured run did not hold what it had to.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// From an answer that is no success.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body).into_owned();
        let mut problem: Problem = serde_json::from_str(&body).unwrap_or_default();
        if problem.status == 0 {
            problem.status = status;
        }
        Self::Refused { problem: Box::new(problem), body }
    }

    /// What the process ends with: like clap's own, 2 for a command line that cannot be meant.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Directory { code, .. } => ExitCode::from(*code),
            _ => ExitCode::FAILURE,
        }
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            _ => None,
        }
    }
}

impl Problem {
    /// One sentence, what bounds it, and where to read on.
    fn sentence(&self) -> String {
        let what = match (self.title.as_str(), self.detail.as_str()) {
            ("", "") => "the server refused".to_owned(),
            ("", detail) => detail.to_owned(),
            (title, "") => title.to_owned(),
            (title, detail) if title.eq_ignore_ascii_case(detail) => title.to_owned(),
            (title, detail) => format!("{title}: {detail}"),
        };
        let mut lines = vec![format!("{what}{}", format_bounds(self))];
        if let Some(wait_ms) = self.retry_after_ms {
            lines.push(format!("try again in {:.1} s", wait_ms as f64 / 1000.0));
        }
        if !self.kind.is_empty() {
            lines.push(format!("more at {} of the server", self.kind));
        }
        lines.join("\n")
    }
}

fn format_bounds(problem: &Problem) -> String {
    let named = [
        ("field", problem.field.clone()),
        ("limit", problem.limit.map(|limit| limit.to_string())),
        ("actual", problem.actual.map(|actual| actual.to_string())),
        ("status", Some(problem.status.to_string())),
    ];
    let parts: Vec<String> =
        named.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
    format!(" ({})", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_a_sentence() {
        let failure = Failure::refused(
            400,
            br#"{"type":"/problems/key-too-long","title":"the key is too long","status":400,
                "detail":"1025 bytes","field":"key","limit":1024,"actual":1025,"x":1}"#,
        );
        assert_eq!(
            failure.to_string(),
            "the key is too long: 1025 bytes (field key, limit 1024, actual 1025, status 400)\n\
             more at /problems/key-too-long of the server"
        );
    }

    #[test]
    fn wrong_usage_has_an_exit_code_of_its_own() {
        let code = |failure: Failure| format!("{:?}", failure.exit_code());
        assert_eq!(code(Failure::Usage(String::new())), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(Failure::Failed(String::new())), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(Failure::refused(400, b"")), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn an_answer_that_is_no_problem_still_reads() {
        let failure = Failure::refused(502, b"<html>");
        assert_eq!(failure.to_string(), "the server refused (status 502)");
        assert_eq!(failure.status(), Some(502));
    }
}
