//! Refusals: taken from the sidecars that made them, explained to operators.

mod judge;
mod report;

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weft_identity::WorkloadName;
use weft_wire::v1;
use weft_wire::v1::decisions_server::{Decisions, DecisionsServer};

use crate::escape;
use crate::hub::{Hub, caller_workload, internal};
use crate::lineages;
use crate::reporter::Reporter;
use crate::store::StoreError;
pub(crate) use report::LIMITS;

/// weft.v1.Decisions.
pub fn service(hub: Arc<Hub>) -> DecisionsServer<Desk> {
    DecisionsServer::new(Desk { hub })
}

pub struct Desk {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl Decisions for Desk {
    async fn report(
        &self,
        request: Request<v1::ReportDecisionsRequest>,
    ) -> Result<Response<v1::ReportDecisionsResponse>, Status> {
        let (id, workload) = caller_workload(&request)?;
        let decisions = request.into_inner().decisions;
        self.hub.decision_reports.admit(&id, decisions.len())?;
        let world = self.hub.views.world();
        let now = Timestamp::now();
        let reporter = Reporter {
            id: &id,
            workload: &workload,
            world: &world,
            now,
        };
        let taken: Vec<v1::Decision> = decisions
            .into_iter()
            .filter_map(|decision| report::read(&reporter, decision))
            .collect();
        if taken.is_empty() {
            return Ok(Response::new(v1::ReportDecisionsResponse { accepted: 0 }));
        }
        let written = self
            .hub
            .store
            .write(move |tx| -> Result<_, StoreError> { tx.put_decisions(now, taken) });
        let accepted = written.await.map_err(internal)?.value;
        Ok(Response::new(v1::ReportDecisionsResponse { accepted }))
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::WhyResponse>, Status> {
        let id = request.into_inner().id.to_ascii_uppercase();
        if !report::is_decision_id(&id) {
            return Err(Status::invalid_argument(
                "id: a decision id has 26 letters and digits",
            ));
        }
        let stored = self
            .hub
            .store
            .read()
            .and_then(|reader| reader.decision(&id))
            .map_err(internal)?;
        let decision = stored.ok_or_else(|| {
            Status::not_found(format!(
                "there is no decision {id}: it has not been reported yet, or is past its retention"
            ))
        })?;
        let world = self.hub.views.world();
        let joined = self.joined()?;
        let ground = judge::Ground {
            world: &world,
            joined: &joined,
            now: Timestamp::now(),
        };
        let explanation = judge::explain_decision(&ground, &decision);
        Ok(Response::new(v1::WhyResponse {
            decision: Some(decision),
            explanation,
            judged_at: world.revision,
        }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        // What was applied a moment ago is part of the answer.
        self.hub.views.reached(self.hub.store.revision()).await;
        let world = self.hub.views.world();
        let joined = self.joined()?;
        let ground = judge::Ground {
            world: &world,
            joined: &joined,
            now: Timestamp::now(),
        };
        let explained = judge::explain(&ground, &request.into_inner());
        explained.map(Response::new).map_err(|error| {
            Status::invalid_argument(escape::line(&error.to_string(), ERROR_CHARS))
        })
    }
}

impl Desk {
    /// Every workload that has a lineage.
    fn joined(&self) -> Result<Vec<WorkloadName>, Status> {
        let lineages = self
            .hub
            .store
            .read()
            .and_then(|reader| lineages::all(&reader))
            .map_err(internal)?;
        let identity = |stored: &lineages::StoredLineage| stored.lineage.identity().workload();
        Ok(lineages.iter().filter_map(identity).collect())
    }
}

const ERROR_CHARS: usize = 500;
