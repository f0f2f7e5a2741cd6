//! Readiness is set by whoever knows; nothing infers it.

use tokio::sync::watch;

/// Whether the process is ready for work; clones share it. Starts as not ready.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(false),
        }
    }
}

impl Readiness {
    /// Says whether the process is ready from now on.
    pub fn set(&self, ready: bool) {
        self.state.send_replace(ready);
    }

    /// What was set last.
    pub fn is_ready(&self) -> bool {
        *self.state.borrow()
    }

    /// Tells every change; its first value is what was set last.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.state.subscribe()
    }

    /// Resolves once the process is ready.
    pub async fn ready(&self) {
        // `self` holds a sender, so the channel cannot close.
        let _ = self.state.subscribe().wait_for(|ready| *ready).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_is_what_was_set_last() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready());
        readiness.clone().set(true);
        readiness.ready().await;
        assert!(readiness.is_ready());
        readiness.set(false);
        assert!(!readiness.is_ready());
    }
}
