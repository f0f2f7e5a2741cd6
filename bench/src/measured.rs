//! What one cell of the table measured: named figures, with a unit and with the direction that is better.

use serde::{Deserialize, Serialize};

/// A figure of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub metric: Metric,
    pub value: f64,
}

/// What a figure tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Metric {
    RequestsPerSecond,
    ConnectionsPerSecond,
    HandshakesPerSecond,
    GigabitsPerSecond,
    CpuMicrosPerRequest,
    CpuMicrosPerConnection,
    CpuMicrosPerHandshake,
    CpuSecondsPerGigabyte,
    P50Micros,
    P99Micros,
    P999Micros,
    BytesPerConnection,
    IdleRssA,
    IdleRssB,
    RssA,
    RssB,
    PeakRssA,
    PeakRssB,
    RssGrowthA,
    RssGrowthB,
    PacketsDropped,
    Failed,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Metric {
    /// Its column's title, with the unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "req/s",
            Self::ConnectionsPerSecond => "connections/s",
            Self::HandshakesPerSecond => "handshakes/s",
            Self::GigabitsPerSecond => "Gbit/s",
            Self::CpuMicrosPerRequest => "CPU µs/request A+B",
            Self::CpuMicrosPerConnection => "CPU µs/connection A+B",
            Self::CpuMicrosPerHandshake => "CPU µs/handshake B",
            Self::CpuSecondsPerGigabyte => "CPU s/GB A+B",
            Self::P50Micros => "p50 µs",
            Self::P99Micros => "p99 µs",
            Self::P999Micros => "p99.9 µs",
            Self::BytesPerConnection => "bytes/connection A+B",
            Self::IdleRssA => "idle RSS A MiB",
            Self::IdleRssB => "idle RSS B MiB",
            Self::RssA => "RSS A MiB",
            Self::RssB => "RSS B MiB",
            Self::PeakRssA => "peak RSS A MiB",
            Self::PeakRssB => "peak RSS B MiB",
            Self::RssGrowthA => "RSS growth A MiB",
            Self::RssGrowthB => "RSS growth B MiB",
            Self::PacketsDropped => "packets dropped",
            Self::Failed => "failed",
        }
    }

    /// Digits behind the point.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::RequestsPerSecond
            | Self::ConnectionsPerSecond
            | Self::HandshakesPerSecond
            | Self::P50Micros
            | Self::P99Micros
            | Self::P999Micros
            | Self::BytesPerConnection
            | Self::PacketsDropped
            | Self::Failed => 0,
            Self::CpuMicrosPerRequest
            | Self::CpuMicrosPerConnection
            | Self::CpuMicrosPerHandshake
            | Self::IdleRssA
            | Self::IdleRssB
            | Self::RssA
            | Self::RssB
            | Self::PeakRssA
            | Self::PeakRssB
            | Self::RssGrowthA
            | Self::RssGrowthB => 1,
            Self::GigabitsPerSecond | Self::CpuSecondsPerGigabyte => 2,
        }
    }

    /// `None` for what makes no ratio: a count of failures or losses, or memory that may as well be 0.
    pub(crate) fn better(self) -> Option<Better> {
        match self {
            Self::RequestsPerSecond
            | Self::ConnectionsPerSecond
            | Self::HandshakesPerSecond
            | Self::GigabitsPerSecond => Some(Better::Higher),
            Self::CpuMicrosPerRequest
            | Self::CpuMicrosPerConnection
            | Self::CpuMicrosPerHandshake
            | Self::CpuSecondsPerGigabyte
            | Self::P50Micros
            | Self::P99Micros
            | Self::P999Micros
            | Self::BytesPerConnection
            | Self::IdleRssA
            | Self::IdleRssB
            | Self::PeakRssA
            | Self::PeakRssB => Some(Better::Lower),
            Self::RssA
            | Self::RssB
            | Self::RssGrowthA
            | Self::RssGrowthB
            | Self::PacketsDropped
            | Self::Failed => None,
        }
    }
}
