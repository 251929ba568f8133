//! The answer to many rows at once: how many came to what, and the first errors.

use super::failures::{ERRORS_TOLD_MAX, Failure};
use super::json::push_int;

/// Errors as they are gathered, with the indices of their rows.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    json: Vec<u8>,
    /// How many there are, told or not.
    pub(crate) count: u64,
}

impl Errors {
    /// Takes one in. Beyond the first ones, they are counted only.
    pub(crate) fn push(&mut self, index: usize, failure: &Failure) {
        self.count += 1;
        if self.count > ERRORS_TOLD_MAX as u64 {
            return;
        }
        self.json.extend_from_slice(if self.count == 1 { b"" } else { b"," });
        self.json.extend_from_slice(b"{\"index\":");
        push_int(&mut self.json, index);
        self.json.extend_from_slice(b",\"error\":");
        failure.write(&mut self.json, true);
        self.json.push(b'}');
    }

    /// The whole answer; `more` are members that stand behind the counts.
    pub(crate) fn summary(
        &self,
        rows: usize,
        results: impl Iterator<Item = (&'static str, u64)>,
        more: &[u8],
    ) -> Vec<u8> {
        let mut body = Vec::with_capacity(192 + self.json.len() + more.len());
        body.extend_from_slice(b"{\"rows\":");
        push_int(&mut body, rows);
        body.extend_from_slice(b",\"results\":{");
        for (place, (result, count)) in results.filter(|(_, count)| *count > 0).enumerate() {
            body.extend_from_slice(if place == 0 { b"\"" } else { b",\"" });
            body.extend_from_slice(result.as_bytes());
            body.extend_from_slice(b"\":");
            push_int(&mut body, count);
        }
        body.push(b'}');
        body.extend_from_slice(more);
        body.extend_from_slice(b",\"failed\":");
        push_int(&mut body, self.count);
        body.extend_from_slice(b",\"errors\":[");
        body.extend_from_slice(&self.json);
        body.extend_from_slice(b"],\"errors_omitted\":");
        push_int(&mut body, self.count.saturating_sub(ERRORS_TOLD_MAX as u64));
        body.push(b'}');
        body
    }
}
