//! One peer's turn in a round: its pair is started, put through every workload, and ended.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use crate::load::{Group, Kind, Order, Outcome, memory};
use crate::measured::{Figure, Metric};
use crate::options::{Named as _, Plan};
use crate::peers::{Pair, Peer, Setting};
use crate::process::own_path;
use crate::report::{self, Cell, Results};
use crate::workloads::{Workload, count, mebibytes};

/// One peer in one round.
pub(crate) struct Turn<'a> {
    pub plan: &'a Plan,
    pub setting: &'a Setting<'a>,
    pub peer: Peer,
    pub folder: &'a Path,
}

impl Turn<'_> {
    /// Every workload once. What fails marks its cell and nothing else.
    pub(crate) async fn run(&self, results: &mut Results) {
        let mut pair: anyhow::Result<Pair> = Err(anyhow!("not started"));
        for workload in &self.plan.workloads {
            // A pair that did not survive a workload is started anew for the next one.
            let runs = pair.as_mut().is_ok_and(|pair| pair.check().is_ok());
            if !runs {
                drop(std::mem::replace(&mut pair, Err(anyhow!("stopped"))));
                pair = Box::pin(self.peer.start(self.setting, self.folder)).await;
            }
            let cell = match &mut pair {
                Ok(pair) => self.cell(pair, *workload).await,
                Err(error) => Cell::Failed(format!("the pair does not start: {error:#}")),
            };
            if let Some(why) = cell.trouble() {
                report::complain(&format!("{} {}: {why}", self.peer.name(), workload.name()));
            }
            results.add(*workload, self.peer, cell);
        }
    }

    async fn cell(&self, pair: &mut Pair, workload: Workload) -> Cell {
        let (kind, to) = match workload.load(pair) {
            Ok(load) => load,
            Err(why) => return Cell::Absent(why),
        };
        let loopback = &self.setting.network.loopback;
        if workload.is_lossy() && loopback.is_some() {
            return Cell::Absent("only between network namespaces are packets dropped".to_owned());
        }
        let mut figures = Vec::new();
        if workload == Workload::Idle1000 {
            figures = idle_memory(pair);
        }
        let order = Order {
            kind,
            to,
            times: workload.times(&self.plan.times),
            watch: match workload {
                // The client of the handshakes is not the other proxy.
                Workload::HandshakesHybrid | Workload::HandshakesX25519 => pair.pids().split_off(1),
                _ => pair.pids(),
            },
        };
        match self.conditioned(workload, &order).await {
            Ok((outcome, _)) if never_worked(&order.kind, &outcome) => Cell::Absent(format!(
                "the peer does not offer this key exchange ({})",
                outcome.first_failure.unwrap_or_default()
            )),
            Ok((outcome, dropped)) => {
                figures.extend(workload.figures(&outcome));
                figures.extend(dropped);
                Cell::Measured {
                    figures,
                    failure: outcome.first_failure,
                }
            }
            Err(error) => match pair.check() {
                Ok(()) => Cell::Failed(format!("{error:#}")),
                Err(ended) => Cell::Failed(format!("{ended:#}; {error:#}")),
            },
        }
    }

    /// Sends under what the workload does to the network, which ends with it; what was lost makes a figure.
    async fn conditioned(
        &self,
        workload: Workload,
        order: &Order,
    ) -> anyhow::Result<(Outcome, Option<Figure>)> {
        if !workload.is_lossy() {
            return Ok((self.send(order).await?, None));
        }
        let loss = self.setting.network.lose()?;
        let outcome = self.send(order).await?;
        let dropped = loss.dropped()?;
        if dropped == 0 {
            bail!("no packet was dropped: the proxies do not speak over the link");
        }
        let figure = Figure {
            metric: Metric::PacketsDropped,
            value: count(dropped),
        };
        Ok((outcome, Some(figure)))
    }

    /// Runs the load generator on the client's side.
    async fn send(&self, order: &Order) -> anyhow::Result<Outcome> {
        let place = self.setting.network.a.place(self.setting.cpus.load);
        let mut command = place.command(&own_path()?);
        command.arg("load").arg(serde_json::to_string(order)?);
        let child = tokio::process::Command::from(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("the load cannot be started")?;
        let limit = order.times.warm_up + order.times.measured + SLACK;
        let output = tokio::time::timeout(limit, child.wait_with_output())
            .await
            .with_context(|| format!("the load did not end within {limit:?}"))?
            .context("the load cannot be awaited")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!(
                "the load ended with {}: {}",
                output.status,
                complaint.trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("the load told no outcome")
    }
}

/// No handshake at all with a group that not everybody knows.
fn never_worked(kind: &Kind, outcome: &Outcome) -> bool {
    let hybrid = matches!(kind, Kind::Handshakes(with) if with.group == Group::Hybrid);
    let refused = outcome
        .first_failure
        .as_ref()
        .is_some_and(|failure| failure.contains("HandshakeFailure"));
    hybrid && outcome.done == 0 && refused
}

/// Memory before anything but the first request went through.
fn idle_memory(pair: &Pair) -> Vec<Figure> {
    [Metric::IdleRssA, Metric::IdleRssB]
        .into_iter()
        .zip(pair.pids())
        .filter_map(|(metric, pid)| {
            let value = mebibytes(memory(pid).ok()?.rss);
            Some(Figure { metric, value })
        })
        .collect()
}

/// What a workload may take beyond its time.
const SLACK: Duration = Duration::from_secs(30);
