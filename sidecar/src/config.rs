//! What the user typed ([`RawConfig`]: everything optional, unknown keys refused) becomes what the program needs ([`Config`], which cannot be invalid).

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use weft_daemon::{ConfigProblems, logs};
use weft_identity::{DnsLabel, ServiceName, ServicePort, SpiffeId, TrustDomain, WorkloadName};

mod keys;

pub use keys::{KEYS, Key, help};

/// What a sidecar needs to know. Made only by [`Config::from_raw`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The identity that this sidecar expects to get.
    pub own_id: SpiffeId,
    pub workload: WorkloadName,
    /// Names this replica; unique.
    pub instance: String,
    pub trust_domain: TrustDomain,
    /// mTLS gRPC of the control plane.
    pub api: String,
    /// First contact with the control plane.
    pub attestation: String,
    pub join_token_file: Option<PathBuf>,
    pub runtime: PathBuf,
    pub inbound: SocketAddr,
    /// Where peers reach the inbound listener, if it is not where it listens.
    pub advertise: Option<SocketAddr>,
    pub http_proxy: Option<SocketAddr>,
    pub upstreams: Vec<Upstream>,
    /// Where the application listens, if not on 127.0.0.1 and the target port.
    pub apps: HashMap<ServicePort, SocketAddr>,
    pub admin: SocketAddr,
    /// Who resolves the hosts of external services; none: the system.
    pub dns_servers: Vec<SocketAddr>,
    /// How long open connections may take to end by themselves.
    pub drain: Duration,
    pub log_format: logs::Format,
    pub log_level: logs::Level,
    /// One line for each connection and request.
    pub access_log: bool,
    pub limits: Limits,
}

/// A listener on loopback for one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub target: ServicePort,
    pub listen: SocketAddr,
}

/// Bounds of everything that a peer can make grow.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Open connections of each listener.
    pub connections: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes of one request's head.
    pub head_bytes: usize,
    /// Seconds that a client may take for a head.
    pub head_seconds: u64,
    /// Seconds that dialling an endpoint or the application may take.
    pub connect_seconds: u64,
    /// Idle connections kept for each endpoint.
    pub idle_per_endpoint: usize,
    /// Threads that move bytes.
    pub workers: usize,
    /// Seconds after which an idle connection is closed.
    pub idle_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 256,
            head_bytes: 64 * 1024,
            head_seconds: 10,
            connect_seconds: 3,
            idle_per_endpoint: 64,
            workers: 1,
            idle_seconds: 60,
        }
    }
}

/// The file as it was typed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RawConfig {
    workload: Option<String>,
    instance: Option<String>,
    trust_domain: Option<String>,
    control_plane: RawControlPlane,
    join_token_file: Option<PathBuf>,
    runtime: Option<PathBuf>,
    inbound: RawInbound,
    http_proxy: Option<RawListener>,
    upstreams: Vec<RawUpstream>,
    apps: Vec<RawApp>,
    admin: RawListener,
    dns: RawDns,
    drain: Option<String>,
    log: RawLog,
    limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawControlPlane {
    api: Option<String>,
    attestation: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawInbound {
    listen: Option<String>,
    advertise: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawListener {
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawUpstream {
    service: Option<String>,
    port: Option<String>,
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawApp {
    service: Option<String>,
    port: Option<String>,
    address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawDns {
    servers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawLog {
    format: Option<String>,
    level: Option<String>,
    access: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: {problems}", path.display())]
    Invalid {
        path: PathBuf,
        problems: ConfigProblems,
    },
}

impl Config {
    /// Reads a file; everything that is wrong in it is told at once.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let raw = serde_saphyr::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        Self::from_raw(raw).map_err(|problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        })
    }

    /// Converts, or tells every problem.
    pub fn from_raw(raw: RawConfig) -> Result<Self, ConfigProblems> {
        let mut problems = ConfigProblems::new();
        let p = &mut problems;
        let workload = p.require::<WorkloadName>("workload", raw.workload.as_deref());
        let trust_domain = p.require::<TrustDomain>("trustDomain", raw.trust_domain.as_deref());
        let instance = required_instance(p, raw.instance);
        let api = authority(p, "controlPlane.api", raw.control_plane.api);
        let attestation = authority(p, "controlPlane.attestation", raw.control_plane.attestation);
        if raw.runtime.is_none() {
            p.missing(
                "runtime",
                "a folder in memory (tmpfs) for the SVID, its key and the snapshot",
            );
        }
        let inbound = p.require::<SocketAddr>("inbound.listen", raw.inbound.listen.as_deref());
        let advertise = raw.inbound.advertise.and_then(|text| advertised(p, &text));
        let http_proxy = raw
            .http_proxy
            .and_then(|raw| loopback(p, "httpProxy.listen", raw.listen.as_deref()));
        let admin = loopback(
            p,
            "admin.listen",
            Some(raw.admin.listen.as_deref().unwrap_or(DEFAULT_ADMIN)),
        );
        let upstreams = upstreams(p, &raw.upstreams);
        let apps = apps(p, &raw.apps);
        let dns_servers = dns_servers(p, &raw.dns.servers);
        let drain = p.parse::<Seconds>("drain", raw.drain.as_deref().unwrap_or(DEFAULT_DRAIN));
        let log_format = p.parse("log.format", raw.log.format.as_deref().unwrap_or("text"));
        let log_level = p.parse("log.level", raw.log.level.as_deref().unwrap_or("info"));
        check_limits(p, &raw.limits);

        let whole = (|| {
            let (workload, trust_domain) = (workload?, trust_domain?);
            Some(Self {
                own_id: SpiffeId::for_workload(&trust_domain, &workload),
                workload,
                instance: instance?,
                trust_domain,
                api: api?,
                attestation: attestation?,
                join_token_file: raw.join_token_file,
                runtime: raw.runtime?,
                inbound: inbound?,
                advertise,
                http_proxy,
                upstreams,
                apps,
                admin: admin?,
                dns_servers,
                drain: drain?.0,
                log_format: log_format?,
                log_level: log_level?,
                access_log: raw.log.access,
                limits: raw.limits,
            })
        })();
        match whole {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }
}

fn required_instance(problems: &mut ConfigProblems, instance: Option<String>) -> Option<String> {
    let Some(instance) = instance else {
        problems.missing(
            "instance",
            "it is required: a name that is unique for each replica",
        );
        return None;
    };
    match weft_catalog::check_instance(&instance) {
        Ok(()) => Some(instance),
        Err(error) => {
            problems.wrong("instance", instance, error);
            None
        }
    }
}

/// `host:port`; the host may be a name.
fn authority(problems: &mut ConfigProblems, key: &str, text: Option<String>) -> Option<String> {
    let Some(text) = text else {
        problems.missing(key, "it is required: host:port");
        return None;
    };
    let is_authority = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_authority {
        problems.wrong(key, text, "expected host:port");
        return None;
    }
    Some(text)
}

fn advertised(problems: &mut ConfigProblems, text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = problems.parse("inbound.advertise", text)?;
    if address.ip().is_unspecified() {
        problems.wrong(
            "inbound.advertise",
            text,
            "peers cannot dial an unspecified address",
        );
        return None;
    }
    Some(address)
}

/// What listens for the workload alone must not be reachable from elsewhere.
fn loopback(problems: &mut ConfigProblems, key: &str, text: Option<&str>) -> Option<SocketAddr> {
    let address: SocketAddr = problems.require(key, text)?;
    if !address.ip().is_loopback() {
        problems.wrong(
            key,
            address,
            "must be a loopback address: whoever reaches it speaks as this workload",
        );
        return None;
    }
    Some(address)
}

fn upstreams(problems: &mut ConfigProblems, raw: &[RawUpstream]) -> Vec<Upstream> {
    let mut read = Vec::with_capacity(raw.len());
    for (i, upstream) in raw.iter().enumerate() {
        let key = |field: &str| format!("upstreams[{i}].{field}");
        let target = service_port(
            problems,
            &key,
            upstream.service.as_deref(),
            upstream.port.as_deref(),
        );
        let listen = loopback(problems, &key("listen"), upstream.listen.as_deref());
        let (Some(target), Some(listen)) = (target, listen) else {
            continue;
        };
        if read
            .iter()
            .any(|earlier: &Upstream| earlier.target == target)
        {
            problems.wrong(key("service"), &target, "it has a listener already");
            continue;
        }
        read.push(Upstream { target, listen });
    }
    read
}

/// `ip` or `ip:port`.
fn dns_servers(problems: &mut ConfigProblems, raw: &[String]) -> Vec<SocketAddr> {
    let mut read = Vec::with_capacity(raw.len());
    for (i, text) in raw.iter().enumerate() {
        let alone = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
        match text.parse::<SocketAddr>().or_else(|_| alone()) {
            Ok(server) => read.push(server),
            Err(_) => problems.wrong(format!("dns.servers[{i}]"), text, "expected ip or ip:port"),
        }
    }
    read
}

fn apps(problems: &mut ConfigProblems, raw: &[RawApp]) -> HashMap<ServicePort, SocketAddr> {
    let mut read = HashMap::with_capacity(raw.len());
    for (i, app) in raw.iter().enumerate() {
        let key = |field: &str| format!("apps[{i}].{field}");
        let target = service_port(problems, &key, app.service.as_deref(), app.port.as_deref());
        let address = problems.require::<SocketAddr>(&key("address"), app.address.as_deref());
        let (Some(target), Some(address)) = (target, address) else {
            continue;
        };
        if read.contains_key(&target) {
            problems.wrong(key("service"), &target, "it has an address already");
            continue;
        }
        read.insert(target, address);
    }
    read
}

fn service_port(
    problems: &mut ConfigProblems,
    key: &dyn Fn(&str) -> String,
    service: Option<&str>,
    port: Option<&str>,
) -> Option<ServicePort> {
    let service = problems.require::<ServiceName>(&key("service"), service);
    let port = problems.require::<DnsLabel>(&key("port"), port);
    Some(ServicePort {
        service: service?,
        port: port?,
    })
}

fn check_limits(problems: &mut ConfigProblems, limits: &Limits) {
    let zeros = [
        ("limits.connections", limits.connections == 0),
        ("limits.streams", limits.streams == 0),
        ("limits.headSeconds", limits.head_seconds == 0),
        ("limits.connectSeconds", limits.connect_seconds == 0),
        ("limits.idleSeconds", limits.idle_seconds == 0),
    ];
    for (key, is_zero) in zeros {
        if is_zero {
            problems.wrong(key, 0, "must be at least 1");
        }
    }
    if !HEAD_BYTES.contains(&limits.head_bytes) {
        problems.wrong(
            "limits.headBytes",
            limits.head_bytes,
            format!(
                "must be between {} and {}",
                HEAD_BYTES.start(),
                HEAD_BYTES.end()
            ),
        );
    }
}

/// A length of time as it is typed: `500ms`, `10s`, `2m`.
struct Seconds(Duration);

#[derive(Debug)]
struct NotALength;

impl fmt::Display for NotALength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a length of time like 500ms, 10s or 2m")
    }
}

impl std::str::FromStr for Seconds {
    type Err = NotALength;
    fn from_str(text: &str) -> Result<Self, NotALength> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(NotALength)?;
        let number: u32 = number.parse().map_err(|_| NotALength)?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            _ => return Err(NotALength),
        };
        Ok(Self(unit.saturating_mul(number)))
    }
}

const DEFAULT_ADMIN: &str = "127.0.0.1:15020";
const DEFAULT_DRAIN: &str = "10s";
/// The HTTP parser's own buffer bounds the largest.
const HEAD_BYTES: std::ops::RangeInclusive<usize> = 8 * 1024..=256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let raw = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        Config::from_raw(raw).map_err(|problems| problems.to_string())
    }

    const LEAST: &str = "
workload: shop/api
instance: api-1
trustDomain: weft.local
controlPlane: {api: '127.0.0.1:15012', attestation: '127.0.0.1:15010'}
runtime: /dev/shm/weft
inbound: {listen: '127.0.0.1:0'}
";

    #[test]
    fn the_least_file_gives_a_whole_configuration() {
        let config = read(LEAST).unwrap();
        assert_eq!(
            config.own_id.to_string(),
            "spiffe://weft.local/ns/shop/sa/api"
        );
        assert_eq!(config.drain, Duration::from_secs(10));
        assert_eq!(config.admin, DEFAULT_ADMIN.parse().unwrap());
        assert!(config.http_proxy.is_none());
    }

    #[test]
    fn all_problems_are_told_together() {
        let told = read(
            "
workload: api
controlPlane: {api: here}
httpProxy: {listen: '0.0.0.0:15001'}
upstreams: [{service: shop/orders, listen: '127.0.0.1:1'}]
drain: soon
",
        )
        .unwrap_err();
        for key in [
            "workload: `api`",
            "instance:",
            "trustDomain:",
            "controlPlane.api: `here`",
            "controlPlane.attestation:",
            "runtime:",
            "inbound.listen:",
            "httpProxy.listen: `0.0.0.0:15001`",
            "upstreams[0].port:",
            "drain: `soon`",
        ] {
            assert!(told.contains(key), "{key} is missing in {told}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(
            read(&format!("{LEAST}\nupstream: []"))
                .unwrap_err()
                .contains("upstream")
        );
    }
}
