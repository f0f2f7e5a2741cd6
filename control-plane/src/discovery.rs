//! The delta Aggregated Discovery Service: one stream per sidecar carries its whole view and every change of it.
//!
//! A change goes out the moment it is known; only what is queued already is sent as one. A client that does not read
//! is not sent more: its stream holds one view and a bounded number of responses. A sidecar has one stream: a newer one
//! ends the older.

mod exchange;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_catalog::check_instance;
use weft_wire::xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use weft_wire::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

use crate::escape;
use crate::hub::{Hub, caller_workload};
use crate::rollout::{Announced, Ended, SidecarKey, Tracked};
use exchange::Exchange;

/// The delta ADS server.
pub fn service(hub: Arc<Hub>) -> AggregatedDiscoveryServiceServer<Discovery> {
    AggregatedDiscoveryServiceServer::new(Discovery { hub })
}

pub struct Discovery {
    hub: Arc<Hub>,
}

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (id, _) = caller_workload(&request)?;
        let (responses, answers) = mpsc::channel(QUEUED_RESPONSES);
        let hub = Arc::clone(&self.hub);
        let stream = Stream {
            id,
            requests: request.into_inner(),
            responses,
            hub,
        };
        self.hub.tasks.connection("discovery", stream.serve());
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One sidecar's stream.
struct Stream {
    id: weft_identity::SpiffeId,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: Responses,
    hub: Arc<Hub>,
}

impl Stream {
    async fn serve(mut self) {
        let first = match timeout(FIRST_REQUEST, self.requests.message()).await {
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                return self
                    .refuse(Status::deadline_exceeded("nothing was asked for"))
                    .await;
            }
        };
        let (key, announced) = match announced(&self.id, first.node.as_ref()) {
            Ok(announced) => announced,
            Err(status) => return self.refuse(status).await,
        };
        let tracked =
            match self
                .hub
                .rollouts
                .connect(key, announced, self.hub.views.subscribe(&self.id))
            {
                Ok(tracked) => tracked,
                Err(error) => {
                    return self
                        .refuse(Status::resource_exhausted(error.to_string()))
                        .await;
                }
            };
        // Also while a response waits for a client that does not read.
        let ended = tokio::select! {
            biased;
            () = tracked.replaced() => Err(Status::aborted("a newer stream of this instance has taken over")),
            ended = self.exchange(first, &tracked) => ended,
        };
        match ended {
            Ok(()) => tracked.end(Ended::Left),
            Err(status) => {
                tracked.end(Ended::Lost);
                self.refuse(status).await;
            }
        }
    }

    async fn exchange(
        &mut self,
        first: DeltaDiscoveryRequest,
        tracked: &Tracked,
    ) -> Result<(), Status> {
        let mut views = self.hub.views.subscribe(&self.id);
        let mut exchange = Exchange::default();
        let draining = self.hub.tasks.draining();
        exchange.receive(&first).map_err(invalid)?;
        loop {
            let view = views.current();
            for response in exchange.answer(&view) {
                let sent = self.responses.send(Ok(response)).await;
                sent.map_err(|_| Status::unavailable("the client has gone"))?;
            }
            tracked.heard(exchange.acknowledged(), exchange.refused());
            // Requests first: an answer that is here already decides what is still open.
            tokio::select! {
                biased;
                () = draining.cancelled() => return Err(Status::unavailable("the control plane is stopping")),
                message = self.requests.message() => match message? {
                    Some(request) => {
                        exchange.receive(&request).map_err(invalid)?;
                        tracked.touch();
                    }
                    None => return Ok(()),
                },
                () = self.responses.closed() => return Err(Status::unavailable("the client has gone")),
                () = views.changed() => {}
            }
        }
    }

    async fn refuse(&self, status: Status) {
        // A client that has gone, or does not read, needs no reason.
        let _ = timeout(REFUSAL, self.responses.send(Err(status))).await;
    }
}

/// Who this sidecar says it is, beside its identity, and what it understands.
fn announced(
    id: &weft_identity::SpiffeId,
    node: Option<&Node>,
) -> Result<(SidecarKey, Announced), Status> {
    let node = node.ok_or_else(|| Status::invalid_argument("the first request carries no node"))?;
    check_instance(&node.id)
        .map_err(|error| Status::invalid_argument(format!("node.id: {error}")))?;
    let schema = node
        .client_features
        .iter()
        .find_map(|feature| feature.strip_prefix(SCHEMA_FEATURE));
    let policy_schema = match schema.map(str::parse) {
        None => weft_policy::SCHEMA.min(1),
        Some(Ok(0)) => {
            return Err(Status::failed_precondition(
                "schema 0 cannot be served: a newer sidecar is needed",
            ));
        }
        Some(Ok(schema)) => schema,
        Some(Err(_)) => {
            return Err(Status::invalid_argument(
                "client_features: `weft.schema` is not a number",
            ));
        }
    };
    let version = escape::line(&node.user_agent_version, VERSION_CHARS);
    Ok((
        SidecarKey {
            id: id.clone(),
            instance: node.id.clone(),
        },
        Announced {
            version,
            policy_schema,
        },
    ))
}

fn invalid(error: exchange::ExchangeError) -> Status {
    Status::invalid_argument(error.to_string())
}

const SCHEMA_FEATURE: &str = "weft.schema=";
const VERSION_CHARS: usize = 64;
/// How long a stream may ask for nothing.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(10);
const REFUSAL: Duration = Duration::from_secs(1);
/// Responses between this task and the connection's flow control.
const QUEUED_RESPONSES: usize = 8;
