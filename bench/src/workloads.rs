//! The columns of the table: what load each workload is, and which figures its outcome gives.

use crate::load::{Group, Handshakes, Kind, Open, Outcome, Readers, Watched};
use crate::measured::{Figure, Metric};
use crate::options::{Named, Times};
use crate::peers::{self, Pair, TINY};

/// One kind of cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Workload {
    Idle1000,
    Http1By32,
    Open1000,
    Body1k,
    Body64k,
    Http2By8x32,
    TcpBulk,
    Connect,
    HandshakesHybrid,
    HandshakesX25519,
    Mixed,
    MixedStalled,
    MixedLoss,
}

/// Every workload, in the order in which a pair is put through them: memory first, while the processes are fresh.
pub(crate) const ALL: &[Workload] = &[
    Workload::Idle1000,
    Workload::Http1By32,
    Workload::Open1000,
    Workload::Body1k,
    Workload::Body64k,
    Workload::Http2By8x32,
    Workload::TcpBulk,
    Workload::Connect,
    Workload::HandshakesHybrid,
    Workload::HandshakesX25519,
    Workload::Mixed,
    Workload::MixedStalled,
    Workload::MixedLoss,
];

impl Named for Workload {
    fn name(&self) -> &'static str {
        match self {
            Self::Idle1000 => "idle-1000",
            Self::Http1By32 => "h1-32",
            Self::Open1000 => "open-1000",
            Self::Body1k => "h1-1k",
            Self::Body64k => "h1-64k",
            Self::Http2By8x32 => "h2-8x32",
            Self::TcpBulk => "tcp-bulk",
            Self::Connect => "connect",
            Self::HandshakesHybrid => "handshakes-hybrid",
            Self::HandshakesX25519 => "handshakes-x25519",
            Self::Mixed => "mixed",
            Self::MixedStalled => "mixed-stalled",
            Self::MixedLoss => "mixed-loss",
        }
    }
}

impl Workload {
    /// In a sentence, for the report.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Idle1000 => {
                "1,000 idle client connections through the pair, after one request each"
            }
            Self::Http1By32 => "HTTP/1.1, 32 connections in a closed loop, tiny GET",
            Self::Open1000 => {
                "1,000 requests/s in an open loop over 32 connections, latency from the moment a request was due"
            }
            Self::Body1k => "HTTP/1.1, 32 connections in a closed loop, responses of 1 KiB",
            Self::Body64k => "HTTP/1.1, 32 connections in a closed loop, responses of 64 KiB",
            Self::Http2By8x32 => {
                "HTTP/2, 8 connections with 32 streams each in a closed loop, POST of 32 bytes"
            }
            Self::TcpBulk => "one TCP stream, from the backend to the client",
            Self::Connect => "a new client connection for each request, 32 at a time",
            Self::HandshakesHybrid => {
                "full TLS handshakes with the backend's proxy, X25519MLKEM768, 16 at a time"
            }
            Self::HandshakesX25519 => {
                "full TLS handshakes with the backend's proxy, X25519, 16 at a time"
            }
            Self::Mixed => {
                "1,000 small requests/s beside two downloads of 64 MB, each read at 40 MB/s; latencies of the small ones"
            }
            Self::MixedStalled => {
                "1,000 small requests/s beside two downloads of 64 MB whose readers stop after 8 MB; latencies of the small ones"
            }
            Self::MixedLoss => {
                "As `mixed`, with 1 % of the packets between the proxies dropped at random in both directions"
            }
        }
    }

    /// The load for a pair, and where it goes; or why this pair has no such cell.
    pub(crate) fn load(self, pair: &Pair) -> Result<(Kind, std::net::SocketAddr), String> {
        let target = TINY.to_owned();
        let closed = |target: &str| Kind::Http1 {
            connections: CONNECTIONS,
            target: target.to_owned(),
        };
        let entrances = &pair.entrances;
        let kind = match self {
            Self::Idle1000 => Kind::Idle {
                connections: IDLE,
                target,
            },
            Self::Http1By32 => closed(TINY),
            Self::Open1000 => Kind::Open(small()),
            Self::Body1k => closed("/bench/size/1024"),
            Self::Body64k => closed("/bench/size/65536"),
            Self::Http2By8x32 => {
                let kind = Kind::Http2 {
                    connections: 8,
                    streams: 32,
                    target,
                };
                return Ok((kind, entrances.http2));
            }
            Self::TcpBulk => return Ok((Kind::Tcp, entrances.tcp.clone()?)),
            Self::Connect => Kind::Connect {
                connections: CONNECTIONS,
                target,
            },
            Self::HandshakesHybrid | Self::HandshakesX25519 => {
                let handshakes = pair.handshakes.as_ref().ok_or("there is no TLS")?;
                return Ok((self.handshakes(handshakes), handshakes.to));
            }
            Self::Mixed | Self::MixedLoss => mixed(None),
            Self::MixedStalled => mixed(Some(8_000_000)),
        };
        Ok((kind, entrances.http1))
    }

    /// Whether packets are lost meanwhile.
    pub(crate) fn is_lossy(self) -> bool {
        self == Self::MixedLoss
    }

    fn handshakes(self, with: &peers::Handshakes) -> Kind {
        Kind::Handshakes(Handshakes {
            connections: 16,
            group: match self {
                Self::HandshakesHybrid => Group::Hybrid,
                _ => Group::X25519,
            },
            certificate: with.certificate.clone(),
            key: with.key.clone(),
            server_name: with.server_name.clone(),
            alpn: with.alpn.to_owned(),
        })
    }

    /// How long it runs.
    pub(crate) fn times(self, times: &Times) -> crate::load::Times {
        crate::load::Times {
            warm_up: match self {
                // 256 requests in flight are as many handshakes where HTTP/1.1 follows.
                Self::Http2By8x32 => times.warm_up * 3,
                _ => times.warm_up,
            },
            measured: match self {
                Self::Mixed | Self::MixedStalled | Self::MixedLoss => times.mixed,
                _ => times.measured,
            },
        }
    }

    /// The figures of one outcome.
    pub(crate) fn figures(self, outcome: &Outcome) -> Vec<Figure> {
        let mut figures = Figures(Vec::new());
        let done = count(outcome.done);
        let rate = done / outcome.seconds;
        match self {
            Self::Idle1000 => figures.idle(outcome),
            Self::Http1By32 | Self::Body1k | Self::Http2By8x32 | Self::Open1000 => {
                figures.add(Metric::RequestsPerSecond, rate);
                figures.cpu_micros(Metric::CpuMicrosPerRequest, outcome);
                figures.latency(outcome);
                figures.memory(outcome);
            }
            Self::Body64k => {
                figures.add(Metric::RequestsPerSecond, rate);
                figures.cpu_micros(Metric::CpuMicrosPerRequest, outcome);
                figures.cpu_per_gigabyte(outcome);
                figures.latency(outcome);
                figures.memory(outcome);
            }
            Self::TcpBulk => {
                let gigabits = count(outcome.bytes) * 8.0 / 1e9;
                figures.add(Metric::GigabitsPerSecond, gigabits / outcome.seconds);
                figures.cpu_per_gigabyte(outcome);
                figures.memory(outcome);
            }
            Self::Connect => {
                figures.add(Metric::ConnectionsPerSecond, rate);
                figures.cpu_micros(Metric::CpuMicrosPerConnection, outcome);
                figures.latency(outcome);
                figures.memory(outcome);
            }
            Self::HandshakesHybrid | Self::HandshakesX25519 => {
                figures.add(Metric::HandshakesPerSecond, rate);
                figures.cpu_micros(Metric::CpuMicrosPerHandshake, outcome);
                figures.latency(outcome);
            }
            Self::Mixed | Self::MixedStalled | Self::MixedLoss => {
                figures.add(Metric::RequestsPerSecond, rate);
                figures.latency(outcome);
                figures.growth(outcome);
            }
        }
        figures.add(Metric::Failed, count(outcome.failed));
        figures.0
    }
}

/// The small requests at a fixed rate.
fn small() -> Open {
    Open {
        connections: CONNECTIONS,
        rate: RATE,
        target: TINY.to_owned(),
    }
}

/// The small requests beside downloads.
fn mixed(stops_after: Option<u64>) -> Kind {
    Kind::Mixed {
        small: small(),
        readers: Readers {
            count: 2,
            target: "/bench/size/64000000".to_owned(),
            bytes_per_second: 40_000_000,
            stops_after,
        },
    }
}

struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, metric: Metric, value: f64) {
        if value.is_finite() {
            self.0.push(Figure { metric, value });
        }
    }

    fn latency(&mut self, outcome: &Outcome) {
        let latency = outcome.latency;
        self.add(Metric::P50Micros, latency.p50.into());
        self.add(Metric::P99Micros, latency.p99.into());
        self.add(Metric::P999Micros, latency.p999.into());
    }

    /// CPU time for each thing that was done.
    fn cpu_micros(&mut self, metric: Metric, outcome: &Outcome) {
        if !outcome.watched.is_empty() {
            self.add(metric, cpu(outcome) * 1e6 / count(outcome.done));
        }
    }

    fn cpu_per_gigabyte(&mut self, outcome: &Outcome) {
        if !outcome.watched.is_empty() {
            self.add(
                Metric::CpuSecondsPerGigabyte,
                cpu(outcome) * 1e9 / count(outcome.bytes),
            );
        }
    }

    fn memory(&mut self, outcome: &Outcome) {
        if let [a, b] = outcome.watched.as_slice() {
            self.add(Metric::RssA, mebibytes(a.after.rss));
            self.add(Metric::RssB, mebibytes(b.after.rss));
            self.peaks(a, b);
        }
    }

    fn growth(&mut self, outcome: &Outcome) {
        if let [a, b] = outcome.watched.as_slice() {
            let growth =
                |side: &Watched| mebibytes(side.after.peak.saturating_sub(side.at_rest.rss));
            self.add(Metric::RssGrowthA, growth(a));
            self.add(Metric::RssGrowthB, growth(b));
            self.peaks(a, b);
        }
    }

    fn peaks(&mut self, a: &Watched, b: &Watched) {
        self.add(Metric::PeakRssA, mebibytes(a.after.peak));
        self.add(Metric::PeakRssB, mebibytes(b.after.peak));
    }

    fn idle(&mut self, outcome: &Outcome) {
        if let [a, b] = outcome.watched.as_slice() {
            let grown = [a, b].map(|side| side.after.rss.saturating_sub(side.at_rest.rss));
            let grown: u64 = grown.iter().sum();
            let each = count(grown) / count(outcome.done);
            self.add(Metric::BytesPerConnection, each);
            self.add(Metric::RssA, mebibytes(a.after.rss));
            self.add(Metric::RssB, mebibytes(b.after.rss));
        }
    }
}

fn cpu(outcome: &Outcome) -> f64 {
    outcome
        .watched
        .iter()
        .map(|side| side.cpu.as_secs_f64())
        .sum()
}

/// Counts here stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}

/// Bytes as MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    count(bytes) / (1024.0 * 1024.0)
}

const CONNECTIONS: usize = 32;
const RATE: u32 = 1000;
const IDLE: usize = 1000;
