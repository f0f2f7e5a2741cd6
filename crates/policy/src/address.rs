//! Ranges of addresses, as `fromAddresses` of a rule lists them.
//!
//! Invariant: no bit beyond the prefix is set, and no range is one of IPv4-mapped addresses; so a range has one value and one text.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::pattern::{PatternError, string_form};

/// `10.1.0.0/16`, or `10.1.2.3` for one address; of IPv4 or of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    network: IpAddr,
    /// In bits, of 32 or 128.
    length: u8,
}

/// An address or the network of a range, for comparing: its bits stand at the top, whatever the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Bits {
    pub(crate) is_v4: bool,
    pub(crate) value: u128,
}

impl AddressRange {
    /// Whether the address lies in it. An IPv4-mapped address is its IPv4 address, to every system.
    pub fn matches(&self, address: IpAddr) -> bool {
        let address = Bits::of(address);
        self.bits().with(self.length, address)
    }

    /// Whether all of the other range lies in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.bits().with(self.length, other.bits())
    }

    /// Whether it is every address of its family.
    pub fn is_everything(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn bits(&self) -> Bits {
        Bits::of(self.network)
    }

    pub(crate) fn length(&self) -> u8 {
        self.length
    }
}

impl Bits {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self {
                is_v4: true,
                value: u128::from(address.to_bits()) << V4_SHIFT,
            },
            IpAddr::V6(address) => Self {
                is_v4: false,
                value: address.to_bits(),
            },
        }
    }

    /// Whether this, of which nothing beyond `length` is set, is the beginning of the other.
    fn with(self, length: u8, other: Self) -> bool {
        self.is_v4 == other.is_v4 && self.value == other.value & mask(length)
    }
}

/// The range of this one address.
impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        let network = address.to_canonical();
        Self {
            network,
            length: bits_of(network),
        }
    }
}

impl FromStr for AddressRange {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem: &str| PatternError::new(WHAT, text, problem);
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| error(SHAPE))?;
        if network.to_canonical() != network {
            return Err(error(
                "write the IPv4 address itself: a source that is mapped into IPv6 is judged as that",
            ));
        }
        let most = bits_of(network);
        let length = match length {
            None => most,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or_else(|| error(SHAPE))?,
            Some(_) => return Err(error(SHAPE)),
        };
        let canonical = Self {
            network: masked(network, length),
            length,
        };
        if canonical.network != network {
            return Err(error(&format!(
                "bits beyond the prefix are set; the range is {canonical}"
            )));
        }
        Ok(canonical)
    }
}

/// One address stands without a length.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, length } = self;
        if *length == bits_of(*network) {
            write!(f, "{network}")
        } else {
            write!(f, "{network}/{length}")
        }
    }
}

string_form!(
    AddressRange,
    "a range of addresses, `10.1.0.0/16` or `fd00::/8`, or one address"
);

fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        // the same bits at the other end, so that one mask serves both
        IpAddr::V4(address) => {
            let bits = (u128::from(address.to_bits()) << V4_SHIFT) & mask(length);
            let bits = u32::try_from(bits >> V4_SHIFT).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(bits))
        }
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask(length))),
    }
}

/// The first `length` of 128 bits.
fn mask(length: u8) -> u128 {
    let rest = 128_u32.saturating_sub(u32::from(length));
    u128::MAX.checked_shl(rest).unwrap_or(0)
}

const V4_SHIFT: u32 = 96;
const WHAT: &str = "a range of addresses";
const SHAPE: &str = "expected an address, or one and the length of its prefix: `10.1.0.0/16`";

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_has_one_text() {
        for (text, shown) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("FD00::0/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::1/128", "::1"),
            ("128.0.0.0/1", "128.0.0.0/1"),
        ] {
            assert_eq!(range(text).to_string(), shown);
            assert_eq!(range(shown), range(text));
        }
    }

    #[test]
    fn what_is_no_range_is_an_error_that_says_why() {
        for (text, problem) in [
            ("", "expected an address"),
            ("10.1/16", "expected an address"),
            ("10.1.0.0/", "expected an address"),
            ("10.1.0.0/33", "expected an address"),
            ("10.1.0.0/256", "expected an address"),
            ("10.1.0.0/+8", "expected an address"),
            ("10.1.0.0/8/8", "expected an address"),
            ("010.0.0.0/8", "expected an address"),
            ("fe80::1%eth0", "expected an address"),
            ("[::1]", "expected an address"),
            ("::/129", "expected an address"),
            ("*", "expected an address"),
            ("10.1.0.1/16", "the range is 10.1.0.0/16"),
            ("fd00::1/8", "the range is fd00::/8"),
            ("1.2.3.4/0", "the range is 0.0.0.0/0"),
            ("::ffff:10.0.0.0/104", "the IPv4 address itself"),
            ("::ffff:10.0.0.1", "the IPv4 address itself"),
        ] {
            let error = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_lies_in_ranges_of_its_family_and_a_mapped_one_is_ipv4() {
        for (text, address, expected) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("::/0", "10.1.2.3", false),
            ("::/0", "::ffff:10.1.2.3", false),
            // bits that are equal in another family
            ("a01::/16", "10.1.2.3", false),
            ("10.1.0.0/16", "a01:203::", false),
            ("0.0.0.0/0", "::1", false),
            // no other notation is unwrapped
            ("10.1.0.0/16", "64:ff9b::a01:203", false),
            ("10.1.0.0/16", "::10.1.2.3", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(range(text).matches(address), expected, "{text} {address}");
        }
    }

    #[test]
    fn a_range_contains_those_that_begin_with_it() {
        for (wide, narrow, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("::/0", "10.0.0.0/8", false),
            ("::/0", "fd00::/8", true),
        ] {
            assert_eq!(
                range(wide).contains(&range(narrow)),
                expected,
                "{wide} {narrow}"
            );
        }
    }
}
