//! First contact: a join token and a request for a certificate become the first SVID of a lineage.
//!
//! One transaction judges the token, binds it to the request's key, signs and records; an answer never says which check
//! failed, the audit record does.

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weft_identity::{JoinToken, PublicKey, SpiffeId, WorkloadName, read_csr};
use weft_wire::v1;
use weft_wire::v1::attestation_server::{Attestation, AttestationServer};

use crate::audit::{Auditor, Event};
use crate::ca::{self, Ca};
use crate::issue::{IssueError, Signed};
use crate::lineages::{self, Certificate, StoredLineage};
use crate::revocations;
use crate::store::{AuditEntry, Outcome, Store, WriteTx};
use crate::tokens::{self, Redemption, TokenRefusal};

/// The attestation service.
pub struct Attestor {
    pub store: Store,
    pub ca: Arc<Ca>,
    pub auditor: Auditor,
}

impl Attestor {
    pub fn into_service(self) -> AttestationServer<Self> {
        AttestationServer::new(self).max_decoding_message_size(MESSAGE_BYTES)
    }
}

/// What a client asks for, read.
struct Evidence {
    token: JoinToken,
    identity: SpiffeId,
    key: PublicKey,
}

/// For the audit record; the client learns one of three.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no evidence")]
    NoEvidence,
    #[error("the evidence cannot be read")]
    Unreadable,
    #[error("the identity is reserved")]
    Reserved,
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error("the certificate of an earlier use is no longer kept")]
    Forgotten,
    #[error("the identity is revoked")]
    Revoked,
    #[error("{0}")]
    Csr(String),
}

#[tonic::async_trait]
impl Attestation for Attestor {
    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::IssuedSvid>, Status> {
        let request = request.into_inner();
        let subject = request.expected_workload.clone();
        let now = Timestamp::now();
        let outcome = match self.read(request) {
            Ok(evidence) => self
                .redeem(evidence, now)
                .await
                .map_err(IssueError::into_status)?,
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(signed) => Ok(Response::new(signed.into_message(&self.ca))),
            Err(refused) => {
                let status = refused.status();
                self.auditor
                    .refused(Event {
                        actor: String::new(),
                        action: "attest",
                        subject,
                        detail: refused.to_string(),
                    })
                    .await;
                Err(status)
            }
        }
    }
}

impl Attestor {
    fn read(&self, request: v1::AttestRequest) -> Result<Evidence, Refused> {
        let Some(v1::attest_request::Evidence::JoinToken(token)) = request.evidence else {
            return Err(Refused::NoEvidence);
        };
        let token: JoinToken = token.parse().map_err(|_| Refused::Unreadable)?;
        if token.trust_domain() != self.ca.trust_domain() {
            return Err(Refused::Unreadable);
        }
        let workload: WorkloadName = request
            .expected_workload
            .parse()
            .map_err(|_| Refused::Unreadable)?;
        if workload.is_reserved() {
            return Err(Refused::Reserved);
        }
        let key = read_csr(&request.csr).map_err(|error| Refused::Csr(error.to_string()))?;
        Ok(Evidence {
            token,
            identity: SpiffeId::for_workload(self.ca.trust_domain(), &workload),
            key,
        })
    }

    async fn redeem(
        &self,
        evidence: Evidence,
        now: Timestamp,
    ) -> Result<Result<Signed, Refused>, IssueError> {
        let ca = Arc::clone(&self.ca);
        let written = self
            .store
            .write(move |tx| redeem(tx, &ca, &evidence, now))
            .await?;
        Ok(written.value)
    }
}

fn redeem(
    tx: &mut WriteTx<'_>,
    ca: &Ca,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<Result<Signed, Refused>, IssueError> {
    let Evidence {
        token,
        identity,
        key,
    } = evidence;
    let mesh = ca::mesh(tx)?;
    let fingerprint = key.fingerprint();
    let judged = tokens::redeem(tx, token, identity, &fingerprint, now)?;
    if let Redemption::Refused(why) = judged {
        return Ok(Err(why.into()));
    }
    if revocations::is_identity_revoked(tx, identity)? {
        return Ok(Err(Refused::Revoked));
    }
    let (lineage, certificate) = match judged {
        Redemption::Refused(why) => return Ok(Err(why.into())),
        Redemption::Retry { lineage } => {
            let Some(known) = lineages::by_id(tx, &lineage)? else {
                return Ok(Err(Refused::Forgotten));
            };
            let first = known.certificates.iter().find(|_| known.issued == 1);
            match first {
                Some(first) if !revocations::is_lineage_revoked(tx, &known, &first.serial)? => {
                    (known.id.clone(), first.clone())
                }
                Some(_) => return Ok(Err(Refused::Revoked)),
                None => return Ok(Err(Refused::Forgotten)),
            }
        }
        Redemption::First { identity } => {
            let issued = ca.issue(&identity, key, mesh.ttl(), now)?;
            let begun = StoredLineage::begin(tx, &identity, key, &issued, now)?;
            tokens::bind(tx, token, fingerprint, &begun.id)?;
            tx.audit(AuditEntry {
                time: now,
                actor: identity.to_string(),
                action: "attest",
                subject: identity.to_string(),
                outcome: Outcome::Ok,
                detail: format!("serial {} begins lineage {}", issued.serial, begun.id),
            })?;
            (begun.id, Certificate::of(&issued, now))
        }
    };
    Ok(Ok(Signed {
        lineage,
        certificate,
        renew_every: mesh.renew_every(),
    }))
}

impl Refused {
    fn status(&self) -> Status {
        match self {
            Refused::Csr(problem) => Status::invalid_argument(problem.clone()),
            Refused::Revoked => Status::permission_denied("the identity is revoked"),
            Refused::NoEvidence
            | Refused::Unreadable
            | Refused::Reserved
            | Refused::Token(_)
            | Refused::Forgotten => Status::unauthenticated("the evidence was not accepted"),
        }
    }
}

/// A request holds a CSR and a token.
const MESSAGE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
