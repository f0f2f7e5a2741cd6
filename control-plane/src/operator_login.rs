//! An operator's certificate, over a Unix socket that only this user can reach: the socket's mode keeps others out, and the
//! kernel's word on who connected is checked besides.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Response, Status};
use tower::ServiceExt;
use weft_daemon::Tasks;
use weft_identity::{DnsLabel, SpiffeId, read_csr};
use weft_wire::v1;
use weft_wire::v1::operator_login_server::{OperatorLogin, OperatorLoginServer};

use crate::api;
use crate::audit::{Auditor, Event};
use crate::authorize::LocalUser;
use crate::ca::Ca;
use crate::issue::IssueError;
use crate::revocations;
use crate::store::{AuditEntry, Outcome, Store};

/// The login service.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) store: Store,
    pub(crate) ca: Arc<Ca>,
    pub(crate) auditor: Auditor,
    pub(crate) api: SocketAddr,
    pub(crate) attestation: SocketAddr,
    pub(crate) tasks: Tasks,
}

/// Makes the socket, in the place of one that a dead process left. The caller holds the lock of the state.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is not a socket",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Login {
    pub(crate) async fn serve(self, listener: UnixListener) -> Result<(), Infallible> {
        let draining = self.tasks.draining();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = draining.cancelled() => return Ok(()),
            };
            match accepted {
                Ok((socket, _)) => {
                    // Beyond the limit the socket is dropped: the peer is told at once.
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        continue;
                    };
                    let login = self.clone();
                    self.tasks.connection("operator login", async move {
                        login.connection(socket).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the operator's socket");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, socket: UnixStream) {
        let own = rustix::process::geteuid().as_raw();
        let uid = match socket.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => {
                tracing::warn!(%error, "the peer of the operator's socket is unknown");
                return;
            }
        };
        if uid != own {
            self.refused(uid, String::new(), "another user's process")
                .await;
            return;
        }
        let tasks = self.tasks.clone();
        let service = OperatorLoginServer::new(self).max_decoding_message_size(MESSAGE_BYTES);
        let service = Routes::new(service).map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(LocalUser { uid });
            request
        });
        api::http2(socket, service, &tasks, tokio::time::sleep(LIFE)).await;
    }

    async fn refused(&self, uid: u32, subject: String, why: &str) {
        self.auditor
            .refused(Event {
                actor: format!("uid:{uid}"),
                action: "login",
                subject,
                detail: why.to_owned(),
            })
            .await;
    }
}

#[tonic::async_trait]
impl OperatorLogin for Login {
    async fn login(
        &self,
        request: tonic::Request<v1::OperatorLoginRequest>,
    ) -> Result<Response<v1::OperatorLoginResponse>, Status> {
        let user = *request
            .extensions()
            .get::<LocalUser>()
            .ok_or_else(|| Status::unauthenticated("unknown user"))?;
        let request = request.into_inner();
        let name: DnsLabel = request
            .name
            .parse()
            .map_err(|error| Status::invalid_argument(format!("name: {error}")))?;
        let key = read_csr(&request.csr)
            .map_err(|error| Status::invalid_argument(format!("csr: {error}")))?;
        let id = SpiffeId::for_operator(self.ca.trust_domain(), &name);
        let (ca, subject, now) = (Arc::clone(&self.ca), id.clone(), Timestamp::now());
        let written = self
            .store
            .write(move |tx| {
                if revocations::is_identity_revoked(tx, &subject)? {
                    return Ok(None);
                }
                let issued = ca.issue(&subject, &key, OPERATOR_TTL, now)?;
                tx.audit(AuditEntry {
                    time: now,
                    actor: format!("uid:{}", user.uid),
                    action: "login",
                    subject: subject.to_string(),
                    outcome: Outcome::Ok,
                    detail: format!("serial {}", issued.serial),
                })?;
                Ok::<_, IssueError>(Some(issued))
            })
            .await
            .map_err(IssueError::into_status)?;
        let Some(issued) = written.value else {
            self.refused(user.uid, id.to_string(), "the operator is revoked")
                .await;
            return Err(Status::permission_denied("this operator is revoked"));
        };
        Ok(Response::new(v1::OperatorLoginResponse {
            chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
            bundle: Some(v1::TrustBundle::from(&**self.ca.bundle())),
            api_address: reachable(self.api).to_string(),
            attestation_address: reachable(self.attestation).to_string(),
        }))
    }
}

/// Who logs in here is on this host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

const OPERATOR_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
const LIFE: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 64;
const MESSAGE_BYTES: usize = 64 << 10;
