use super::*;
use crate::fixture::{Mesh, id};

fn decision() -> v1::Decision {
    v1::Decision {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        side: v1::Side::Client.into(),
        source: id("web").to_string(),
        service: "shop/orders".to_owned(),
        port: "http".to_owned(),
        reason: v1::Reason::NoRule.into(),
        ..Default::default()
    }
}

async fn read(workload: &str, decision: v1::Decision) -> Option<v1::Decision> {
    let mesh = Mesh::shop().await;
    let id = id(workload);
    let reporter = Reporter {
        id: &id,
        workload: &id.workload().unwrap(),
        world: &mesh.views.world(),
        now: Timestamp::now(),
    };
    super::read(&reporter, decision)
}

#[tokio::test]
async fn only_a_party_to_a_decision_may_report_it() {
    let server = v1::Decision {
        side: v1::Side::Server.into(),
        ..decision()
    };
    assert!(read("web", decision()).await.is_some());
    assert!(read("intruder", decision()).await.is_none());
    assert!(read("orders", server.clone()).await.is_some());
    assert!(read("web", server).await.is_none());
    assert!(
        read(
            "web",
            v1::Decision {
                side: 0,
                ..decision()
            }
        )
        .await
        .is_none()
    );
}

#[tokio::test]
async fn a_port_that_the_client_knows_by_its_number_is_stored_by_its_name() {
    for (service, told, stored) in [
        ("shop/orders", "80", "http"),
        ("shop/orders", "http", "http"),
        ("shop/orders", "81", "admin"),
        ("shop/orders", "82", "82"),
        ("shop/nothing", "80", "80"),
        ("", "", ""),
    ] {
        let decision = v1::Decision {
            service: service.to_owned(),
            port: told.to_owned(),
            ..decision()
        };
        let read = read("web", decision).await.unwrap();
        assert_eq!(read.port, stored, "{service}:{told}");
    }
}

#[tokio::test]
async fn row_15_control_characters_are_escaped_and_words_are_bounded() {
    let hostile = v1::Decision {
        path: format!("/a\n\u{202e}{}", "x".repeat(5000)),
        host: "h\r\nx".to_owned(),
        reported_by: "somebody else".to_owned(),
        ..decision()
    };
    let read = read("web", hostile).await.unwrap();
    assert!(
        read.path.starts_with("/a\\n\\u{202e}x") && read.path.len() < 600,
        "{}",
        read.path
    );
    assert_eq!(read.host, "h\\r\\nx");
    assert_eq!(read.reported_by, id("web").as_str());
}

#[tokio::test]
async fn what_is_no_decision_is_not_taken() {
    for wrong in [
        v1::Decision {
            id: "short".to_owned(),
            ..decision()
        },
        v1::Decision {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAU".to_owned(),
            ..decision()
        },
        v1::Decision {
            service: "Shop/..".to_owned(),
            ..decision()
        },
        v1::Decision {
            port: "a b".to_owned(),
            ..decision()
        },
        v1::Decision {
            reason: 99,
            ..decision()
        },
        v1::Decision {
            reason: 0,
            ..decision()
        },
    ] {
        assert!(read("web", wrong.clone()).await.is_none(), "{wrong:?}");
    }
}

#[tokio::test]
async fn no_refusal_lies_in_the_future() {
    let future = prost_types::Timestamp {
        seconds: 4_000_000_000,
        nanos: 0,
    };
    let read = read(
        "web",
        v1::Decision {
            last_seen: Some(future),
            ..decision()
        },
    )
    .await
    .unwrap();
    assert!(read.last_seen.unwrap().seconds < future.seconds);
    assert_eq!(read.count, 1);
}

#[tokio::test]
async fn row_11_a_flood_of_reports_is_refused_and_others_are_served() {
    let reports = crate::reports::Reports::new(LIMITS);
    let flooder = id("intruder");
    let taken = (0..100)
        .filter(|_| reports.admit(&flooder, 50).is_ok())
        .count();
    assert!((10..=11).contains(&taken), "{taken}");
    assert!(reports.admit(&id("web"), 50).is_ok());
    let refused = reports.admit(&flooder, 501).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
