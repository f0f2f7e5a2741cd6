//! Registration of endpoints: bound to the identity that registers, kept by a lease on its stream.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_catalog::{check_address, check_instance};
use weft_identity::{ServiceName, SpiffeId, WorkloadName};
use weft_wire::v1;
use weft_wire::v1::registration_server::{Registration, RegistrationServer};
use weft_wire::{ResourceKey, write_duration, write_timestamp};

use crate::audit::Event;
use crate::discovery::FIRST_REQUEST;
use crate::hub::{Hub, caller_workload, internal};
use crate::leases::Hold;
use crate::store::{StoreError, StoredEndpoints, WriteTx};

/// weft.v1.Registration.
pub fn service(hub: Arc<Hub>) -> RegistrationServer<Registrar> {
    RegistrationServer::new(Registrar { hub })
}

pub struct Registrar {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    type RegisterStream = ReceiverStream<Result<v1::RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<v1::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let (id, workload) = caller_workload(&request)?;
        let (responses, answers) = mpsc::channel(QUEUED_RESPONSES);
        let lease = Lease {
            hub: Arc::clone(&self.hub),
            id,
            workload,
            requests: request.into_inner(),
        };
        self.hub.tasks.connection("registration", async move {
            if let Err(status) = lease.serve(&responses).await {
                // A sidecar that has gone needs no reason.
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One sidecar's stream.
struct Lease {
    hub: Arc<Hub>,
    id: SpiffeId,
    workload: WorkloadName,
    requests: Streaming<v1::RegisterRequest>,
}

type Responses = mpsc::Sender<Result<v1::RegisterResponse, Status>>;

impl Lease {
    async fn serve(mut self, responses: &Responses) -> Result<(), Status> {
        let first = timeout(FIRST_REQUEST, self.requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("nothing was offered"))?;
        let Some(mut request) = first? else {
            return Ok(());
        };
        let instance = request.instance.clone();
        check_instance(&instance)
            .map_err(|error| Status::invalid_argument(format!("instance: {error}")))?;
        let hold = self.hub.leases.hold(self.id.as_str(), &instance);
        let hold = hold.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let hold = Arc::new(hold);
        let draining = self.hub.tasks.draining();
        loop {
            if request.instance != instance {
                return Err(Status::invalid_argument(
                    "instance: it cannot change within a stream",
                ));
            }
            let is_leaving = request.leaving;
            let revision = self.store(&hold, request).await?;
            let lease = Some(write_duration(self.hub.leases.grace()));
            if is_leaving {
                hold.leave();
                let _ = responses
                    .send(Ok(v1::RegisterResponse { revision, lease }))
                    .await;
                return Ok(());
            }
            let sent = responses
                .send(Ok(v1::RegisterResponse { revision, lease }))
                .await;
            sent.map_err(|_| Status::unavailable("the sidecar has gone"))?;
            request = tokio::select! {
                () = draining.cancelled() => return Err(Status::unavailable("the control plane is stopping")),
                () = responses.closed() => return Ok(()),
                message = self.requests.message() => match message? {
                    Some(request) => request,
                    None => return Ok(()),
                },
            };
        }
    }

    /// Replaces what this sidecar offers; answers the revision at which that is so.
    async fn store(&self, hold: &Arc<Hold>, request: v1::RegisterRequest) -> Result<u64, Status> {
        let offered = if request.leaving {
            Vec::new()
        } else {
            request.endpoints
        };
        let instance = request.instance;
        let (services, endpoints) = read(&self.id, &instance, offered)?;
        let offered = shown(&endpoints);
        let (owner, workload) = (self.id.to_string(), self.workload.clone());
        let (subject, hold) = (instance.clone(), Arc::clone(hold));
        let written = self.hub.store.write(move |tx| {
            // Asked here: a newer stream takes the lease before it writes, so nothing of it is overwritten.
            if !hold.is_current() {
                return Err(Refused::TakenOver);
            }
            for service in &services {
                if !may_offer(tx, service, &workload)? {
                    return Err(Refused::NotOffered(service.clone()));
                }
            }
            Ok(tx.put_endpoints(&instance, &owner, endpoints)?)
        });
        match written.await {
            Ok(written) => {
                if written.value {
                    self.record(subject, offered).await;
                }
                Ok(written.revision)
            }
            Err(Refused::Store(error)) => Err(internal(error)),
            Err(Refused::TakenOver) => Err(Status::aborted(
                "a newer stream of this instance has taken over",
            )),
            Err(Refused::NotOffered(service)) => Err(self.refuse(service).await),
        }
    }

    async fn record(&self, instance: String, offered: String) {
        let event = Event {
            actor: self.id.to_string(),
            action: "register",
            subject: instance,
            detail: offered,
        };
        self.hub.auditor.done(event).await;
    }

    async fn refuse(&self, service: ServiceName) -> Status {
        let event = Event {
            actor: self.id.to_string(),
            action: "register",
            subject: service.to_string(),
            detail: "the identity is not among the service's workloads".to_owned(),
        };
        self.hub.auditor.refused(event).await;
        // Whether the service exists is none of the caller's business.
        Status::permission_denied(format!("{} may not offer {service}", self.workload))
    }
}

/// What is offered where, for the audit.
fn shown(endpoints: &StoredEndpoints) -> String {
    if endpoints.is_empty() {
        return "offers nothing any more".to_owned();
    }
    let places: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("{} at {}", endpoint.service, endpoint.address))
        .collect();
    format!("offers {}", places.join(", "))
}

enum Refused {
    Store(StoreError),
    TakenOver,
    NotOffered(ServiceName),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn may_offer(
    tx: &WriteTx<'_>,
    service: &ServiceName,
    workload: &WorkloadName,
) -> Result<bool, StoreError> {
    let stored = tx.resource(&(&ResourceKey::service(service)).into())?;
    let Some(v1::resource::Spec::Service(spec)) = stored.and_then(|resource| resource.spec) else {
        return Ok(false);
    };
    let workload = workload.to_string();
    Ok(spec.workloads.contains(&workload))
}

/// Reads all or nothing: the services, and the endpoints as they are stored.
fn read(
    id: &SpiffeId,
    instance: &str,
    offered: Vec<v1::OfferedEndpoint>,
) -> Result<(Vec<ServiceName>, StoredEndpoints), Status> {
    if offered.len() > ENDPOINTS_LIMIT {
        return Err(Status::invalid_argument(format!(
            "endpoints: more than {ENDPOINTS_LIMIT}"
        )));
    }
    let mut services = HashSet::new();
    let mut endpoints = Vec::new();
    for (i, endpoint) in offered.into_iter().enumerate() {
        let invalid = |field: &str, problem: String| {
            Status::invalid_argument(format!("endpoints[{i}].{field}: {problem}"))
        };
        let service: ServiceName = endpoint
            .service
            .parse()
            .map_err(|error| invalid("service", format!("{error}")))?;
        let address: SocketAddr = endpoint
            .address
            .parse()
            .map_err(|_| invalid("address", "is not `ip:port`".to_owned()))?;
        check_address(&address).map_err(|error| invalid("address", error.to_string()))?;
        match v1::Health::try_from(endpoint.health) {
            Ok(v1::Health::Healthy | v1::Health::Unhealthy | v1::Health::Draining) => {}
            Ok(v1::Health::Unspecified) | Err(_) => {
                return Err(invalid("health", "is required".to_owned()));
            }
        }
        endpoints.push(v1::CatalogEndpoint {
            service: service.to_string(),
            address: address.to_string(),
            identity: id.to_string(),
            health: endpoint.health,
            instance: instance.to_owned(),
            lease_expires: None,
        });
        if !services.insert(service) {
            return Err(invalid("service", "appears twice".to_owned()));
        }
    }
    Ok((services.into_iter().collect(), endpoints))
}

/// The endpoints of one service or of all, with the end of their leases.
pub fn list_endpoints(
    hub: &Hub,
    request: &v1::ListEndpointsRequest,
) -> Result<v1::ListEndpointsResponse, Status> {
    let mut endpoints = Vec::new();
    for owned in hub
        .store
        .read()
        .map_err(internal)?
        .endpoints()
        .map_err(internal)?
    {
        let expires = hub
            .leases
            .expires(&owned.owner, &owned.instance)
            .map(write_timestamp);
        let asked = owned.endpoints.into_iter();
        let asked = asked
            .filter(|endpoint| request.service.is_empty() || endpoint.service == request.service);
        endpoints.extend(asked.map(|endpoint| v1::CatalogEndpoint {
            lease_expires: expires,
            ..endpoint
        }));
    }
    endpoints.sort_by(|a, b| {
        (&a.service, &a.identity, &a.instance).cmp(&(&b.service, &b.identity, &b.instance))
    });
    Ok(v1::ListEndpointsResponse { endpoints })
}

const QUEUED_RESPONSES: usize = 4;
/// Services that one sidecar offers.
const ENDPOINTS_LIMIT: usize = 64;
