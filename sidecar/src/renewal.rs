//! Replaces the own SVID in time. `identity` says when; the answer is verified before it is believed; one `Arc` is published.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tonic::Status;
use weft_daemon::backoff::random_fraction;
use weft_identity::renewal::{next_renewal, retry_delay};
use weft_wire::v1;
use weft_wire::v1::issuance_client::IssuanceClient;

use crate::Sidecar;
use crate::bootstrap::{self, BootstrapError, chain_of};
use crate::identity::OwnSvid;
use crate::runtime::Runtime;
use crate::snapshot::MacKey;

/// What renewal needs beside the sidecar itself.
pub(crate) struct Renewal {
    pub sidecar: Arc<Sidecar>,
    pub runtime: Runtime,
    /// Derives the snapshot's key from a private key, where snapshots are kept.
    pub mac_key: fn(&OwnSvid) -> Option<MacKey>,
}

#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("the control plane did not renew")]
    Call(#[from] Box<Status>),
    #[error("the renewed SVID is not used")]
    Answer(#[from] BootstrapError),
    #[error("the renewed SVID cannot be kept")]
    Keep(#[from] crate::runtime::RuntimeError),
}

impl Renewal {
    /// Renews for as long as the process lives.
    pub(crate) async fn run(self) -> Result<(), Infallible> {
        let mut attempt = 0;
        loop {
            if attempt == 0 {
                self.wait_until_due().await;
            } else {
                tokio::time::sleep(retry_delay(attempt - 1, random_fraction())).await;
            }
            match self.renew().await {
                Ok(()) => attempt = 0,
                Err(error) => {
                    attempt = attempt.saturating_add(1);
                    self.sidecar.metrics.renewal_failures.inc();
                    let not_after = self.sidecar.identity.load().verified.not_after;
                    tracing::warn!(attempt, %not_after, error = %chain_of(&error), "the SVID is not renewed yet");
                }
            }
        }
    }

    /// A shorter `renewEvery` takes effect at once, a longer one with the next SVID.
    async fn wait_until_due(&self) {
        let jitter = random_fraction();
        loop {
            let due = {
                let own = self.sidecar.identity.load();
                let renew_every = own
                    .renew_every
                    .min(self.sidecar.current.load().mesh.renew_every());
                next_renewal(own.issued_at, own.verified.not_after, renew_every, jitter)
            };
            let wait = due.duration_since(Timestamp::now());
            if wait <= SignedDuration::ZERO {
                return;
            }
            // Short naps: the wall clock may jump, and the settings may change.
            let nap = Duration::try_from(wait)
                .unwrap_or_default()
                .min(LONGEST_NAP);
            tokio::time::sleep(nap).await;
        }
    }

    async fn renew(&self) -> Result<(), RenewalError> {
        let sidecar = &self.sidecar;
        let expired = {
            let own = sidecar.identity.load();
            self.runtime.forget_answered(&own);
            own.verified.is_expired(Timestamp::now())
        };
        let (svid, bundle) = if expired {
            // Nobody believes the old SVID any more; only new evidence can help.
            let proven = bootstrap::attest(&sidecar.config, &self.runtime).await?;
            (proven.svid, proven.bundle)
        } else {
            let request = self.runtime.pending_request()?;
            let mut client = IssuanceClient::new(sidecar.control_plane.channel());
            let call = client.renew(v1::RenewRequest {
                csr: request.csr_der.clone().into(),
            });
            let answer = tokio::time::timeout(CALL_TIMEOUT, call)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
                .map_err(Box::new)?
                .into_inner();
            // The bundle that is in force comes by discovery; the answer's is for the next start.
            let bundle = Arc::new(bootstrap::read_bundle(&answer)?);
            (
                bootstrap::believe(answer, request, &sidecar.config.own_id, &bundle)?,
                bundle,
            )
        };
        let previous = (self.mac_key)(&sidecar.identity.load());
        self.runtime.store_svid(&svid, &bundle, previous.as_ref())?;
        self.runtime.request_answered();
        tracing::info!(serial = %svid.verified.serial, not_after = %svid.verified.not_after, "renewed");
        sidecar.metrics.renewals.inc();
        sidecar
            .metrics
            .svid_not_after
            .set(svid.verified.not_after.as_second());
        sidecar.identity.publish(svid);
        Ok(())
    }
}

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_NAP: Duration = Duration::from_secs(1);
