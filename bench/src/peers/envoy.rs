//! Envoy, one worker a side; what it speaks between the sides is the mode.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use super::{Between, Entrances, Handshakes, Pair, Setting};
use crate::network::Host;
use crate::process::{self, Process};
use crate::template;

pub(super) fn start(
    setting: &Setting<'_>,
    folder: &Path,
    between: Between,
) -> anyhow::Result<Pair> {
    let network = setting.network;
    let (entry, entry_http2, entry_tcp) = (network.local()?, network.local()?, network.local()?);
    let (inner, inner_http2, inner_tcp) = (network.at_b()?, network.at_b()?, network.at_b()?);
    let mut values = tls(setting);
    values.extend([
        ("entry", address(entry)),
        ("entry-http2", address(entry_http2)),
        ("entry-tcp", address(entry_tcp)),
        ("inner", address(inner)),
        ("inner-http2", address(inner_http2)),
        ("inner-tcp", address(inner_tcp)),
        ("app", address(setting.backend.http)),
        ("app-tcp", address(setting.backend.tcp)),
        ("between", protocol(between).to_owned()),
        ("alpn", alpn(between).to_owned()),
        // An HTTP/2 client is led on in HTTP/2 all the way, or in HTTP/1.1 all the way.
        ("app-http2-protocol", protocol(between).to_owned()),
    ]);
    let side = |name: &str, template: &str, host: &Host| {
        let config = folder.join(format!("envoy-{name}.yaml"));
        template::write(&config, template, &values)?;
        let program = process::find("envoy").context("envoy is missing")?;
        let mut command = host.place(setting.cpus.proxies).command(&program);
        command.arg("-c").arg(&config);
        command.args(["--concurrency", "1", "--log-level", "warn"]);
        command.args(["--disable-hot-restart", "--use-dynamic-base-id"]);
        let log = folder.join(format!("envoy-{name}.log"));
        Process::start(&format!("envoy {name}"), command, &log)
    };
    let b = side(
        "b",
        include_str!("../../templates/envoy-b.yaml"),
        &network.b,
    )?;
    let a = side(
        "a",
        include_str!("../../templates/envoy-a.yaml"),
        &network.a,
    )?;
    Ok(Pair {
        proxies: Some([a, b]),
        entrances: Entrances {
            http1: entry,
            http2: entry_http2,
            tcp: Ok(entry_tcp),
        },
        handshakes: Some(Handshakes {
            to: inner,
            server_name: setting.certificates.b.name.clone(),
            alpn: alpn(between),
            certificate: setting.certificates.a.certificate.clone(),
            key: setting.certificates.a.key.clone(),
        }),
        others: Vec::new(),
    })
}

fn tls(setting: &Setting<'_>) -> Vec<(&'static str, String)> {
    let certificates = setting.certificates;
    let path = |path: &Path| path.display().to_string();
    vec![
        ("authority", path(&certificates.authority)),
        ("a-certificate", path(&certificates.a.certificate)),
        ("a-key", path(&certificates.a.key)),
        ("a-id", certificates.a.spiffe_id.clone()),
        ("b-certificate", path(&certificates.b.certificate)),
        ("b-key", path(&certificates.b.key)),
        ("b-id", certificates.b.spiffe_id.clone()),
        ("b-name", certificates.b.name.clone()),
    ]
}

fn address(address: SocketAddr) -> String {
    format!(
        "{{socket_address: {{address: \"{}\", port_value: {}}}}}",
        address.ip(),
        address.port()
    )
}

/// The key of Envoy's protocol options.
fn protocol(between: Between) -> &'static str {
    match between {
        Between::Http1 => "http_protocol_options",
        Between::Http2 => "http2_protocol_options",
    }
}

fn alpn(between: Between) -> &'static str {
    match between {
        Between::Http1 => "http/1.1",
        Between::Http2 => "h2",
    }
}
