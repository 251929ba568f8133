//! The one place where commands write to the terminal: answers to stdout, what went wrong to
//! stderr. A reader that has gone (`| head`) ends the output quietly.

use jiff::Timestamp;
use std::io::Write;

/// Writes a line to stdout. False once nobody reads any more.
pub(crate) fn line(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Writes bytes to stdout as they are, with a newline at the end if they have none.
pub(crate) fn raw(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    let end: &[u8] = if bytes.is_empty() || bytes.ends_with(b"\n") { b"" } else { b"\n" };
    out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).is_ok()
}

/// Writes an error to stderr.
pub(crate) fn error(text: &str) {
    // With stderr gone there is nobody left to tell.
    drop(writeln!(std::io::stderr().lock(), "error: {text}"));
}

/// Writes something worth knowing to stderr, beside an answer that is for a program.
pub(crate) fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "note: {text}"));
}

/// Lays rows out in columns as wide as their widest cell; the last column is left as it is.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format_row = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![format_row(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| format_row(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A time in epoch milliseconds as a person reads it.
pub(crate) fn time(millis: i64) -> String {
    Timestamp::from_millisecond(millis)
        .map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

/// How far a time is from now: "in 3.0 s", "2.5 min ago".
pub(crate) fn relative(millis: i64, now_ms: i64) -> String {
    let distance = millis.saturating_sub(now_ms);
    let seconds = distance.unsigned_abs() as f64 / 1000.0;
    let amount = match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    };
    if distance < 0 { format!("{amount} ago") } else { format!("in {amount}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    bb\nccc");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(time(1_767_225_600_007), "2026-01-01T00:00:00.007Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
        assert_eq!(relative(3000, 0), "in 3.0 s");
        assert_eq!(relative(0, 150_000), "2.5 min ago");
        assert_eq!(relative(i64::MAX, i64::MIN), "in 106751991167.3 days");
    }
}
