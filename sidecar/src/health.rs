//! Asks the application beside this sidecar whether it is well, service by service, as the Service says; without a word of it, an application
//! is healthy while it accepts connections.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use weft_catalog::{Health, Probe};
use weft_identity::{ServiceName, ServicePort};

use crate::Sidecar;
use crate::config::Config;
use crate::registration::Healths;
use crate::view::InboundService;

/// What is asked of one service, and what came of it.
struct Watched {
    question: Question,
    interval: Duration,
    health: Health,
    failures: u32,
    due: Instant,
}

#[derive(Clone, PartialEq, Eq)]
struct Question {
    address: SocketAddr,
    /// The path of an HTTP probe; else a connection is enough.
    path: Option<String>,
}

/// Probes for as long as the process lives, and publishes each change.
pub(crate) async fn probe(
    sidecar: Arc<Sidecar>,
    healths: watch::Sender<Healths>,
) -> Result<(), Infallible> {
    let mut watched: BTreeMap<ServiceName, Watched> = BTreeMap::new();
    let mut changes = sidecar.current.subscribe();
    loop {
        changes.mark_unchanged();
        follow_view(&mut watched, &sidecar);
        ask_due(&mut watched).await;
        publish(&watched, &healths);
        let nap = watched.values().map(|watched| watched.due).min();
        tokio::select! {
            () = tokio::time::sleep_until(nap.unwrap_or_else(|| Instant::now() + LONGEST_NAP)) => {}
            _ = changes.changed() => {}
        }
    }
}

/// Services come and go with the view; one whose question changed is asked anew.
fn follow_view(watched: &mut BTreeMap<ServiceName, Watched>, sidecar: &Sidecar) {
    let enforced = sidecar.current.load();
    watched.retain(|service, _| enforced.inbound.contains_key(service));
    for (service, offered) in &enforced.inbound {
        let Some(fresh) = Watched::of(offered, &sidecar.config) else {
            continue;
        };
        match watched.get_mut(service) {
            Some(known) if known.question == fresh.question => {
                known.interval = fresh.interval;
                known.due = known.due.min(fresh.due + fresh.interval);
            }
            Some(_) | None => {
                watched.insert(service.clone(), fresh);
            }
        }
    }
}

async fn ask_due(watched: &mut BTreeMap<ServiceName, Watched>) {
    let now = Instant::now();
    let due = watched.iter_mut().filter(|(_, watched)| watched.due <= now);
    join_all(due.map(|(service, watched)| async move {
        let is_well = timeout(PROBE_TIMEOUT, ask(&watched.question))
            .await
            .unwrap_or(false);
        let before = watched.health;
        watched.heard(is_well);
        if before != watched.health {
            tracing::info!(%service, health = %watched.health, "the application's health changed");
        }
    }))
    .await;
}

fn publish(watched: &BTreeMap<ServiceName, Watched>, healths: &watch::Sender<Healths>) {
    let now: Healths = watched
        .iter()
        .map(|(service, watched)| (service.clone(), watched.health))
        .collect();
    healths.send_if_modified(|before| {
        let changed = *before != now;
        *before = now;
        changed
    });
}

impl Watched {
    fn of(offered: &InboundService, config: &Config) -> Option<Self> {
        let view = &offered.view;
        let (path, port, interval) = match &view.health {
            Some(check) => {
                let path = match &check.probe {
                    Probe::Http { path, .. } => Some(path.clone()),
                    Probe::Tcp { .. } => None,
                };
                (path, check.probe.port(&view.ports)?, check.interval.get())
            }
            None => (None, view.ports.first()?, DEFAULT_INTERVAL),
        };
        let named = ServicePort {
            service: view.service.clone(),
            port: port.name.clone(),
        };
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.target_port);
        let address = config.apps.get(&named).copied().unwrap_or(own);
        Some(Self {
            question: Question { address, path },
            interval,
            health: Health::Unhealthy,
            failures: 0,
            due: Instant::now(),
        })
    }

    fn heard(&mut self, is_well: bool) {
        self.failures = if is_well {
            0
        } else {
            self.failures.saturating_add(1)
        };
        self.health = match (is_well, self.health) {
            (true, _) => Health::Healthy,
            // One failure may be an accident.
            (false, Health::Healthy) if self.failures < FAILURES_UNTIL_UNHEALTHY => Health::Healthy,
            (false, _) => Health::Unhealthy,
        };
        let wait = match self.health {
            Health::Healthy => self.interval,
            // An application that is starting should be found soon.
            Health::Unhealthy | Health::Draining => self.interval.min(UNHEALTHY_INTERVAL),
        };
        self.due = Instant::now() + wait;
    }
}

async fn ask(question: &Question) -> bool {
    let Ok(mut socket) = TcpStream::connect(question.address).await else {
        return false;
    };
    let Some(path) = &question.path else {
        return true;
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: weft-health\r\nconnection: close\r\n\r\n",
        question.address
    );
    if socket.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let mut status = [0; STATUS_LINE_BYTES];
    match socket.read_exact(&mut status).await {
        Ok(_) => is_success(&status),
        Err(_) => false,
    }
}

/// 2xx and 3xx of HTTP/1 (RFC 9112 §4).
fn is_success(status: &[u8]) -> bool {
    status
        .strip_prefix(b"HTTP/1.")
        .is_some_and(|rest| matches!(rest, [_, b' ', b'2' | b'3', ..]))
}

const STATUS_LINE_BYTES: usize = 12;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const UNHEALTHY_INTERVAL: Duration = Duration::from_millis(200);
const FAILURES_UNTIL_UNHEALTHY: u32 = 2;
const LONGEST_NAP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_and_3xx_of_http_1_are_success() {
        for (status, expected) in [
            ("HTTP/1.1 200", true),
            ("HTTP/1.0 204", true),
            ("HTTP/1.1 302", true),
            ("HTTP/1.1 404", false),
            ("HTTP/1.1 500", false),
            ("HTTP/2.0 200", false),
            ("SSH-2.0-abcd", false),
        ] {
            assert_eq!(is_success(status.as_bytes()), expected, "{status}");
        }
    }
}
