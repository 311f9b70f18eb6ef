//! The zone that agentvm writes times in: `America/New_York`, RFC 3339 with its offset. The one
//! module that knows it.

use jiff::{Timestamp, fmt::strtime, tz::TimeZone};

/// The zone. It is compiled in, so that a host without zone data writes the same.
const ZONE: &str = "America/New_York";

/// `2026-11-20T15:04:05.123-05:00`.
pub fn text(time: Timestamp) -> String {
    let zone = TimeZone::get(ZONE).unwrap_or(TimeZone::UTC);
    let zoned = time.to_zoned(zone);
    strtime::format("%Y-%m-%dT%H:%M:%S%.3f%:z", &zoned).unwrap_or_else(|_| time.to_string())
}

/// Reads a time that [`text`] wrote (any RFC 3339 time).
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_the_offset_of_new_york() {
        let winter: Timestamp = "2026-11-20T20:04:05.123Z".parse().unwrap();
        let summer: Timestamp = "2026-07-01T04:00:00Z".parse().unwrap();
        assert_eq!(text(winter), "2026-11-20T15:04:05.123-05:00");
        assert_eq!(text(summer), "2026-07-01T00:00:00.000-04:00");
        assert_eq!(parse(&text(winter)), Some(winter));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0_i64..4_102_444_800_000) {
            let time = Timestamp::from_millisecond(millis).unwrap();
            proptest::prop_assert_eq!(parse(&text(time)), Some(time));
        }
    }
}
