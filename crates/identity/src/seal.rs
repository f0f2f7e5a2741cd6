//! Encryption of what the control plane must keep at rest.
//!
//! Sealed form: a version byte, the 12-byte nonce, then AES-256-GCM ciphertext with its tag. The context (what the value is
//! and whose) is authenticated, so that one sealed value cannot be put in another's place.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::{Zeroize, Zeroizing};

/// The operator's key, which never lies under the state folder.
#[derive(Clone)]
pub struct WrappingKey(Zeroizing<[u8; KEY_LEN]>);

impl WrappingKey {
    pub fn new(bytes: [u8; KEY_LEN]) -> Result<Self, WrappingKeyError> {
        if bytes == [0; KEY_LEN] {
            return Err(WrappingKeyError::Zero);
        }
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Reads 32 bytes written as 64 hexadecimal digits or as base64; white space around them is ignored.
    pub fn parse(text: &str) -> Result<Self, WrappingKeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(WrappingKeyError::Empty);
        }
        let mut decoded = decode_hex(text)
            .or_else(|| decode_base64(text))
            .ok_or(WrappingKeyError::Encoding)?;
        let found = decoded.len();
        let bytes = <[u8; KEY_LEN]>::try_from(decoded.as_slice())
            .map_err(|_| WrappingKeyError::Length { found });
        decoded.zeroize();
        Self::new(bytes?)
    }

    /// The form that is written to the operator's key file; [`WrappingKey::parse`] reads it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        text
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        let key =
            UnboundKey::new(&AES_256_GCM, self.0.as_slice()).map_err(|_| SealError::Cipher)?;
        Ok(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrappingKey(redacted)")
    }
}

/// `nonce` must be fresh random bytes: the same one twice under one key breaks the encryption.
pub fn seal(
    key: &WrappingKey,
    context: &[u8],
    plain: &[u8],
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, SealError> {
    // The buffer is large enough from the start, so that no growth leaves plaintext behind in freed memory.
    let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    body.extend_from_slice(plain);
    let sealed = key.cipher()?.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(context),
        &mut body,
    );
    if sealed.is_err() {
        body.zeroize();
        return Err(SealError::Cipher);
    }
    let mut out = Vec::with_capacity(1 + NONCE_LEN + body.len());
    out.push(VERSION);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&body);
    Ok(out)
}

pub fn open(
    key: &WrappingKey,
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (version, rest) = sealed.split_first().ok_or(SealError::Truncated)?;
    if *version != VERSION {
        return Err(SealError::Version { found: *version });
    }
    let (nonce, body) = rest
        .split_at_checked(NONCE_LEN)
        .ok_or(SealError::Truncated)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Truncated)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key
        .cipher()?
        .open_in_place(nonce, Aad::from(context), &mut body)
        .map_err(|_| SealError::Refused)?
        .len();
    body.truncate(length);
    Ok(body)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_LEN {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            pair.iter()
                .try_fold(0u8, |byte, next| Some(byte << 4 | digit(*next)?))
        })
        .collect()
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrappingKeyError {
    #[error("the wrapping key is empty")]
    Empty,
    #[error("the wrapping key is neither 64 hexadecimal digits nor base64")]
    Encoding,
    #[error("the wrapping key has {found} bytes; it needs 32")]
    Length { found: usize },
    #[error("the wrapping key is all zeros")]
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the sealed value is cut short")]
    Truncated,
    #[error("the sealed value has format {found}, which this version does not know")]
    Version { found: u8 },
    #[error("the sealed value was made under another key, or was changed or moved")]
    Refused,
    #[error("the cipher failed")]
    Cipher,
}

const KEY_LEN: usize = 32;
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> WrappingKey {
        WrappingKey::new([7; 32]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_and_context_only() {
        let sealed = seal(&key(), b"root", b"secret", [1; 12]).unwrap();
        assert_eq!(
            open(&key(), b"root", &sealed).unwrap().as_slice(),
            b"secret"
        );
        assert_eq!(open(&key(), b"other", &sealed), Err(SealError::Refused));
        assert_eq!(
            open(&WrappingKey::new([8; 32]).unwrap(), b"root", &sealed),
            Err(SealError::Refused)
        );
    }

    #[test]
    fn row_10_a_sealed_value_shows_nothing_and_any_change_is_noticed() {
        let secret = b"-----a private key-----";
        let sealed = seal(&key(), b"root", secret, [1; 12]).unwrap();
        assert!(
            !sealed
                .windows(4)
                .any(|part| secret.windows(4).any(|of| of == part))
        );
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&key(), b"root", &changed).is_err(), "byte {position}");
            assert!(
                open(&key(), b"root", &sealed[..position]).is_err(),
                "cut at {position}"
            );
        }
    }

    #[test]
    fn keys_are_read_as_hex_or_base64_and_refused_with_the_reason() {
        let hex = "0123456789abcdef".repeat(4);
        let key = WrappingKey::parse(&format!(" {hex}\n")).unwrap();
        assert_eq!(*key.to_text(), hex);
        let base64 = base64::engine::general_purpose::STANDARD.encode([0xfb; 32]);
        for text in [
            base64.as_str(),
            base64.trim_end_matches('='),
            &base64.replace('+', "-").replace('/', "_"),
        ] {
            assert_eq!(
                *WrappingKey::parse(text).unwrap().to_text(),
                "fb".repeat(32)
            );
        }
        for (text, error) in [
            ("", WrappingKeyError::Empty),
            (" \n", WrappingKeyError::Empty),
            ("not a key!", WrappingKeyError::Encoding),
            ("AAAA", WrappingKeyError::Length { found: 3 }),
            (&"00".repeat(32), WrappingKeyError::Zero),
            (&"0g".repeat(32), WrappingKeyError::Length { found: 48 }),
        ] {
            assert_eq!(WrappingKey::parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(format!("{key:?}"), "WrappingKey(redacted)");
    }
}
