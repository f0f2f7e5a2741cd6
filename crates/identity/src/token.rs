//! The one-time join token: the first proof of a workload that has no certificate yet.
//!
//! Text form: `wjt1.<secret>.<root fingerprint>.<trust domain>`, the two in base64url without padding. It proves both ways:
//! the secret to the control plane, the fingerprint to the workload.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{
    bundle::{TrustBundle, fingerprint, sha256},
    name::NameError,
    spiffe::TrustDomain,
};

#[derive(Clone)]
pub struct JoinToken {
    secret: Zeroizing<[u8; 32]>,
    root_fingerprint: [u8; 32],
    trust_domain: TrustDomain,
}

impl JoinToken {
    /// `secret` is 32 fresh random bytes.
    pub fn new(secret: [u8; 32], root_fingerprint: [u8; 32], trust_domain: TrustDomain) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            root_fingerprint,
            trust_domain,
        }
    }

    /// What the control plane keeps of it: SHA-256 of a secret of full entropy cannot be turned back.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn root_fingerprint(&self) -> &[u8; 32] {
        &self.root_fingerprint
    }

    /// The bundle to verify the control plane with at first contact: the one certificate, among those that the server sent,
    /// which this token pins. The server's chain therefore ends with the root there.
    pub fn pinned_bundle(
        &self,
        presented: &[CertificateDer<'_>],
    ) -> Result<TrustBundle, TokenError> {
        let root = presented
            .iter()
            .find(|certificate| fingerprint(certificate) == self.root_fingerprint)
            .ok_or(TokenError::RootNotPresented)?;
        TrustBundle::new(
            self.trust_domain.clone(),
            vec![root.clone().into_owned()],
            0,
        )
        .map_err(|_| TokenError::RootNotPresented)
    }

    /// The token as a user passes it on.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_slice()));
        let root = URL_SAFE_NO_PAD.encode(self.root_fingerprint);
        Zeroizing::new(format!("{PREFIX}.{}.{root}.{}", *secret, self.trust_domain))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().splitn(4, '.');
        let (Some(prefix), Some(secret), Some(root), Some(trust_domain)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Shape);
        };
        if prefix != PREFIX {
            return Err(TokenError::Shape);
        }
        let trust_domain = trust_domain.parse().map_err(TokenError::TrustDomain)?;
        Ok(Self {
            secret: Zeroizing::new(decode(secret)?),
            root_fingerprint: decode(root)?,
            trust_domain,
        })
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({}, secret redacted)", self.trust_domain)
    }
}

fn decode(text: &str) -> Result<[u8; 32], TokenError> {
    let bytes = Zeroizing::new(
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| TokenError::Encoding)?,
    );
    bytes
        .as_slice()
        .try_into()
        .map_err(|_| TokenError::Encoding)
}

/// None of these quotes the token: it would end in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("a join token looks like `{PREFIX}.SECRET.ROOT.TRUST-DOMAIN`; was all of it copied?")]
    Shape,
    #[error("the join token's secret or fingerprint is damaged; was all of it copied?")]
    Encoding,
    #[error("the join token's trust domain cannot be read")]
    TrustDomain(#[source] NameError),
    #[error("the server did not present the root that the join token pins")]
    RootNotPresented,
}

const PREFIX: &str = "wjt1";

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new([1; 32], [2; 32], "weft.local".parse().unwrap())
    }

    #[test]
    fn a_token_survives_its_text_form() {
        let read: JoinToken = format!("{}\n", *token().to_text()).parse().unwrap();
        assert_eq!(read.hash(), token().hash());
        assert_eq!(read.root_fingerprint(), &[2; 32]);
        assert_eq!(read.trust_domain().as_str(), "weft.local");
    }

    #[test]
    fn damaged_tokens_are_refused_and_never_quoted() {
        let good = token().to_text();
        for text in [
            "",
            "wjt1",
            "wjt1...",
            "wjt2.a.b.c",
            &good[..20],
            &good.replace("weft.local", "Weft"),
            &good.replace("AQEB", "A*EB"),
            &good.replacen("AQEB", "", 1),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err();
            assert!(
                text.is_empty() || !error.to_string().contains("AQEB"),
                "{error}"
            );
        }
        assert_eq!(
            format!("{:?}", token()),
            "JoinToken(weft.local, secret redacted)"
        );
    }

    #[test]
    fn the_hash_is_not_the_secret() {
        assert_ne!(token().hash(), [1; 32]);
        assert_ne!(
            token().hash(),
            JoinToken::new([3; 32], [2; 32], "weft.local".parse().unwrap()).hash()
        );
    }
}
