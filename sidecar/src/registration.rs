//! Offers this workload's endpoints. The stream is the lease: it lives as long as this process offers them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use weft_catalog::Health;
use weft_daemon::{Backoff, CancellationToken};
use weft_identity::ServiceName;
use weft_wire::v1;
use weft_wire::v1::registration_client::RegistrationClient;

use crate::Sidecar;
use crate::bootstrap::chain_of;

/// The health of each service that this workload offers.
pub(crate) type Healths = BTreeMap<ServiceName, Health>;

pub(crate) struct Registration {
    pub sidecar: Arc<Sidecar>,
    /// Where peers reach the inbound listener.
    pub address: SocketAddr,
    pub healths: watch::Receiver<Healths>,
    pub draining: CancellationToken,
    /// Cancelled here when the endpoints have left.
    pub left: CancellationToken,
}

enum Ended {
    Left,
    Renewed,
    Lost(Status),
}

impl Registration {
    /// Keeps the endpoints registered until the process drains, then takes them out.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_AT_MOST);
        loop {
            if self.draining.is_cancelled() && self.sidecar.current.load().inbound.is_empty() {
                break;
            }
            let started = tokio::time::Instant::now();
            match self.hold().await {
                Ended::Left => break,
                Ended::Renewed => continue,
                // Without a lease there is nothing to take out but what will expire by itself.
                Ended::Lost(_) if self.draining.is_cancelled() => break,
                Ended::Lost(status) => {
                    if started.elapsed() > RECONNECT_AT_MOST {
                        backoff.reset();
                    }
                    match status.code() {
                        Code::PermissionDenied | Code::InvalidArgument => {
                            tracing::error!(error = %chain_of(&status), "the control plane refuses to register");
                        }
                        _ => {
                            tracing::debug!(error = %chain_of(&status), "the registration is lost")
                        }
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        self.left.cancel();
        Ok(())
    }

    /// One lease from its beginning to its end.
    async fn hold(&mut self) -> Ended {
        let mut renewed = self.sidecar.identity.changed();
        renewed.mark_unchanged();
        let (requests, outgoing) = mpsc::channel(REQUESTS_QUEUED);
        let mut offered = self.request(false);
        // The channel is empty yet.
        let _ = requests.try_send(offered.clone());
        let mut client = RegistrationClient::new(self.sidecar.control_plane.channel());
        let mut answers =
            match timeout(OPEN_TIMEOUT, client.register(ReceiverStream::new(outgoing))).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => return Ended::Lost(status),
                Err(_) => return Ended::Lost(Status::deadline_exceeded("no answer")),
            };
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => tracing::debug!(revision = answer.revision, "registered"),
                    Ok(None) => return Ended::Lost(Status::unavailable("it closed the stream")),
                    Err(status) => return Ended::Lost(status),
                },
                changed = self.healths.changed() => {
                    if changed.is_err() {
                        return Ended::Lost(Status::internal("nobody probes"));
                    }
                    let now = self.request(false);
                    if now != offered {
                        offered = now;
                        if timeout(SEND_TIMEOUT, requests.send(offered.clone())).await.is_err() {
                            return Ended::Lost(Status::deadline_exceeded("it does not read"));
                        }
                    }
                }
                _ = renewed.changed() => return Ended::Renewed,
                () = self.draining.cancelled() => {
                    let _ = timeout(SEND_TIMEOUT, requests.send(self.request(true))).await;
                    drop(requests);
                    let _ = timeout(LEAVE_TIMEOUT, async { while let Ok(Some(_)) = answers.message().await {} }).await;
                    return Ended::Left;
                }
            }
        }
    }

    /// The full set of what is offered now.
    fn request(&mut self, leaving: bool) -> v1::RegisterRequest {
        let healths = self.healths.borrow_and_update();
        let endpoints = healths.iter().map(|(service, health)| v1::OfferedEndpoint {
            service: service.to_string(),
            address: self.address.to_string(),
            health: v1::Health::from(if leaving { Health::Draining } else { *health }).into(),
        });
        v1::RegisterRequest {
            instance: self.sidecar.config.instance.clone(),
            endpoints: endpoints.collect(),
            leaving,
        }
    }
}

const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_AT_MOST: Duration = Duration::from_secs(2);
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
const REQUESTS_QUEUED: usize = 4;
