//! The resource API: what `meshctl` and platforms use to say what the mesh should be.
//!
//! A request is one transaction and one revision, or nothing. What a request would do is decided in one place
//! (`apply::decide`), for dry runs too.

mod apply;
mod list;
mod outside;
mod read;
mod readers;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weft_identity::SpiffeId;
use weft_wire::v1::resources_server::{Resources, ResourcesServer};
use weft_wire::{Resource, ResourceKey, Spec, v1};

use crate::audit::Event;
use crate::hub::{Hub, caller, internal};
use crate::rollout;
use crate::store::{AuditEntry, Outcome};
use apply::Edit;

/// weft.v1.Resources.
pub fn service(hub: Arc<Hub>) -> ResourcesServer<Catalog> {
    ResourcesServer::new(Catalog { hub }).max_decoding_message_size(REQUEST_BYTES)
}

pub struct Catalog {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl Resources for Catalog {
    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let actor = caller(&request)?;
        let is_dry_run = request.get_ref().dry_run;
        let named = named(request.get_ref().resources.iter().map(shown_key));
        let applied = self.apply_as(&actor, request.into_inner()).await;
        if let (Err(status), false) = (&applied, is_dry_run) {
            self.record_refusal(&actor, "apply", named, status).await;
        }
        applied.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let actor = caller(&request)?;
        let is_dry_run = request.get_ref().dry_run;
        let keys = request.get_ref().keys.iter();
        let named = named(keys.map(|key| format!("{}/{}/{}", key.kind, key.namespace, key.name)));
        let deleted = self.delete_as(&actor, request.into_inner()).await;
        if let (Err(status), false) = (&deleted, is_dry_run) {
            self.record_refusal(&actor, "delete", named, status).await;
        }
        deleted.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        let key = request
            .into_inner()
            .key
            .ok_or_else(|| Status::invalid_argument("key: is required"))?;
        let key = ResourceKey::try_from(&key)
            .map_err(|error| Status::invalid_argument(format!("key.{error}")))?;
        let stored = self
            .hub
            .store
            .read()
            .and_then(|reader| reader.resource(&(&key).into()))
            .map_err(internal)?;
        stored
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no {key}")))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let reader = self.hub.store.read().map_err(internal)?;
        let revision = reader.revision().map_err(internal)?;
        let resources = reader.resources().map_err(internal)?;
        list::page(&request.into_inner(), resources, revision).map(Response::new)
    }

    type WatchStream = ReceiverStream<Result<v1::WatchEvent, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (events, answers) = mpsc::channel(QUEUED_EVENTS);
        let watching = watch::Watching::begin(Arc::clone(&self.hub), &request.into_inner())?;
        self.hub.tasks.connection("resource watch", async move {
            if let Err(status) = watching.serve(&events).await {
                // A watcher that has gone needs no reason.
                let _ = events.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type WaitRolloutStream = ReceiverStream<Result<v1::RolloutStatus, Status>>;

    async fn wait_rollout(
        &self,
        request: Request<v1::WaitRolloutRequest>,
    ) -> Result<Response<Self::WaitRolloutStream>, Status> {
        let request = request.into_inner();
        if request.revision > self.hub.store.revision() {
            return Err(Status::out_of_range(format!(
                "there is no revision {} yet",
                request.revision
            )));
        }
        let (statuses, answers) = mpsc::channel(QUEUED_EVENTS);
        let hub = Arc::clone(&self.hub);
        self.hub
            .tasks
            .connection("rollout", rollout::wait(hub, request, statuses));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Catalog {
    async fn apply_as(
        &self,
        actor: &SpiffeId,
        request: v1::ApplyRequest,
    ) -> Result<v1::ApplyResponse, Status> {
        let is_dry_run = request.dry_run;
        let edit = Edit::read_apply(&self.hub.trust_domain, request)?;
        self.hub.views.reached(self.hub.store.revision()).await;
        edit.check_hosts(&self.hub.views.world(), &self.hub.trust_domain)?;
        self.check_readers(&edit)?;
        let mut warnings = edit.warnings(&self.hub.views.world(), Timestamp::now());
        let decided = self.edit(edit, actor, is_dry_run).await?;
        warnings.extend(decided.warnings);
        Ok(v1::ApplyResponse {
            revision: decided.revision,
            changes: decided.changes,
            warnings,
        })
    }

    async fn delete_as(
        &self,
        actor: &SpiffeId,
        request: v1::DeleteRequest,
    ) -> Result<v1::DeleteResponse, Status> {
        let is_dry_run = request.dry_run;
        let edit = Edit::read_delete(request)?;
        let decided = self.edit(edit, actor, is_dry_run).await?;
        Ok(v1::DeleteResponse {
            revision: decided.revision,
            changes: decided.changes,
        })
    }

    async fn record_refusal(
        &self,
        actor: &SpiffeId,
        action: &'static str,
        subject: String,
        status: &Status,
    ) {
        let event = Event {
            actor: actor.to_string(),
            action,
            subject,
            detail: status.message().to_owned(),
        };
        self.hub.auditor.refused(event).await;
    }

    /// Decides and, unless it is a dry run, writes and audits, in one transaction.
    async fn edit(
        &self,
        edit: Edit,
        actor: &SpiffeId,
        is_dry_run: bool,
    ) -> Result<Decided, Status> {
        let actor = actor.to_string();
        let written = self.hub.store.write(move |tx| {
            let outcome = apply::decide(&edit, tx)?;
            if !is_dry_run {
                write(&outcome, &actor, tx)?;
            }
            Ok(outcome)
        });
        let written = written
            .await
            .map_err(|error: apply::ApplyError| error.into_status())?;
        let outcome = written.value;
        Ok(Decided {
            revision: written.revision,
            changes: outcome.changes,
            warnings: outcome.warnings,
        })
    }

    /// A rule, a service under one, or a learn mode that a connected sidecar could not read would leave the service closed there.
    fn check_readers(&self, edit: &Edit) -> Result<(), Status> {
        let world = self.hub.views.world();
        for read in edit.read(&world) {
            let rule = read.rule;
            let callers = self.hub.views.sources_of(rule);
            let servers = self.hub.views.offering(&rule.service, read.servers());
            let sides = [
                (read.callers_schema(), callers),
                (read.servers_schema(), servers),
            ];
            for (schema, readers) in sides {
                if let Some(sidecar) = self.hub.rollouts.cannot_read(schema, &readers) {
                    return Err(Status::failed_precondition(format!(
                        "Allow/{}: needs policy schema {schema}, which sidecar {} of {} cannot read; upgrade it first",
                        rule.name, sidecar.instance, sidecar.id
                    )));
                }
            }
        }
        for settings in edit.namespaces().filter(|it| it.learn_until().is_some()) {
            let learners = self.hub.views.learners();
            let schema = weft_policy::LEARN_SCHEMA;
            if let Some(sidecar) = self.hub.rollouts.cannot_read(schema, &learners) {
                return Err(Status::failed_precondition(format!(
                    "{}: needs policy schema {schema}, which sidecar {} of {} cannot read; upgrade it first",
                    ResourceKey::namespace_settings(&settings.namespace),
                    sidecar.instance,
                    sidecar.id
                )));
            }
        }
        Ok(())
    }
}

/// What a refused request was about; a long list is cut by the audit.
fn named(keys: impl Iterator<Item = String>) -> String {
    keys.take(MOST_NAMED).collect::<Vec<_>>().join(", ")
}

fn shown_key(resource: &v1::Resource) -> String {
    match crate::store::key_of(resource) {
        Some(key) => format!("{}/{}/{}", key.kind, key.namespace, key.name),
        None => "a resource without a name".to_owned(),
    }
}

struct Decided {
    revision: u64,
    changes: Vec<v1::Change>,
    warnings: Vec<String>,
}

fn write(
    outcome: &apply::Outcome,
    actor: &str,
    tx: &mut crate::store::WriteTx<'_>,
) -> Result<(), apply::ApplyError> {
    for (key, resource) in &outcome.writes {
        let action = match resource {
            Some(resource) => {
                tx.put_resource(resource.clone())?;
                "apply"
            }
            None => {
                tx.delete_resource(&key.into())?;
                "delete"
            }
        };
        tx.audit(AuditEntry {
            time: Timestamp::now(),
            actor: actor.to_owned(),
            action,
            subject: key.to_string(),
            outcome: Outcome::Ok,
            detail: resource.as_ref().and_then(granted).unwrap_or_default(),
        })?;
    }
    Ok(())
}

/// What a reader of the audit must see without looking further: that a whole namespace is open, and until when.
fn granted(resource: &v1::Resource) -> Option<String> {
    let Resource {
        spec: Spec::NamespaceSettings(settings),
        ..
    } = Resource::try_from(resource).ok()?
    else {
        return None;
    };
    let until = settings.learn_until()?;
    Some(format!("learn mode until {until}"))
}

const MOST_NAMED: usize = 20;
const QUEUED_EVENTS: usize = 64;
const REQUEST_BYTES: usize = 16 << 20;
