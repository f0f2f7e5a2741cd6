//! Lengths of time as people write them in documents: `90s`, `24h`, `1h30m`.
//!
//! Invariant: a length is a whole number of milliseconds, so that what was read is what is written again.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length {
    millis: u64,
}

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    #[error("`{0}` is not a length of time; write for example `90s`, `24h` or `1h30m`")]
    Unreadable(String),
    #[error("`{0}` is longer than any length of time that is supported")]
    TooLong(String),
    #[error("a length of time must be a whole number of milliseconds")]
    NotWholeMilliseconds,
}

impl Length {
    pub fn get(self) -> Duration {
        Duration::from_millis(self.millis)
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self {
            millis: seconds * SECOND,
        }
    }

    /// Rounded down to whole milliseconds.
    pub(crate) fn half(self) -> Self {
        Self {
            millis: self.millis / 2,
        }
    }
}

impl TryFrom<Duration> for Length {
    type Error = LengthError;

    fn try_from(duration: Duration) -> Result<Self, LengthError> {
        if !duration.subsec_nanos().is_multiple_of(NANOS_PER_MILLI) {
            return Err(LengthError::NotWholeMilliseconds);
        }
        let millis = u64::try_from(duration.as_millis())
            .map_err(|_| LengthError::TooLong(format!("{duration:?}")))?;
        Ok(Self { millis })
    }
}

impl FromStr for Length {
    type Err = LengthError;

    fn from_str(text: &str) -> Result<Self, LengthError> {
        let unreadable = || LengthError::Unreadable(text.to_owned());
        let too_long = || LengthError::TooLong(text.to_owned());
        let mut rest = text;
        let mut total: u64 = 0;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let (number, tail) = split_digits(rest).ok_or_else(unreadable)?;
            let (millis, tail) = split_unit(tail).ok_or_else(unreadable)?;
            if millis >= smallest {
                return Err(unreadable());
            }
            smallest = millis;
            rest = tail;
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let part = number.checked_mul(millis).ok_or_else(too_long)?;
            total = total.checked_add(part).ok_or_else(too_long)?;
        }
        if smallest == u64::MAX {
            return Err(unreadable());
        }
        Ok(Self { millis: total })
    }
}

impl fmt::Display for Length {
    /// The largest unit up to hours that leaves no rest, as `24h` reads better than `1d` beside `90s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.millis;
        let (unit, size) = match millis {
            0 => ("s", SECOND),
            _ if millis.is_multiple_of(HOUR) => ("h", HOUR),
            _ if millis.is_multiple_of(MINUTE) => ("m", MINUTE),
            _ if millis.is_multiple_of(SECOND) => ("s", SECOND),
            _ => ("ms", 1),
        };
        write!(f, "{}{unit}", millis / size)
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Length {
    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time, such as 90s, 24h or 1h30m.",
            "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
            "minLength": 2,
        })
    }
}

fn split_digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    if end == 0 {
        None
    } else {
        text.split_at_checked(end)
    }
}

/// The unit's milliseconds, and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(text.len());
    let (unit, tail) = text.split_at_checked(end)?;
    let millis = match unit {
        "d" => DAY,
        "h" => HOUR,
        "m" => MINUTE,
        "s" => SECOND,
        "ms" => 1,
        _ => return None,
    };
    Some((millis, tail))
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const NANOS_PER_MILLI: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(
                text.parse::<Length>().unwrap().get(),
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        assert_eq!(
            "250ms".parse::<Length>().unwrap().get(),
            Duration::from_millis(250)
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "s",
            "90",
            "-1s",
            "1.5h",
            "1s1h",
            "1h1h",
            "1 h",
            "1w",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_is_written_in_its_largest_even_unit() {
        for (text, written) in [
            ("90s", "90s"),
            ("120s", "2m"),
            ("7d", "168h"),
            ("1h30m", "90m"),
            ("1500ms", "1500ms"),
        ] {
            assert_eq!(text.parse::<Length>().unwrap().to_string(), written);
        }
    }

    proptest! {
        #[test]
        fn every_length_survives_being_written(millis in any::<u64>()) {
            let length = Length::try_from(Duration::from_millis(millis)).unwrap();
            prop_assert_eq!(length.to_string().parse::<Length>().unwrap(), length);
        }
    }
}
