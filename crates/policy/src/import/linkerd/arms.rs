//! The routes of a server, rule by rule, and what each leaves to callers beside the others.

use super::{
    ServerSpec,
    convert::Place,
    objects::{Authorization, Named},
    route::{RouteRule, RouteSpec},
};
use crate::{
    import::{
        grants::{Grant, subtract_all},
        notes::{NoteKind, Notes},
        sources::without_repetition,
    },
    source::SourcePattern,
};

/// One rule of a route, with those whom it admits.
pub(super) struct Arm<'o> {
    pub(super) route: &'o str,
    hostnames: &'o [String],
    rule: &'o RouteRule,
    path: String,
    admitted: Vec<SourcePattern>,
}

pub(super) fn arms<'o>(
    server: &Named<ServerSpec>,
    routes: &[&'o Named<RouteSpec>],
    authorizations: &[Authorization],
) -> Vec<Arm<'o>> {
    let mut arms = Vec::new();
    for route in routes {
        let admitted = authorizations
            .iter()
            .filter(|one| {
                one.opens.opens(server, &one.namespace)
                    || (one.opens.is_route(&route.name) && one.namespace == route.namespace)
            })
            .flat_map(|one| one.from.clone());
        let admitted = without_repetition(admitted.collect());
        for (index, rule) in route.spec.rules.iter().enumerate() {
            arms.push(Arm {
                route: &route.name,
                hostnames: &route.spec.hostnames,
                rule,
                path: format!(
                    "HTTPRoute {}/{} spec.rules[{index}]",
                    route.namespace, route.name
                ),
                // the proxy answers itself
                admitted: if rule.redirects() {
                    Vec::new()
                } else {
                    admitted.clone()
                },
            });
        }
    }
    arms
}

/// What callers may send to some arms, but for what another one may take from them.
pub(super) fn by_arms(
    from: &[SourcePattern],
    own: Vec<&Arm<'_>>,
    all: &[Arm<'_>],
    place: &Place<'_>,
    notes: &mut Notes,
) -> Vec<Grant> {
    let (cluster, shown) = (place.context.cluster, place.shown());
    let mut found = Vec::new();
    for arm in own {
        if arm.rule.redirects() {
            notes.add(
                NoteKind::Filter,
                &arm.path,
                "requests that are redirected reach no workload, so nothing is allowed for them",
            );
            continue;
        }
        if arm.rule.changes_headers() {
            notes.add(NoteKind::Filter, &arm.path, "rules change no headers");
        }
        let requests = arm.rule.requests(arm.hostnames, notes, &arm.path);
        let mut grants: Vec<Grant> = requests
            .into_iter()
            .map(|requests| Grant {
                from: from.to_vec(),
                requests,
            })
            .collect();
        for other in all.iter().filter(|other| !std::ptr::eq(*other, arm)) {
            for refusal in other.rule.refusals(&other.admitted) {
                let Some(left) = subtract_all(std::mem::take(&mut grants), &refusal, cluster)
                else {
                    notes.add(
                        NoteKind::TooComplex,
                        &arm.path,
                        format!(
                            "{shown}: its routes overlap in too many ways, so this is left out"
                        ),
                    );
                    break;
                };
                if !left.exact {
                    notes.add(NoteKind::Route, &arm.path, format!("{shown}: what {} may take from it is left out, where rules cannot tell the rest apart", other.path));
                }
                grants = left.grants;
            }
        }
        found.extend(grants);
    }
    found
}
