//! HAProxy, one thread a side; what it speaks between the sides is the mode.

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
    let certificates = setting.certificates;
    let (entry, entry_http2, entry_tcp) = (network.local()?, network.local()?, network.local()?);
    let (inner, inner_http2, inner_tcp) = (network.at_b()?, network.at_b()?, network.at_b()?);
    let path = |path: &Path| path.display().to_string();
    // An HTTP/2 client is led on in HTTP/2 all the way, or in HTTP/1.1 all the way.
    let (alpn, app_http2) = match between {
        Between::Http1 => ("http/1.1", "proto h1"),
        Between::Http2 => ("h2", "proto h2"),
    };
    let values = [
        ("entry", entry.to_string()),
        ("entry-http2", entry_http2.to_string()),
        ("entry-tcp", entry_tcp.to_string()),
        ("inner", inner.to_string()),
        ("inner-http2", inner_http2.to_string()),
        ("inner-tcp", inner_tcp.to_string()),
        ("app", setting.backend.http.to_string()),
        ("app-tcp", setting.backend.tcp.to_string()),
        ("app-http2", app_http2.to_owned()),
        ("alpn", alpn.to_owned()),
        ("authority", path(&certificates.authority)),
        ("a-both", path(&certificates.a.both)),
        ("b-both", path(&certificates.b.both)),
        ("a-name", certificates.a.name.clone()),
        ("b-name", certificates.b.name.clone()),
    ];
    let side = |name: &str, template: &str, host: &Host| {
        let config = folder.join(format!("haproxy-{name}.cfg"));
        template::write(&config, template, &values)?;
        let program = process::find("haproxy").context("haproxy is missing")?;
        let mut command = host.place(setting.cpus.proxies).command(&program);
        command.arg("-db").arg("-f").arg(&config);
        let log = folder.join(format!("haproxy-{name}.log"));
        Process::start(&format!("haproxy {name}"), command, &log)
    };
    let b = side(
        "b",
        include_str!("../../templates/haproxy-b.cfg"),
        &network.b,
    )?;
    let a = side(
        "a",
        include_str!("../../templates/haproxy-a.cfg"),
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
            server_name: certificates.b.name.clone(),
            alpn,
            certificate: certificates.a.certificate.clone(),
            key: certificates.a.key.clone(),
        }),
        others: Vec::new(),
    })
}
