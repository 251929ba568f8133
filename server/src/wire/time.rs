//! How points in time are written: as integers (epoch milliseconds), or RFC 3339 in UTC.
//!
//! How they are read stands in the core (`time::text`).

use super::json::push_int;
use jiff::SignedDuration;
use jiff::civil::{self, DateTime};
use stormwheel::time::Timestamp;

const EPOCH: DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// How answers spell times (`?times=rfc3339`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// Integers.
    #[default]
    Millis,
    /// RFC 3339 in UTC (an integer where the year leaves its range).
    Rfc3339,
}

/// Writes a time as JSON.
pub fn write_time(out: &mut Vec<u8>, time: Timestamp, format: TimeFormat) {
    match format {
        TimeFormat::Millis => push_int(out, time.as_millis()),
        TimeFormat::Rfc3339 => match civil_of(time) {
            Some(civil) => push_civil(out, civil),
            None => push_int(out, time.as_millis()),
        },
    }
}

/// `"2026-01-01T00:00:00.250Z"`, the fraction only where there is one.
fn push_civil(out: &mut Vec<u8>, civil: DateTime) {
    let mut push = |before: u8, number: i32, digits: u32| {
        out.push(before);
        for place in (0..digits).rev() {
            out.push(b'0' + (number / 10_i32.pow(place) % 10) as u8);
        }
    };
    push(b'"', civil.year().into(), 4);
    push(b'-', civil.month().into(), 2);
    push(b'-', civil.day().into(), 2);
    push(b'T', civil.hour().into(), 2);
    push(b':', civil.minute().into(), 2);
    push(b':', civil.second().into(), 2);
    let millis = civil.subsec_nanosecond() / 1_000_000;
    if millis > 0 {
        push(b'.', millis, 3);
    }
    out.extend_from_slice(b"Z\"");
}

/// The date and time in UTC, where the year has four digits.
fn civil_of(time: Timestamp) -> Option<DateTime> {
    EPOCH
        .checked_add(SignedDuration::from_millis(time.as_millis()))
        .ok()
        .filter(|civil| civil.year() >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stormwheel::time::text::parse_time_text;

    fn written(millis: i64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, Timestamp::from_millis(millis), TimeFormat::Rfc3339);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn written_in_utc_and_as_integers_beyond_four_digits() {
        assert_eq!(written(1_767_225_600_000), "\"2026-01-01T00:00:00Z\"");
        assert_eq!(written(1_767_225_600_007), "\"2026-01-01T00:00:00.007Z\"");
        assert_eq!(written(-1), "\"1969-12-31T23:59:59.999Z\"");
        assert_eq!(written(253_402_300_800_000), "253402300800000");
        assert_eq!(written(-62_167_219_200_001), "-62167219200001");
        assert_eq!(written(i64::MIN), i64::MIN.to_string());
        assert_eq!(written(i64::MAX), i64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            millis in prop_oneof![any::<i64>(), -62_167_219_200_000..253_402_300_800_000_i64]
        ) {
            let text = written(millis);
            prop_assert_eq!(
                parse_time_text(text.trim_matches('"')).map(Timestamp::as_millis),
                Ok(millis)
            );
        }
    }
}
