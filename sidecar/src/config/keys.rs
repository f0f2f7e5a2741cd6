//! Every key of the sidecar's file: the one table behind `--help` and docs/CONFIGURATION.md.
//!
//! A test reads the keys off the types that read the file, so that neither can have one that the other has not.

use super::{DEFAULT_ADMIN, DEFAULT_DRAIN};

/// One key as people write it; `[]` stands for each element of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    pub what: &'static str,
}

/// The table for `--help`.
pub fn help() -> String {
    let mut text = String::from("Keys of the configuration file, with their defaults:\n");
    for Key {
        name,
        default,
        what,
    } in KEYS
    {
        text.push_str(&format!("  {name} ({default})\n      {what}\n"));
    }
    text
}

const fn key(name: &'static str, default: &'static str, what: &'static str) -> Key {
    Key {
        name,
        default,
        what,
    }
}

const REQUIRED: &str = "required";
const NONE: &str = "none";

#[rustfmt::skip] // a table
pub const KEYS: &[Key] = &[
    key("workload", REQUIRED, "The workload that it stands beside, namespace/name"),
    key("instance", REQUIRED, "The name of this replica, unique in the mesh"),
    key("trustDomain", REQUIRED, "The mesh's root of trust, such as weft.local"),
    key("controlPlane.api", REQUIRED, "host:port of the control plane's mTLS gRPC"),
    key("controlPlane.attestation", REQUIRED, "host:port of first contact with the control plane"),
    key("joinTokenFile", NONE, "The file that holds the join token, read when there is no SVID to go on with"),
    key("runtime", REQUIRED, "A folder in memory (tmpfs) for the SVID, its key and the snapshot"),
    key("inbound.listen", REQUIRED, "Where peers' mutual TLS is accepted, ip:port"),
    key("inbound.advertise", "inbound.listen", "Where peers reach that listener, if it is elsewhere; port 0: the listener's own"),
    key("httpProxy.listen", NONE, "HTTP forward proxy for the workload, on loopback"),
    key("upstreams[].service", REQUIRED, "A service to call, namespace/name"),
    key("upstreams[].port", REQUIRED, "The name of its port"),
    key("upstreams[].listen", REQUIRED, "The address on loopback that leads there"),
    key("apps[].service", REQUIRED, "A service that the workload offers, namespace/name"),
    key("apps[].port", REQUIRED, "The name of its port"),
    key("apps[].address", REQUIRED, "Where the workload listens for it; without an entry: 127.0.0.1 and the targetPort"),
    key("admin.listen", DEFAULT_ADMIN, "/ready, /live, /metrics and /view, on loopback"),
    key("dns.servers[]", "/etc/resolv.conf", "DNS servers that resolve the hosts of external services, ip or ip:port"),
    key("drain", DEFAULT_DRAIN, "How long open connections may go on after SIGTERM: 500ms, 10s, 2m"),
    key("log.format", "text", "text or json"),
    key("log.level", "info", "off, error, warn, info, debug or trace"),
    key("log.access", "false", "One line for each connection and request"),
    key("limits.connections", "4096", "Open connections of each listener"),
    key("limits.streams", "256", "Requests at a time on one HTTP/2 connection"),
    key("limits.headBytes", "65536", "Bytes of one request's head, 8192 to 262144"),
    key("limits.headSeconds", "10", "Seconds that a client may take for a head"),
    key("limits.connectSeconds", "3", "Seconds that dialling an endpoint or the application may take"),
    key("limits.idlePerEndpoint", "64", "Idle connections kept for each endpoint"),
    key("limits.workers", "1", "Threads that move bytes"),
    key("limits.idleSeconds", "60", "Seconds after which an idle connection is closed"),
];

#[cfg(test)]
mod recorder;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::recorder;
    use super::*;
    use crate::config::{Limits, RawConfig};

    #[test]
    fn the_table_has_every_key_that_the_file_may_have_and_no_other() {
        let listed: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        let known: BTreeSet<String> = recorder::keys_of::<RawConfig>();
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), known);
        assert_eq!(listed.len(), known.len(), "a key is listed twice");
    }

    #[test]
    fn the_defaults_are_those_that_hold() {
        let limits = Limits::default();
        let raw: RawConfig = serde_saphyr::from_str("{}").unwrap();
        for (name, default) in [
            ("limits.connections", limits.connections.to_string()),
            ("limits.streams", limits.streams.to_string()),
            ("limits.headBytes", limits.head_bytes.to_string()),
            ("limits.headSeconds", limits.head_seconds.to_string()),
            ("limits.connectSeconds", limits.connect_seconds.to_string()),
            (
                "limits.idlePerEndpoint",
                limits.idle_per_endpoint.to_string(),
            ),
            ("limits.workers", limits.workers.to_string()),
            ("limits.idleSeconds", limits.idle_seconds.to_string()),
            ("log.access", raw.log.access.to_string()),
        ] {
            let listed = KEYS.iter().find(|key| key.name == name).unwrap();
            assert_eq!(listed.default, default, "{name}");
        }
    }

    #[test]
    fn the_help_names_every_key() {
        let help = help();
        assert!(
            KEYS.iter()
                .all(|key| help.contains(key.name) && help.contains(key.what))
        );
    }
}
