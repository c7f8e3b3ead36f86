//! Instants as the API writes them: RFC 3339, UTC, milliseconds. It must not read a clock.

use crate::domain::UnixMillis;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `2026-01-31T12:00:00.000Z`.
pub(super) fn rfc3339(at: UnixMillis) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    let in_day = at.rem_euclid(DAY_MS);
    let (ms, seconds) = (in_day % 1000, in_day / 1000);
    let (second, minute, hour) = (seconds % 60, seconds / 60 % 60, seconds / 3600);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years
/// begin in March, so that the leap day is the last one, and go in eras of 400.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_000_000_000_123), "2001-09-09T01:46:40.123Z");
        assert_eq!(rfc3339(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
    }
}
