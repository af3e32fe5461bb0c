//! Local time: the plan's time zone, and parts of a local time.

use crate::foundation::time::Micros;
use crate::plan::TimePart;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

impl TimePart {
    pub(crate) fn of(self, time: DateTime) -> Option<i64> {
        Some(match self {
            Self::Minute => time.minute().into(),
            Self::Hour => time.hour().into(),
            Self::Day => time.day().into(),
            Self::Weekday => time.weekday().to_monday_one_offset().into(),
            Self::Week => time.date().iso_week_date().week().into(),
            Self::Month => time.month().into(),
            Self::Year => time.year().into(),
            Self::Date => return None,
        })
    }
}

/// A time zone.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// Finds a zone by its name in the IANA database.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let zone = TimeZone::get(name).map(Self);
        zone.map_err(|_| format!("'{name}' is not a time zone; use a name like Europe/Berlin or UTC"))
    }

    /// Standard time minus UTC, in microseconds.
    pub(crate) fn offset(&self) -> Micros {
        let at = |time| Timestamp::from_second(time).map_or(0, |time| self.0.to_offset(time).seconds());
        // One time in January and one in July; at most one of them is in daylight saving time.
        Micros::from(at(1_767_225_600).min(at(1_782_864_000))) * 1_000_000
    }

    pub(crate) fn local(&self, time: Micros) -> Option<DateTime> {
        Some(self.0.to_datetime(Timestamp::from_microsecond(time).ok()?))
    }
}

/// Whether the IANA database has a time zone of this name.
pub fn is_time_zone(name: &str) -> bool {
    Zone::named(name).is_ok()
}
