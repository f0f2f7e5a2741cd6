//! A run from beginning to end: what there is, the network, the backend, the rounds, the report.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::certificates;
use crate::folder::Folder;
use crate::network::Network;
use crate::options::{Named as _, Options, Plan};
use crate::peers::{Backend, Cpus, Peer, Setting};
use crate::process::{Process, own_path};
use crate::report::{self, Results};
use crate::turn::Turn;

/// Runs it; a signal ends it as an error does: everything that was started is dropped, and so ended.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let plan = options.plan()?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    tokio::select! {
        ran = Box::pin(conduct(&plan)) => ran,
        _ = interrupt.recv() => bail!("interrupted; everything that was started has been ended"),
        _ = terminate.recv() => bail!("told to end; everything that was started has been ended"),
    }
}

async fn conduct(plan: &Plan) -> anyhow::Result<ExitCode> {
    let (peers, versions) = available(plan)?;
    let folder = Folder::make(plan.keep)?;
    let certificates = certificates::make(folder.path())?;
    let network = Network::make();
    let cpus = cpus();
    let (backend, _process) = start_backend(&network, cpus, folder.path())?;
    let setting = Setting {
        network: &network,
        certificates: &certificates,
        backend,
        binaries: &plan.binaries,
        cpus,
    };
    let mut results = Results::new(report::Conditions::now(plan, &network, cpus, versions));
    for line in &results.conditions.warnings {
        report::complain(line);
    }
    for round in 0..plan.rounds {
        // The first peer of a round finds another machine than the last one: they take turns at being first.
        let first = round % peers.len().max(1);
        for peer in peers.iter().cycle().skip(first).take(peers.len()) {
            let name = format!("{}-{round}", peer.name());
            let folder = folder.path().join(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            report::progress(&format!(
                "round {}/{}: {}",
                round + 1,
                plan.rounds,
                peer.name()
            ));
            let turn = Turn {
                plan,
                setting: &setting,
                peer: *peer,
                folder: &folder,
            };
            turn.run(&mut results).await;
        }
    }
    results.conditions.finish();
    report::publish(&results, &plan.out)?;
    Ok(if results.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Those of the wanted peers that there are, and what is known of each; those that are missing are told with how to get them.
fn available(plan: &Plan) -> anyhow::Result<(Vec<Peer>, Vec<String>)> {
    let mut there = Vec::new();
    let mut versions = Vec::new();
    for peer in &plan.peers {
        let version = peer.version(&plan.binaries);
        let line = match &version {
            Ok(version) => {
                there.push(*peer);
                format!("{}: {version}", peer.program())
            }
            Err(missing) => format!("{}: left out: {missing}", peer.program()),
        };
        if !versions.contains(&line) {
            report::progress(&line);
            versions.push(line);
        }
    }
    if there.is_empty() {
        bail!("there is nobody to measure");
    }
    Ok((there, versions))
}

/// The proxies on the first CPU, the load and the backend on the second.
fn cpus() -> Cpus {
    match std::thread::available_parallelism() {
        Ok(count) if count.get() >= 2 => Cpus {
            proxies: Some(0),
            load: Some(1),
        },
        _ => Cpus::default(),
    }
}

fn start_backend(
    network: &Network,
    cpus: Cpus,
    folder: &Path,
) -> anyhow::Result<(Backend, Process)> {
    let backend = Backend {
        http: network.local()?,
        tcp: network.local()?,
    };
    let mut command = network.b.place(cpus.load).command(&own_path()?);
    command.arg("backend");
    for (flag, address) in [("--http", backend.http), ("--tcp", backend.tcp)] {
        // In a namespace, the client's side must reach it too: without a proxy it is called from there.
        let port = address.port();
        let listen = match network.loopback {
            None => format!("0.0.0.0:{port}"),
            Some(_) => address.to_string(),
        };
        command.arg(flag).arg(listen);
    }
    let process = Process::start("the backend", command, &folder.join("backend.log"))?;
    Ok((backend, process))
}
