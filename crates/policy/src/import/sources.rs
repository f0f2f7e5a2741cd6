//! Sets of callers as our patterns: which of them pass a test, where some can only be told apart by listing what is known.

use weft_identity::{DnsLabel, SpiffeId, WorkloadName};

use super::{cluster::Cluster, meta::Holds, text::Part};
use crate::source::{NamePattern, SourcePattern};

/// What is known of the callers that a pattern stands for, in the words of the other mesh.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) trust_domain: String,
    pub(super) namespace: Part,
    /// `namespace/name`.
    pub(super) account: Part,
    /// `<trust domain>/ns/<namespace>/sa/<name>`.
    pub(super) principal: Part,
}

impl Caller {
    /// `None` for an identity that is laid out otherwise than a workload's.
    pub(super) fn of(pattern: &SourcePattern, foreign_trust_domain: &str) -> Option<Self> {
        let (domain, namespace, name) = match pattern {
            SourcePattern::AnyLocal => (foreign_trust_domain.to_owned(), None, None),
            SourcePattern::Local { namespace, name } => (
                foreign_trust_domain.to_owned(),
                Some(namespace.to_string()),
                Some(name.clone()),
            ),
            SourcePattern::Exact(id) => {
                let workload = id.workload()?;
                let name = NamePattern::Exact(workload.name);
                (
                    id.trust_domain_str().to_owned(),
                    Some(workload.namespace.to_string()),
                    Some(name),
                )
            }
        };
        let Some(namespace) = namespace else {
            return Some(Self {
                principal: Part::Begins(format!("{domain}/ns/")),
                trust_domain: domain,
                namespace: Part::Some,
                account: Part::Some,
            });
        };
        let (account, whole) = match &name {
            Some(NamePattern::Exact(name)) => (format!("{namespace}/{name}"), true),
            Some(NamePattern::Prefix(prefix)) => (format!("{namespace}/{prefix}"), false),
            None => (format!("{namespace}/"), false),
        };
        let name = account.split_once('/').map_or("", |(_, name)| name);
        let principal = format!("{domain}/ns/{namespace}/sa/{name}");
        let part = |text| {
            if whole {
                Part::Whole(text)
            } else {
                Part::Begins(text)
            }
        };
        Some(Self {
            principal: part(principal),
            account: part(account),
            trust_domain: domain,
            namespace: Part::Whole(namespace),
        })
    }
}

/// The patterns of which every caller passes (`wanted`: yes) or none does (no); `whole` says whether none had to be taken apart.
pub(super) struct Sifted {
    pub(super) patterns: Vec<SourcePattern>,
    pub(super) whole: bool,
}

pub(super) fn sift(
    patterns: &[SourcePattern],
    wanted: Holds,
    cluster: &Cluster,
    test: &dyn Fn(&SourcePattern) -> Holds,
) -> Sifted {
    let mut sifted = Sifted {
        patterns: Vec::new(),
        whole: true,
    };
    for pattern in patterns {
        match test(pattern) {
            found if found == wanted => sifted.patterns.push(pattern.clone()),
            Holds::Unknown => {
                sifted.whole = false;
                let finer = sift(&finer(pattern, cluster), wanted, cluster, test);
                sifted.patterns.extend(finer.patterns);
            }
            Holds::Yes | Holds::No => {}
        }
    }
    sifted.patterns = without_repetition(sifted.patterns);
    sifted
}

/// What is known to be within a pattern: the namespaces of `*`, the identities of a namespace.
pub(super) fn finer(pattern: &SourcePattern, cluster: &Cluster) -> Vec<SourcePattern> {
    match pattern {
        SourcePattern::AnyLocal => {
            let namespaces = cluster.namespaces();
            namespaces
                .iter()
                .filter_map(|namespace| Some(whole_namespace(namespace.parse().ok()?)))
                .collect()
        }
        SourcePattern::Local {
            namespace,
            name: NamePattern::Prefix(prefix),
        } => cluster
            .identities(Some(namespace.as_str()))
            .iter()
            .filter(|identity| identity.name.as_str().starts_with(&**prefix))
            .map(exactly)
            .collect(),
        SourcePattern::Local {
            name: NamePattern::Exact(_),
            ..
        }
        | SourcePattern::Exact(_) => Vec::new(),
    }
}

pub(super) fn whole_namespace(namespace: DnsLabel) -> SourcePattern {
    SourcePattern::Local {
        namespace,
        name: NamePattern::Prefix("".into()),
    }
}

pub(super) fn exactly(identity: &WorkloadName) -> SourcePattern {
    SourcePattern::Local {
        namespace: identity.namespace.clone(),
        name: NamePattern::Exact(identity.name.clone()),
    }
}

/// An identity `<trust domain>/<path>` of the other mesh.
pub(super) fn of_principal(principal: &str, foreign_trust_domain: &str) -> Option<SourcePattern> {
    let id: SpiffeId = format!("spiffe://{principal}").parse().ok()?;
    match id.workload() {
        Some(workload) if id.trust_domain_str() == foreign_trust_domain => Some(exactly(&workload)),
        _ if id.trust_domain_str() == foreign_trust_domain || id.path().is_empty() => None,
        _ => Some(SourcePattern::Exact(id)),
    }
}

/// In order, without those that another one contains.
pub(super) fn without_repetition(mut patterns: Vec<SourcePattern>) -> Vec<SourcePattern> {
    patterns.sort_by_key(ToString::to_string);
    patterns.dedup();
    let all = patterns.clone();
    patterns.retain(|pattern| {
        !all.iter()
            .any(|other| other != pattern && contains(other, pattern))
    });
    patterns
}

/// Whether everything that `inner` matches, `outer` matches too.
pub(super) fn contains(outer: &SourcePattern, inner: &SourcePattern) -> bool {
    match (outer, inner) {
        (SourcePattern::AnyLocal, SourcePattern::AnyLocal | SourcePattern::Local { .. }) => true,
        (
            SourcePattern::Local {
                namespace,
                name: NamePattern::Prefix(prefix),
            },
            SourcePattern::Local {
                namespace: inner_namespace,
                name,
            },
        ) => {
            let begins = match name {
                NamePattern::Exact(name) => name.as_str().starts_with(&**prefix),
                NamePattern::Prefix(inner) => inner.starts_with(&**prefix),
            };
            namespace == inner_namespace && begins
        }
        (outer, inner) => outer == inner,
    }
}
