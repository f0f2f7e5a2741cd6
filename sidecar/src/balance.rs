//! Which endpoint takes the next request: the one with the fewest pending among the best that are left, in turn where they are equal.
//!
//! An endpoint that just failed is passed over for a moment, unless nothing else is left. Nothing here is a verdict.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_catalog::{Endpoint, Health};

/// Pending requests and fresh failures by address; clones share them.
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
    failed: HashMap<SocketAddr, Instant>,
}

/// One request at an endpoint; dropping it ends it.
pub struct Pending {
    balance: Balance,
    address: SocketAddr,
}

impl Balance {
    /// Picks an endpoint that was not tried yet for this request.
    pub fn pick<'e>(
        &self,
        endpoints: &'e [Endpoint],
        tried: &[SocketAddr],
    ) -> Option<(&'e Endpoint, Pending)> {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let count = endpoints.len().max(1);
        let mut state = self.state();
        let in_turn = endpoints
            .iter()
            .cycle()
            .skip(turn % count)
            .take(endpoints.len());
        let best = in_turn
            .filter(|endpoint| !tried.contains(&endpoint.address))
            .min_by_key(|endpoint| state.cost(endpoint, Instant::now()))?;
        *state.pending.entry(best.address).or_default() += 1;
        Some((
            best,
            Pending {
                balance: self.clone(),
                address: best.address,
            },
        ))
    }

    /// The endpoint could not be used.
    pub fn failed(&self, address: SocketAddr) {
        let now = Instant::now();
        let mut state = self.state();
        state
            .failed
            .retain(|_, at| now.duration_since(*at) < PASSED_OVER);
        state.failed.insert(address, now);
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
        let mut state = self.balance.state();
        if let Some(pending) = state.pending.get_mut(&self.address) {
            *pending = pending.saturating_sub(1);
            if *pending == 0 {
                state.pending.remove(&self.address);
            }
        }
    }
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
        balance.failed(endpoints[1].address);
        for _ in 0..4 {
            assert_eq!(balance.pick(&endpoints, &[]).unwrap().0.address.port(), 3);
        }
        let tried = [endpoints[2].address];
        assert_eq!(
            balance.pick(&endpoints, &tried).unwrap().0.address.port(),
            1
        );
        let tried = endpoints.each_ref().map(|endpoint| endpoint.address);
        assert!(balance.pick(&endpoints, &tried).is_none());
    }
}
