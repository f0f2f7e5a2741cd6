//! Flows: taken from the sidecars that judged them, read by operators.

mod list;
mod report;

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weft_wire::v1;
use weft_wire::v1::flows_server::{Flows, FlowsServer};

use crate::hub::{Hub, caller_workload, internal};
use crate::reporter::Reporter;
use crate::store::StoreError;
pub(crate) use report::LIMITS;

/// weft.v1.Flows.
pub fn service(hub: Arc<Hub>) -> FlowsServer<Desk> {
    FlowsServer::new(Desk { hub })
}

pub struct Desk {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl Flows for Desk {
    async fn report(
        &self,
        request: Request<v1::ReportFlowsRequest>,
    ) -> Result<Response<v1::ReportFlowsResponse>, Status> {
        let (id, workload) = caller_workload(&request)?;
        let request = request.into_inner();
        // A report without flows costs a write too.
        self.hub
            .flow_reports
            .admit(&id, request.flows.len().max(1))?;
        let world = self.hub.views.world();
        let now = Timestamp::now();
        let reporter = Reporter {
            id: &id,
            workload: &workload,
            world: &world,
            now,
        };
        let report = report::read(&reporter, &request);
        let written = self
            .hub
            .store
            .write(move |tx| -> Result<_, StoreError> { tx.put_flows(now, report) });
        let accepted = written.await.map_err(internal)?.value;
        Ok(Response::new(v1::ReportFlowsResponse { accepted }))
    }

    async fn list(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        let asked = list::Asked::read(request.get_ref(), &self.hub.trust_domain)?;
        let reader = self.hub.store.read().map_err(internal)?;
        let page = list::page(&reader, &asked).map_err(internal)?;
        Ok(Response::new(page))
    }
}
