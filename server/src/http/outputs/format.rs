//! The two forms of a stream: lines of JSON, and server-sent events.
//!
//! ```text
//! NDJSON                        server-sent events
//! {"id":…,"cursor":7,…}         event: output / id: 7 / data: {…}
//! (an empty line)               id: 7                               a sign of life
//! {"gap":{…}}                   event: gap / id: 9 / data: {…}      records were skipped
//! {"error":{…}}                 event: error / data: {…}            the last words
//! ```

use crate::http::manners::Media;
use crate::wire::output::write_output;
use crate::wire::problem::Problem;
use crate::wire::time::TimeFormat;
use stormwheel::output::{Cursor, OutputRecord};

/// How records are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    events: bool,
    times: TimeFormat,
}

impl Format {
    pub(super) fn new(media: Media, times: TimeFormat) -> Self {
        Self { events: media == Media::EventStream, times }
    }

    pub(super) fn write_record(self, out: &mut Vec<u8>, cursor: Cursor, record: &OutputRecord<'_>) {
        if !self.events {
            write_output(out, cursor, record, self.times);
            out.push(b'\n');
            return;
        }
        out.extend_from_slice(b"event: output\nid: ");
        out.extend_from_slice(cursor.0.to_string().as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let start = out.len();
        write_output(out, cursor, record, self.times);
        fold_lines(out, start);
        out.extend_from_slice(b"\n\n");
    }

    /// Tells the client that the stream lives.
    pub(super) fn write_sign_of_life(self, out: &mut Vec<u8>, position: Cursor) {
        if self.events {
            out.extend_from_slice(format!("id: {}\n\n", position.0).as_bytes());
        } else {
            out.push(b'\n');
        }
    }

    /// Says that records are missing between two cursors.
    pub(super) fn write_gap(self, out: &mut Vec<u8>, after: Cursor, earliest: Cursor) {
        let gap = format!("{{\"after\":{},\"earliest\":{}}}", after.0, earliest.0);
        let text = if self.events {
            format!("event: gap\nid: {}\ndata: {gap}\n\n", earliest.0)
        } else {
            format!("{{\"gap\":{gap}}}\n")
        };
        out.extend_from_slice(text.as_bytes());
    }

    /// Says why the stream ends.
    pub(super) fn write_problem(self, out: &mut Vec<u8>, problem: &Problem) {
        let (before, after): (&[u8], &[u8]) =
            if self.events { (b"event: error\ndata: ", b"\n\n") } else { (b"{\"error\":", b"}\n") };
        out.extend_from_slice(before);
        out.extend_from_slice(&problem.to_json());
        out.extend_from_slice(after);
    }
}

/// A line break inside of an event's data starts another `data:` line: payloads are handed back
/// byte for byte, line breaks between their tokens included.
fn fold_lines(out: &mut Vec<u8>, start: usize) {
    if !out[start..].iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return;
    }
    let data = out.split_off(start);
    for byte in data {
        match byte {
            b'\n' => out.extend_from_slice(b"\ndata: "),
            // A lone carriage return would end a line as well; in JSON it is only white space.
            b'\r' => out.push(b' '),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(events: bool, write: impl FnOnce(Format, &mut Vec<u8>)) -> String {
        let format = Format { events, times: TimeFormat::Millis };
        let mut out = Vec::new();
        write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn signs_of_life_and_gaps() {
        let life = |format: Format, out: &mut Vec<u8>| format.write_sign_of_life(out, Cursor(7));
        assert_eq!(written(false, life), "\n");
        assert_eq!(written(true, life), "id: 7\n\n");
        let gap = |format: Format, out: &mut Vec<u8>| format.write_gap(out, Cursor(7), Cursor(9));
        assert_eq!(written(false, gap), "{\"gap\":{\"after\":7,\"earliest\":9}}\n");
        let event = "event: gap\nid: 9\ndata: {\"after\":7,\"earliest\":9}\n\n";
        assert_eq!(written(true, gap), event);
    }

    #[test]
    fn line_breaks_in_data_become_lines_of_data() {
        let mut out = b"data: {\"a\":\r\n1}".to_vec();
        fold_lines(&mut out, 6);
        assert_eq!(out, b"data: {\"a\": \ndata: 1}");
    }
}
