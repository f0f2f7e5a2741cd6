//! Questions about destinations outside of the mesh: which service is meant, whether its host may be asked for, and whether it may lead
//! where it does; in the order in which a sidecar finds out.
//!
//! Which hosts a service has, and to which addresses they may lead, the catalog says: here nothing is matched again.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::{NameError, ServicePort, TrustDomain, is_mesh_host};

use crate::http::host_of;
use crate::request::{HttpRequest, Reason};

/// The external services of a mesh, as the catalog knows them.
pub trait Outside: fmt::Debug + Send + Sync {
    /// The port that a host and a number name: of those that are open the one that names the host most precisely, then the first by
    /// name.
    fn named(
        &self,
        host: &str,
        number: u16,
        is_open: &dyn Fn(&ServicePort) -> bool,
    ) -> Option<ServicePort>;

    /// `None`: it is no port of an external service.
    fn port(&self, target: &ServicePort) -> Option<OutsidePort>;

    /// Whether the host is one of the service's.
    fn names(&self, target: &ServicePort, host: &str) -> bool;

    /// The host that is meant where a client names none.
    fn only_host(&self, target: &ServicePort) -> Option<String>;

    /// Whether a host of the service may lead there, as far as the service says.
    fn may_dial(&self, target: &ServicePort, address: IpAddr) -> bool;
}

/// A port of an external service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsidePort {
    pub number: u16,
    pub carries: Carries,
}

/// What passes through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    Http,
    /// TLS of the application's own.
    Tls,
    Bytes,
}

/// What a question is about, as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Target {
    /// `namespace/service:port`.
    Service(ServicePort),
    /// `host:port` outside of the mesh, as the HTTP proxy is asked for it.
    Host(HostPort),
}

/// A host in lower case and without a final dot, and the number of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub host: Box<str>,
    pub port: u16,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Service(#[from] NameError),
    #[error("`{0}` is neither `namespace/service:port` nor `host:port`")]
    Host(String),
}

/// The host is one of the mesh's own: it is never looked for outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a name of the mesh: ask for `namespace/service:port`")]
pub struct MeshName(HostPort);

/// Where a question leads, if that is outside of the mesh.
#[derive(Debug, Clone, Copy)]
pub struct Leads<'a> {
    pub services: &'a dyn Outside,
    /// The host that is asked for, at the proxy or as the server name of TLS; `None`: the question names the service alone.
    pub host: Option<&'a str>,
    /// What the host leads to; `None`: not asked.
    pub address: Option<IpAddr>,
}

impl Target {
    pub fn service(&self) -> Option<&ServicePort> {
        match self {
            Self::Service(target) => Some(target),
            Self::Host(_) => None,
        }
    }

    pub fn host(&self) -> Option<&HostPort> {
        match self {
            Self::Service(_) => None,
            Self::Host(target) => Some(target),
        }
    }
}

impl HostPort {
    /// The port of a service that this names: among those that are open to whoever asks, as its sidecar finds it, and where none is,
    /// among all. `None`: no service has that host and port.
    pub fn find(
        &self,
        trust_domain: &TrustDomain,
        is_namespace: impl Fn(&str) -> bool,
        services: &dyn Outside,
        is_open: impl Fn(&ServicePort) -> bool,
    ) -> Result<Option<ServicePort>, MeshName> {
        if is_mesh_host(&self.host, trust_domain, is_namespace) {
            return Err(MeshName(self.clone()));
        }
        let open = services.named(&self.host, self.port, &is_open);
        Ok(open.or_else(|| services.named(&self.host, self.port, &|_| true)))
    }
}

impl<'a> Leads<'a> {
    /// For a question that asks for a host, or names the service and states a host.
    pub fn of(
        services: &'a dyn Outside,
        target: &ServicePort,
        asked: Option<&'a str>,
        stated: Option<&'a str>,
        address: Option<IpAddr>,
    ) -> Self {
        let is_http = |port: OutsidePort| port.carries == Carries::Http;
        let is_http = services.port(target).is_none_or(is_http);
        // On a port that is not HTTP a host is the server name, or what a CONNECT asked for.
        let host = asked.or(stated.filter(|_| !is_http).map(host_of));
        Self {
            services,
            host,
            address,
        }
    }

    /// The host of a request that states none.
    pub fn authority(&self, target: &ServicePort) -> Option<String> {
        let asked = self.host.map(str::to_owned);
        asked.or_else(|| self.services.only_host(target))
    }

    /// Why it is refused whatever the rules allow its source, if it is; but for its address. A host that is not stated is not judged.
    pub(crate) fn misleads(
        &self,
        target: &ServicePort,
        http: Option<HttpRequest<'_>>,
    ) -> Option<Reason> {
        let port = self.services.port(target)?;
        let fits = match (port.carries, http) {
            // A CONNECT opens no tunnel to HTTP: the requests that follow are judged.
            (Carries::Http, http) => http.is_some_and(|request| !request.connect),
            (Carries::Tls | Carries::Bytes, None) => true,
            (Carries::Tls | Carries::Bytes, Some(request)) if self.host.is_some() => {
                request.connect
            }
            // At a listener of its own nobody looks for requests.
            (Carries::Tls, Some(_)) => false,
            (Carries::Bytes, Some(_)) => true,
        };
        if !fits {
            return Some(Reason::WrongProtocol);
        }
        let only = self.services.only_host(target);
        let host = self.host.or(only.as_deref());
        match (self.seen(target, http), port.carries) {
            (Some(request), _) => {
                let stated = request.authority;
                let is_named = stated.is_none_or(|host| self.is_named(target, port, host));
                (!is_named).then_some(Reason::Misdirected)
            }
            (None, carries) => match host {
                Some(host) if self.services.names(target, host) => None,
                Some(_) => Some(Reason::Misdirected),
                // Bytes name no host at all.
                None if carries == Carries::Bytes => Some(Reason::UnknownTarget),
                None => None,
            },
        }
    }

    /// What of a request is looked at: nothing on a port that is not HTTP, unless its host was asked for at the proxy.
    pub(crate) fn seen<'r>(
        &self,
        target: &ServicePort,
        http: Option<HttpRequest<'r>>,
    ) -> Option<HttpRequest<'r>> {
        let is_opaque = |port: OutsidePort| port.carries != Carries::Http;
        let is_opaque = self.services.port(target).is_some_and(is_opaque);
        http.filter(|_| !is_opaque || self.host.is_some())
    }

    /// Whether the host leads where none of its service may.
    pub(crate) fn leads_astray(&self, target: &ServicePort) -> bool {
        let is_outside = self.services.port(target).is_some();
        is_outside
            && self
                .address
                .is_some_and(|address| !self.services.may_dial(target, address))
    }

    /// Whether a request names a host of the service on that port, and no other than what was asked for.
    fn is_named(&self, target: &ServicePort, port: OutsidePort, authority: &str) -> bool {
        let number = match authority.rsplit_once(':') {
            Some((_, number)) => number.parse().ok(),
            None => Some(port.number),
        };
        let host = host_of(authority);
        number == Some(port.number)
            && self.services.names(target, host)
            && self
                .host
                .is_none_or(|asked| host.eq_ignore_ascii_case(asked))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.contains('/') {
            true => Ok(Self::Service(text.parse()?)),
            false => text.parse().map(Self::Host),
        }
    }
}

impl FromStr for HostPort {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Host(text.to_owned());
        let (_, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host_of(text);
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || host.len() > HOST_LIMIT || !host.bytes().all(is_of_host) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(target) => write!(f, "{target}"),
            Self::Host(target) => write!(f, "{target}"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

const HOST_LIMIT: usize = 253;
