//! Times and durations between protobuf, the command line and the reader.

use jiff::{SignedDuration, Timestamp};

pub(crate) fn moment(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

pub(crate) fn length(duration: Option<prost_types::Duration>) -> Option<SignedDuration> {
    duration.and_then(|duration| SignedDuration::try_new(duration.seconds, duration.nanos))
}

pub(crate) fn proto_moment(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

pub(crate) fn proto_length(duration: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

/// `2026-11-24T04:12:33Z`, or a dash.
pub(crate) fn shown(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}

/// The time for JSON: absent when unknown.
pub(crate) fn exact(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// The two largest units: `23h 59m`, `45s`, `0s`.
pub(crate) fn rough(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text.join(" ") }
}

/// A duration on the command line: `30s`, `2m`, `1h 30m`; never negative.
pub(crate) fn parse_length(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if !duration.is_negative() => Ok(duration),
        Ok(_) => Err("a duration cannot be negative".to_owned()),
        Err(_) => Err("expected a duration such as 500ms, 30s, 2m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        for (seconds, shown) in [(0, "0s"), (45, "45s"), (60, "1m"), (86_399, "23h 59m"), (86_400, "1d"), (90_061, "1d 1h")] {
            assert_eq!(rough(SignedDuration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_length("500ms").unwrap(), SignedDuration::from_millis(500));
        assert_eq!(parse_length("2m").unwrap(), SignedDuration::from_secs(120));
        assert!(parse_length("30").is_err());
        assert!(parse_length("-3s").is_err());
    }
}
