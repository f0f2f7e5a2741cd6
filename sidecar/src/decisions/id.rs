//! The name of a refusal.

use std::fmt;

use jiff::Timestamp;

/// Names a refusal: what its client is told, and what an operator asks with. A ULID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId([u8; 26]);

impl DecisionId {
    pub const LENGTH: usize = 26;

    /// `None`: these are not the characters of an id.
    pub fn read(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        bytes
            .iter()
            .all(|byte| CROCKFORD.contains(byte))
            .then_some(Self(bytes))
    }

    pub(super) fn new(now: Timestamp) -> Self {
        let mut random = [0_u8; 10];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            // The id must only be unlikely to repeat; the time is in it too.
            let fraction = weft_daemon::backoff::random_fraction().to_be_bytes();
            random
                .iter_mut()
                .zip(fraction)
                .for_each(|(to, from)| *to = from);
        }
        Self::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random)
    }

    /// 48 bits of milliseconds and 80 random bits, five bits a character, most significant first.
    pub(super) fn from_parts(millis: u64, random: [u8; 10]) -> Self {
        let tail = random
            .iter()
            .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let bits = u128::from(millis & 0xffff_ffff_ffff) << 80 | tail;
        let mut text = [b'0'; 26];
        for (at, character) in text.iter_mut().rev().enumerate() {
            let five = usize::try_from(bits >> (5 * at) & 31).unwrap_or(0);
            *character = CROCKFORD.get(five).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
