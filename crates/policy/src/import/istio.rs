//! Istio's `AuthorizationPolicy` (security.istio.io/v1 and v1beta1): as documents.
//!
//! A request to a workload is refused if a CUSTOM or DENY policy says so; else it passes if no ALLOW policy selects the
//! workload, or one that does matches it.

use serde::{Deserialize, Deserializer, de::Error};

use super::{meta::Labels, read::Object};

mod allowing;
mod callers;
mod convert;
mod refusals;
mod requests;

pub(super) use convert::convert;

pub(super) type AuthorizationObject = Object<AuthorizationSpec>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthorizationSpec {
    #[serde(default)]
    selector: Option<WorkloadSelector>,
    /// The older form of `targetRefs`, of one alone.
    #[serde(default)]
    target_ref: Option<TargetRef>,
    #[serde(default)]
    target_refs: Vec<TargetRef>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    provider: Option<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkloadSelector {
    #[serde(default)]
    match_labels: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetRef {
    #[serde(default)]
    group: String,
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Action {
    #[default]
    Allow,
    Deny,
    Audit,
    Custom,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    from: Vec<From>,
    #[serde(default)]
    to: Vec<To>,
    #[serde(default)]
    when: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    source: Source,
}

/// Fields that are given must all match; of a list, one entry, and of a `not` list none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    #[serde(default)]
    principals: Vec<String>,
    #[serde(default)]
    not_principals: Vec<String>,
    #[serde(default)]
    request_principals: Vec<String>,
    #[serde(default)]
    not_request_principals: Vec<String>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    not_namespaces: Vec<String>,
    #[serde(default)]
    service_accounts: Vec<String>,
    #[serde(default)]
    not_service_accounts: Vec<String>,
    #[serde(default)]
    ip_blocks: Vec<String>,
    #[serde(default)]
    not_ip_blocks: Vec<String>,
    #[serde(default)]
    remote_ip_blocks: Vec<String>,
    #[serde(default)]
    not_remote_ip_blocks: Vec<String>,
    #[serde(default)]
    trust_domains: Vec<String>,
    #[serde(default)]
    not_trust_domains: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    operation: Operation,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operation {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    not_hosts: Vec<String>,
    #[serde(default)]
    ports: Vec<Number>,
    #[serde(default)]
    not_ports: Vec<Number>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    not_methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    not_paths: Vec<String>,
}

impl Operation {
    /// Whether it asks something that bytes do not have.
    fn is_http(&self) -> bool {
        let lists = [
            &self.hosts,
            &self.not_hosts,
            &self.methods,
            &self.not_methods,
            &self.paths,
            &self.not_paths,
        ];
        lists.iter().any(|list| !list.is_empty())
    }
}

/// A port's number, written as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number(u16);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(D::Error::custom(format!(
                "`{}` is not a port number",
                text.escape_debug()
            ))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    key: Key,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    not_values: Vec<String>,
}

/// The attributes that the reference lists; another one is an error, as an unknown field is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    SourcePrincipal,
    SourceNamespace,
    SourceServiceAccount,
    SourceTrustDomain,
    DestinationPort,
    Header(String),
    /// Addresses of either end.
    Address(String),
    /// What a token says.
    RequestAuth(String),
    /// The connection's server name, and metadata of filters.
    Other(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let in_brackets = |name: &str| {
            let rest = text.strip_prefix(name)?.strip_prefix('[')?;
            rest.strip_suffix(']')
                .filter(|inner| !inner.is_empty())
                .map(str::to_owned)
        };
        Ok(match text.as_str() {
            "source.principal" => Self::SourcePrincipal,
            "source.namespace" => Self::SourceNamespace,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "destination.port" => Self::DestinationPort,
            "source.ip" | "remote.ip" | "destination.ip" => Self::Address(text),
            "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" => {
                Self::RequestAuth(text)
            }
            "connection.sni" => Self::Other(text),
            _ => match (
                in_brackets("request.headers"),
                in_brackets("request.auth.claims"),
            ) {
                (Some(name), _) => Self::Header(name),
                (None, Some(_)) => Self::RequestAuth(text),
                (None, None) if text.starts_with("request.auth.claims[") && text.ends_with(']') => {
                    Self::RequestAuth(text)
                }
                (None, None) if text.starts_with("experimental.envoy.filters.") => {
                    Self::Other(text)
                }
                (None, None) => {
                    return Err(D::Error::custom(format!(
                        "unknown attribute `{}`",
                        text.escape_debug()
                    )));
                }
            },
        })
    }
}

/// What the reference forbids and types cannot say.
fn check(spec: &AuthorizationSpec) -> Result<(), String> {
    let targets =
        usize::from(spec.target_ref.is_some()) + usize::from(!spec.target_refs.is_empty());
    if targets + usize::from(spec.selector.is_some()) > 1 {
        return Err(
            "at most one of `selector`, `targetRef` and `targetRefs` can be set".to_owned(),
        );
    }
    if spec.provider.is_some() != (spec.action == Action::Custom) {
        return Err("`provider` stands with action CUSTOM alone, and there it must".to_owned());
    }
    for rule in &spec.rules {
        for source in rule.from.iter().map(|from| &from.source) {
            let accounts =
                !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
            let names = [
                &source.principals,
                &source.not_principals,
                &source.namespaces,
                &source.not_namespaces,
            ];
            if accounts && names.iter().any(|list| !list.is_empty()) {
                return Err(
                    "`serviceAccounts` cannot stand with `principals` or `namespaces`".to_owned(),
                );
            }
        }
        for condition in &rule.when {
            if condition.values.is_empty() && condition.not_values.is_empty() {
                return Err("a condition has `values` or `notValues`".to_owned());
            }
            if condition.key == Key::DestinationPort {
                let mut ports = condition.values.iter().chain(&condition.not_values);
                if ports.any(|port| port.parse::<u16>().is_err()) {
                    return Err("destination.port: a port is a number".to_owned());
                }
            }
        }
    }
    Ok(())
}
