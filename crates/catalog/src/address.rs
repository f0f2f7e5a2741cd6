//! Which addresses a name of the world outside may lead to.
//!
//! Whoever answers for a name in DNS chooses its addresses, so an address is judged after it was resolved, and in every notation in which
//! an IPv4 address travels inside an IPv6 one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of addresses.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

/// Why a text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("expected an address and the length of its prefix: `10.1.0.0/16`")]
    Shape,
    #[error("bits beyond the prefix are set; the range is {0}")]
    HostBits(Cidr),
}

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Anywhere on the internet.
    Public,
    /// A private network, a carrier's or a benchmark's: where the mesh itself lives.
    Private,
    Loopback,
    LinkLocal,
    /// Where clouds give credentials to whoever asks.
    Metadata,
    /// No single host: unspecified, multicast, broadcast, reserved.
    Nowhere,
}

impl AddressKind {
    pub fn of(address: IpAddr) -> Self {
        // A mapped address is the IPv4 address to every system.
        let address = address.to_canonical();
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => match embedded(address).map(|inner| Self::of(inner.into())) {
                // The outer form leads to where the inner one does.
                Some(inner) if inner != Self::Public => inner,
                Some(_) | None => of_v6(address),
            },
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Nowhere => "not a host's",
        }
    }
}

impl Cidr {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                network.to_bits() == address.to_bits() & mask_v4(self.length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                network.to_bits() == address.to_bits() & mask_v6(self.length)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is one address.
    pub fn is_single(&self) -> bool {
        self.length == bits_of(self.network)
    }
}

/// Whether an address may be dialled for an external service that lists these ranges.
pub fn may_dial(address: IpAddr, allowed: &[Cidr]) -> Result<(), AddressKind> {
    let address = address.to_canonical();
    let kind = AddressKind::of(address);
    let mut listed = allowed.iter().filter(|range| range.contains(address));
    let is_allowed = match kind {
        AddressKind::Public => true,
        AddressKind::Private | AddressKind::Loopback | AddressKind::LinkLocal => {
            listed.next().is_some()
        }
        // Nobody lists it by the way, as a part of something larger.
        AddressKind::Metadata => listed.any(Cidr::is_single),
        AddressKind::Nowhere => false,
    };
    if is_allowed { Ok(()) } else { Err(kind) }
}

fn of_v4(address: Ipv4Addr) -> AddressKind {
    let is_in = |a, b, c, d, length| {
        address.to_bits() & mask_v4(length) == Ipv4Addr::new(a, b, c, d).to_bits()
    };
    if address.is_loopback() {
        AddressKind::Loopback
    } else if address.is_link_local() {
        AddressKind::LinkLocal
    // Linux takes 0.0.0.0 for this host. RFC 1122 §3.2.1.3, RFC 5771, RFC 6890.
    } else if is_in(0, 0, 0, 0, 8) || is_in(224, 0, 0, 0, 3) {
        AddressKind::Nowhere
    // RFC 1918; RFC 6598 (carriers); RFC 6890 (protocol assignments); RFC 2544 (benchmarks).
    } else if address.is_private()
        || is_in(100, 64, 0, 0, 10)
        || is_in(192, 0, 0, 0, 24)
        || is_in(198, 18, 0, 0, 15)
    {
        AddressKind::Private
    } else {
        AddressKind::Public
    }
}

fn of_v6(address: Ipv6Addr) -> AddressKind {
    let [first, second, third, ..] = address.segments();
    if address.is_loopback() {
        AddressKind::Loopback
    } else if address.is_unspecified() || address.is_multicast() {
        AddressKind::Nowhere
    } else if address.is_unicast_link_local() {
        AddressKind::LinkLocal
    // RFC 4193; RFC 3879 (site-local, deprecated and yet routed by some); RFC 8215 (local translators).
    } else if address.is_unique_local()
        || first & 0xffc0 == 0xfec0
        || (first, second, third) == (0x64, 0xff9b, 1)
    {
        AddressKind::Private
    // RFC 4291 §2.4: global unicast is 2000::/3; NAT64 (RFC 6052) was judged by what is inside.
    } else if first & 0xe000 == 0x2000 || (first, second) == (0x64, 0xff9b) {
        AddressKind::Public
    } else {
        AddressKind::Nowhere
    }
}

/// The IPv4 address that an IPv6 address carries to a translator or the end of a tunnel.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let [first, second, third, fourth, fifth, sixth, ..] = address.segments();
    let low = || Some(Ipv4Addr::from_bits(low_bits(bits)));
    match (first, second) {
        // RFC 4291 §2.5.5.1, compatible; `::` and `::1` are none.
        (0, 0) if (third, fourth, fifth, sixth) == (0, 0, 0, 0) && bits > 1 => low(),
        // RFC 2765, translated.
        (0, 0) if (third, fourth, fifth, sixth) == (0, 0, 0xffff, 0) => low(),
        // RFC 6052 §2.1, NAT64.
        (0x64, 0xff9b) if (third, fourth, fifth, sixth) == (0, 0, 0, 0) => low(),
        // RFC 3056, 6to4.
        (0x2002, _) => Some(Ipv4Addr::from_bits(low_bits(bits >> 80))),
        // RFC 4380 §4, Teredo: the client's address, inverted.
        (0x2001, 0) => Some(Ipv4Addr::from_bits(!low_bits(bits))),
        // RFC 5214 §6.1, ISATAP.
        _ if sixth == 0x5efe && fifth & 0xfdff == 0 => low(),
        _ => None,
    }
}

fn low_bits(bits: u128) -> u32 {
    let [.., a, b, c, d] = bits.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(length.min(32)))
        .unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length.min(128)))
        .unwrap_or(0)
}

fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = text.split_once('/').ok_or(CidrError::Shape)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Shape)?;
        let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 = length.parse().map_err(|_| CidrError::Shape)?;
        // A mapped range would match nothing: addresses are compared in their IPv4 form.
        if !is_number || length > bits_of(address) || address.to_canonical() != address {
            return Err(CidrError::Shape);
        }
        let network = match address {
            IpAddr::V4(address) => {
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(length)))
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask_v6(length)))
            }
        };
        let range = Self { network, length };
        if network != address {
            return Err(CidrError::HostBits(range));
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

/// Of the large clouds; some of them lie in ranges that are not link-local.
const METADATA: &[IpAddr] = &[
    v4(169, 254, 169, 254),
    // Of containers and of pods.
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    v4(100, 100, 100, 200),
    v4(168, 63, 129, 16),
    v4(192, 0, 0, 192),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),
    v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_13_every_address_is_of_the_kind_that_it_leads_to() {
        use AddressKind::*;
        for (kind, addresses) in [
            (
                Public,
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 223.255.255.255 \
                      2606:4700::1111 2a00:1450:4001::1 64:ff9b::808:808 2002:808:808::1",
            ),
            (
                Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 192.0.0.8 198.18.0.1 198.19.0.1 \
                       fc00::1 fdff::1 fec0::1 64:ff9b:1::1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::10.0.0.1 2002:a00:1::1 \
                       2a00::5efe:10.0.0.1 2a00::200:5efe:10.0.0.1 2001:0:1:1:1:1:f5ff:fffe",
            ),
            (
                Loopback,
                "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 \
                        2002:7f00:1:: 2001:0:1:1:1:1:80ff:fffe",
            ),
            (
                LinkLocal,
                "169.254.0.1 169.254.255.255 fe80::1 febf::1 ::ffff:169.254.1.1 64:ff9b::169.254.1.1",
            ),
            (
                Metadata,
                "169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 \
                        fd20:ce::254 fe80::a9fe:a9fe ::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::",
            ),
            (
                Nowhere,
                "0.0.0.0 0.1.2.3 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ff02::1 ::ffff:0.0.0.0 64:ff9b::0.0.0.0 \
                       100::1 4000::1 8000::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                let read: IpAddr = address.parse().unwrap();
                assert_eq!(AddressKind::of(read), kind, "{address}");
            }
        }
    }

    #[test]
    fn row_19_only_public_addresses_need_no_listing() {
        let may = |address: &str, ranges: &[&str]| {
            let ranges: Vec<Cidr> = ranges.iter().map(|range| range.parse().unwrap()).collect();
            may_dial(address.parse().unwrap(), &ranges).is_ok()
        };
        for (address, ranges, expected) in [
            ("1.1.1.1", &[][..], true),
            ("10.1.0.1", &[], false),
            ("10.1.0.1", &["10.1.0.0/16"], true),
            ("::ffff:10.1.0.1", &["10.1.0.0/16"], true),
            ("10.2.0.1", &["10.1.0.0/16"], false),
            ("127.0.0.1", &["10.0.0.0/8"], false),
            ("127.0.0.1", &["127.0.0.0/8"], true),
            ("64:ff9b::7f00:1", &["127.0.0.0/8"], false),
            ("64:ff9b::7f00:1", &["64:ff9b::/96"], true),
            ("fd00::1", &["fd00::/8"], true),
            ("169.254.169.254", &["169.254.0.0/16"], false),
            ("169.254.169.254", &["0.0.0.0/0"], false),
            ("169.254.169.254", &["169.254.169.254/32"], true),
            ("0.0.0.0", &["0.0.0.0/0"], false),
            ("255.255.255.255", &["255.255.255.255/32"], false),
            ("::", &["::/0"], false),
        ] {
            assert_eq!(may(address, ranges), expected, "{address} {ranges:?}");
        }
    }

    #[test]
    fn a_range_is_read_as_it_is_written_and_no_other_way() {
        for text in [
            "10.1.0.0/16",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "fd00::/8",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in [
            "10.1.0.0",
            "10.1.0.0/",
            "10.1.0.0/33",
            "10.1/16",
            "10.1.0.0/+8",
            "10.1.0.1/16",
            "fd00::1/8",
            "::/129",
            "::ffff:10.0.0.0/104",
            "a/8",
            "/8",
            "010.0.0.0/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
