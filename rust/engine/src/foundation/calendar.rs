//! Days of local standard time.

use crate::foundation::time::Micros;

/// Day number: local time since 1970 divided by 24 hours.
pub(crate) type Day = u32;

const DAY: Micros = 86_400_000_000;

/// Conversion between times and days.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    /// Local standard time minus UTC, in microseconds.
    pub(crate) offset: Micros,
}

impl Days {
    pub(crate) fn day(self, time: Micros) -> Day {
        (time.saturating_add(self.offset).max(0) / DAY) as Day
    }

    pub(crate) fn start_of(self, day: Day) -> Micros {
        Micros::from(day) * DAY - self.offset
    }
}

pub(crate) fn is_weekend(day: Day) -> bool {
    // 1970-01-01 was a Thursday.
    (day + 3) % 7 >= 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturdays_and_sundays_are_weekends() {
        let weekend: Vec<Day> = (20_458..20_465).filter(|&day| is_weekend(day)).collect();
        assert_eq!(weekend, [20_463, 20_464], "2026-01-10 and -11");
    }
}
