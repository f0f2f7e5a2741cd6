//! Renewal, judged without sockets.

use weft_identity::{SpiffeId, WrappingKey, new_key_and_csr};

use super::*;
use crate::store::VolatileBackend;

struct Bench {
    issuer: Issuer,
    id: SpiffeId,
}

impl Bench {
    async fn new() -> (Self, Caller) {
        let store = Store::open_backend(VolatileBackend::new()).unwrap();
        let key = WrappingKey::new([7; 32]).unwrap();
        let trust_domain = "weft.local".parse().unwrap();
        let ca = Ca::open(&store, &trust_domain, key, Timestamp::now())
            .await
            .unwrap();
        let auditor = Auditor::new(store.clone());
        let id: SpiffeId = "spiffe://weft.local/ns/shop/sa/api".parse().unwrap();
        let (signer, subject) = (Arc::clone(&ca), id.clone());
        let written = store
            .write(move |tx| {
                let now = Timestamp::now();
                let key = read_csr(&new_key_and_csr().unwrap().csr_der).unwrap();
                let issued = signer.issue(&subject, &key, Duration::from_secs(3600), now)?;
                StoredLineage::begin(tx, &subject, &key, &issued, now)?;
                Ok::<_, IssueError>(issued.serial)
            })
            .await
            .unwrap();
        let issuer = Issuer { store, ca, auditor };
        let caller = Caller {
            id: id.clone(),
            serial: written.value,
        };
        (Self { issuer, id }, caller)
    }

    async fn renew(&self, caller: &Caller, csr: &[u8]) -> Result<Caller, Status> {
        let mut request = Request::new(v1::RenewRequest {
            csr: csr.to_vec().into(),
        });
        request.extensions_mut().insert(caller.clone());
        let answer = self.issuer.renew(request).await?.into_inner();
        let chain: Vec<_> = answer.chain.iter().map(|der| der.to_vec().into()).collect();
        let verified = weft_identity::verify_svid(
            &chain,
            self.issuer.ca.bundle(),
            weft_identity::Purpose::ClientAuth,
            Timestamp::now(),
        )
        .unwrap();
        assert_eq!(verified.id, self.id);
        Ok(Caller {
            id: verified.id,
            serial: verified.serial,
        })
    }
}

fn csr() -> Vec<u8> {
    new_key_and_csr().unwrap().csr_der
}

#[tokio::test]
async fn row_06_a_stolen_svid_that_renews_in_parallel_freezes_the_lineage() {
    let (bench, first) = Bench::new().await;
    let second = bench.renew(&first, &csr()).await.unwrap();
    lineages::seen_in_use(&bench.issuer.store, second.serial.clone())
        .await
        .unwrap();
    let thief = bench.renew(&first, &csr()).await.unwrap_err();
    assert_eq!(thief.code(), tonic::Code::PermissionDenied);
    let rightful = bench.renew(&second, &csr()).await.unwrap_err();
    assert_eq!(rightful.code(), tonic::Code::PermissionDenied);
    let records = bench.issuer.store.read().unwrap().audit_newest(10).unwrap();
    let has_frozen = |record: &v1::AuditRecord| {
        record.outcome == "refused"
            && record.detail.contains("is frozen: serial")
            && record.detail.contains("is in use")
    };
    assert!(records.iter().any(has_frozen), "{records:?}");
}

#[tokio::test]
async fn row_06_a_retry_gets_the_same_certificate_and_another_key_supersedes_it() {
    let (bench, first) = Bench::new().await;
    let key = csr();
    let second = bench.renew(&first, &key).await.unwrap();
    assert_eq!(bench.renew(&first, &key).await.unwrap(), second);
    let third = bench.renew(&first, &csr()).await.unwrap();
    assert_ne!(third.serial, second.serial);
    let revoked = bench.issuer.store.read().unwrap().revocations().unwrap();
    assert_eq!(revoked[0].serials, [second.serial.to_string()]);
    bench.renew(&third, &csr()).await.unwrap();
}

#[tokio::test]
async fn row_06_a_thief_who_supersedes_the_owners_fresh_svid_is_found_when_the_owner_renews() {
    let (bench, first) = Bench::new().await;
    let owner = bench.renew(&first, &csr()).await.unwrap();
    let thief = bench.renew(&first, &csr()).await.unwrap();
    // On a connection from before its serial was revoked.
    let refused = bench.renew(&owner, &csr()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let refused = bench.renew(&thief, &csr()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let records = bench.issuer.store.read().unwrap().audit_newest(10).unwrap();
    let has_frozen = |record: &v1::AuditRecord| {
        record.outcome == "refused" && record.detail.contains("issued in its place")
    };
    assert!(records.iter().any(has_frozen), "{records:?}");
}

#[tokio::test]
async fn row_11_ever_new_keys_make_few_revocations_and_then_freeze_the_lineage() {
    let (bench, first) = Bench::new().await;
    for _ in 0..100 {
        let _ = bench.renew(&first, &csr()).await;
    }
    let read = bench.issuer.store.read().unwrap();
    assert_eq!(read.revocations().unwrap().len(), 3);
    let known = lineages::by_serial(&read, &first.serial).unwrap().unwrap();
    assert_eq!(known.lineage.state(), weft_identity::lineage::State::Frozen);
    assert!(read.audit_count().unwrap() < 20);
}

#[tokio::test]
async fn row_11_a_lineage_goes_on_only_so_fast() {
    let (bench, mut caller) = Bench::new().await;
    let mut issued = 1;
    let refused = loop {
        match bench.renew(&caller, &csr()).await {
            Ok(next) => (caller, issued) = (next, issued + 1),
            Err(refused) => break refused,
        }
        assert!(issued < 100, "nothing stops it");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(issued, 8);
    let read = bench.issuer.store.read().unwrap();
    let known = lineages::by_serial(&read, &caller.serial).unwrap().unwrap();
    let (now, hour) = (Timestamp::now(), Duration::from_secs(3600));
    assert!(known.is_hasty(hour, now));
    assert!(!known.is_hasty(hour, now + jiff::SignedDuration::from_secs(31)));
    assert!(!known.is_hasty(
        Duration::from_secs(1),
        now + jiff::SignedDuration::from_secs(2)
    ));
    // The clock was set back.
    assert!(!known.is_hasty(hour, now - jiff::SignedDuration::from_hours(2)));
}

#[tokio::test]
async fn row_06_a_request_decides_nothing_but_its_key() {
    let (bench, first) = Bench::new().await;
    let other = Caller {
        id: "spiffe://weft.local/ns/shop/sa/ledger".parse().unwrap(),
        ..first.clone()
    };
    assert!(bench.renew(&other, &csr()).await.is_err());
    // `renew` checks that the answer names the lineage's own identity.
    bench.renew(&first, &csr()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_lineage_is_not_renewed_until_that_is_undone() {
    let (bench, first) = Bench::new().await;
    let store = &bench.issuer.store;
    let known = lineages::by_serial(&store.read().unwrap(), &first.serial)
        .unwrap()
        .unwrap();
    let target = RevocationTarget::Lineage(known.id);
    let wanted = Wanted {
        target: target.clone(),
        reason: "stolen".into(),
        actor: "spiffe://weft.local/operator/ada".into(),
        now: Timestamp::now(),
    };
    store
        .write(move |tx| revocations::revoke(tx, wanted))
        .await
        .unwrap();
    let stored = store.read().unwrap().revocations().unwrap();
    assert_eq!(stored[0].serials, [first.serial.to_string()]);
    assert!(bench.renew(&first, &csr()).await.is_err());
    store
        .write(move |tx| tx.delete_revocation(&target))
        .await
        .unwrap();
    bench.renew(&first, &csr()).await.unwrap();
}
