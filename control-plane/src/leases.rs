//! How long endpoints stay without their sidecar.
//!
//! A registration stream holds its lease. When the stream is lost the endpoints stay for a grace period, and so do those
//! that a restarted control plane finds in its store. Invariant: endpoints of a held lease are never removed here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::audit::Event;
use crate::hub::Hub;
use crate::store::{OwnedEndpoints, StoreError};
use crate::streams;

/// All leases; clones share them.
#[derive(Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

struct Shared {
    grace: Duration,
    leases: Mutex<HashMap<LeaseKey, Lease>>,
    /// A deadline came that may be the next.
    has_new_deadline: Notify,
}

/// A sidecar: its identity and its instance.
pub type LeaseKey = (String, String);

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// Who holds it or held it last; 0: a stream of an earlier process.
    stream: u64,
    ends: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Instant,
    /// The same for people.
    shown: Timestamp,
}

/// A lease that is over, as it was when that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Over {
    key: LeaseKey,
    stream: u64,
}

/// A stream's hold on its lease. Dropped, the grace period begins.
pub struct Hold {
    shared: Arc<Shared>,
    key: LeaseKey,
    stream: u64,
}

/// Why a lease cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {INSTANCES_PER_IDENTITY} instances of one identity")]
pub struct TooManyInstances;

impl Leases {
    /// `found` are endpoints from before this process; their sidecars have some time to come back.
    pub fn new(grace: Duration, found: &[OwnedEndpoints]) -> Self {
        let end = End::after(grace.max(RESTART_GRACE));
        let lease = Lease {
            stream: 0,
            ends: Some(end),
        };
        let leases = found
            .iter()
            .map(|owned| ((owned.owner.clone(), owned.instance.clone()), lease))
            .collect();
        Self {
            shared: Arc::new(Shared {
                grace,
                leases: Mutex::new(leases),
                has_new_deadline: Notify::new(),
            }),
        }
    }

    pub fn grace(&self) -> Duration {
        self.shared.grace
    }

    pub fn hold(&self, owner: &str, instance: &str) -> Result<Hold, TooManyInstances> {
        let key = (owner.to_owned(), instance.to_owned());
        let mut leases = self.shared.lock();
        let instances = || leases.keys().filter(|(known, _)| known == owner).count();
        if !leases.contains_key(&key) && instances() >= INSTANCES_PER_IDENTITY {
            return Err(TooManyInstances);
        }
        let stream = streams::next();
        leases.insert(key.clone(), Lease { stream, ends: None });
        drop(leases);
        Ok(Hold {
            shared: Arc::clone(&self.shared),
            key,
            stream,
        })
    }

    /// When a lease ends; `None`: it is held.
    pub fn expires(&self, owner: &str, instance: &str) -> Option<Timestamp> {
        let leases = self.shared.lock();
        let lease = leases.get(&(owner.to_owned(), instance.to_owned()))?;
        lease.ends.map(|end| end.shown)
    }

    /// What is over, and when the next one will be.
    fn over(&self, now: Instant) -> (Vec<Over>, Option<Instant>) {
        let leases = self.shared.lock();
        let ends = leases
            .iter()
            .filter_map(|(key, lease)| lease.ends.map(|end| (key, lease.stream, end.at)));
        let (over, ahead): (Vec<_>, Vec<_>) = ends.partition(|(.., at)| *at <= now);
        let next = ahead.into_iter().map(|(.., at)| at).min();
        let over = over.into_iter().map(|(key, stream, _)| Over {
            key: key.clone(),
            stream,
        });
        (over.collect(), next)
    }

    /// Whether nobody took the lease since: a newer stream that ended too has a grace period of its own.
    fn is_still(&self, over: &Over) -> bool {
        is_still(&self.shared.lock(), over)
    }

    fn forget(&self, ended: &[Over]) {
        let mut leases = self.shared.lock();
        for over in ended {
            if is_still(&leases, over) {
                leases.remove(&over.key);
            }
        }
    }
}

fn is_still(leases: &HashMap<LeaseKey, Lease>, over: &Over) -> bool {
    leases
        .get(&over.key)
        .is_some_and(|lease| lease.stream == over.stream && lease.ends.is_some())
}

impl Hold {
    /// Whether no newer stream of the same sidecar has taken over.
    pub fn is_current(&self) -> bool {
        self.shared
            .lock()
            .get(&self.key)
            .is_some_and(|lease| lease.stream == self.stream)
    }

    /// Gives the lease up at once: the endpoints are gone already.
    pub fn leave(&self) {
        let mut leases = self.shared.lock();
        if leases
            .get(&self.key)
            .is_some_and(|lease| lease.stream == self.stream)
        {
            leases.remove(&self.key);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        {
            let mut leases = self.shared.lock();
            let Some(lease) = leases
                .get_mut(&self.key)
                .filter(|lease| lease.stream == self.stream)
            else {
                return;
            };
            lease.ends = Some(End::after(self.shared.grace));
        }
        self.shared.has_new_deadline.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseKey, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn after(grace: Duration) -> Self {
        Self {
            at: Instant::now() + grace,
            shown: Timestamp::now() + grace,
        }
    }
}

/// Removes the endpoints of leases that are over, until the control plane drains: then its successor decides.
pub(crate) async fn expire(hub: Arc<Hub>) -> Result<(), StoreError> {
    let draining = hub.tasks.draining();
    loop {
        let (over, next) = hub.leases.over(Instant::now());
        if !over.is_empty() {
            remove(&hub, over).await?;
            continue;
        }
        let next = next.unwrap_or_else(|| Instant::now() + LONGEST_SLEEP);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = hub.leases.shared.has_new_deadline.notified() => {}
            () = draining.cancelled() => return Ok(()),
        }
    }
}

async fn remove(hub: &Hub, over: Vec<Over>) -> Result<(), StoreError> {
    let leases = hub.leases.clone();
    let removed = hub
        .store
        .write(move |tx| -> Result<_, StoreError> {
            // A sidecar that came back meanwhile writes after it took its lease, so it is seen here.
            let over: Vec<Over> = over
                .into_iter()
                .filter(|over| leases.is_still(over))
                .collect();
            for Over {
                key: (owner, instance),
                ..
            } in &over
            {
                tx.put_endpoints(instance, owner, Vec::new())?;
            }
            Ok(over)
        })
        .await?;
    hub.leases.forget(&removed.value);
    for Over {
        key: (owner, instance),
        ..
    } in &removed.value
    {
        tracing::info!(%owner, %instance, "a lease is over and its endpoints are gone");
        let event = Event {
            actor: owner.clone(),
            action: "lease.end",
            subject: instance.clone(),
            detail: "not heard of for the grace period: offers nothing any more".to_owned(),
        };
        hub.auditor.done(event).await;
    }
    Ok(())
}

/// What a restarted control plane gives the sidecars of its predecessor.
const RESTART_GRACE: Duration = Duration::from_secs(30);
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const INSTANCES_PER_IDENTITY: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_held_lease_is_never_over() {
        let leases = Leases::new(GRACE, &[]);
        let _hold = leases.hold("web", "web-1").unwrap();
        assert!(leases.over(Instant::now() + GRACE * 100).0.is_empty());
        assert_eq!(leases.expires("web", "web-1"), None);
    }

    #[test]
    fn a_lost_stream_leaves_a_grace_period() {
        let leases = Leases::new(GRACE, &[]);
        drop(leases.hold("web", "web-1").unwrap());
        let now = Instant::now();
        let (over, next) = leases.over(now);
        assert!(over.is_empty() && next.is_some_and(|next| next <= now + GRACE));
        let (over, _) = leases.over(now + GRACE);
        assert_eq!(over[0].key, ("web".to_owned(), "web-1".to_owned()));
        assert!(leases.expires("web", "web-1").is_some());
    }

    #[test]
    fn an_old_stream_that_ends_late_does_not_end_the_new_one() {
        let leases = Leases::new(GRACE, &[]);
        let old = leases.hold("web", "web-1").unwrap();
        let new = leases.hold("web", "web-1").unwrap();
        assert!(!old.is_current() && new.is_current());
        drop(old);
        assert!(leases.over(Instant::now() + GRACE).0.is_empty());
    }

    #[test]
    fn an_old_stream_that_ends_after_its_lease_was_left_does_not_end_a_newer_one() {
        let leases = Leases::new(GRACE, &[]);
        let old = leases.hold("web", "web-1").unwrap();
        leases.hold("web", "web-1").unwrap().leave();
        let new = leases.hold("web", "web-1").unwrap();
        assert!(!old.is_current() && new.is_current());
        drop(old);
        assert_eq!(leases.expires("web", "web-1"), None);
    }

    #[test]
    fn a_lease_that_was_taken_and_lost_again_meanwhile_keeps_its_own_grace_period() {
        let leases = Leases::new(GRACE, &[]);
        drop(leases.hold("web", "web-1").unwrap());
        let (over, _) = leases.over(Instant::now() + GRACE);
        drop(leases.hold("web", "web-1").unwrap());
        assert!(!leases.is_still(&over[0]));
        leases.forget(&over);
        assert!(leases.expires("web", "web-1").is_some());
    }

    #[test]
    fn endpoints_from_before_a_restart_have_time_to_come_back() {
        let found = OwnedEndpoints {
            owner: "web".into(),
            instance: "web-1".into(),
            endpoints: Vec::new(),
        };
        let leases = Leases::new(Duration::from_secs(1), &[found]);
        let now = Instant::now();
        assert!(leases.over(now + Duration::from_secs(29)).0.is_empty());
        assert_eq!(leases.over(now + Duration::from_secs(30)).0.len(), 1);
    }
}
