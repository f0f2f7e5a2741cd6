//! Times and durations between protobuf, the command line and the reader.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weft_wire::{read_duration, read_timestamp, write_duration};

/// A point in time of an answer; `None` when it is absent or not a time.
pub(crate) fn moment(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| read_timestamp(&time).ok())
}

pub(crate) fn length(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| read_duration(&duration).ok())
}

pub(crate) fn proto_length(duration: SignedDuration) -> prost_types::Duration {
    write_duration(duration.unsigned_abs())
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
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text.join(" ")
    }
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
        for (seconds, shown) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (86_399, "23h 59m"),
            (86_400, "1d"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(rough(SignedDuration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(
            parse_length("500ms").unwrap(),
            SignedDuration::from_millis(500)
        );
        assert_eq!(parse_length("2m").unwrap(), SignedDuration::from_secs(120));
        assert!(parse_length("30").is_err());
        assert!(parse_length("-3s").is_err());
    }
}
