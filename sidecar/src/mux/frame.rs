//! The frames of `weft/1`: eight bytes of header, and for three kinds a payload.
//!
//! ```text
//!  0        1                 4                          8
//! +--------+-----------------+--------------------------+------------------
//! |  kind  |  slot, 24 bits  |  value, 32 bits          |  payload
//! +--------+-----------------+--------------------------+------------------
//! ```
//! Numbers are big-endian. `value` is the payload's length for `Open`, `Data` and `Refused`; the other kinds have no payload. A frame of an unknown
//! kind, for an impossible slot or of an impossible length ends the connection: the version is in the ALPN, so nobody has a reason to send
//! one.

use thiserror::Error;

use crate::decisions::DecisionId;

/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// Longest payload of one `Data`: two TLS records. More would let one stream hold the connection for longer.
pub const MOST_DATA: usize = 32 * 1024;
/// What is sent at most in one `Data`: with its header it fills two TLS records, so that bulk never ends in a record of a few bytes.
pub const FULL_DATA: usize = MOST_DATA - HEADER;
/// Longest payload of one `Open`: a kind and a server name.
pub const MOST_OPEN: usize = 1 + 255;
/// Payload of one `Refused`: a decision id.
pub const REFUSAL: usize = DecisionId::LENGTH;
/// Slots are numbered from 1 to this.
pub const LAST_SLOT: u32 = 0x00ff_ffff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client begins to use a slot; the payload is what it carries and the server name that it is for.
    Open,
    Data,
    /// The sender sends no more on this slot.
    End,
    /// The sender's last word on this slot, after both sides sent their `End`.
    Close,
    /// The sender's last word on this slot, whatever was still to come.
    Reset,
    /// The sender takes so many more bytes on this slot.
    Credit,
    /// The sender wants no further use of this connection (slot 0). What is open goes on.
    GoAway,
    /// To be answered with a `Pong` of the same value (slot 0).
    Ping,
    Pong,
    /// The sender's last word on this slot, whatever was still to come: it was refused, and the payload is the decision's id.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub slot: u32,
    pub value: u32,
}

/// Why a peer's bytes are no `weft/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("a frame of an unknown kind")]
    Kind,
    #[error("a frame for an impossible slot")]
    Slot,
    #[error("a frame of an impossible length")]
    Length,
    #[error("an opening that cannot be read")]
    Open,
    #[error("a refusal without a decision's id")]
    Refusal,
    #[error("more slots than agreed")]
    TooManySlots,
    #[error("more bytes than credit was given for")]
    Credit,
    #[error("more to be answered than it reads the answers of")]
    Flood,
}

impl Header {
    pub fn read(bytes: [u8; HEADER]) -> Result<Self, Fault> {
        let [kind, a, b, c, v0, v1, v2, v3] = bytes;
        let header = Self {
            kind: Kind::read(kind)?,
            slot: u32::from_be_bytes([0, a, b, c]),
            value: u32::from_be_bytes([v0, v1, v2, v3]),
        };
        header.check()?;
        Ok(header)
    }

    pub fn write(self, out: &mut Vec<u8>) {
        let [_, a, b, c] = self.slot.to_be_bytes();
        let [v0, v1, v2, v3] = self.value.to_be_bytes();
        out.extend_from_slice(&[self.kind.number(), a, b, c, v0, v1, v2, v3]);
    }

    /// Bytes of payload that follow.
    pub fn payload(self) -> usize {
        match self.kind {
            Kind::Open | Kind::Data | Kind::Refused => {
                usize::try_from(self.value).unwrap_or(usize::MAX)
            }
            Kind::End
            | Kind::Close
            | Kind::Reset
            | Kind::Credit
            | Kind::GoAway
            | Kind::Ping
            | Kind::Pong => 0,
        }
    }

    fn check(self) -> Result<(), Fault> {
        let of_a_slot = match self.kind {
            Kind::Open
            | Kind::Data
            | Kind::End
            | Kind::Close
            | Kind::Reset
            | Kind::Refused
            | Kind::Credit => true,
            Kind::GoAway | Kind::Ping | Kind::Pong => false,
        };
        if of_a_slot != (self.slot != 0) {
            return Err(Fault::Slot);
        }
        let longest = match self.kind {
            Kind::Open => MOST_OPEN,
            Kind::Data => MOST_DATA,
            Kind::Refused => REFUSAL,
            Kind::End
            | Kind::Close
            | Kind::Reset
            | Kind::Credit
            | Kind::GoAway
            | Kind::Ping
            | Kind::Pong => 0,
        };
        if self.payload() > longest || (self.kind == Kind::Refused && self.payload() != REFUSAL) {
            return Err(Fault::Length);
        }
        Ok(())
    }
}

impl Kind {
    fn read(number: u8) -> Result<Self, Fault> {
        Ok(match number {
            1 => Self::Open,
            2 => Self::Data,
            3 => Self::End,
            4 => Self::Close,
            5 => Self::Reset,
            6 => Self::Credit,
            7 => Self::GoAway,
            8 => Self::Ping,
            9 => Self::Pong,
            10 => Self::Refused,
            _ => return Err(Fault::Kind),
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Data => 2,
            Self::End => 3,
            Self::Close => 4,
            Self::Reset => 5,
            Self::Credit => 6,
            Self::GoAway => 7,
            Self::Ping => 8,
            Self::Pong => 9,
            Self::Refused => 10,
        }
    }
}

/// What a slot carries, as its opening says: what ALPN says of a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carried {
    Http1,
    Tcp,
}

impl Carried {
    /// Reads an opening: what it carries, and the server name that it is for.
    pub fn read_opening(payload: &[u8]) -> Result<(Self, &str), Fault> {
        let (kind, name) = payload.split_first().ok_or(Fault::Open)?;
        let carried = match kind {
            1 => Self::Http1,
            2 => Self::Tcp,
            _ => return Err(Fault::Open),
        };
        let name = std::str::from_utf8(name).map_err(|_| Fault::Open)?;
        if name.is_empty() {
            return Err(Fault::Open);
        }
        Ok((carried, name))
    }

    /// Writes an opening's payload.
    pub fn write_opening(self, name: &str, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Http1 => 1,
            Self::Tcp => 2,
        });
        out.extend_from_slice(name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: [u8; HEADER]) -> Result<Header, Fault> {
        Header::read(bytes)
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        for kind in 1..=10 {
            let kind = Kind::read(kind).unwrap();
            let slot = match kind {
                Kind::GoAway | Kind::Ping | Kind::Pong => 0,
                _ => LAST_SLOT,
            };
            let header = Header {
                kind,
                slot,
                value: if kind == Kind::Refused { 26 } else { 255 },
            };
            let mut out = Vec::new();
            header.write(&mut out);
            assert_eq!(read(out.try_into().unwrap()), Ok(header));
        }
    }

    #[test]
    fn row_16_impossible_frames_are_faults() {
        for (bytes, fault) in [
            ([0, 0, 0, 1, 0, 0, 0, 0], Fault::Kind),
            ([11, 0, 0, 1, 0, 0, 0, 0], Fault::Kind),
            ([10, 0, 0, 0, 0, 0, 0, 26], Fault::Slot),
            ([10, 0, 0, 1, 0, 0, 0, 25], Fault::Length),
            ([10, 0, 0, 1, 0, 0, 0, 27], Fault::Length),
            ([255; HEADER], Fault::Kind),
            ([2, 0, 0, 0, 0, 0, 0, 1], Fault::Slot),
            ([8, 0, 0, 1, 0, 0, 0, 1], Fault::Slot),
            ([2, 0, 0, 1, 0, 0, 0x80, 1], Fault::Length),
            ([1, 0, 0, 1, 0, 0, 1, 1], Fault::Length),
            ([2, 0, 0, 1, 255, 255, 255, 255], Fault::Length),
        ] {
            assert_eq!(read(bytes), Err(fault), "{bytes:?}");
        }
        for payload in [&b""[..], b"\x01", b"\x00a", b"\x03a", b"\x01\xff\xfe"] {
            assert_eq!(
                Carried::read_opening(payload),
                Err(Fault::Open),
                "{payload:?}"
            );
        }
    }
}
