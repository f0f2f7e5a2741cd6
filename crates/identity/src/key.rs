//! A private key in memory: ECDSA P-256, wiped when it is dropped, shown to nobody.

use rcgen::{
    Error, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use zeroize::Zeroizing;

pub(crate) struct PrivateKey(Zeroizing<KeyPair>);

impl PrivateKey {
    pub(crate) fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|key| Self(Zeroizing::new(key)))
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let key = Zeroizing::new(KeyPair::try_from(der)?);
        if key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            Ok(Self(key))
        } else {
            Err(Error::UnsupportedSignatureAlgorithm)
        }
    }

    pub(crate) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message)
    }
}
