//! Event time: read from RFC 3339 text or an epoch number, and written as RFC 3339.

use crate::foundation::time::Micros;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Days since 1970-01-01 of a proleptic Gregorian date.
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (`days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`], from the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

/// Parses RFC 3339 text with an offset, or decimal digits as an epoch number.
///
/// Fractions are truncated to microseconds. A leap second (`:60`) is the following second. Returns `None` for
/// anything else, also for a local time without an offset: a guessed zone could shift an event by hours.
pub fn parse_time_text(text: &str) -> Option<Micros> {
    TimeReader::default().read(text)
}

/// Length of an RFC 3339 time up to its minute, in bytes.
const MINUTE: usize = 16;

/// Parses times in sequence. Most are in the same minute as the one before, which is cached.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeReader {
    /// The cached minute, as text and as epoch second.
    known: Option<([u8; MINUTE], i64)>,
}

impl TimeReader {
    /// Like [`parse_time_text`].
    #[inline]
    pub(crate) fn read(&mut self, text: &str) -> Option<Micros> {
        let bytes = text.as_bytes();
        let Some((minute, rest)) =
            bytes.split_first_chunk().filter(|_| bytes.len() >= 20 && bytes[4] == b'-')
        else {
            return parse_time_number(text);
        };
        let start = match self.known {
            Some((known, start)) if known == *minute => start,
            _ => {
                let start = parse_minute(minute)?;
                self.known = Some((*minute, start));
                start
            }
        };
        parse_rest(start, rest)
    }
}

/// Epoch second of `YYYY-MM-DDTHH:MM`.
fn parse_minute(b: &[u8; MINUTE]) -> Option<i64> {
    if b[7] != b'-' || !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' {
        return None;
    }
    let (year, month, day) = (digits(&b[0..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute) = (digits(&b[11..13])?, digits(&b[14..16])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60)
}

/// Parses what follows the minute: `:SS`, an optional fraction, an offset.
fn parse_rest(start: i64, b: &[u8]) -> Option<Micros> {
    let [b':', s1, s2, rest @ ..] = b else { return None };
    let second = digits(&[*s1, *s2])?;
    if second > 60 {
        return None;
    }
    let (micros, zone) = match rest {
        [b'.', f1, f2, f3, b'Z'] => (digits(&[*f1, *f2, *f3])? * 1000, &rest[4..]),
        [b'.' | b',', fraction @ ..] => {
            let length = fraction.iter().take_while(|c| c.is_ascii_digit()).count();
            let kept = length.min(6);
            if length == 0 {
                return None;
            }
            (digits(&fraction[..kept])? * 10_i64.pow(6 - kept as u32), &fraction[length..])
        }
        _ => (0, rest),
    };
    let offset_minutes = match zone {
        [b'Z' | b'z'] => 0,
        _ => parse_offset(zone.strip_prefix(b" ").unwrap_or(zone))?,
    };
    Some((start + second - offset_minutes * 60) * MICROS_PER_SECOND + micros)
}

/// Minutes of `+02:00`, `+0200` and `+02` (ISO 8601), and of the names of universal time.
fn parse_offset(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match zone {
        [b'Z' | b'z'] | b"UTC" | b"GMT" => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (sign, digits(&[*h1, *h2])?, digits(&[*m1, *m2])?)
        }
        [sign, h1, h2] => (sign, digits(&[*h1, *h2])?, 0),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

/// Parses an epoch number; its magnitude determines the unit.
///
/// Below 10^11 the unit is seconds (to the year 5138), below 10^14 milliseconds, below 10^17 microseconds, otherwise
/// nanoseconds. Fractions keep microsecond precision, because no float is involved.
pub fn parse_time_number(text: &str) -> Option<Micros> {
    // Fast path: digits only.
    if (1..=18).contains(&text.len())
        && let Some(whole) = digits(text.as_bytes())
    {
        return Some(scale_of(whole).map_or(whole / 1000, |scale| whole * 10_i64.pow(scale)));
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if unsigned.is_empty() || unsigned.len() > 40 {
        return None;
    }
    if unsigned.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        // A number with an exponent is converted to its shortest decimal expansion first.
        return (value.is_finite() && value.abs() < 9.3e18)
            .then(|| parse_time_number(&format!("{value}")))
            .flatten();
    }
    let (whole_text, fraction_text) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole_text.is_empty() || whole_text.len() > 19 {
        return None;
    }
    if unsigned.ends_with('.') || !fraction_text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    if !whole_text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole_text.parse().ok()?;
    let Some(scale) = scale_of(whole) else {
        return Some(if negative { -(whole / 1000) } else { whole / 1000 });
    };
    let kept = fraction_text.len().min(scale as usize);
    let fraction = digits(&fraction_text.as_bytes()[..kept])? * 10_i64.pow(scale - kept as u32);
    let micros = whole * 10_i64.pow(scale) + fraction;
    Some(if negative { -micros } else { micros })
}

/// Decimal digits between the number's unit and a microsecond; `None` if the unit is smaller.
fn scale_of(whole: i64) -> Option<u32> {
    match whole {
        0..100_000_000_000 => Some(6),
        100_000_000_000..100_000_000_000_000 => Some(3),
        100_000_000_000_000..100_000_000_000_000_000 => Some(0),
        _ => None,
    }
}

/// Formats a time as UTC RFC 3339 with milliseconds, or with microseconds if it is not a whole millisecond.
pub fn format_rfc3339(time: Micros) -> String {
    let seconds = time.div_euclid(MICROS_PER_SECOND);
    let micros = time.rem_euclid(MICROS_PER_SECOND);
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let date_time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if micros % 1000 == 0 {
        format!("{date_time}.{:03}Z", micros / 1000)
    } else {
        format!("{date_time}.{micros:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_instant_in_every_spelling() {
        let instant = Some(1_764_057_600_123_000);
        for text in [
            "2025-11-25T08:00:00.123Z",
            "2025-11-25T16:00:00.123+08:00",
            "2025-11-25 00:30:00.123000999-07:30",
            "2025-11-25T10:00:00.123+0200",
            "2025-11-25 10:00:00,123 +02",
            "2025-11-25 08:00:00.123 UTC",
            "1764057600.123",
            "1764057600123",
            "1764057600123000",
            "1764057600123000999",
        ] {
            assert_eq!(parse_time_text(text), instant, "{text}");
        }
        assert_eq!(parse_time_number("1.764057600123e9"), instant);
    }

    #[test]
    fn rejects_other_texts() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            "yesterday",
            "2025-11-25",
            "2025-11-25T08:00:00",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-11-25T24:00:00Z",
            "2025-11-25T08:00:00.Z",
            "2025-11-25T08:00:00+8",
            "2025-11-25T08:00:00+2400",
            "2025-11-25T08:00:00 CET",
            "2025-11-25T08:00:00 02:00",
            "12a4",
            "2025-11-25T08:00:00Zjunk",
            "99999999999999999999",
            "1e400",
        ] {
            assert_eq!(parse_time_text(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn times_round_trip(time in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            prop_assert_eq!(parse_time_text(&format_rfc3339(time)), Some(time));
        }

        #[test]
        fn any_text_parses_without_a_panic(text in ".{0,40}") {
            let _ = parse_time_text(&text);
        }
    }
}
