//! Renewal: the connection proves possession of the SVID that is replaced, and its lineage decides.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weft_identity::lineage::{LineageVerdict, Refusal};
use weft_identity::{PublicKey, Serial, read_csr};
use weft_wire::v1;
use weft_wire::v1::issuance_server::{Issuance, IssuanceServer};

use crate::audit::{Auditor, Event};
use crate::authorize::Caller;
use crate::ca::{self, Ca};
use crate::lineages::{self, Certificate, StoredLineage};
use crate::revocations::{self, Wanted};
use crate::store::{AuditEntry, Outcome, RevocationTarget, Store, StoreError, WriteTx};

/// The issuance service.
pub struct Issuer {
    pub store: Store,
    pub ca: Arc<Ca>,
    pub auditor: Auditor,
}

/// A certificate that is on record.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) lineage: String,
    pub(crate) certificate: Certificate,
    pub(crate) renew_every: Duration,
}

/// Why there is no new SVID.
#[derive(Debug, thiserror::Error)]
enum Declined {
    #[error("the request cannot be read: {0}")]
    Request(weft_identity::CsrError),
    #[error("no lineage has it")]
    Unknown,
    #[error("the lineage is another identity's")]
    OtherIdentity,
    #[error("it is revoked")]
    Revoked,
    #[error("its lineage was frozen")]
    Frozen,
    #[error("the certificate to repeat is no longer kept")]
    Forgotten,
    #[error("too many SVIDs were issued to its lineage just now")]
    Hasty,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Our own side failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot sign")]
    Sign(#[from] weft_identity::CaError),
}

impl Issuer {
    pub fn into_service(self) -> IssuanceServer<Self> {
        IssuanceServer::new(self).max_decoding_message_size(MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl Issuance for Issuer {
    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::IssuedSvid>, Status> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .ok_or_else(|| Status::unauthenticated("no verified identity"))?;
        let key = match read_csr(&request.get_ref().csr) {
            Ok(key) => key,
            Err(error) => return Err(self.refuse(&caller, Declined::Request(error)).await),
        };
        let (ca, asked, now) = (Arc::clone(&self.ca), caller.clone(), Timestamp::now());
        let written = self
            .store
            .write(move |tx| renew(tx, &ca, &asked, &key, now))
            .await
            .map_err(IssueError::into_status)?;
        match written.value {
            Ok(signed) => Ok(Response::new(signed.into_message(&self.ca))),
            Err(why) => Err(self.refuse(&caller, why).await),
        }
    }
}

impl Issuer {
    /// Records the refusal; answers what the caller is told.
    async fn refuse(&self, caller: &Caller, why: Declined) -> Status {
        self.auditor
            .refused(Event {
                actor: caller.id.to_string(),
                action: "renew",
                subject: caller.id.to_string(),
                detail: format!("serial {}: {why}", caller.serial),
            })
            .await;
        why.status()
    }
}

/// Judges, signs and records in one transaction. The inner error is why the renewal is refused.
fn renew(
    tx: &mut WriteTx<'_>,
    ca: &Ca,
    caller: &Caller,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Result<Signed, Declined>, IssueError> {
    let mesh = ca::mesh(tx)?;
    let mut known = match find(tx, caller)? {
        Ok(known) => known,
        Err(why) => return Ok(Err(why)),
    };
    let verdict = known.lineage.renew(&caller.serial, &key.fingerprint(), now);
    let certificate = match verdict {
        LineageVerdict::Issue { .. } if known.is_hasty(mesh.renew_every(), now) => {
            known.store(tx)?;
            return Ok(Err(Declined::Hasty));
        }
        LineageVerdict::Issue { revokes } => {
            let issued = ca.issue(&caller.id, key, mesh.ttl(), now)?;
            known.go_on(tx, key, &issued, now)?;
            if let Some(unused) = revokes {
                supersede(tx, ca, &unused, now)?;
            }
            let detail = format!("serial {} follows {}", issued.serial, caller.serial);
            audit(tx, caller, now, detail)?;
            Certificate::of(&issued, now)
        }
        LineageVerdict::Repeat { serial } => {
            known.store(tx)?;
            match known.certificate(&serial) {
                Some(certificate) => certificate.clone(),
                None => return Ok(Err(Declined::Forgotten)),
            }
        }
        LineageVerdict::Freeze(why) => {
            known.store_frozen(tx, &caller.serial, "renew", why)?;
            return Ok(Err(Declined::Frozen));
        }
        LineageVerdict::Refused(why) => {
            known.store(tx)?;
            return Ok(Err(why.into()));
        }
    };
    Ok(Ok(signed(&known, certificate, mesh.renew_every())))
}

/// The lineage that the caller may ask to go on.
fn find(tx: &WriteTx<'_>, caller: &Caller) -> Result<Result<StoredLineage, Declined>, StoreError> {
    let Some(known) = lineages::by_serial(tx, &caller.serial)? else {
        return Ok(Err(Declined::Unknown));
    };
    if *known.lineage.identity() != caller.id {
        return Ok(Err(Declined::OtherIdentity));
    }
    // That a superseded serial is revoked is our own doing; that it is used is news for its lineage.
    if !known.lineage.is_superseded(&caller.serial)
        && revocations::is_lineage_revoked(tx, &known, &caller.serial)?
    {
        return Ok(Err(Declined::Revoked));
    }
    Ok(Ok(known))
}

fn supersede(
    tx: &mut WriteTx<'_>,
    ca: &Ca,
    unused: &Serial,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let wanted = Wanted {
        target: RevocationTarget::Serial(unused.to_string()),
        reason: "superseded before it was used".to_owned(),
        actor: ca.own().issued.serial.to_string(),
        now,
    };
    revocations::revoke(tx, wanted)
}

fn signed(known: &StoredLineage, certificate: Certificate, renew_every: Duration) -> Signed {
    Signed {
        lineage: known.id.clone(),
        certificate,
        renew_every,
    }
}

fn audit(
    tx: &mut WriteTx<'_>,
    caller: &Caller,
    time: Timestamp,
    detail: String,
) -> Result<(), StoreError> {
    let entry = AuditEntry {
        time,
        actor: caller.id.to_string(),
        action: "renew",
        subject: caller.id.to_string(),
        outcome: Outcome::Ok,
        detail,
    };
    tx.audit(entry).map(drop)
}

impl Signed {
    pub(crate) fn into_message(self, ca: &Ca) -> v1::IssuedSvid {
        v1::IssuedSvid {
            chain: self.certificate.chain.into_iter().map(Into::into).collect(),
            lineage: self.lineage,
            bundle: Some(v1::TrustBundle::from(&**ca.bundle())),
            renew_every_seconds: u32::try_from(self.renew_every.as_secs()).unwrap_or(u32::MAX),
            issued_at: Some(weft_wire::write_timestamp(self.certificate.issued_at)),
        }
    }
}

impl Declined {
    /// A caller is told only whether to ask again.
    fn status(&self) -> Status {
        match self {
            Declined::Request(error) => Status::invalid_argument(error.to_string()),
            Declined::Hasty => Status::resource_exhausted("too many renewals: ask again later"),
            Declined::Unknown
            | Declined::OtherIdentity
            | Declined::Revoked
            | Declined::Frozen
            | Declined::Forgotten
            | Declined::Refused(_) => Status::permission_denied("this SVID cannot be renewed"),
        }
    }
}

impl IssueError {
    pub(crate) fn into_status(self) -> Status {
        tracing::error!(error = %self, cause = ?self, "issuing failed");
        match self {
            IssueError::Store(StoreError::Stopped) => {
                Status::unavailable("the control plane is stopping")
            }
            IssueError::Store(_) | IssueError::Sign(_) => {
                Status::internal("issuing failed; see the control plane's log")
            }
        }
    }
}

/// A request holds a CSR.
const MESSAGE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
