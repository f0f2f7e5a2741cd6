//! Attestation, judged without sockets.

use weft_identity::{KeyAndCsr, WrappingKey, new_key_and_csr};

use super::*;
use crate::store::VolatileBackend;

async fn attestor() -> Attestor {
    let store = Store::open_backend(VolatileBackend::new()).unwrap();
    let key = WrappingKey::new([7; 32]).unwrap();
    let trust_domain = "weft.local".parse().unwrap();
    let ca = Ca::open(&store, &trust_domain, key, Timestamp::now())
        .await
        .unwrap();
    let auditor = Auditor::new(store.clone());
    Attestor { store, ca, auditor }
}

async fn token(attestor: &Attestor, identity: &str, lives_seconds: i64) -> String {
    let secret = crate::random::bytes();
    let root = weft_identity::fingerprint(attestor.ca.root());
    let token = JoinToken::new(secret, root, "weft.local".parse().unwrap());
    let text = token.to_text().to_string();
    let identity = identity.parse().unwrap();
    let expires = Timestamp::now() + jiff::SignedDuration::from_secs(lives_seconds);
    attestor
        .store
        .write(move |tx| tokens::create(tx, &token, identity, expires))
        .await
        .unwrap();
    text
}

async fn attest(
    attestor: &Attestor,
    token: &str,
    workload: &str,
    made: &KeyAndCsr,
) -> Result<v1::IssuedSvid, Status> {
    let request = v1::AttestRequest {
        csr: made.csr_der.clone().into(),
        evidence: Some(v1::attest_request::Evidence::JoinToken(token.to_owned())),
        expected_workload: workload.to_owned(),
    };
    attestor
        .attest(Request::new(request))
        .await
        .map(Response::into_inner)
}

const API: &str = "spiffe://weft.local/ns/shop/sa/api";

#[tokio::test]
async fn row_07_a_token_is_good_for_one_key_which_may_retry() {
    let attestor = attestor().await;
    let token = token(&attestor, API, 600).await;
    let (ours, theirs) = (new_key_and_csr().unwrap(), new_key_and_csr().unwrap());
    let first = attest(&attestor, &token, "shop/api", &ours).await.unwrap();
    let again = attest(&attestor, &token, "shop/api", &ours).await.unwrap();
    assert_eq!(first.chain, again.chain);
    let refused = attest(&attestor, &token, "shop/api", &theirs)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let records = attestor.store.read().unwrap().audit_newest(10).unwrap();
    let told: Vec<_> = records
        .iter()
        .filter(|record| record.action == "attest")
        .map(|r| (r.outcome.as_str(), r.detail.as_str()))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], ("refused", "the token was used with another key"));
}

#[tokio::test]
async fn row_07_every_wrong_token_gets_the_same_answer_and_its_own_record() {
    let attestor = attestor().await;
    let made = new_key_and_csr().unwrap();
    let expired = token(&attestor, API, -1).await;
    let good = token(&attestor, API, 600).await;
    let unknown = good.replace(&good[5..15], "AAAAAAAAAA");
    let reserved = token(
        &attestor,
        "spiffe://weft.local/ns/weft/sa/control-plane",
        600,
    )
    .await;
    let mut answers = Vec::new();
    for (token, workload) in [
        (expired.as_str(), "shop/api"),
        (good.as_str(), "shop/web"),
        (unknown.as_str(), "shop/api"),
        (reserved.as_str(), "weft/control-plane"),
        ("no token", "shop/api"),
        (good.as_str(), "operator"),
    ] {
        let status = attest(&attestor, token, workload, &made).await.unwrap_err();
        answers.push((status.code(), status.message().to_owned()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, tonic::Code::Unauthenticated);
    let records = attestor.store.read().unwrap().audit_newest(100).unwrap();
    let refused = records.iter().filter(|record| record.outcome == "refused");
    assert_eq!(refused.count(), 6);
    // The token is still good for whom it was made.
    attest(&attestor, &good, "shop/api", &made).await.unwrap();
}

#[tokio::test]
async fn row_10_the_store_holds_no_token() {
    let backend = VolatileBackend::new();
    let store = Store::open_backend(backend.clone()).unwrap();
    let key = WrappingKey::new([7; 32]).unwrap();
    let ca = Ca::open(
        &store,
        &"weft.local".parse().unwrap(),
        key,
        Timestamp::now(),
    )
    .await
    .unwrap();
    let auditor = Auditor::new(store.clone());
    let attestor = Attestor { store, ca, auditor };
    let token = token(&attestor, API, 600).await;
    attest(&attestor, &token, "shop/api", &new_key_and_csr().unwrap())
        .await
        .unwrap();
    let secret = token.split('.').nth(1).unwrap();
    let disk = backend.synced_bytes();
    assert!(
        !disk
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
    );
}

#[tokio::test]
async fn a_revoked_identity_gets_nothing_even_with_a_good_token() {
    let attestor = attestor().await;
    let token = token(&attestor, API, 600).await;
    attestor
        .store
        .write(|tx| {
            let wanted = revocations::Wanted {
                target: crate::store::RevocationTarget::Identity(API.into()),
                reason: String::new(),
                actor: String::new(),
                now: Timestamp::now(),
            };
            revocations::revoke(tx, wanted)
        })
        .await
        .unwrap();
    let refused = attest(&attestor, &token, "shop/api", &new_key_and_csr().unwrap()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
}
