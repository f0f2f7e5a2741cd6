use jiff::Timestamp;
use prost_types::Timestamp as Moment;
use weft_wire::v1::flow::{Judged as Verdict, Traffic};

use super::*;
use crate::fixture::{Mesh, allow, id, outside};
use crate::reports::Reports;

fn flow(source: &str, service: &str, judged: Verdict) -> v1::Flow {
    let now = Timestamp::now().as_second();
    let time = |seconds| Some(Moment { seconds, nanos: 0 });
    v1::Flow {
        source: id(source).to_string(),
        service: format!("shop/{service}"),
        port: "http".to_owned(),
        traffic: Some(Traffic::Connection(v1::Any {})),
        judged: Some(judged),
        count: 3,
        first_seen: time(now - 1),
        last_seen: time(now),
    }
}

fn allowed() -> Verdict {
    Verdict::Allowed("shop/web-api".to_owned())
}

fn denied() -> Verdict {
    Verdict::Denied(v1::Reason::NoRule.into())
}

async fn read(workload: &str, flows: Vec<v1::Flow>) -> FlowReport {
    let mut mesh = Mesh::shop().await;
    mesh.put([
        outside("bank"),
        allow("web-bank", "bank", &["shop/web"]),
        outside("shut"),
    ])
    .await;
    let id = id(workload);
    let reporter = Reporter {
        id: &id,
        workload: &id.workload().unwrap(),
        world: &mesh.views.world(),
        now: Timestamp::now(),
    };
    let request = v1::ReportFlowsRequest {
        run: 1,
        sequence: 1,
        flows,
        loss: None,
    };
    super::read(&reporter, &request)
}

#[tokio::test]
async fn row_11_a_workload_tells_flows_to_what_it_offers_and_its_own_refused_calls_and_no_others() {
    let reports = [
        // web calls api; orders is offered by orders.
        ("api", flow("web", "api", allowed()), true),
        ("api", flow("intruder", "api", denied()), true),
        ("web", flow("web", "api", denied()), true),
        ("web", flow("web", "nothing", denied()), true),
        // Its own call, which only the server can say was let in.
        ("web", flow("web", "api", allowed()), false),
        (
            "web",
            flow("web", "api", Verdict::Learned(v1::Reason::NoRule.into())),
            false,
        ),
        // Nobody but the caller's sidecar is on the way outside; a rule must open it.
        ("web", flow("web", "bank", allowed()), true),
        ("web", flow("web", "bank", denied()), true),
        ("web", flow("web", "shut", allowed()), false),
        ("web", flow("web", "shut", denied()), true),
        ("api", flow("web", "bank", allowed()), false),
        ("api", flow("api", "bank", allowed()), false),
        // Others' calls to others.
        ("web", flow("api", "orders", denied()), false),
        ("web", flow("api", "orders", allowed()), false),
        ("api", flow("web", "orders", allowed()), false),
        ("api", flow("web", "nothing", allowed()), false),
    ];
    for (reporter, flow, is_taken) in reports {
        let report = read(reporter, vec![flow.clone()]).await;
        assert_eq!(report.flows.len() == 1, is_taken, "{reporter}: {flow:?}");
        assert_eq!(report.refused, if is_taken { 0 } else { 3 });
    }
}

#[tokio::test]
async fn a_port_that_the_client_knows_by_its_number_is_stored_by_its_name() {
    for (told, stored) in [
        ("80", "http"),
        ("http", "http"),
        ("81", "admin"),
        ("82", "82"),
    ] {
        let flow = v1::Flow {
            port: told.to_owned(),
            ..flow("web", "orders", denied())
        };
        let report = read("web", vec![flow]).await;
        assert_eq!(report.flows[0].key.target.port.as_str(), stored, "{told}");
    }
}

#[tokio::test]
async fn what_says_more_than_rules_ask_or_too_much_is_not_stored() {
    let request = |path: &str, header: usize| {
        let condition = v1::HeaderMatch {
            name: "x-a".into(),
            r#match: Some(v1::header_match::Match::Exact("v".repeat(header))),
        };
        Traffic::Request(v1::FlowRequest {
            method: "GET".into(),
            host: Some(v1::flow_request::Host::NoHost(v1::Any {})),
            path: Some(v1::flow_request::Path::FoldedPath(path.into())),
            headers: vec![v1::FlowHeader {
                condition: Some(condition),
                seen: v1::HeaderSeen::Absent.into(),
            }],
            ..Default::default()
        })
    };
    for (traffic, is_taken) in [
        (request("/orders/{number}", 10), true),
        (request("/orders?card=4111", 10), false),
        (request("/orders\n", 10), false),
        (request("/orders", FLOW_BYTES), false),
    ] {
        let flow = v1::Flow {
            traffic: Some(traffic.clone()),
            ..flow("web", "api", allowed())
        };
        let report = read("api", vec![flow]).await;
        assert_eq!(report.flows.len() == 1, is_taken, "{traffic:?}");
    }
}

#[tokio::test]
async fn no_flow_lies_in_the_future_or_began_before_what_is_kept() {
    let far = v1::Flow {
        first_seen: Some(Moment {
            seconds: 0,
            nanos: 0,
        }),
        last_seen: Some(Moment {
            seconds: 4_000_000_000,
            nanos: 0,
        }),
        ..flow("web", "api", allowed())
    };
    let report = read("api", vec![far]).await;
    let flow = &report.flows[0];
    assert!(flow.last_seen <= Timestamp::now());
    assert_eq!(flow.last_seen.duration_since(flow.first_seen), LONGEST);
}

#[tokio::test]
async fn row_11_a_flood_of_flows_is_refused_and_others_are_served() {
    let reports = Reports::new(LIMITS);
    let flooder = id("intruder");
    let taken = (0..100)
        .filter(|_| reports.admit(&flooder, 500).is_ok())
        .count();
    assert!((10..=11).contains(&taken), "{taken}");
    assert!(reports.admit(&id("web"), 500).is_ok());
    let refused = reports.admit(&flooder, 501).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
