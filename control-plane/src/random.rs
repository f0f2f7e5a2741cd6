//! The system's randomness, where pure code asks for it as an argument.

/// Fresh random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system always has randomness");
    bytes
}

/// A positive certificate serial.
pub(crate) fn serial() -> [u8; 16] {
    let mut serial = bytes::<16>();
    // RFC 5280 §4.1.2.2: positive, and this way never zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
