//! The client of the delta Aggregated Discovery Service: one stream that carries every type, made again whenever it ends.
//!
//! What is unreadable is refused by name, and everything readable of the same response is in force before the refusal is sent.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use weft_daemon::{Backoff, CancellationToken};
use weft_wire::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_wire::{rpc, type_url, xds};

use crate::Sidecar;
use crate::bootstrap::chain_of;
use crate::keeper::Keeper;
use crate::received::Problem;

pub(crate) struct Discovery {
    pub sidecar: Arc<Sidecar>,
    pub keeper: Keeper,
    /// Cancelled when nothing is left that a change of policy could cut: the stream is closed in order.
    pub leave: CancellationToken,
    /// Cancelled here when it is closed.
    pub left: CancellationToken,
}

/// Why a stream ended.
enum Ended {
    /// The process is about to end.
    Left,
    /// The own SVID was renewed: the next stream presents the new one.
    Renewed,
    /// The control plane went away after it had answered.
    Lost(Status),
    /// It could not be reached.
    Unreached(Status),
}

enum Event {
    Response(Box<xds::DeltaDiscoveryResponse>),
    Ended(Ended),
}

impl Discovery {
    /// Follows the control plane until the process leaves.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_AT_MOST);
        // Said once: at every try it would drown what else is said.
        let mut is_told = false;
        loop {
            let ended = self.follow().await;
            self.keeper.set_connected(false);
            match ended {
                Ended::Left => {
                    self.left.cancel();
                    return Ok(());
                }
                Ended::Renewed => {
                    is_told = false;
                    self.keeper.key_changed();
                    continue;
                }
                Ended::Lost(status) => {
                    backoff.reset();
                    is_told = true;
                    tracing::warn!(error = %chain_of(&status), "the control plane is lost; serving what is known");
                }
                Ended::Unreached(status) if !is_told => {
                    is_told = true;
                    tracing::warn!(error = %chain_of(&status), "the control plane cannot be reached; it is tried again");
                }
                Ended::Unreached(status) => {
                    tracing::debug!(error = %chain_of(&status), "the control plane cannot be reached");
                }
            }
            let delay = backoff.next_delay();
            self.keeper.while_keeping(tokio::time::sleep(delay)).await;
        }
    }

    /// One stream from its opening to its end.
    async fn follow(&mut self) -> Ended {
        let mut renewed = self.sidecar.identity.changed();
        renewed.mark_unchanged();
        let (requests, outgoing) = mpsc::channel(REQUESTS_QUEUED);
        for first in self.subscriptions() {
            // The channel holds more than there are types.
            let _ = requests.try_send(first);
        }
        let mut client =
            AggregatedDiscoveryServiceClient::new(self.sidecar.control_plane.channel())
                .max_decoding_message_size(RESPONSE_LIMIT);
        let open = async move {
            timeout(
                OPEN_TIMEOUT,
                client.delta_aggregated_resources(ReceiverStream::new(outgoing)),
            )
            .await
        };
        let mut responses = match self.keeper.while_keeping(open).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Ended::Unreached(status),
            Err(_) => return Ended::Unreached(Status::deadline_exceeded("no answer")),
        };
        let mut untold: BTreeSet<&str> = type_url::ALL.into_iter().collect();
        loop {
            let leave = self.leave.clone();
            let next = async {
                tokio::select! {
                    message = responses.message() => match message {
                        Ok(Some(response)) => Event::Response(Box::new(response)),
                        Ok(None) => Event::Ended(Ended::Lost(Status::unavailable("it closed the stream"))),
                        Err(status) => Event::Ended(Ended::Lost(status)),
                    },
                    _ = renewed.changed() => Event::Ended(Ended::Renewed),
                    () = leave.cancelled() => Event::Ended(Ended::Left),
                }
            };
            let response = match self.keeper.while_keeping(next).await {
                Event::Response(response) => *response,
                Event::Ended(Ended::Left) => {
                    drop(requests);
                    // It answers the end of the requests with the end of the stream.
                    let _ = timeout(LEAVE_TIMEOUT, async {
                        while let Ok(Some(_)) = responses.message().await {}
                    })
                    .await;
                    return Ended::Left;
                }
                Event::Ended(ended) => return ended,
            };
            let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
            let problems = self.keeper.apply(response);
            // Whoever only opens a stream has said nothing yet.
            if untold.remove(type_url.as_str()) && untold.is_empty() {
                self.keeper.set_connected(true);
            }
            let answer = self.answer(type_url, nonce, &problems);
            if timeout(SEND_TIMEOUT, requests.send(answer)).await.is_err() {
                return Ended::Lost(Status::deadline_exceeded("it does not read"));
            }
        }
    }

    /// One wildcard subscription a type, with what is held of it already.
    fn subscriptions(&self) -> Vec<xds::DeltaDiscoveryRequest> {
        let node = xds::Node {
            id: self.sidecar.config.instance.clone(),
            cluster: self.sidecar.config.workload.to_string(),
            user_agent_name: "weft-sidecar".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            client_features: vec![format!("weft.schema={}", weft_policy::SCHEMA)],
        };
        type_url::ALL
            .into_iter()
            .map(|kind| xds::DeltaDiscoveryRequest {
                node: Some(node.clone()),
                type_url: kind.to_owned(),
                initial_resource_versions: self.keeper.received().versions(kind),
                ..Default::default()
            })
            .collect()
    }

    /// The acknowledgement, or the refusal that names each resource.
    fn answer(
        &self,
        type_url: String,
        nonce: String,
        problems: &[Problem],
    ) -> xds::DeltaDiscoveryRequest {
        let metrics = &self.sidecar.metrics;
        let error_detail = if problems.is_empty() {
            metrics.discovery_acks.inc();
            None
        } else {
            metrics.discovery_nacks.inc();
            let named: Vec<String> = problems
                .iter()
                .take(NAMED_AT_MOST)
                .map(|problem| format!("{}: {}", problem.name, problem.cause))
                .collect();
            let message = named.join("; ");
            tracing::error!(
                type_url,
                problems = message,
                "resources that cannot be read deny until readable ones come"
            );
            Some(rpc::Status {
                code: Code::InvalidArgument.into(),
                message,
                ..Default::default()
            })
        };
        xds::DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..Default::default()
        }
    }
}

const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_AT_MOST: Duration = Duration::from_secs(2);
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
const REQUESTS_QUEUED: usize = 16;
const RESPONSE_LIMIT: usize = 64 << 20;
const NAMED_AT_MOST: usize = 20;
