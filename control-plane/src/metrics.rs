//! Every metric of the control plane, by name.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clones share the numbers.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) handshakes_failed: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "weft_control_plane_connections",
            "Open connections of the mTLS API",
            self.connections.clone(),
        );
        registry.register(
            "weft_control_plane_handshakes_failed",
            "TLS handshakes that failed",
            self.handshakes_failed.clone(),
        );
    }
}
