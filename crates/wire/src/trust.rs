//! What a sidecar must know to believe a peer, or to stop believing it: bundles and revocations.

use std::collections::HashSet;
use std::hash::Hash;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use weft_identity::{Revocations, Serial, SpiffeId, TrustBundle};

use crate::error::{At, ConversionError, Problem, check_schema, each};
use crate::v1;

impl TryFrom<&v1::TrustBundle> for TrustBundle {
    type Error = ConversionError;

    fn try_from(bundle: &v1::TrustBundle) -> Result<Self, ConversionError> {
        check_schema(bundle.schema)?;
        let trust_domain = bundle
            .trust_domain
            .parse()
            .map_err(Problem::Name)
            .at("trustDomain")?;
        let roots = bundle
            .roots
            .iter()
            .map(|root| CertificateDer::from(root.to_vec()))
            .collect();
        TrustBundle::new(trust_domain, roots, bundle.revision).at("roots")
    }
}

impl From<&TrustBundle> for v1::TrustBundle {
    fn from(bundle: &TrustBundle) -> Self {
        Self {
            schema: SCHEMA,
            trust_domain: bundle.trust_domain.to_string(),
            roots: bundle
                .roots
                .iter()
                .map(|root| Bytes::copy_from_slice(root))
                .collect(),
            revision: bundle.revision,
        }
    }
}

impl TryFrom<&v1::Revocations> for Revocations {
    type Error = ConversionError;

    fn try_from(revocations: &v1::Revocations) -> Result<Self, ConversionError> {
        check_schema(revocations.schema)?;
        let id = |text: &String| text.parse::<SpiffeId>();
        Ok(Self {
            identities: set(each(&revocations.identities, "identities", id)?),
            serials: set(each(&revocations.serials, "serials", read_serial)?),
            quarantined: set(each(&revocations.quarantined, "quarantined", id)?),
        })
    }
}

impl From<&Revocations> for v1::Revocations {
    /// In order, so that equal revocations are equal bytes.
    fn from(revocations: &Revocations) -> Self {
        Self {
            schema: SCHEMA,
            identities: sorted(&revocations.identities, ToString::to_string),
            serials: sorted(&revocations.serials, |serial| {
                Bytes::copy_from_slice(serial.as_bytes())
            }),
            quarantined: sorted(&revocations.quarantined, ToString::to_string),
        }
    }
}

/// Leading zeroes are refused, not removed: the sender and the reader must mean the same number.
fn read_serial(bytes: &Bytes) -> Result<Serial, Problem> {
    let serial = Serial::new(bytes);
    if bytes.len() > SERIAL_LIMIT_BYTES || serial.as_bytes() != bytes.as_ref() {
        return Err(Problem::Serial {
            limit: SERIAL_LIMIT_BYTES,
        });
    }
    Ok(serial)
}

fn set<T: Eq + Hash>(elements: Vec<T>) -> HashSet<T> {
    elements.into_iter().collect()
}

fn sorted<T, U: Ord>(elements: &HashSet<T>, write: impl FnMut(&T) -> U) -> Vec<U> {
    let mut written: Vec<U> = elements.iter().map(write).collect();
    written.sort_unstable();
    written
}

/// The oldest schema whose readers understand everything in these messages.
const SCHEMA: u32 = 1;

/// RFC 5280 §4.1.2.2.
const SERIAL_LIMIT_BYTES: usize = 20;
