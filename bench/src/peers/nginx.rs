//! nginx, one worker a side; it speaks HTTP/1.1 to whatever is behind it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Entrances, Handshakes, Pair, Setting};
use crate::network::Host;
use crate::process::{self, Process};
use crate::template;

pub(super) fn start(setting: &Setting<'_>, folder: &Path) -> anyhow::Result<Pair> {
    let network = setting.network;
    let certificates = setting.certificates;
    let (entry, entry_http2, entry_tcp) = (network.local()?, network.local()?, network.local()?);
    let (inner, inner_tcp) = (network.at_b()?, network.at_b()?);
    let path = |path: &Path| path.display().to_string();
    let values = vec![
        ("entry", entry.to_string()),
        ("entry-http2", entry_http2.to_string()),
        ("entry-tcp", entry_tcp.to_string()),
        ("inner", inner.to_string()),
        ("inner-tcp", inner_tcp.to_string()),
        ("app", setting.backend.http.to_string()),
        ("app-tcp", setting.backend.tcp.to_string()),
        ("authority", path(&certificates.authority)),
        ("a-certificate", path(&certificates.a.certificate)),
        ("a-key", path(&certificates.a.key)),
        ("a-name", certificates.a.name.clone()),
        ("b-certificate", path(&certificates.b.certificate)),
        ("b-key", path(&certificates.b.key)),
        ("b-name", certificates.b.name.clone()),
    ];
    let module = stream_module();
    let side = |name: &str, [http, stream]: [&str; 2], host: &Host| {
        let whole = match &module {
            Some(module) => format!("load_module {};\n{http}\n{stream}", module.display()),
            None => http.to_owned(),
        };
        let prefix = folder.join(name);
        std::fs::create_dir_all(&prefix)
            .with_context(|| format!("cannot make {}", prefix.display()))?;
        let mut values = values.clone();
        values.extend([("folder", path(&prefix)), ("user", user().to_owned())]);
        let config = folder.join(format!("nginx-{name}.conf"));
        template::write(&config, &whole, &values)?;
        let program = process::find("nginx").context("nginx is missing")?;
        let mut command = host.place(setting.cpus.proxies).command(&program);
        command.arg("-p").arg(&prefix).arg("-c").arg(&config);
        command.args(["-e", "stderr"]);
        let log = folder.join(format!("nginx-{name}.log"));
        Process::start(&format!("nginx {name}"), command, &log)
    };
    let b = side("b", B, &network.b)?;
    let a = side("a", A, &network.a)?;
    Ok(Pair {
        proxies: Some([a, b]),
        entrances: Entrances {
            http1: entry,
            http2: entry_http2,
            tcp: match module {
                Some(_) => Ok(entry_tcp),
                None => Err(NO_STREAM.to_owned()),
            },
        },
        handshakes: Some(Handshakes {
            to: inner,
            server_name: certificates.b.name.clone(),
            alpn: "http/1.1",
            certificate: certificates.a.certificate.clone(),
            key: certificates.a.key.clone(),
        }),
        others: Vec::new(),
    })
}

/// Debian packs TCP proxying apart.
fn stream_module() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/lib/nginx/modules/ngx_stream_module.so");
    path.is_file().then_some(path)
}

/// A worker of root would become somebody else, who may not enter the run's folder.
fn user() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    }
}

const A: [&str; 2] = [
    include_str!("../../templates/nginx-a.conf"),
    include_str!("../../templates/nginx-a-tcp.conf"),
];
const B: [&str; 2] = [
    include_str!("../../templates/nginx-b.conf"),
    include_str!("../../templates/nginx-b-tcp.conf"),
];
const NO_STREAM: &str = "nginx has no stream module: apt-get install libnginx-mod-stream";
