//! Facts → findings. Pure: the time is one of the facts.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use weft_wire::{Spec, v1};

use super::facts::Facts;
use super::rules::rules;
use super::{Finding, Status};
use crate::moments::{moment, rough, shown};

/// Every finding, and how long an outage of the control plane is survived.
pub(super) fn judge(facts: &Facts) -> (Vec<Finding>, SignedDuration) {
    let mut findings = control_plane(facts);
    findings.extend(certificates(facts));
    findings.extend(sidecars(facts));
    findings.extend(services(facts));
    findings.extend(rules(facts));
    findings.extend(namespaces(facts));
    let (finding, budget) = outage(facts);
    findings.push(finding);
    (findings, budget)
}

fn control_plane(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "control plane";
    let status = &facts.status;
    let up = moment(status.started_at).map_or_else(String::new, |start| {
        format!(", up {}", rough(facts.now.duration_since(start)))
    });
    let mut findings = vec![ok(
        AREA,
        format!(
            "answers at {} for {}, version {}, revision {}{up}",
            facts.api, status.trust_domain, status.version, status.revision
        ),
    )];
    findings.push(
        match facts
            .their_now
            .map(|theirs| facts.now.duration_since(theirs).abs())
        {
            None => warning(
                AREA,
                "it did not say what time it is".to_owned(),
                "is it an older version?".to_owned(),
            ),
            Some(skew) if skew > SKEW_FAILS => failed(
                AREA,
                format!("the clocks differ by {}", rough(skew)),
                "certificates will look expired or not yet valid; set both clocks by NTP"
                    .to_owned(),
            ),
            Some(skew) if skew > SKEW_WARNS => warning(
                AREA,
                format!("the clocks differ by {}", rough(skew)),
                "set both clocks by NTP".to_owned(),
            ),
            Some(_) => ok(AREA, "the clocks agree".to_owned()),
        },
    );
    findings
}

fn certificates(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "certificates";
    let mut findings: Vec<Finding> = facts
        .status
        .certificates
        .iter()
        .map(|certificate| certificate_of(certificate, facts.now))
        .collect();
    let left = facts.operator_expires.duration_since(facts.now);
    let text = format!("operator {} ends in {}", facts.operator, rough(left));
    findings.push(if facts.operator_renews {
        ok(AREA, format!("{text} and renews itself"))
    } else if left < OPERATOR_WARNS {
        warning(
            AREA,
            text,
            "`meshctl login` on the control plane's host makes a new one".to_owned(),
        )
    } else {
        ok(AREA, text)
    });
    for identity in &facts.frozen {
        findings.push(failed(
            AREA,
            format!("{identity} has a frozen lineage: two holders used its key"),
            format!("find out who; then `meshctl identity show {identity}`, revoke that lineage and join again"),
        ));
    }
    findings
}

fn certificate_of(certificate: &v1::CertificateStatus, now: Timestamp) -> Finding {
    const AREA: &str = "certificates";
    let role = &certificate.role;
    let (ends, renews) = (moment(certificate.not_after), moment(certificate.renews_at));
    let Some(ends) = ends else {
        return failed(
            AREA,
            format!("{role} says no end"),
            "is the control plane of another version?".to_owned(),
        );
    };
    let left = ends.duration_since(now);
    match renews {
        _ if left.is_negative() => failed(
            AREA,
            format!("{role} expired at {}", shown(Some(ends))),
            if role == ROOT {
                format!("no certificate verifies any more, and a restart does not help: {NEW_MESH}")
            } else {
                "restart the control plane: it renews what has expired".to_owned()
            },
        ),
        Some(renews) if renews + RENEWAL_LATE < now => warning(
            AREA,
            format!(
                "{role} ends in {} and should have renewed at {}",
                rough(left),
                shown(Some(renews))
            ),
            "the control plane's log says why it has not".to_owned(),
        ),
        Some(renews) => ok(
            AREA,
            format!(
                "{role} ends in {}, renews itself at {}",
                rough(left),
                shown(Some(renews))
            ),
        ),
        None if left < CERTIFICATE_WARNS => warning(
            AREA,
            format!("{role} ends in {} and does not renew itself", rough(left)),
            format!("when it ends, no certificate verifies: before then, {NEW_MESH}"),
        ),
        None => ok(AREA, format!("{role} ends in {}", rough(left))),
    }
}

fn sidecars(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "sidecars";
    let mut findings = Vec::new();
    for sidecar in &facts.sidecars {
        let name = format!("{} ({})", sidecar.instance, sidecar.spiffe_id);
        let behind = sidecar.acknowledged_revision < sidecar.required_revision;
        if !sidecar.nack.is_empty() {
            findings.push(failed(
                AREA,
                format!("{name} refuses what it was sent: {}", sidecar.nack),
                "it denies the services concerned until it can read them; is it of an older version?".to_owned(),
            ));
        } else if !sidecar.connected {
            findings.push(warning(
                AREA,
                format!(
                    "{name} is not connected since {}",
                    shown(moment(sidecar.last_heard))
                ),
                "is it running? It goes on with what it knows, and enforces no newer change"
                    .to_owned(),
            ));
        } else if behind {
            findings.push(warning(
                AREA,
                format!(
                    "{name} enforces revision {}, not yet {}",
                    sidecar.acknowledged_revision, sidecar.required_revision
                ),
                "check again; when it stays so, its log says more".to_owned(),
            ));
        }
    }
    let total = facts.sidecars.len();
    let current = total - findings.len();
    findings.insert(
        0,
        ok(
            AREA,
            format!("{current} of {total} connected and up to date"),
        ),
    );
    findings
}

fn services(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "services";
    let healthy: BTreeSet<&str> = facts
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.health() == v1::Health::Healthy)
        .map(|endpoint| endpoint.service.as_str())
        .collect();
    let registered: BTreeSet<&str> = facts
        .endpoints
        .iter()
        .map(|endpoint| endpoint.service.as_str())
        .collect();
    let mut findings = Vec::new();
    let mut total = 0;
    for resource in &facts.resources {
        let Spec::Service(service) = &resource.spec else {
            continue;
        };
        // Nobody registers for what is outside.
        if service.external.is_some() {
            continue;
        }
        total += 1;
        let name = service.name.to_string();
        if !registered.contains(name.as_str()) {
            let workloads: Vec<String> =
                service.workloads.iter().map(ToString::to_string).collect();
            findings.push(warning(
                AREA,
                format!("{name} has no endpoint"),
                format!(
                    "it is offered by {}; does a sidecar of it run?",
                    workloads.join(", ")
                ),
            ));
        } else if !healthy.contains(name.as_str()) {
            findings.push(warning(
                AREA,
                format!("{name} has no healthy endpoint"),
                format!("`meshctl endpoints {name}` shows them"),
            ));
        }
    }
    findings.insert(
        0,
        ok(
            AREA,
            format!(
                "{} of {total} have a healthy endpoint",
                total - findings.len()
            ),
        ),
    );
    findings
}

/// Namespaces in which nothing is refused yet.
fn namespaces(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "learn mode";
    let settings = facts.resources.iter().filter_map(|it| match &it.spec {
        Spec::NamespaceSettings(settings) => Some(settings),
        Spec::Mesh(_) | Spec::Service(_) | Spec::Allow(_) | Spec::Quarantine(_) => None,
    });
    let learning = settings.filter_map(|it| Some((&it.namespace, it.learn_until()?)));
    let learning = learning.filter(|(_, until)| *until > facts.now);
    learning
        .map(|(namespace, until)| {
            let left = rough(until.duration_since(facts.now));
            warning(
                AREA,
                format!("everything passes in {namespace} until {until}, for {left} yet"),
                format!(
                    "`meshctl edit namespacesettings {namespace}` and `mode: strict` without `learnUntil` end it now"
                ),
            )
        })
        .collect()
}

/// min(`ttl` less the longest renewal interval, `maxStale`).
fn outage(facts: &Facts) -> (Finding, SignedDuration) {
    const AREA: &str = "outage";
    let mesh = &facts.mesh;
    let budget = mesh
        .ttl()
        .saturating_sub(mesh.renew_every())
        .min(mesh.max_stale());
    let budget = SignedDuration::try_from(budget).unwrap_or(SignedDuration::MAX);
    let text = format!(
        "the control plane may stay away for {} before a connection would fail",
        rough(budget)
    );
    let finding = if budget < BUDGET_WARNS {
        warning(
            AREA,
            text,
            "a longer `ttl` and `maxStale` in the Mesh resource bear a longer outage".to_owned(),
        )
    } else {
        ok(AREA, text)
    };
    (finding, budget)
}

pub(super) fn ok(area: &'static str, text: String) -> Finding {
    Finding {
        area,
        status: Status::Ok,
        text,
        hint: None,
    }
}

pub(super) fn warning(area: &'static str, text: String, hint: String) -> Finding {
    Finding {
        area,
        status: Status::Warning,
        text,
        hint: Some(hint),
    }
}

pub(super) fn failed(area: &'static str, text: String, hint: String) -> Finding {
    Finding {
        area,
        status: Status::Failed,
        text,
        hint: Some(hint),
    }
}

/// The one certificate that never renews itself.
const ROOT: &str = "root";
const NEW_MESH: &str = "begin a new mesh with another state folder and let every workload join it (a root cannot be replaced yet)";
const SKEW_WARNS: SignedDuration = SignedDuration::from_secs(5);
/// Certificates are backdated by this much.
const SKEW_FAILS: SignedDuration = SignedDuration::from_secs(60);
const CERTIFICATE_WARNS: SignedDuration = SignedDuration::from_hours(60 * 24);
const OPERATOR_WARNS: SignedDuration = SignedDuration::from_hours(1);
const RENEWAL_LATE: SignedDuration = SignedDuration::from_mins(10);
const BUDGET_WARNS: SignedDuration = SignedDuration::from_mins(10);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::documents;
    use weft_wire::write_timestamp;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    pub(in super::super) fn facts() -> Facts {
        let text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: api, namespace: shop}\n\
                    spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}\n";
        let resources = documents::parse("x", text)
            .unwrap()
            .resources
            .into_iter()
            .map(|placed| placed.value)
            .collect();
        Facts {
            now: NOW,
            api: "127.0.0.1:1".to_owned(),
            operator: "admin".to_owned(),
            operator_expires: NOW + SignedDuration::from_hours(24),
            operator_renews: true,
            status: v1::StatusResponse::default(),
            their_now: Some(NOW),
            mesh: Default::default(),
            sidecars: vec![],
            endpoints: vec![v1::CatalogEndpoint {
                service: "shop/api".to_owned(),
                health: v1::Health::Healthy.into(),
                ..Default::default()
            }],
            frozen: vec![],
            resources,
            carried: None,
        }
    }

    fn not_ok(facts: &Facts) -> Vec<(Status, String)> {
        let (findings, _) = judge(facts);
        findings
            .into_iter()
            .filter(|it| it.status != Status::Ok)
            .map(|it| (it.status, it.text))
            .collect()
    }

    #[test]
    fn a_mesh_in_order_has_nothing_to_say() {
        assert_eq!(not_ok(&facts()), []);
    }

    #[test]
    fn a_namespace_that_learns_warns_until_it_is_over() {
        let learning = |until: Timestamp| {
            let text = format!(
                "apiVersion: weft.dev/v1\nkind: NamespaceSettings\nmetadata: {{name: settings, namespace: shop}}\n\
                 spec: {{mode: learn, learnUntil: {until}}}\n"
            );
            let mut facts = facts();
            let read = documents::parse("x", &text).unwrap().resources;
            facts
                .resources
                .extend(read.into_iter().map(|placed| placed.value));
            not_ok(&facts)
        };
        let until = NOW + SignedDuration::from_hours(48);
        let found = learning(until);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Status::Warning);
        let said = format!("everything passes in shop until {until}");
        assert!(found[0].1.starts_with(&said), "{found:?}");
        assert_eq!(learning(NOW), []);
    }

    #[test]
    fn the_outage_budget_is_the_shorter_of_certificates_and_views() {
        assert_eq!(judge(&facts()).1, SignedDuration::from_hours(23));
    }

    #[test]
    fn a_refusing_sidecar_fails_and_a_silent_one_warns() {
        let mut facts = facts();
        let sidecar = |nack: &str, connected| v1::Sidecar {
            nack: nack.to_owned(),
            connected,
            ..Default::default()
        };
        facts.sidecars = vec![
            sidecar("schema 2", true),
            sidecar("", false),
            sidecar("", true),
        ];
        let found: Vec<Status> = not_ok(&facts)
            .into_iter()
            .map(|(status, _)| status)
            .collect();
        assert_eq!(found, [Status::Failed, Status::Warning]);
    }

    #[test]
    fn a_service_without_endpoints_warns() {
        let mut facts = facts();
        facts.endpoints.clear();
        assert_eq!(
            not_ok(&facts),
            [(Status::Warning, "shop/api has no endpoint".to_owned())]
        );
    }

    #[test]
    fn an_expired_root_fails_and_one_that_renews_late_warns() {
        let mut facts = facts();
        let certificate = |ends: i64, renews: Option<i64>| v1::CertificateStatus {
            role: "root".to_owned(),
            not_after: Some(write_timestamp(NOW + SignedDuration::from_hours(ends))),
            renews_at: renews.map(|hours| write_timestamp(NOW + SignedDuration::from_hours(hours))),
            ..Default::default()
        };
        facts.status.certificates = vec![
            certificate(-1, Some(-2)),
            certificate(100, Some(-2)),
            certificate(100, None),
            certificate(9000, None),
        ];
        let found: Vec<Status> = not_ok(&facts)
            .into_iter()
            .map(|(status, _)| status)
            .collect();
        assert_eq!(found, [Status::Failed, Status::Warning, Status::Warning]);
    }

    #[test]
    fn what_helps_a_root_is_a_new_mesh_and_what_helps_others_is_a_restart() {
        let mut facts = facts();
        let certificate = |role: &str, ends: i64, renews: Option<i64>| v1::CertificateStatus {
            role: role.to_owned(),
            not_after: Some(write_timestamp(NOW + SignedDuration::from_hours(ends))),
            renews_at: renews.map(|hours| write_timestamp(NOW + SignedDuration::from_hours(hours))),
            ..Default::default()
        };
        facts.status.certificates = vec![
            certificate("root", -1, None),
            certificate("root", 100, None),
            certificate("intermediate", -1, Some(-2)),
        ];
        let (findings, _) = judge(&facts);
        let hints: Vec<String> = findings.into_iter().filter_map(|it| it.hint).collect();
        let [expired, ends, other] = &hints[..] else {
            panic!("{hints:?}");
        };
        for hint in [expired, ends] {
            assert!(
                hint.contains("new mesh") && !hint.starts_with("restart"),
                "{hint}"
            );
        }
        assert!(other.starts_with("restart the control plane"), "{other}");
    }

    #[test]
    fn clocks_that_differ_by_more_than_certificates_bear_fail() {
        let mut facts = facts();
        facts.their_now = Some(NOW + SignedDuration::from_secs(61));
        assert_eq!(not_ok(&facts)[0].0, Status::Failed);
        facts.their_now = Some(NOW - SignedDuration::from_secs(10));
        assert_eq!(not_ok(&facts)[0].0, Status::Warning);
    }
}
