//! The certificate authority of this process.
//!
//! The root is made once and rests sealed under the operator's wrapping key; it is opened only for the moment in which it
//! signs an intermediate. The intermediate's key and the control plane's own key live in this process's memory alone, and
//! both certificates are replaced at about half their life, with everything running.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use weft_catalog::Mesh;
use weft_identity::{
    CsrError, Intermediate, IssuedSvid, PublicKey, Purpose, Root, RootParts, SealError, SpiffeId,
    SvidRequest, TrustBundle, TrustDomain, VerifyError, WrappingKey, new_key_and_csr, read_csr,
    renewal, verify_svid,
};
use weft_wire::v1;

use crate::random;
use crate::store::{
    AuditEntry, Outcome, Reader, Rows, Store, StoreError, Table, WriteTx, message, record,
};

/// Signs SVIDs, and holds the control plane's own.
pub struct Ca {
    trust_domain: TrustDomain,
    wrapping_key: WrappingKey,
    store: Store,
    root: CertificateDer<'static>,
    bundle: Arc<TrustBundle>,
    signing: ArcSwap<Signing>,
    own: ArcSwap<OwnSvid>,
}

struct Signing {
    intermediate: Intermediate,
    not_before: Timestamp,
    renews_at: Timestamp,
}

/// The control plane's own SVID with its key.
pub struct OwnSvid {
    /// With its intermediate: for peers that know the root.
    pub chain: Arc<CertifiedKey>,
    /// With the root too: a join token pins it.
    pub chain_with_root: Arc<CertifiedKey>,
    pub issued: IssuedSvid,
    pub renews_at: Timestamp,
}

impl Signing {
    /// A certificate that is not valid yet was made before the clock was set back, and nothing can be signed with it.
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renews_at || now < self.not_before
    }
}

impl OwnSvid {
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renews_at || now < self.issued.not_before
    }
}

/// Why there is no working authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(
        "the wrapping key does not open this store's root: start with the key that this state was made with (--key-file \
         or WEFT_STATE_KEY); without it, the root is lost and a new mesh needs a new state folder"
    )]
    WrongKey(#[source] SealError),
    #[error("cannot seal the root")]
    Seal(#[source] SealError),
    #[error(
        "this state belongs to trust domain {found}, not to {wanted}: use another state folder"
    )]
    TrustDomain { found: String, wanted: TrustDomain },
    #[error("the stored root cannot be read: {0}")]
    Unreadable(String),
    #[error("cannot sign")]
    Sign(#[from] weft_identity::CaError),
    #[error("cannot make a key")]
    Key(#[from] CsrError),
    #[error("the control plane's own key cannot be used")]
    OwnKey(#[from] rustls::Error),
    #[error("the control plane's own certificate does not verify")]
    OwnCertificate(#[from] VerifyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The root as it rests.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredRoot {
    trust_domain: String,
    /// DER, base64.
    certificate: String,
    /// The PKCS#8 key, sealed, base64.
    sealed_key: String,
}

impl Ca {
    /// Opens the store's root, or makes one, and starts with a fresh intermediate and SVID.
    pub async fn open(
        store: &Store,
        trust_domain: &TrustDomain,
        wrapping_key: WrappingKey,
        now: Timestamp,
    ) -> Result<Arc<Self>, CaError> {
        let stored = match stored_root(&store.read()?)? {
            Some(stored) => stored,
            None => make_root(store, trust_domain, &wrapping_key, now).await?,
        };
        let root = open_root(&stored, trust_domain, &wrapping_key)?;
        let bundle = TrustBundle::new(trust_domain.clone(), vec![root.certificate().clone()], 0)
            .map_err(|error| CaError::Unreadable(error.to_string()))?;
        let signing = new_signing(&root, now)?;
        let mesh = mesh(&store.read()?)?;
        let own = new_own(
            &signing.intermediate,
            root.certificate(),
            &bundle,
            &mesh,
            now,
        )?;
        record_all(
            store,
            vec![
                issued_intermediate(trust_domain, &signing, now),
                issued_own(trust_domain, &own, now),
            ],
        )
        .await?;
        Ok(Arc::new(Self {
            trust_domain: trust_domain.clone(),
            wrapping_key,
            store: store.clone(),
            root: root.certificate().clone(),
            bundle: Arc::new(bundle),
            signing: ArcSwap::from_pointee(signing),
            own: ArcSwap::from_pointee(own),
        }))
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub fn own(&self) -> Arc<OwnSvid> {
        self.own.load_full()
    }

    /// Signs one SVID. What it may be is decided by the caller.
    pub fn issue(
        &self,
        id: &SpiffeId,
        public_key: &PublicKey,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<IssuedSvid, weft_identity::CaError> {
        self.signing.load().intermediate.issue_svid(&SvidRequest {
            id,
            public_key,
            ttl,
            serial: random::serial(),
            now,
        })
    }

    /// Replaces what has reached its renewal, for ever. Looks often, because a clock may be set.
    pub async fn keep_fresh(self: Arc<Self>) -> Result<(), CaError> {
        loop {
            let made = self.refresh(Timestamp::now())?;
            record_all(&self.store, made).await?;
            let next = self.signing.load().renews_at.min(self.own.load().renews_at);
            let left = next.duration_since(Timestamp::now());
            let left = Duration::try_from(left).unwrap_or_default();
            tokio::time::sleep(left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)).await;
        }
    }

    /// Replaces the intermediate and the own SVID if it is time; answers what is to be recorded of it.
    fn refresh(&self, now: Timestamp) -> Result<Vec<AuditEntry>, CaError> {
        let mut made = Vec::new();
        if self.signing.load().is_due(now) {
            let stored = stored_root(&self.store.read()?)?
                .ok_or_else(|| CaError::Unreadable("it is gone".to_owned()))?;
            let root = open_root(&stored, &self.trust_domain, &self.wrapping_key)?;
            let signing = new_signing(&root, now)?;
            made.push(issued_intermediate(&self.trust_domain, &signing, now));
            self.signing.store(Arc::new(signing));
            tracing::info!("the intermediate was renewed");
        } else if !self.own.load().is_due(now) {
            return Ok(made);
        }
        // A new intermediate means a new chain, so the own SVID follows it at once.
        let mesh = mesh(&self.store.read()?)?;
        let signing = self.signing.load();
        let own = new_own(&signing.intermediate, &self.root, &self.bundle, &mesh, now)?;
        tracing::info!(serial = %own.issued.serial, "the control plane's own SVID was renewed");
        made.push(issued_own(&self.trust_domain, &own, now));
        self.own.store(Arc::new(own));
        Ok(made)
    }

    /// What an operator wants to know about each certificate.
    pub fn status(&self) -> Vec<v1::CertificateStatus> {
        let own = self.own.load();
        let signing = self.signing.load();
        let time = |at| Some(weft_wire::write_timestamp(at));
        let (root_serial, root_begin, root_end) = describe(&self.root);
        let (signing_serial, _, _) = describe(signing.intermediate.certificate());
        vec![
            v1::CertificateStatus {
                role: "root".into(),
                serial: root_serial,
                not_before: root_begin.and_then(time),
                not_after: root_end.and_then(time),
                renews_at: None,
            },
            v1::CertificateStatus {
                role: "intermediate".into(),
                serial: signing_serial,
                not_before: time(signing.not_before),
                not_after: time(signing.intermediate.not_after()),
                renews_at: time(signing.renews_at),
            },
            v1::CertificateStatus {
                role: "control-plane".into(),
                serial: own.issued.serial.to_string(),
                not_before: time(own.issued.not_before),
                not_after: time(own.issued.not_after),
                renews_at: time(own.renews_at),
            },
        ]
    }
}

/// The mesh's settings, or their defaults.
pub(crate) fn mesh(rows: &impl Rows) -> Result<Mesh, StoreError> {
    let key = format!("Mesh//{}", Mesh::NAME);
    let stored: Option<v1::Resource> = message(rows, Table::Resources, key.as_bytes())?;
    let Some(v1::resource::Spec::Mesh(spec)) = stored.and_then(|resource| resource.spec) else {
        return Ok(Mesh::default());
    };
    Mesh::try_from(&spec)
        .map_err(|error| StoreError::corrupt(Table::Resources, key.as_bytes(), &error))
}

fn stored_root(reader: &Reader) -> Result<Option<StoredRoot>, StoreError> {
    record(reader, Table::Ca, ROOT)
}

async fn make_root(
    store: &Store,
    trust_domain: &TrustDomain,
    wrapping_key: &WrappingKey,
    now: Timestamp,
) -> Result<StoredRoot, CaError> {
    let root = Root::generate(trust_domain, now, ROOT_LIFETIME, random::serial())?;
    let parts = root.to_parts();
    let sealed = weft_identity::seal(
        wrapping_key,
        &context(trust_domain),
        &parts.key_pkcs8,
        random::bytes(),
    )
    .map_err(CaError::Seal)?;
    let stored = StoredRoot {
        trust_domain: trust_domain.to_string(),
        certificate: STANDARD.encode(&parts.certificate),
        sealed_key: STANDARD.encode(sealed),
    };
    let bundle = v1::TrustBundle {
        schema: 1,
        trust_domain: trust_domain.to_string(),
        roots: vec![parts.certificate.to_vec().into()],
        revision: 0,
    };
    let (serial, _, ends) = describe(&parts.certificate);
    let made = entry(trust_domain, "root", &serial, ends, now);
    let written = store
        .write(move |tx: &mut WriteTx<'_>| {
            tx.put_record(Table::Ca, ROOT, &stored)?;
            tx.put_bundle(bundle);
            tx.audit(made)?;
            Ok::<_, CaError>(stored)
        })
        .await?;
    tracing::info!(%trust_domain, "a new root was made");
    Ok(written.value)
}

fn open_root(
    stored: &StoredRoot,
    trust_domain: &TrustDomain,
    wrapping_key: &WrappingKey,
) -> Result<Root, CaError> {
    if stored.trust_domain != trust_domain.as_str() {
        return Err(CaError::TrustDomain {
            found: stored.trust_domain.clone(),
            wanted: trust_domain.clone(),
        });
    }
    let unreadable = |error: base64::DecodeError| CaError::Unreadable(error.to_string());
    let sealed = STANDARD.decode(&stored.sealed_key).map_err(unreadable)?;
    let certificate = STANDARD.decode(&stored.certificate).map_err(unreadable)?;
    let key_pkcs8 = weft_identity::open(wrapping_key, &context(trust_domain), &sealed)
        .map_err(CaError::WrongKey)?;
    let parts = RootParts {
        certificate: CertificateDer::from(certificate),
        key_pkcs8,
    };
    Ok(Root::from_parts(&parts)?)
}

fn context(trust_domain: &TrustDomain) -> Vec<u8> {
    format!("weft root key of {trust_domain}").into_bytes()
}

fn new_signing(root: &Root, now: Timestamp) -> Result<Signing, CaError> {
    let intermediate = root.issue_intermediate(now, INTERMEDIATE_LIFETIME, random::serial())?;
    let jitter = weft_daemon::backoff::random_fraction();
    let renews_at =
        renewal::next_renewal(now, intermediate.not_after(), INTERMEDIATE_LIFETIME, jitter);
    let (_, begins, _) = describe(intermediate.certificate());
    Ok(Signing {
        intermediate,
        not_before: begins.unwrap_or(now),
        renews_at,
    })
}

fn new_own(
    intermediate: &Intermediate,
    root: &CertificateDer<'static>,
    bundle: &TrustBundle,
    mesh: &Mesh,
    now: Timestamp,
) -> Result<OwnSvid, CaError> {
    let made = new_key_and_csr()?;
    let public_key = read_csr(&made.csr_der)?;
    let issued = intermediate.issue_svid(&SvidRequest {
        id: &SpiffeId::for_control_plane(&bundle.trust_domain),
        public_key: &public_key,
        ttl: mesh.ttl(),
        serial: random::serial(),
        now,
    })?;
    // Believed only after the check that every peer will make.
    verify_svid(&issued.chain, bundle, Purpose::ServerAuth, now)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key_pkcs8.as_slice()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    let mut with_root = issued.chain.clone();
    with_root.push(root.clone());
    let jitter = weft_daemon::backoff::random_fraction();
    Ok(OwnSvid {
        chain: Arc::new(CertifiedKey::new(issued.chain.clone(), Arc::clone(&key))),
        chain_with_root: Arc::new(CertifiedKey::new(with_root, key)),
        renews_at: renewal::next_renewal(now, issued.not_after, mesh.renew_every(), jitter),
        issued,
    })
}

async fn record_all(store: &Store, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let write = move |tx: &mut WriteTx<'_>| {
        entries
            .into_iter()
            .try_for_each(|entry| tx.audit(entry).map(drop))
    };
    store.write(write).await.map(drop)
}

fn issued_intermediate(
    trust_domain: &TrustDomain,
    signing: &Signing,
    now: Timestamp,
) -> AuditEntry {
    let (serial, _, ends) = describe(signing.intermediate.certificate());
    entry(trust_domain, "intermediate", &serial, ends, now)
}

fn issued_own(trust_domain: &TrustDomain, own: &OwnSvid, now: Timestamp) -> AuditEntry {
    let id = SpiffeId::for_control_plane(trust_domain).to_string();
    let serial = own.issued.serial.to_string();
    entry(trust_domain, &id, &serial, Some(own.issued.not_after), now)
}

/// The record of a certificate that the control plane made for itself.
fn entry(
    trust_domain: &TrustDomain,
    subject: &str,
    serial: &str,
    ends: Option<Timestamp>,
    now: Timestamp,
) -> AuditEntry {
    let until = ends.map(|ends| format!(" until {ends}"));
    AuditEntry {
        time: now,
        actor: SpiffeId::for_control_plane(trust_domain).to_string(),
        action: "issue",
        subject: subject.to_owned(),
        outcome: Outcome::Ok,
        detail: format!("serial {serial}{}", until.unwrap_or_default()),
    }
}

/// Serial and validity of a certificate of ours.
fn describe(certificate: &CertificateDer<'_>) -> (String, Option<Timestamp>, Option<Timestamp>) {
    use x509_parser::prelude::{FromDer, X509Certificate};
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => (
            weft_identity::Serial::new(parsed.raw_serial()).to_string(),
            Timestamp::from_second(parsed.validity().not_before.timestamp()).ok(),
            Timestamp::from_second(parsed.validity().not_after.timestamp()).ok(),
        ),
        Err(_) => (String::new(), None, None),
    }
}

const ROOT: &[u8] = b"root";
const ROOT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const INTERMEDIATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VolatileBackend;

    fn key(byte: u8) -> WrappingKey {
        WrappingKey::new([byte; 32]).unwrap()
    }

    fn weft() -> TrustDomain {
        "weft.local".parse().unwrap()
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }

    #[tokio::test]
    async fn row_10_a_stolen_store_holds_no_key_and_opens_with_no_other() {
        let backend = VolatileBackend::new();
        let store = Store::open_backend(backend.clone()).unwrap();
        let now = Timestamp::now();
        let ca = Ca::open(&store, &weft(), key(1), now).await.unwrap();
        let stored = stored_root(&store.read().unwrap()).unwrap().unwrap();
        let sealed = STANDARD.decode(&stored.sealed_key).unwrap();
        let pkcs8 = weft_identity::open(&key(1), &context(&weft()), &sealed).unwrap();
        // In PKCS#8 of P-256 the scalar is the octet string of 32 bytes that follows `04 20`.
        let at = pkcs8.windows(2).position(|w| w == [0x04, 0x20]).unwrap() + 2;
        let scalar = &pkcs8[at..at + 32];
        let disk = backend.synced_bytes();
        for secret in [
            pkcs8.as_slice(),
            scalar,
            STANDARD.encode(scalar).trim_end_matches('=').as_bytes(),
            random::hex(scalar).as_bytes(),
            [1; 32].as_slice(),
        ] {
            assert!(!contains(&disk, secret));
        }
        assert!(
            contains(&disk, stored.certificate.as_bytes()),
            "the scan sees what is there"
        );
        drop(ca);
        let error = Ca::open(&store, &weft(), key(2), now).await.err().unwrap();
        assert!(error.to_string().contains("--key-file"), "{error}");
        let other = "other.local".parse().unwrap();
        assert!(matches!(
            Ca::open(&store, &other, key(1), now).await,
            Err(CaError::TrustDomain { .. })
        ));
    }

    #[tokio::test]
    async fn the_root_stays_and_the_rest_is_renewed_without_a_restart() {
        let store = Store::open_backend(VolatileBackend::new()).unwrap();
        let now = Timestamp::now();
        let ca = Ca::open(&store, &weft(), key(1), now).await.unwrap();
        let (first, root) = (ca.own(), ca.root().clone());
        ca.refresh(now).unwrap();
        assert_eq!(ca.own().issued.serial, first.issued.serial);
        let later = now + jiff::SignedDuration::from_hours(16 * 24);
        ca.refresh(later).unwrap();
        let second = ca.own();
        assert_ne!(second.issued.serial, first.issued.serial);
        assert_ne!(second.issued.chain[1], first.issued.chain[1]);
        verify_svid(
            &second.issued.chain,
            ca.bundle(),
            Purpose::ServerAuth,
            later,
        )
        .unwrap();
        let again = Ca::open(&store, &weft(), key(1), now).await.unwrap();
        assert_eq!(again.root(), &root);
    }
    #[tokio::test]
    async fn what_is_not_valid_yet_because_the_clock_was_set_back_is_replaced() {
        let store = Store::open_backend(VolatileBackend::new()).unwrap();
        let now = Timestamp::now();
        let (minute, day) = (
            jiff::SignedDuration::from_mins(1),
            jiff::SignedDuration::from_hours(24),
        );
        Ca::open(&store, &weft(), key(1), now - day).await.unwrap();
        let ca = Ca::open(&store, &weft(), key(1), now).await.unwrap();
        let first = ca.own();
        // Certificates are backdated by a minute.
        ca.refresh(now - minute / 2).unwrap();
        assert_eq!(ca.own().issued.serial, first.issued.serial);

        // Only the own SVID was made in what is the future again.
        ca.refresh(now + day / 12).unwrap();
        assert_eq!(ca.own().issued.chain[1], first.issued.chain[1]);
        ca.refresh(now).unwrap();
        verify_svid(
            &ca.own().issued.chain,
            ca.bundle(),
            Purpose::ServerAuth,
            now,
        )
        .unwrap();

        let back = now - day / 2;
        let id = "spiffe://weft.local/ns/shop/sa/api".parse().unwrap();
        let public_key = read_csr(&new_key_and_csr().unwrap().csr_der).unwrap();
        let issue = || ca.issue(&id, &public_key, Duration::from_secs(3600), back);
        assert!(issue().is_err());
        ca.refresh(back).unwrap();
        let issued = issue().unwrap();
        for chain in [&issued.chain, &ca.own().issued.chain] {
            verify_svid(chain, ca.bundle(), Purpose::ServerAuth, back).unwrap();
        }
    }
}
