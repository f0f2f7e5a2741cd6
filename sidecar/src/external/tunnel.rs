//! Connections of an upstream listener to an opaque port of an external service: bytes, or TLS whose server name says whom they are for.

use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{HostName, Protocol};
use weft_identity::ServicePort;
use weft_policy::Reason;

use super::{Destination, Hello, MISDIRECTED_ALERT, Undialled, admit_address, admit_host, port};
use crate::connections::{Carries, Live, Registered};
use crate::enforce::{self, Permit, Refusal, Side};
use crate::flows::Judged;
use crate::http1;
use crate::listener::Shared;
use crate::outbound::{record, refuse_connection, refuse_new};
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};

/// Serves one connection of the application.
pub async fn serve(shared: Arc<Shared>, mut side: http1::Side, target: ServicePort) {
    let destination = Arc::new(Destination::default());
    let registered = shared.connections.register(Live {
        side: Side::Client,
        source: shared.config.own_id.clone(),
        peer: None,
        declared: None,
        target: Some(target.clone()),
        carries: Carries::Outside(Arc::clone(&destination)),
    });
    let opening = Opening {
        shared: &shared,
        target: &target,
        destination: &destination,
    };
    let opened = tokio::select! {
        opened = opening.open(&mut side) => opened,
        refusal = registered.cut() => Err(Undialled::Refused(refusal)),
    };
    match opened {
        Ok((permit, upstream)) => {
            shared.metrics.note_learned(&permit);
            let judged = Judged::of(Ok(&permit));
            shared
                .flows
                .connection(&shared.config.own_id, &target, judged);
            let upstream = http1::Side::new(Stream::Tcp(upstream));
            pass(&shared, side, upstream, (&target, &permit), &registered).await;
        }
        Err(Undialled::Refused(refusal)) => {
            refuse_new(&shared, &refusal, &target);
            refuse(side, &refusal).await;
        }
        Err(Undialled::Unresolved(_) | Undialled::Unreachable) => {
            tracing::warn!(%target, "no address of the external service can be reached");
            side.reset();
        }
    }
}

struct Opening<'s> {
    shared: &'s Arc<Shared>,
    target: &'s ServicePort,
    destination: &'s Destination,
}

impl Opening<'_> {
    /// The verdict, the host that is meant, and a connection to it, in this order.
    async fn open(
        &self,
        side: &mut http1::Side,
    ) -> Result<(Permit, tokio::net::TcpStream), Undialled> {
        let permit = self.admit()?;
        let host = self.host(side).await?;
        // What is registered is judged again at each change; what changed before is asked now.
        let _ = self.destination.host.set(host.clone());
        admit_host(&self.shared.current.load(), self.target, &host)?;
        let outside = &self.shared.outside;
        let addresses = outside.addresses(self.target, &host).await?;
        let (stream, address) = outside.connect(&addresses).await?;
        let _ = self.destination.address.set(address);
        admit_address(&self.shared.current.load(), self.target, address)?;
        Ok((permit, stream))
    }

    fn admit(&self) -> Result<Permit, Refusal> {
        let enforced = self.shared.current.load();
        let parties = enforce::Parties {
            side: Side::Client,
            source: &self.shared.config.own_id,
            target: self.target,
        };
        enforce::admit_bytes(&enforced, parties, Timestamp::now())
    }

    async fn host(&self, side: &mut http1::Side) -> Result<HostName, Refusal> {
        let enforced = self.shared.current.load_full();
        let outside = port(&enforced, self.target).ok_or_else(|| Refusal::new(Reason::NoRule))?;
        if outside.port.protocol == Protocol::Tls {
            let hello = Hello::read(side, self.shared.head_limits().time).await;
            return hello.named(|host| outside.external.names(host));
        }
        let only = outside.external.only_host().cloned();
        only.ok_or_else(|| {
            Refusal::new(Reason::UnknownTarget)
                .because("bytes name no host, and the service has no single exact one")
        })
    }
}

async fn pass(
    shared: &Shared,
    side: http1::Side,
    upstream: http1::Side,
    (target, permit): (&ServicePort, &Permit),
    registered: &Registered,
) {
    let _record = record(shared, target, permit);
    let ended = tcp::splice(side, upstream, permit, registered).await;
    match ended {
        tcp::Ended::Cut(refusal) => refuse_connection(shared, &refusal, target),
        // Nobody outside refuses in the mesh's words.
        tcp::Ended::Refused(_)
        | tcp::Ended::Closed(_)
        | tcp::Ended::Idle
        | tcp::Ended::Failed(_) => {
            tracing::debug!(?ended, %target, "a connection to an external service ended");
        }
    }
}

/// A client of TLS is told so in TLS.
async fn refuse(mut side: http1::Side, refusal: &Refusal) {
    use tokio::io::AsyncWriteExt as _;
    if refusal.reason != Reason::Misdirected {
        return side.reset();
    }
    // Whoever does not read it has no use for it.
    let told = async {
        let _ = side.write_all(MISDIRECTED_ALERT).await;
        let _ = side.shutdown().await;
    };
    let _ = tokio::time::timeout(TELLING_LIMIT, told).await;
}

const TELLING_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
