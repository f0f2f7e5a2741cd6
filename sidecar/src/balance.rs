//! Which endpoint takes the next request: the one with the fewest pending among the best that are left, in turn where they are equal.
//!
//! An endpoint that just failed is passed over for a moment, unless nothing else is left. Nothing here is a verdict. An endpoint is an
//! address and the identity expected there: of two that share an address, a failure is told of the one alone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_catalog::{Endpoint, Health};
use weft_identity::SpiffeId;

/// Pending requests by address, and fresh failures by endpoint; clones share them.
#[derive(Clone, Default)]
pub struct Balance {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    turn: AtomicUsize,
    state: Mutex<State>,
}

/// Both maps hold only what is pending or failed a moment ago.
#[derive(Default)]
struct State {
    pending: HashMap<SocketAddr, usize>,
    failed: HashMap<SocketAddr, HashMap<SpiffeId, Instant>>,
}

/// One request at an endpoint; dropping it ends it.
pub struct Pending {
    /// None: nobody counts, because there is no choice.
    of: Option<(Balance, SocketAddr)>,
}

impl Balance {
    /// Picks an endpoint that was not tried yet for this request.
    pub fn pick<'e>(
        &self,
        endpoints: &'e [Endpoint],
        tried: &[&Endpoint],
    ) -> Option<(&'e Endpoint, Pending)> {
        if let [only] = endpoints {
            // Nothing to weigh: it is asked whatever is pending there or failed.
            return tried.is_empty().then(|| (only, Pending { of: None }));
        }
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let count = endpoints.len().max(1);
        let mut state = self.state();
        let in_turn = endpoints
            .iter()
            .cycle()
            .skip(turn % count)
            .take(endpoints.len());
        let best = in_turn
            .filter(|endpoint| !tried.iter().any(|tried| is_same(tried, endpoint)))
            .min_by_key(|endpoint| state.cost(endpoint, Instant::now()))?;
        *state.pending.entry(best.address).or_default() += 1;
        Some((
            best,
            Pending {
                of: Some((self.clone(), best.address)),
            },
        ))
    }

    /// The endpoint could not be used.
    pub fn failed(&self, endpoint: &Endpoint) {
        let now = Instant::now();
        let mut state = self.state();
        state.failed.retain(|_, identities| {
            identities.retain(|_, at| now.duration_since(*at) < PASSED_OVER);
            !identities.is_empty()
        });
        let identities = state.failed.entry(endpoint.address).or_default();
        identities.insert(endpoint.identity.clone(), now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the maps is whole before it can panic.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Smaller is better.
    fn cost(&self, endpoint: &Endpoint, now: Instant) -> (u8, bool, usize) {
        let health = match endpoint.health {
            Health::Healthy => 0,
            Health::Unhealthy => 1,
            Health::Draining => 2,
        };
        let failed = self
            .failed
            .get(&endpoint.address)
            .and_then(|identities| identities.get(&endpoint.identity))
            .is_some_and(|at| now.duration_since(*at) < PASSED_OVER);
        // A fresh failure is stronger news than the catalog's.
        (
            health + u8::from(failed),
            failed,
            self.pending.get(&endpoint.address).copied().unwrap_or(0),
        )
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some((balance, address)) = &self.of else {
            return;
        };
        let mut state = balance.state();
        if let Some(pending) = state.pending.get_mut(address) {
            *pending = pending.saturating_sub(1);
            if *pending == 0 {
                state.pending.remove(address);
            }
        }
    }
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    one.address == other.address && one.identity == other.identity
}

/// How long an endpoint that failed is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16, health: Health) -> Endpoint {
        Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            identity: "spiffe://weft.local/ns/shop/sa/api".parse().unwrap(),
            health,
            instance: format!("api-{port}"),
        }
    }

    #[test]
    fn equal_endpoints_take_turns_and_busy_ones_wait() {
        let balance = Balance::default();
        let endpoints = [endpoint(1, Health::Healthy), endpoint(2, Health::Healthy)];
        let (first, held) = balance.pick(&endpoints, &[]).unwrap();
        for _ in 0..5 {
            let (next, _) = balance.pick(&endpoints, &[]).unwrap();
            assert_ne!(next.address, first.address);
        }
        drop(held);
        let picked: std::collections::HashSet<u16> = (0..4)
            .map(|_| balance.pick(&endpoints, &[]).unwrap().0.address.port())
            .collect();
        assert_eq!(picked.len(), 2);
        assert!(balance.state().pending.is_empty());
    }

    #[test]
    fn unhealthy_and_failed_endpoints_are_the_last_choice() {
        let balance = Balance::default();
        let endpoints = [
            endpoint(1, Health::Unhealthy),
            endpoint(2, Health::Healthy),
            endpoint(3, Health::Healthy),
        ];
        balance.failed(&endpoints[1]);
        for _ in 0..4 {
            assert_eq!(balance.pick(&endpoints, &[]).unwrap().0.address.port(), 3);
        }
        let tried = [&endpoints[2]];
        assert_eq!(
            balance.pick(&endpoints, &tried).unwrap().0.address.port(),
            1
        );
        let tried = endpoints.each_ref();
        assert!(balance.pick(&endpoints, &tried).is_none());
    }
    #[test]
    fn of_two_identities_at_one_address_only_the_one_that_failed_is_passed_over() {
        let balance = Balance::default();
        let stale = Endpoint {
            identity: "spiffe://weft.local/ns/shop/sa/gone".parse().unwrap(),
            ..endpoint(1, Health::Healthy)
        };
        let endpoints = [
            stale.clone(),
            endpoint(1, Health::Healthy),
            endpoint(2, Health::Unhealthy),
        ];
        balance.failed(&stale);
        for _ in 0..4 {
            assert_eq!(balance.pick(&endpoints, &[]).unwrap().0, &endpoints[1]);
        }
        let others = &endpoints[..2];
        assert_eq!(balance.pick(others, &[&stale]).unwrap().0, &endpoints[1]);
        assert!(balance.pick(others, &[&others[0], &others[1]]).is_none());
    }
}
