//! What operators see and do beside resources.

mod identities;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weft_identity::{JoinToken, Serial, SpiffeId, WorkloadName};
use weft_wire::v1;
use weft_wire::v1::operations_server::{Operations, OperationsServer};
use weft_wire::write_timestamp;

use crate::audit::{Auditor, Event};
use crate::authorize::Caller;
use crate::ca::{self, Ca};
use crate::hub::Hub;
use crate::lineages;
use crate::revocations::{self, Wanted};
use crate::store::{
    AuditEntry, Outcome, Reader, RevocationTarget, STORE_SCHEMA, Store, StoreError, WriteTx,
};
use crate::{random, registration, rollout, tokens};

/// The operations service.
pub struct Desk {
    pub store: Store,
    pub auditor: Auditor,
    pub ca: Arc<Ca>,
    pub hub: Arc<Hub>,
    pub started_at: Timestamp,
}

/// Why a request changed nothing.
enum Declined {
    Store(StoreError),
    Status(Status),
}

impl From<StoreError> for Declined {
    fn from(error: StoreError) -> Self {
        Declined::Store(error)
    }
}

impl Declined {
    fn into_status(self) -> Status {
        match self {
            Declined::Store(error) => internal(error),
            Declined::Status(status) => status,
        }
    }
}

impl Desk {
    pub fn into_service(self) -> OperationsServer<Self> {
        OperationsServer::new(self).max_decoding_message_size(MESSAGE_BYTES)
    }

    fn read(&self) -> Result<Reader, Status> {
        self.store.read().map_err(internal)
    }
}

#[tonic::async_trait]
impl Operations for Desk {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        let subject = request.get_ref().workload.clone();
        let made = self.make_token(&caller, request.into_inner()).await;
        if let Err(status) = &made {
            self.record_refusal(&caller, "token.create", subject, status)
                .await;
        }
        made.map(Response::new)
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        let request = request.into_inner();
        let identities =
            identities::identities(&self.read()?, Timestamp::now()).map_err(internal)?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) | Err(_) => DEFAULT_PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
        };
        let mut page: Vec<_> = identities
            .into_iter()
            .filter(|(id, _)| request.spiffe_id.is_empty() || *id == request.spiffe_id)
            .filter(|(id, _)| *id > request.page_token)
            .filter(|(_, identity)| identity.revoked || !request.revoked)
            .map(|(_, identity)| identity)
            .take(size + 1)
            .collect();
        let has_more = page.len() > size;
        page.truncate(size);
        let last = page.last().map(|identity| identity.spiffe_id.clone());
        Ok(Response::new(v1::ListIdentitiesResponse {
            identities: page,
            next_page_token: last.filter(|_| has_more).unwrap_or_default(),
        }))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeResponse>, Status> {
        let caller = caller(&request)?;
        let subject = shown_target(request.get_ref().target.as_ref());
        let revoked = self.revoke_as(&caller, request.into_inner()).await;
        if let Err(status) = &revoked {
            self.record_refusal(&caller, "revoke", subject, status)
                .await;
        }
        revoked.map(Response::new)
    }

    async fn list_endpoints(
        &self,
        request: Request<v1::ListEndpointsRequest>,
    ) -> Result<Response<v1::ListEndpointsResponse>, Status> {
        registration::list_endpoints(&self.hub, request.get_ref()).map(Response::new)
    }

    async fn list_sidecars(
        &self,
        _: Request<v1::ListSidecarsRequest>,
    ) -> Result<Response<v1::ListSidecarsResponse>, Status> {
        Ok(Response::new(rollout::list(&self.hub)))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let request = request.into_inner();
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => DEFAULT_PAGE,
            Ok(limit) => limit.min(LARGEST_PAGE),
        };
        let reader = self.read()?;
        let records = if request.newest {
            reader.audit_newest(limit)
        } else {
            reader.audit_after(request.after, limit)
        };
        Ok(Response::new(v1::ListAuditResponse {
            records: records.map_err(internal)?,
        }))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let reader = self.read()?;
        let mesh = ca::mesh(&reader).map_err(internal)?;
        Ok(Response::new(v1::StatusResponse {
            trust_domain: self.ca.trust_domain().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: reader.revision().map_err(internal)?,
            started_at: Some(write_timestamp(self.started_at)),
            certificates: self.ca.status(),
            mesh: Some(v1::MeshSpec::from(&mesh)),
            audit_records: reader.audit_count().map_err(internal)?,
            store_schema: STORE_SCHEMA,
            now: Some(write_timestamp(Timestamp::now())),
        }))
    }
}

impl Desk {
    async fn make_token(
        &self,
        caller: &Caller,
        request: v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenResponse, Status> {
        let workload: WorkloadName = request
            .workload
            .parse()
            .map_err(|error| Status::invalid_argument(format!("workload: {error}")))?;
        if workload.is_reserved() {
            return Err(Status::invalid_argument(
                "workload: its namespace is reserved for the mesh itself",
            ));
        }
        let life = token_life(request.ttl.as_ref())?;
        let now = Timestamp::now();
        let expires = now
            .checked_add(life)
            .map_err(|_| Status::invalid_argument("ttl: out of range"))?;
        let id = SpiffeId::for_workload(self.ca.trust_domain(), &workload);
        let root = weft_identity::fingerprint(self.ca.root());
        let token = JoinToken::new(random::bytes(), root, self.ca.trust_domain().clone());
        let text = token.to_text();
        let (subject, caller) = (id.clone(), caller.clone());
        self.store
            .write(move |tx| {
                if revocations::is_identity_revoked(tx, &subject)? {
                    return Err(Declined::Status(Status::failed_precondition(format!(
                        "{subject} is revoked: lift that first"
                    ))));
                }
                tokens::create(tx, &token, subject.clone(), expires)?;
                audit(
                    tx,
                    &caller,
                    "token.create",
                    &subject,
                    format!("until {expires}"),
                )?;
                Ok(())
            })
            .await
            .map_err(Declined::into_status)?;
        Ok(v1::CreateTokenResponse {
            token: text.to_string(),
            spiffe_id: id.to_string(),
            expires: Some(write_timestamp(expires)),
        })
    }

    async fn revoke_as(
        &self,
        caller: &Caller,
        request: v1::RevokeRequest,
    ) -> Result<v1::RevokeResponse, Status> {
        let target = self.target(request.target.clone())?;
        let caller = caller.clone();
        let written = self
            .store
            .write(move |tx| revoke(tx, &caller, target, request))
            .await
            .map_err(Declined::into_status)?;
        Ok(v1::RevokeResponse {
            revision: written.revision,
            changed: written.value,
        })
    }

    async fn record_refusal(
        &self,
        caller: &Caller,
        action: &'static str,
        subject: String,
        status: &Status,
    ) {
        let event = Event {
            actor: caller.id.to_string(),
            action,
            subject,
            detail: status.message().to_owned(),
        };
        self.auditor.refused(event).await;
    }

    fn target(
        &self,
        target: Option<v1::revoke_request::Target>,
    ) -> Result<RevocationTarget, Status> {
        use v1::revoke_request::Target;
        match target {
            None => Err(Status::invalid_argument("nothing to revoke is named")),
            Some(Target::SpiffeId(text)) => {
                let id: SpiffeId = text
                    .parse()
                    .map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}")))?;
                if id.is_in(self.ca.trust_domain()) && id.is_control_plane() {
                    return Err(Status::invalid_argument(
                        "spiffe_id: the control plane cannot revoke itself",
                    ));
                }
                Ok(RevocationTarget::Identity(id.to_string()))
            }
            Some(Target::Lineage(id)) => Ok(RevocationTarget::Lineage(id)),
            Some(Target::Serial(text)) => {
                let serial: Serial = text
                    .parse()
                    .map_err(|error| Status::invalid_argument(format!("serial: {error}")))?;
                Ok(RevocationTarget::Serial(serial.to_string()))
            }
        }
    }
}

fn shown_target(target: Option<&v1::revoke_request::Target>) -> String {
    use v1::revoke_request::Target;
    match target {
        None => String::new(),
        Some(Target::SpiffeId(text) | Target::Serial(text) | Target::Lineage(text)) => text.clone(),
    }
}

fn revoke(
    tx: &mut WriteTx<'_>,
    caller: &Caller,
    target: RevocationTarget,
    request: v1::RevokeRequest,
) -> Result<bool, Declined> {
    let subject = target.key();
    let changed = if request.undo {
        tx.delete_revocation(&target)?
    } else {
        if let RevocationTarget::Lineage(id) = &target
            && lineages::by_id(tx, id)?.is_none()
        {
            return Err(Declined::Status(Status::not_found(
                "there is no such lineage",
            )));
        }
        revocations::revoke(
            tx,
            Wanted {
                target,
                reason: request.reason.clone(),
                actor: caller.id.to_string(),
                now: Timestamp::now(),
            },
        )?
    };
    if changed {
        let verb = if request.undo { "lifted" } else { "revoked" };
        audit(
            tx,
            caller,
            "revoke",
            &subject,
            format!("{verb}: {}", request.reason),
        )?;
    }
    Ok(changed)
}

fn token_life(ttl: Option<&prost_types::Duration>) -> Result<Duration, Status> {
    let Some(ttl) = ttl else {
        return Ok(tokens::LONGEST_LIFE);
    };
    let life = weft_wire::read_duration(ttl)
        .map_err(|error| Status::invalid_argument(format!("ttl: {error}")))?;
    if life.is_zero() || life > tokens::LONGEST_LIFE {
        return Err(Status::invalid_argument("ttl: between 1ns and 10m"));
    }
    Ok(life)
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("no verified identity"))
}

fn audit(
    tx: &mut WriteTx<'_>,
    caller: &Caller,
    action: &'static str,
    subject: &impl std::fmt::Display,
    detail: String,
) -> Result<(), StoreError> {
    let entry = AuditEntry {
        time: Timestamp::now(),
        actor: caller.id.to_string(),
        action,
        subject: subject.to_string(),
        outcome: Outcome::Ok,
        detail,
    };
    tx.audit(entry).map(drop)
}

fn internal(error: StoreError) -> Status {
    tracing::error!(%error, "the store failed an operation");
    Status::internal("the store failed; see the control plane's log")
}

const DEFAULT_PAGE: usize = 500;
const LARGEST_PAGE: usize = 5000;
const MESSAGE_BYTES: usize = 64 << 10;
