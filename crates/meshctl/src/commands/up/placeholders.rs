//! What stands in braces in a mesh file's commands, and what it becomes for one replica.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weft_identity::{DnsLabel, ServicePort};

use super::mesh_file::Workload;

/// The values that one replica gives to placeholders.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) meshctl: String,
    pub(super) replica: String,
    pub(super) ports: BTreeMap<DnsLabel, SocketAddr>,
    pub(super) upstreams: BTreeMap<ServicePort, SocketAddr>,
    pub(super) proxy: SocketAddr,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum PlaceholderError {
    #[error(
        "{{{0}}} is not known; use {{meshctl}}, {{replica}}, {{proxy}}, {{port.NAME}}, {{upstream.SERVICE.PORT}}"
    )]
    Unknown(String),
    #[error("{{{0}}}: the workload's `ports` do not list it")]
    NoPort(String),
    #[error("{{{0}}}: the workload's `upstreams` do not list it")]
    NoUpstream(String),
    #[error("{{{0}}}: two upstreams have this name; write {{upstream.NAMESPACE.SERVICE.PORT}}")]
    Ambiguous(String),
    #[error("a brace is not closed")]
    Open,
}

/// Whether every placeholder of the text has a meaning for this workload.
pub(super) fn check(text: &str, workload: &Workload) -> Result<(), PlaceholderError> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let values = Values {
        meshctl: String::new(),
        replica: String::new(),
        ports: workload
            .ports
            .keys()
            .map(|name| (name.clone(), anywhere))
            .collect(),
        upstreams: workload
            .upstreams
            .iter()
            .map(|upstream| (upstream.clone(), anywhere))
            .collect(),
        proxy: anywhere,
    };
    expand(text, &values).map(drop)
}

/// The text with every placeholder replaced.
pub(super) fn expand(text: &str, values: &Values) -> Result<String, PlaceholderError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(PlaceholderError::Open)?;
        expanded.push_str(before);
        expanded.push_str(&value(name, values)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value(name: &str, values: &Values) -> Result<String, PlaceholderError> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["meshctl"] => Ok(values.meshctl.clone()),
        ["replica"] => Ok(values.replica.clone()),
        ["proxy"] => Ok(values.proxy.to_string()),
        ["port", port] => {
            let found = values
                .ports
                .iter()
                .find(|(known, _)| known.as_str() == *port);
            found
                .map(|(_, address)| address.to_string())
                .ok_or_else(|| PlaceholderError::NoPort(name.to_owned()))
        }
        ["upstream", service, port] => upstream(name, values, |to| {
            to.service.name.as_str() == *service && to.port.as_str() == *port
        }),
        ["upstream", namespace, service, port] => upstream(name, values, |to| {
            to.service.namespace.as_str() == *namespace
                && to.service.name.as_str() == *service
                && to.port.as_str() == *port
        }),
        _ => Err(PlaceholderError::Unknown(name.to_owned())),
    }
}

fn upstream(
    name: &str,
    values: &Values,
    is_meant: impl Fn(&ServicePort) -> bool,
) -> Result<String, PlaceholderError> {
    let mut found = values.upstreams.iter().filter(|(to, _)| is_meant(to));
    match (found.next(), found.next()) {
        (Some((_, address)), None) => Ok(address.to_string()),
        (None, _) => Err(PlaceholderError::NoUpstream(name.to_owned())),
        (Some(_), Some(_)) => Err(PlaceholderError::Ambiguous(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let upstream = |text: &str| text.parse::<ServicePort>().expect("a service port");
        Values {
            meshctl: "/bin/meshctl".into(),
            replica: "web-1".into(),
            ports: BTreeMap::from([("http".parse().expect("a label"), at(1))]),
            upstreams: BTreeMap::from([
                (upstream("shop/api:http"), at(2)),
                (upstream("a/db:tcp"), at(3)),
                (upstream("b/db:tcp"), at(4)),
            ]),
            proxy: at(5),
        }
    }

    #[test]
    fn each_placeholder_becomes_its_value() {
        let text = "{meshctl} {replica} --l={port.http} http://{upstream.api.http}/ {upstream.b.db.tcp} {proxy}";
        assert_eq!(
            expand(text, &values()).expect("all are known"),
            "/bin/meshctl web-1 --l=127.0.0.1:1 http://127.0.0.1:2/ 127.0.0.1:4 127.0.0.1:5"
        );
    }

    #[test]
    fn what_has_no_single_meaning_is_refused() {
        for (text, error) in [
            ("{port.grpc}", PlaceholderError::NoPort("port.grpc".into())),
            (
                "{upstream.x.http}",
                PlaceholderError::NoUpstream("upstream.x.http".into()),
            ),
            (
                "{upstream.db.tcp}",
                PlaceholderError::Ambiguous("upstream.db.tcp".into()),
            ),
            ("{home}", PlaceholderError::Unknown("home".into())),
            ("{port.http", PlaceholderError::Open),
        ] {
            assert_eq!(expand(text, &values()), Err(error), "{text}");
        }
    }
}
