//! What savepoints are called: by when they were made, and a running number.

use crate::storage::{ASKED, SCHEDULED};

/// `sp-20261121T140512Z-0001`.
pub(super) fn name(is_scheduled: bool, created_ms: i64, number: u64) -> String {
    let prefix = if is_scheduled { SCHEDULED } else { ASKED };
    let seconds = created_ms.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!(
        "{prefix}{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{:04}",
        number % 10_000
    )
}

/// The running number in a name.
pub(super) fn number(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The proleptic Gregorian date of a day since 1970-01-01, in eras of 400 years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time() {
        assert_eq!(name(false, 0, 1), "sp-19700101T000000Z-0001");
        assert_eq!(name(true, 1_795_269_912_999, 10_007), "auto-20261121T140512Z-0007");
        assert_eq!(name(false, 951_782_400_000, 2), "sp-20000229T000000Z-0002");
        assert_eq!(name(false, -1, 3), "sp-19691231T235959Z-0003");
        assert_eq!(number("sp-19700101T000000Z-0042"), 42);
        assert_eq!(number("something"), 0);
    }
}
