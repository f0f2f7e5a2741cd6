//! Mesh names: labels, the `namespace/name` pairs made of them, and the server names and hosts that address them on the wire.
//!
//! Invariant: every label is a DNS-1123 label, so a name is safe in a path, a URL, a log line and a certificate as it stands.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::spiffe::TrustDomain;

/// One DNS-1123 label: 1 to 63 of `a-z`, `0-9` and `-`, neither beginning nor ending with `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsLabel(Arc<str>);

impl DnsLabel {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_valid(text: &str) -> bool {
        label_problem(text).is_none()
    }
}

impl FromStr for DnsLabel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match label_problem(text) {
            None => Ok(Self(text.into())),
            Some(problem) => Err(NameError::new(NameKind::Label, text, problem)),
        }
    }
}

fn label_problem(text: &str) -> Option<Problem> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    if text.is_empty() {
        Some(Problem::Empty)
    } else if text.len() > LABEL_LIMIT {
        Some(Problem::TooLong { limit: LABEL_LIMIT })
    } else if !text.bytes().all(|byte| allowed(byte.into()))
        && let Some(found) = text.chars().find(|c| !allowed(*c))
    {
        Some(Problem::Character { found })
    } else if text.starts_with('-') || text.ends_with('-') {
        Some(Problem::Hyphen)
    } else {
        None
    }
}

impl AsRef<str> for DnsLabel {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for DnsLabel {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A type whose text form is `namespace/name`.
macro_rules! pair_name {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pub namespace: DnsLabel,
            pub name: DnsLabel,
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let (namespace, name) = parse_pair($kind, text)?;
                Ok(Self { namespace, name })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }

        string_form!(
            $name,
            "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
        );
    };
}

/// Gives a type with `Display` and `FromStr` its `Debug`, its serde form and its JSON Schema, all as that one string.
macro_rules! string_form {
    ($name:ident, $pattern:expr) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}
pub(crate) use string_form;

pair_name!(
    /// A process with one identity, `shop/web`.
    WorkloadName,
    NameKind::Workload
);
pair_name!(
    /// A name that workloads offer, `shop/api`.
    ServiceName,
    NameKind::Service
);
pair_name!(
    /// An `Allow` or a `Quarantine` by its metadata, `shop/web-reads-orders`.
    RuleName,
    NameKind::Rule
);

impl WorkloadName {
    /// The mesh's own namespace: no attestor may issue into it.
    pub fn is_reserved(&self) -> bool {
        self.namespace.as_str() == RESERVED_NAMESPACE
    }
}

/// One port of a service, `shop/api:http`: what a verdict is about.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    pub service: ServiceName,
    pub port: DnsLabel,
}

impl FromStr for ServicePort {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |problem| NameError::new(NameKind::ServicePort, text, problem);
        let (service, port) = text.split_once(':').ok_or_else(|| {
            error(Problem::Shape {
                expected: "namespace/service:port",
            })
        })?;
        let (namespace, name) =
            parse_pair(NameKind::ServicePort, service).map_err(|e| error(e.problem))?;
        let port = port.parse().map_err(|e: NameError| error(e.problem))?;
        Ok(Self {
            service: ServiceName { namespace, name },
            port,
        })
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

string_form!(
    ServicePort,
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
);
string_form!(DnsLabel, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");

impl fmt::Display for DnsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn parse_pair(kind: NameKind, text: &str) -> Result<(DnsLabel, DnsLabel), NameError> {
    let error = |problem| NameError::new(kind, text, problem);
    let (namespace, name) = text.split_once('/').ok_or_else(|| {
        error(Problem::Shape {
            expected: "namespace/name",
        })
    })?;
    let label = |text: &str| text.parse::<DnsLabel>().map_err(|e| error(e.problem));
    Ok((label(namespace)?, label(name)?))
}

/// The TLS server name of a service port: `<port>.<service>.<namespace>.<trust-domain>`.
pub fn server_name(target: &ServicePort, trust_domain: &TrustDomain) -> Result<String, NameError> {
    let ServicePort { service, port } = target;
    let text = format!(
        "{port}.{}.{}.{trust_domain}",
        service.name, service.namespace
    );
    let problem = if text.len() > SERVER_NAME_LIMIT {
        Some(Problem::TooLong {
            limit: SERVER_NAME_LIMIT,
        })
    } else {
        // A trust domain may hold what DNS may not: underscores, empty labels.
        text.split('.').find_map(label_problem)
    };
    match problem {
        None => Ok(text),
        Some(problem) => Err(NameError::new(NameKind::ServerName, &text, problem)),
    }
}

/// The inverse of [`server_name`]; letters compare without case, as in DNS.
pub fn parse_server_name(text: &str, trust_domain: &TrustDomain) -> Result<ServicePort, NameError> {
    let error = |problem| NameError::new(NameKind::ServerName, text, problem);
    if text.len() > SERVER_NAME_LIMIT {
        return Err(error(Problem::TooLong {
            limit: SERVER_NAME_LIMIT,
        }));
    }
    let text = text.to_ascii_lowercase();
    let shape = || {
        error(Problem::Shape {
            expected: "port.service.namespace.trust-domain",
        })
    };
    let labels = strip_domain(&text, trust_domain).ok_or_else(shape)?;
    let mut labels = labels.split('.');
    let (Some(port), Some(name), Some(namespace), None) =
        (labels.next(), labels.next(), labels.next(), labels.next())
    else {
        return Err(shape());
    };
    let label = |text: &str| text.parse::<DnsLabel>().map_err(|e| error(e.problem));
    Ok(ServicePort {
        service: ServiceName {
            namespace: label(namespace)?,
            name: label(name)?,
        },
        port: label(port)?,
    })
}

/// The service that a `Host` (without its port) spells: `api.shop` or `api.shop.<trust-domain>`, a trailing dot allowed.
/// `None` means that the host is not written as a mesh name; whether that service exists is the caller's question.
pub fn parse_mesh_host(host: &str, trust_domain: &TrustDomain) -> Option<ServiceName> {
    let (name, namespace) = split_mesh_host(host, trust_domain)?;
    Some(ServiceName {
        namespace: namespace.to_ascii_lowercase().parse().ok()?,
        name: name.to_ascii_lowercase().parse().ok()?,
    })
}

/// The same as it is written: name and namespace, in any case.
pub fn split_mesh_host<'h>(
    host: &'h str,
    trust_domain: &TrustDomain,
) -> Option<(&'h str, &'h str)> {
    if host.len() > SERVER_NAME_LIMIT + 1 {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let short = |text: &'h str| {
        let (name, namespace) = text.split_once('.')?;
        [name, namespace]
            .into_iter()
            .all(is_label_in_any_case)
            .then_some((name, namespace))
    };
    strip_domain(host, trust_domain)
        .and_then(short)
        .or_else(|| short(host))
}

/// Whether a host can only be a name of the mesh: it lies in the trust domain, or in a namespace that the mesh has. `is_namespace` is
/// asked in the case in which the host is written.
pub fn is_mesh_host(
    host: &str,
    trust_domain: &TrustDomain,
    is_namespace: impl Fn(&str) -> bool,
) -> bool {
    let Some((name, namespace)) = split_mesh_host(host, trust_domain) else {
        let domain = trust_domain.as_str();
        return host.len().checked_sub(domain.len()).is_some_and(|at| {
            host.get(at..)
                .is_some_and(|end| end.eq_ignore_ascii_case(domain))
                && (at == 0 || host.get(..at).is_some_and(|before| before.ends_with('.')))
        });
    };
    name.len() + 1 + namespace.len() < host.len() || is_namespace(namespace)
}

fn is_label_in_any_case(text: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    (1..=LABEL_LIMIT).contains(&text.len())
        && text.as_bytes().iter().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn strip_domain<'t>(text: &'t str, trust_domain: &TrustDomain) -> Option<&'t str> {
    let at = text.len().checked_sub(trust_domain.as_str().len())?;
    let (rest, domain) = text.split_at_checked(at)?;
    let is_domain = domain.eq_ignore_ascii_case(trust_domain.as_str());
    rest.strip_suffix('.').filter(|_| is_domain)
}

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {kind}: {problem}", shown(.text))]
pub struct NameError {
    pub kind: NameKind,
    pub problem: Problem,
    text: String,
}

impl NameError {
    pub(crate) fn new(kind: NameKind, text: &str, problem: Problem) -> Self {
        Self {
            kind,
            problem,
            text: text.chars().take(SHOWN_LIMIT + 1).collect(),
        }
    }
}

/// Peers choose these texts: control characters are escaped and the length is bounded.
fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN_LIMIT {
        shown.push('…');
    }
    shown
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    Label,
    TrustDomain,
    SpiffeId,
    Workload,
    Service,
    Rule,
    ServicePort,
    ServerName,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label => "a DNS label",
            Self::TrustDomain => "a trust domain",
            Self::SpiffeId => "a SPIFFE ID",
            Self::Workload => "a workload's name",
            Self::Service => "a service's name",
            Self::Rule => "a rule's name",
            Self::ServicePort => "a service port",
            Self::ServerName => "a server name of this mesh",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("a part of it is empty")]
    Empty,
    #[error("longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("{found:?} is not allowed there")]
    Character { found: char },
    #[error("a label begins or ends with `-`")]
    Hyphen,
    #[error("it does not begin with `spiffe://`")]
    Scheme,
    #[error("an empty path segment or a trailing slash")]
    EmptySegment,
    #[error("a `.` or `..` path segment")]
    DotSegment,
    #[error("expected `{expected}`")]
    Shape { expected: &'static str },
}

const RESERVED_NAMESPACE: &str = "weft";
const LABEL_LIMIT: usize = 63;
const SERVER_NAME_LIMIT: usize = 253;
const SHOWN_LIMIT: usize = 100;

#[cfg(test)]
mod tests;
