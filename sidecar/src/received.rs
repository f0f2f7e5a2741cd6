//! The resources that the control plane sent, as they came and as they were read; from them the next [`Enforced`] is made.
//!
//! Invariant: a resource that cannot be read never leaves an older one in force. Its service denies until a readable one comes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use prost_types::Any;
use weft_catalog::Mesh;
use weft_identity::{Revocations, ServiceName, SpiffeId, TrustBundle, TrustDomain};
use weft_policy::{EncodedSlashes, PolicySet, Rule};
use weft_wire::{ConversionError, InboundView, OutboundView, type_url, unpack, v1, xds};

use crate::snapshot::Stored;
use crate::view::{Enforced, InboundService, OutboundService};

/// Everything received so far.
pub(crate) struct Received {
    own_id: SpiffeId,
    trust_domain: TrustDomain,
    revision: u64,
    kinds: BTreeMap<&'static str, BTreeMap<String, Held>>,
    /// Types that were answered at least once, be it with nothing.
    answered: HashSet<&'static str>,
    /// The last ones that could be read: settings and roots that cannot be read change nothing.
    bundle: Arc<TrustBundle>,
    mesh: Mesh,
}

struct Held {
    version: String,
    value: Vec<u8>,
    read: Result<Resource, Unreadable>,
}

enum Resource {
    Outbound(Arc<OutboundService>),
    Inbound(Arc<InboundService>),
    Revocations(Arc<Revocations>),
    Bundle(Arc<TrustBundle>),
    Mesh(Mesh),
}

/// Why a resource cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    #[error("it carries no resource")]
    Empty,
    #[error("it is about {0}, not about its name")]
    OtherName(String),
    #[error("`{0}` is not a type that was asked for")]
    UnknownType(String),
}

/// A resource of a response that could not be read.
#[derive(Debug)]
pub(crate) struct Problem {
    pub name: String,
    pub cause: String,
}

impl Received {
    pub(crate) fn new(own_id: SpiffeId, bundle: Arc<TrustBundle>) -> Self {
        Self {
            trust_domain: own_id.trust_domain(),
            own_id,
            revision: 0,
            kinds: BTreeMap::new(),
            answered: HashSet::new(),
            bundle,
            mesh: Mesh::default(),
        }
    }

    /// Takes everything of a response that can be read, removals first, and names what cannot be.
    pub(crate) fn take(&mut self, response: xds::DeltaDiscoveryResponse) -> Vec<Problem> {
        let Some(kind) = known(&response.type_url) else {
            let cause = Unreadable::UnknownType(response.type_url).to_string();
            return vec![Problem {
                name: String::new(),
                cause,
            }];
        };
        if let Ok(revision) = response.system_version_info.parse() {
            self.revision = revision;
        }
        self.answered.insert(kind);
        for name in &response.removed_resources {
            self.kinds.entry(kind).or_default().remove(name);
        }
        let mut problems = Vec::new();
        for resource in response.resources {
            let any = resource.resource.unwrap_or_default();
            let name = resource.name;
            if let Some(problem) = self.hold(kind, name.clone(), resource.version, any) {
                problems.push(Problem {
                    name,
                    cause: problem,
                });
            }
        }
        problems
    }

    /// Takes what an earlier process had received. The caller has checked that it is genuine.
    pub(crate) fn restore(&mut self, revision: u64, resources: Vec<Stored<'_>>) {
        self.revision = revision;
        for stored in resources {
            let Some(kind) = known(&stored.type_url) else {
                continue;
            };
            let any = Any {
                type_url: stored.type_url.into_owned(),
                value: stored.value.into_owned(),
            };
            // What was unreadable before is unreadable again, and denies again.
            let _ = self.hold(
                kind,
                stored.name.into_owned(),
                stored.version.into_owned(),
                any,
            );
        }
        self.answered.extend(type_url::ALL);
    }

    /// What a snapshot keeps.
    pub(crate) fn stored(&self) -> Vec<Stored<'_>> {
        let all = self
            .kinds
            .iter()
            .flat_map(|(kind, held)| held.iter().map(move |(name, held)| (*kind, name, held)));
        all.map(|(kind, name, held)| Stored {
            type_url: kind.into(),
            name: name.into(),
            version: (&held.version).into(),
            value: (&held.value).into(),
        })
        .collect()
    }

    /// Versions of what is held. What cannot be read is named with a version that nothing has: it is sent anew, or removed if it is gone.
    pub(crate) fn versions(&self, kind: &str) -> HashMap<String, String> {
        let held = self.kinds.get(kind).into_iter().flatten();
        held.map(|(name, held)| match &held.read {
            Ok(_) => (name.clone(), held.version.clone()),
            Err(_) => (name.clone(), NO_VERSION.to_owned()),
        })
        .collect()
    }

    /// Whether every type was answered, so that absence means absence.
    pub(crate) fn is_complete(&self) -> bool {
        type_url::ALL
            .iter()
            .all(|kind| self.answered.contains(kind))
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What is to be enforced from now on.
    pub(crate) fn enforced(&self, stale: bool) -> Enforced {
        let mut enforced = Enforced::nothing_heard(self.own_id.clone(), Arc::clone(&self.bundle));
        enforced.revision = self.revision;
        enforced.mesh = self.mesh;
        enforced.stale = stale || !self.is_complete();
        for (kind, name, held) in self
            .kinds
            .iter()
            .flat_map(|(kind, held)| held.iter().map(move |(name, held)| (*kind, name, held)))
        {
            match &held.read {
                Ok(Resource::Outbound(service)) => {
                    if service.view.external.is_some() {
                        enforced.external.push(Arc::clone(service));
                    }
                    enforced
                        .outbound
                        .insert(service.view.service.clone(), Arc::clone(service));
                }
                Ok(Resource::Inbound(service)) => {
                    enforced
                        .inbound
                        .insert(service.view.service.clone(), Arc::clone(service));
                }
                Ok(Resource::Revocations(revocations)) => {
                    enforced.revocations = Arc::clone(revocations)
                }
                // The last readable ones are in place already.
                Ok(Resource::Bundle(_) | Resource::Mesh(_)) => {}
                Err(_) if kind == type_url::REVOCATIONS => enforced.revocations_unreadable = true,
                Err(_) if kind == type_url::OUTBOUND => {
                    enforced.unreadable_outbound.extend(name.parse());
                }
                Err(_) if kind == type_url::INBOUND => {
                    enforced.unreadable_inbound.extend(name.parse());
                }
                // The last readable ones stay in place.
                Err(_) => {}
            }
        }
        enforced
    }

    fn hold(
        &mut self,
        kind: &'static str,
        name: String,
        version: String,
        any: Any,
    ) -> Option<String> {
        let read = self.read(kind, &name, &any);
        match &read {
            Ok(Resource::Bundle(bundle)) => self.bundle = Arc::clone(bundle),
            Ok(Resource::Mesh(mesh)) => self.mesh = *mesh,
            Ok(Resource::Outbound(_) | Resource::Inbound(_) | Resource::Revocations(_))
            | Err(_) => {}
        }
        let problem = read.as_ref().err().map(problem_text);
        self.kinds.entry(kind).or_default().insert(
            name,
            Held {
                version,
                value: any.value,
                read,
            },
        );
        problem
    }

    /// Converts and compiles one resource, all or nothing.
    fn read(&self, kind: &str, name: &str, any: &Any) -> Result<Resource, Unreadable> {
        if any.type_url.is_empty() {
            return Err(Unreadable::Empty);
        }
        match kind {
            type_url::OUTBOUND => {
                let mut view = OutboundView::try_from(&unpack::<v1::Outbound>(any)?)?;
                check_name(name, &view.service)?;
                let before = self.policy(kind, name);
                let policy = self
                    .compile(before, &view.service, &view.rules, view.encoded_slashes)
                    .learning(view.learn_until);
                view.rules = policy.rules().to_vec();
                Ok(Resource::Outbound(Arc::new(OutboundService {
                    view,
                    policy,
                })))
            }
            type_url::INBOUND => {
                let mut view = InboundView::try_from(&unpack::<v1::Inbound>(any)?)?;
                check_name(name, &view.service)?;
                let before = self.policy(kind, name);
                let policy = self
                    .compile(before, &view.service, &view.rules, view.encoded_slashes)
                    .learning(view.learn_until);
                view.rules = policy.rules().to_vec();
                Ok(Resource::Inbound(Arc::new(InboundService { view, policy })))
            }
            type_url::REVOCATIONS => {
                let revocations = Revocations::try_from(&unpack::<v1::Revocations>(any)?)?;
                Ok(Resource::Revocations(Arc::new(revocations)))
            }
            type_url::BUNDLE => {
                let bundle = TrustBundle::try_from(&unpack::<v1::TrustBundle>(any)?)?;
                if bundle.trust_domain != self.trust_domain {
                    return Err(Unreadable::OtherName(bundle.trust_domain.to_string()));
                }
                Ok(Resource::Bundle(Arc::new(bundle)))
            }
            type_url::MESH => Ok(Resource::Mesh(Mesh::try_from(
                &unpack::<v1::MeshSettings>(any)?,
            )?)),
            other => Err(Unreadable::UnknownType(other.to_owned())),
        }
    }

    /// From what was held before where there is something: then only what changed is compiled, and rules that did not are shared.
    fn compile(
        &self,
        before: Option<&PolicySet>,
        service: &ServiceName,
        rules: &[Arc<Rule>],
        encoded_slashes: EncodedSlashes,
    ) -> PolicySet {
        let rules = rules.iter().cloned();
        match before {
            Some(before) if before.service() == service => before.updated(rules, encoded_slashes),
            Some(_) | None => {
                PolicySet::compile(self.trust_domain.clone(), service, rules, encoded_slashes)
            }
        }
    }

    fn policy(&self, kind: &str, name: &str) -> Option<&PolicySet> {
        match &self.kinds.get(kind)?.get(name)?.read {
            Ok(Resource::Outbound(service)) => Some(&service.policy),
            Ok(Resource::Inbound(service)) => Some(&service.policy),
            Ok(Resource::Revocations(_) | Resource::Bundle(_) | Resource::Mesh(_)) | Err(_) => None,
        }
    }
}

fn known(type_url: &str) -> Option<&'static str> {
    type_url::ALL.into_iter().find(|known| *known == type_url)
}

fn check_name(name: &str, service: &ServiceName) -> Result<(), Unreadable> {
    if name == service.to_string() {
        return Ok(());
    }
    Err(Unreadable::OtherName(service.to_string()))
}

/// The error and its causes on one line.
fn problem_text(error: &Unreadable) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The version of nothing: a server gives each version a name.
const NO_VERSION: &str = "";

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::enforce::{Admission, Parties, Side, admit_connection};
    use crate::fixture::{API, id, inbound, received, response, rule, target};
    use weft_policy::Reason;

    const WEB: &str = "  from: [shop/web]";

    fn verdict(received: &Received) -> Result<String, Reason> {
        judged(received, Side::Server, "shop/web")
    }

    fn call(received: &Received) -> Result<String, Reason> {
        judged(received, Side::Client, API)
    }

    fn judged(received: &Received, side: Side, source: &str) -> Result<String, Reason> {
        let enforced = received.enforced(false);
        let parties = Parties {
            side,
            source: &id(source),
            target: &target("raw"),
        };
        match admit_connection(&enforced, parties, Timestamp::now()) {
            Admission::Allow(permit) => Ok(permit
                .rule()
                .map_or("learned".to_owned(), ToString::to_string)),
            Admission::NeedsHttp => Ok("needs HTTP".to_owned()),
            Admission::Deny(refusal) => Err(refusal.reason),
        }
    }

    /// As a newer control plane would send it.
    fn unreadable() -> v1::Inbound {
        v1::Inbound {
            schema: 99,
            ..inbound(Vec::new())
        }
    }

    #[test]
    fn nothing_is_allowed_before_every_type_was_answered() {
        let (_, bundle) = crate::fixture::peer("shop/web");
        let mut received = Received::new(id(API), bundle);
        assert!(
            received
                .take(response(1, &[(API, inbound(vec![rule("web", WEB)]))]))
                .is_empty()
        );
        assert_eq!(verdict(&received), Err(Reason::Stale));
    }

    #[test]
    fn an_unreadable_resource_denies_until_a_readable_one_comes() {
        let mut received = received(vec![rule("web", WEB)]);
        assert_eq!(verdict(&received), Ok("shop/web".to_owned()));
        let problems = received.take(response(2, &[(API, unreadable())]));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].name, API);
        assert_eq!(verdict(&received), Err(Reason::PolicyUnreadable));
        let asked = received.versions(type_url::INBOUND);
        assert_eq!(asked[API], NO_VERSION, "it is asked for anew");
        assert!(
            received
                .take(response(3, &[(API, inbound(vec![rule("web", WEB)]))]))
                .is_empty()
        );
        assert_eq!(verdict(&received), Ok("shop/web".to_owned()));
    }

    #[test]
    fn a_tightening_edit_beside_an_unreadable_resource_still_tightens() {
        let mut received = received(vec![rule("web", WEB)]);
        let other = v1::Inbound {
            service: "shop/other".to_owned(),
            ..unreadable()
        };
        let problems = received.take(response(
            2,
            &[("shop/other", other), (API, inbound(Vec::new()))],
        ));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].name, "shop/other");
        assert_eq!(verdict(&received), Err(Reason::NoRule));
        assert_eq!(received.enforced(false).revision, 2);
    }

    #[test]
    fn what_is_unreadable_denies_in_its_own_direction_and_until_it_is_removed_after_a_restart_too()
    {
        let outbound = v1::Outbound {
            schema: 99,
            service: API.to_owned(),
            ..Default::default()
        };
        let mut before = received(vec![rule("web", WEB)]);
        assert_eq!(before.take(response(2, &[(API, outbound)])).len(), 1);
        assert_eq!(verdict(&before), Ok("shop/web".to_owned()));
        let mut after = received(Vec::new());
        after.restore(before.revision(), before.stored());
        assert_eq!(verdict(&after), Ok("shop/web".to_owned()));
        assert_eq!(call(&after), Err(Reason::PolicyUnreadable));

        // Announced as held, so that a control plane that knows it no longer says so.
        assert_eq!(after.versions(type_url::OUTBOUND)[API], NO_VERSION);
        let mut removal = response::<v1::Outbound>(3, &[]);
        removal.removed_resources = vec![API.to_owned()];
        assert!(after.take(removal).is_empty());
        assert_eq!(call(&after), Err(Reason::NoRule));
    }

    #[test]
    fn a_rule_that_an_edit_leaves_alone_is_not_compiled_again() {
        const OTHER: &str = "  from: [shop/batch]";
        let mut received = received(vec![rule("web", WEB), rule("other", OTHER)]);
        let policy = |received: &Received| received.policy(type_url::INBOUND, API).unwrap().clone();
        let before = policy(&received);
        let edited = inbound(vec![rule("web", OTHER), rule("other", OTHER)]);
        assert!(received.take(response(2, &[(API, edited)])).is_empty());
        let after = policy(&received);
        let kept: Vec<_> = before
            .rules()
            .iter()
            .zip(after.rules())
            .map(|(before, after)| (after.name.to_string(), Arc::ptr_eq(before, after)))
            .collect();
        assert_eq!(
            kept,
            [
                ("shop/other".to_owned(), true),
                ("shop/web".to_owned(), false)
            ]
        );
        assert_eq!(verdict(&received), Err(Reason::NoRule));
    }

    #[test]
    fn unreadable_revocations_deny_everything_and_removed_services_are_gone() {
        let mut received = received(vec![rule("web", WEB)]);
        let revocations = v1::Revocations {
            schema: 99,
            ..Default::default()
        };
        assert_eq!(
            received
                .take(response(2, &[("revocations", revocations)]))
                .len(),
            1
        );
        assert_eq!(verdict(&received), Err(Reason::PolicyUnreadable));
        let readable = v1::Revocations {
            schema: 1,
            ..Default::default()
        };
        assert!(
            received
                .take(response(3, &[("revocations", readable)]))
                .is_empty()
        );
        let mut removal = response::<v1::Inbound>(4, &[]);
        removal.removed_resources = vec![API.to_owned()];
        assert!(received.take(removal).is_empty());
        assert_eq!(verdict(&received), Err(Reason::UnknownTarget));
    }

    #[test]
    fn a_resource_about_another_service_than_its_name_is_unreadable() {
        let mut received = received(Vec::new());
        let problems = received.take(response(
            2,
            &[("shop/other", inbound(vec![rule("web", WEB)]))],
        ));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].cause.contains(API), "{}", problems[0].cause);
    }

    #[test]
    fn what_was_stored_is_enforced_again_unreadable_or_not() {
        let mut before = received(vec![rule("web", WEB)]);
        let mut after = received(Vec::new());
        after.restore(before.revision(), before.stored());
        assert_eq!(verdict(&after), Ok("shop/web".to_owned()));
        before.take(response(2, &[(API, unreadable())]));
        after.restore(before.revision(), before.stored());
        assert_eq!(verdict(&after), Err(Reason::PolicyUnreadable));
    }
}
