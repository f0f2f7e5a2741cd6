//! Points and lengths of time on the wire.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{ConversionError, Problem};

/// Reads a point in time; refuses what protobuf's definition of it refuses.
pub fn read_timestamp(time: &prost_types::Timestamp) -> Result<Timestamp, ConversionError> {
    if !(0..NANOS_PER_SECOND).contains(&time.nanos) {
        return Err(Problem::Timestamp.into());
    }
    Timestamp::new(time.seconds, time.nanos).map_err(|_| Problem::Timestamp.into())
}

/// Reads a point in time that may be absent.
pub fn read_optional_timestamp(
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, ConversionError> {
    time.map(read_timestamp).transpose()
}

pub fn write_timestamp(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    // jiff counts towards zero, protobuf always forward.
    if nanos < 0 {
        prost_types::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + NANOS_PER_SECOND,
        }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

/// Reads a length of time; a negative one is refused.
pub fn read_duration(length: &prost_types::Duration) -> Result<Duration, ConversionError> {
    let seconds = u64::try_from(length.seconds).map_err(|_| Problem::Duration)?;
    let nanos = u32::try_from(length.nanos).map_err(|_| Problem::Duration)?;
    if seconds > MOST_SECONDS || nanos >= NANOS_PER_SECOND.unsigned_abs() {
        return Err(Problem::Duration.into());
    }
    Ok(Duration::new(seconds, nanos))
}

/// Writes a length of time; longer than protobuf's longest (10,000 years) becomes that.
pub fn write_duration(length: Duration) -> prost_types::Duration {
    let length = length.min(Duration::from_secs(MOST_SECONDS));
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

const NANOS_PER_SECOND: i32 = 1_000_000_000;
const MOST_SECONDS: u64 = 315_576_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_timestamp_round_trips(seconds in -377_705_023_201i64..=253_402_207_200, nanos in 0..NANOS_PER_SECOND) {
            prop_assume!(Timestamp::new(seconds, nanos).is_ok());
            let time = Timestamp::new(seconds, nanos).unwrap();
            let written = write_timestamp(time);
            prop_assert!((0..NANOS_PER_SECOND).contains(&written.nanos));
            prop_assert_eq!(read_timestamp(&written).unwrap(), time);
        }

        #[test]
        fn every_duration_round_trips(seconds in 0..=MOST_SECONDS, nanos in 0u32..1_000_000_000) {
            prop_assume!(seconds < MOST_SECONDS || nanos == 0);
            let length = Duration::new(seconds, nanos);
            prop_assert_eq!(read_duration(&write_duration(length)).unwrap(), length);
        }

        #[test]
        fn no_message_panics(seconds in any::<i64>(), nanos in any::<i32>()) {
            let _ = read_timestamp(&prost_types::Timestamp { seconds, nanos });
            let _ = read_duration(&prost_types::Duration { seconds, nanos });
        }
    }

    #[test]
    fn negative_lengths_are_refused() {
        assert!(
            read_duration(&prost_types::Duration {
                seconds: -1,
                nanos: 0
            })
            .is_err()
        );
        assert!(
            read_duration(&prost_types::Duration {
                seconds: 0,
                nanos: -1
            })
            .is_err()
        );
    }
}
