//! Whom a rule admits: patterns over verified identities.
//!
//! Invariant: only a whole SPIFFE ID can name an identity of a foreign trust domain; no `*` ever does.

use std::{fmt, str::FromStr};

use weft_identity::{DnsLabel, SpiffeId, TrustDomain, WorkloadName};

use crate::{
    address::AddressRange,
    pattern::{PatternError, string_form},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourcePattern {
    /// `*`: every workload of this trust domain.
    AnyLocal,
    /// `shop/web` or `shop/batch-*`, of this trust domain.
    Local {
        namespace: DnsLabel,
        name: NamePattern,
    },
    /// A whole SPIFFE ID, of any trust domain.
    Exact(SpiffeId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    Exact(DnsLabel),
    /// Names that begin so; the empty prefix is every name.
    Prefix(Box<str>),
}

impl SourcePattern {
    pub fn matches(&self, id: &SpiffeId, trust_domain: &TrustDomain) -> bool {
        let local = || {
            id.is_in(trust_domain)
                .then(|| id.workload_parts())
                .flatten()
        };
        match self {
            Self::AnyLocal => local().is_some(),
            Self::Local { namespace, name } => local().is_some_and(|(id_namespace, id_name)| {
                namespace.as_str() == id_namespace && name.matches(id_name)
            }),
            Self::Exact(exact) => exact == id,
        }
    }

    /// The one identity that this matches, if it can match only one.
    pub fn exact(&self, trust_domain: &TrustDomain) -> Option<SpiffeId> {
        match self {
            Self::Exact(id) => Some(id.clone()),
            Self::Local {
                namespace,
                name: NamePattern::Exact(name),
            } => Some(SpiffeId::for_workload(
                trust_domain,
                &WorkloadName {
                    namespace: namespace.clone(),
                    name: name.clone(),
                },
            )),
            Self::Local {
                name: NamePattern::Prefix(_),
                ..
            }
            | Self::AnyLocal => None,
        }
    }

    /// The narrowest pattern that matches `id`.
    pub fn for_id(id: &SpiffeId, trust_domain: &TrustDomain) -> Self {
        match id.workload() {
            Some(workload) if id.is_in(trust_domain) => Self::Local {
                namespace: workload.namespace,
                name: NamePattern::Exact(workload.name),
            },
            _ => Self::Exact(id.clone()),
        }
    }
}

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

impl FromStr for SourcePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem: &str| PatternError::new(WHAT, text, problem);
        if text == "*" {
            return Ok(Self::AnyLocal);
        }
        if text.parse::<AddressRange>().is_ok() {
            return Err(error(
                "an address stands in `fromAddresses`, for plaintext; a workload is named by its identity",
            ));
        }
        if text.starts_with("spiffe://") {
            if text.contains('*') {
                return Err(error("a SPIFFE ID is written in full, without `*`"));
            }
            let id: SpiffeId = text.parse().map_err(|e| error(&format!("{e}")))?;
            if id.path().is_empty() {
                return Err(error("it names a trust domain, not a workload"));
            }
            return Ok(Self::Exact(id));
        }
        let (namespace, name) = text.split_once('/').ok_or_else(|| error(SHAPE))?;
        if namespace.contains('*') {
            return Err(error("`*` stands only at the end of the name, or alone"));
        }
        let namespace = namespace.parse().map_err(|e| error(&format!("{e}")))?;
        let name = match name.strip_suffix('*') {
            Some(prefix) => {
                // A prefix of a label may end in `-`, a label may not.
                if prefix.contains('*') || !DnsLabel::is_valid(&format!("{prefix}x")) {
                    return Err(error("what stands before `*` does not begin a name"));
                }
                NamePattern::Prefix(prefix.into())
            }
            None if name.contains('*') => {
                return Err(error("`*` stands only at the end of the name, or alone"));
            }
            None => NamePattern::Exact(name.parse().map_err(|e| error(&format!("{e}")))?),
        };
        Ok(Self::Local { namespace, name })
    }
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyLocal => f.write_str("*"),
            Self::Local { namespace, name } => match name {
                NamePattern::Exact(name) => write!(f, "{namespace}/{name}"),
                NamePattern::Prefix(prefix) => write!(f, "{namespace}/{prefix}*"),
            },
            Self::Exact(id) => write!(f, "{id}"),
        }
    }
}

string_form!(
    SourcePattern,
    "`namespace/name`, `namespace/prefix*`, `*` (this trust domain only) or a whole SPIFFE ID"
);

const WHAT: &str = "a source";
const SHAPE: &str = "expected `namespace/name`, `namespace/prefix*`, `*` or a whole SPIFFE ID";
