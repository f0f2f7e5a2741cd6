//! Who a rule of Istio is about: `from` and the conditions on the source, as one test on callers.

use super::{Condition, Key, Source};
use crate::{
    import::{
        Context,
        cluster::Cluster,
        meta::Holds,
        notes::{NoteKind, Notes},
        sources::{Caller, of_principal, sift, whole_namespace, without_repetition},
        text::{Part, TextTest, Texts},
    },
    source::{NamePattern, SourcePattern},
};

/// What must hold of a caller, and what else nobody here can tell.
#[derive(Debug, Default)]
pub(super) struct Callers {
    principal: Vec<Texts>,
    namespace: Vec<Texts>,
    account: Vec<Texts>,
    trust_domain: Vec<Texts>,
    /// Conditions that rules cannot have.
    pub(super) untold: Vec<(NoteKind, String)>,
    foreign_trust_domain: String,
}

impl Callers {
    pub(super) fn new(
        source: Option<&Source>,
        when: &[Condition],
        namespace: &str,
        foreign_trust_domain: &str,
    ) -> Self {
        let mut callers = Self {
            foreign_trust_domain: foreign_trust_domain.to_owned(),
            ..Self::default()
        };
        if let Some(source) = source {
            callers.add_source(source, namespace);
        }
        for condition in when {
            callers.add_condition(condition, namespace);
        }
        for list in [
            &mut callers.principal,
            &mut callers.namespace,
            &mut callers.account,
            &mut callers.trust_domain,
        ] {
            list.retain(|texts| !texts.is_any());
        }
        callers
    }

    fn add_source(&mut self, source: &Source, namespace: &str) {
        self.principal
            .push(self.names(&source.principals, &source.not_principals));
        self.namespace
            .push(Texts::new(&source.namespaces, &source.not_namespaces));
        self.account.push(accounts(
            &source.service_accounts,
            &source.not_service_accounts,
            namespace,
        ));
        self.trust_domain
            .push(self.names(&source.trust_domains, &source.not_trust_domains));
        let untold = [
            ("ipBlocks", &source.ip_blocks, NoteKind::IpAddress),
            ("notIpBlocks", &source.not_ip_blocks, NoteKind::IpAddress),
            (
                "remoteIpBlocks",
                &source.remote_ip_blocks,
                NoteKind::IpAddress,
            ),
            (
                "notRemoteIpBlocks",
                &source.not_remote_ip_blocks,
                NoteKind::IpAddress,
            ),
            (
                "requestPrincipals",
                &source.request_principals,
                NoteKind::RequestIdentity,
            ),
            (
                "notRequestPrincipals",
                &source.not_request_principals,
                NoteKind::RequestIdentity,
            ),
        ];
        let given = untold.into_iter().filter(|(_, list, _)| !list.is_empty());
        self.untold
            .extend(given.map(|(field, _, kind)| (kind, field.to_owned())));
    }

    fn add_condition(&mut self, condition: &Condition, namespace: &str) {
        let texts = || Texts::new(&condition.values, &condition.not_values);
        match &condition.key {
            Key::SourcePrincipal => self
                .principal
                .push(self.names(&condition.values, &condition.not_values)),
            Key::SourceNamespace => self.namespace.push(texts()),
            Key::SourceServiceAccount => {
                self.account.push(accounts(
                    &condition.values,
                    &condition.not_values,
                    namespace,
                ));
            }
            Key::SourceTrustDomain => self
                .trust_domain
                .push(self.names(&condition.values, &condition.not_values)),
            Key::Address(key) => self.untold.push((NoteKind::IpAddress, key.clone())),
            Key::RequestAuth(key) => self.untold.push((NoteKind::RequestIdentity, key.clone())),
            Key::Other(key) => self.untold.push((NoteKind::Attribute, key.clone())),
            // of the request, not of its sender
            Key::DestinationPort | Key::Header(_) => {}
        }
    }

    /// `cluster.local` always names the mesh's own trust domain.
    fn names(&self, any_of: &[String], none_of: &[String]) -> Texts {
        let own = |texts: &[String]| -> Vec<String> {
            let resolve = |text: &String| match text.strip_prefix(OWN_ALIAS) {
                Some(rest) if rest.is_empty() || rest.starts_with(['/', '*']) => {
                    format!("{}{rest}", self.foreign_trust_domain)
                }
                _ => text.clone(),
            };
            texts.iter().map(resolve).collect()
        };
        Texts::new(&own(any_of), &own(none_of))
    }

    /// Whether the callers that a pattern stands for are meant.
    pub(super) fn holds(&self, pattern: &SourcePattern) -> Holds {
        let Some(caller) = Caller::of(pattern, &self.foreign_trust_domain) else {
            return Holds::Unknown;
        };
        let domain = Part::Whole(caller.trust_domain.clone());
        let tests = [
            (&self.principal, &caller.principal),
            (&self.namespace, &caller.namespace),
            (&self.account, &caller.account),
            (&self.trust_domain, &domain),
        ];
        let told = tests
            .into_iter()
            .flat_map(|(tests, part)| tests.iter().map(move |texts| texts.holds(part)));
        let untold = if self.untold.is_empty() {
            Holds::Yes
        } else {
            Holds::Unknown
        };
        Holds::all(told).and(untold)
    }

    /// The patterns of which every caller is meant.
    pub(super) fn patterns(
        &self,
        context: &Context<'_>,
        notes: &mut Notes,
        path: &str,
    ) -> Vec<SourcePattern> {
        let patterns = self.known_patterns(context, notes, path);
        if patterns.is_empty() && self.untold.is_empty() {
            notes.add(NoteKind::Name, path, "nobody whom a rule can name is left");
        }
        patterns
    }

    fn known_patterns(
        &self,
        context: &Context<'_>,
        notes: &mut Notes,
        path: &str,
    ) -> Vec<SourcePattern> {
        for (kind, field) in &self.untold {
            notes.add(
                *kind,
                path,
                format!("`{field}` has no equal, so what depends on it is left out"),
            );
        }
        if !self.untold.is_empty() {
            return Vec::new();
        }
        self.note_who_is_missing(notes, path);
        let lists = [
            (Attribute::Principal, &self.principal),
            (Attribute::Account, &self.account),
            (Attribute::Namespace, &self.namespace),
            (Attribute::TrustDomain, &self.trust_domain),
        ];
        let mut hints = Vec::new();
        for (attribute, tests) in lists {
            for texts in tests.iter().filter(|texts| !texts.any_of.is_empty()) {
                let hinted: Vec<_> = texts
                    .any_of
                    .iter()
                    .map(|test| self.hint(attribute, test))
                    .collect();
                let all_hinted = hinted.iter().all(Option::is_some);
                let hinted: Vec<SourcePattern> = hinted.into_iter().flatten().flatten().collect();
                let told = hinted
                    .iter()
                    .all(|pattern| self.holds(pattern) != Holds::Unknown);
                if all_hinted && told {
                    // this list alone says who it can be
                    return self.sifted(&hinted, context.cluster).0;
                }
                hints.extend(hinted);
            }
        }
        hints.push(SourcePattern::AnyLocal);
        let (patterns, whole) = self.sifted(&hints, context.cluster);
        if !whole {
            notes.add(
                NoteKind::Expanded,
                path,
                "no pattern says whom this means, so those of the given workloads and namespaces are listed; later ones are not allowed",
            );
        }
        patterns
    }

    fn sifted(&self, hints: &[SourcePattern], cluster: &Cluster) -> (Vec<SourcePattern>, bool) {
        let sifted = sift(hints, Holds::Yes, cluster, &|pattern| self.holds(pattern));
        (without_repetition(sifted.patterns), sifted.whole)
    }

    fn note_who_is_missing(&self, notes: &mut Notes, path: &str) {
        let lists = [
            &self.principal,
            &self.namespace,
            &self.account,
            &self.trust_domain,
        ];
        let demands_identity = lists
            .iter()
            .any(|tests| tests.iter().any(|texts| !texts.any_of.is_empty()));
        if !demands_identity {
            notes.add(
                NoteKind::NoIdentity,
                path,
                "the source also admits clients without an identity of a mesh; here nobody comes in without one",
            );
        }
        let pins_domain = |texts: &Texts| {
            !texts.any_of.is_empty()
                && texts
                    .any_of
                    .iter()
                    .all(|test| matches!(test, TextTest::Exact(_) | TextTest::Prefix(_)))
        };
        if !self
            .principal
            .iter()
            .chain(&self.trust_domain)
            .any(pins_domain)
        {
            notes.add(
                NoteKind::ForeignDomain,
                path,
                "the source means such workloads of every trust domain, a rule's pattern only those of the own; name others by their whole SPIFFE ID",
            );
        }
    }

    /// The patterns that hold everything of our trust domain that passes the test, and everything of others that can be named.
    fn hint(&self, attribute: Attribute, test: &TextTest) -> Option<Vec<SourcePattern>> {
        let domain = &self.foreign_trust_domain;
        let one = |pattern: Option<SourcePattern>| Some(pattern.into_iter().collect());
        match (attribute, test) {
            (_, TextTest::Present) => one(Some(SourcePattern::AnyLocal)),
            (Attribute::Principal, TextTest::Exact(principal)) => {
                one(of_principal(principal, domain))
            }
            (Attribute::Principal, TextTest::Prefix(prefix)) => {
                let layout = format!("{domain}/ns/");
                if layout.starts_with(prefix) {
                    return one(Some(SourcePattern::AnyLocal));
                }
                let Some((namespace, rest)) = prefix
                    .strip_prefix(&layout)
                    .and_then(|rest| rest.split_once('/'))
                else {
                    // nothing of ours, or part of a namespace's name
                    return (!prefix.starts_with(&layout)).then(Vec::new);
                };
                let name = rest
                    .strip_prefix("sa/")
                    .or_else(|| "sa/".starts_with(rest).then_some(""))?;
                one(format!("{namespace}/{name}*").parse().ok())
            }
            (Attribute::Principal, TextTest::Suffix(suffix)) => {
                let (_, rest) = suffix.split_once("/ns/")?;
                let (namespace, name) = rest.split_once("/sa/")?;
                one(format!("{namespace}/{name}").parse().ok())
            }
            (Attribute::Namespace, TextTest::Exact(namespace)) => {
                one(namespace.parse().ok().map(whole_namespace))
            }
            (Attribute::Account, TextTest::Exact(account)) => {
                one(account.parse().ok().filter(|pattern| {
                    matches!(
                        pattern,
                        SourcePattern::Local {
                            name: NamePattern::Exact(_),
                            ..
                        }
                    )
                }))
            }
            (
                Attribute::TrustDomain,
                test @ (TextTest::Exact(_) | TextTest::Prefix(_) | TextTest::Suffix(_)),
            ) => {
                let own = test.holds(&Part::Whole(domain.clone())) == Holds::Yes;
                one(own.then_some(SourcePattern::AnyLocal))
            }
            (_, TextTest::Unclear) => None,
            (
                Attribute::Namespace | Attribute::Account,
                TextTest::Prefix(_) | TextTest::Suffix(_),
            ) => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Attribute {
    Principal,
    Account,
    Namespace,
    TrustDomain,
}

/// `namespace/name`, or a name in the policy's own namespace; no form of `*` stands in them.
fn accounts(any_of: &[String], none_of: &[String], namespace: &str) -> Texts {
    let read = |accounts: &[String]| {
        let whole = |account: &String| match account.contains('/') {
            true => account.clone(),
            false => format!("{namespace}/{account}"),
        };
        accounts
            .iter()
            .map(|account| TextTest::Exact(whole(account)))
            .collect()
    };
    Texts {
        any_of: read(any_of),
        none_of: read(none_of),
    }
}

const OWN_ALIAS: &str = "cluster.local";
