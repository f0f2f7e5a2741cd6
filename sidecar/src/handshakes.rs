//! How many inbound handshakes run at a time, in all and from one address: whoever connects and says nothing keeps nobody else waiting.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::tls::HANDSHAKE_TIMEOUT;

/// The places for handshakes.
pub struct Handshakes {
    all: Semaphore,
    /// Addresses with a handshake that runs or waits.
    by_source: DashMap<IpAddr, Arc<Semaphore>>,
}

/// The right to shake hands, until it is dropped.
pub struct Place<'h> {
    handshakes: &'h Handshakes,
    source: IpAddr,
    _of_all: SemaphorePermit<'h>,
    of_source: Option<OwnedSemaphorePermit>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            all: Semaphore::new(HANDSHAKES),
            by_source: DashMap::new(),
        }
    }
}

impl Handshakes {
    /// Waits for a place, no longer than a handshake may take; none if there is none by then.
    pub async fn enter(&self, source: IpAddr) -> Option<Place<'_>> {
        let own = Arc::clone(
            &self
                .by_source
                .entry(source)
                .or_insert_with(|| Arc::new(Semaphore::new(HANDSHAKES_PER_SOURCE))),
        );
        let entered = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            // First its own: whoever waits there takes no place of others.
            let of_source = own.acquire_owned().await.ok()?;
            let of_all = self.all.acquire().await.ok()?;
            Some((of_source, of_all))
        })
        .await;
        match entered {
            Ok(Some((of_source, of_all))) => Some(Place {
                handshakes: self,
                source,
                _of_all: of_all,
                of_source: Some(of_source),
            }),
            Ok(None) | Err(_) => {
                self.forget(source);
                None
            }
        }
    }

    fn forget(&self, source: IpAddr) {
        self.by_source
            .remove_if(&source, |_, places| Arc::strong_count(places) == 1);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of_source = None;
        self.handshakes.forget(self.source);
    }
}

const HANDSHAKES: usize = 256;
const HANDSHAKES_PER_SOURCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn row_11_one_address_cannot_take_the_places_of_others() {
        let handshakes = Handshakes::default();
        let (flood, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut held = Vec::new();
        for _ in 0..HANDSHAKES_PER_SOURCE {
            held.push(handshakes.enter(flood).await.expect("a place"));
        }
        let (more, another) = tokio::join!(handshakes.enter(flood), async {
            tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, handshakes.enter(other)).await
        });
        assert!(more.is_none(), "one address has more than its share");
        assert!(another.expect("no wait").is_some());
        held.pop();
        assert!(handshakes.enter(flood).await.is_some());
        held.clear();
        assert!(handshakes.by_source.is_empty(), "nobody is remembered");
    }
}
