//! A new team's first day: start the shop, see a refusal, find out why, allow it, cut a workload off, look around, stop.

use std::time::Duration;

use weft_tests::Up;

#[tokio::test]
async fn a_first_day_with_the_shop() {
    let mut shop = Up::start("examples/shop/mesh.yaml").await;
    let proxy = shop.address("intruder", "proxy");
    let call = format!("curl -s -x http://{proxy} http://api.shop/orders/1");

    // A call is refused; the caller learns an id.
    let refused = shop.shell(&call).await.ok().json();
    let id = refused["decision"]
        .as_str()
        .expect("a decision id")
        .to_owned();

    // The operator asks why and gets the rule that would allow it.
    shop.meshctl_until_ok(&["why", &id]).await;
    let why = shop.meshctl(&["why", &id, "-o", "json"]).await.ok().json();
    let rule = find_text(&why, "kind: Allow").expect("a rule that would allow it");
    std::fs::write(shop.folder().join("fix.yaml"), &rule).expect("written");
    let diff = shop.meshctl(&["diff", "-f", "fix.yaml"]).await;
    assert_eq!(diff.code, 1, "something would change: {diff:?}");
    let dry = shop
        .meshctl(&["apply", "-f", "fix.yaml", "--dry-run"])
        .await
        .ok();
    assert!(dry.stdout.contains("created"), "{}", dry.stdout);
    assert!(
        shop.shell(&call).await.ok().stdout.contains("refused"),
        "a dry run changes nothing"
    );
    let applied = shop
        .meshctl(&["apply", "-f", "fix.yaml", "--wait"])
        .await
        .ok();
    assert!(applied.stdout.contains("enforced by"), "{}", applied.stdout);
    let answered = shop.shell(&call).await.ok();
    assert!(answered.stdout.contains("balance"), "{answered:?}");

    // The same file again changes nothing; then the rule is taken back, and the call is refused again.
    assert_eq!(shop.meshctl(&["diff", "-f", "fix.yaml"]).await.code, 0);
    shop.meshctl(&["delete", "-f", "fix.yaml", "--wait"])
        .await
        .ok();
    assert!(
        shop.shell(&call)
            .await
            .ok()
            .stdout
            .contains("refused by the mesh")
    );

    // A workload is cut off at once, and let back.
    let web = format!("curl -s http://{}/checkout/1", shop.port("web", "http"));
    shop.meshctl(&["quarantine", "shop/web", "--reason", "drill", "--wait"])
        .await
        .ok();
    assert!(
        shop.shell(&web)
            .await
            .ok()
            .stdout
            .contains("refused by the mesh")
    );
    shop.meshctl(&["quarantine", "shop/web", "--lift", "--wait"])
        .await
        .ok();
    assert!(shop.shell(&web).await.ok().stdout.contains("balance"));

    // What is there, and is it well?
    for verb in ["services", "endpoints", "sidecars", "check"] {
        let looked = shop.meshctl(&[verb]).await.ok();
        assert!(!looked.stdout.is_empty(), "{verb}");
    }
    let audit = shop.meshctl(&["audit", "tail"]).await.ok().stdout;
    for action in ["attest", "token.create", "apply", "delete"] {
        assert!(audit.contains(action), "{action} in: {audit}");
    }
    shop.interrupt(Duration::from_secs(20));
    shop.assert_nothing_left();
    let gone = shop.meshctl(&["services"]).await;
    assert_eq!(
        gone.code, 3,
        "the control plane cannot be reached: {gone:?}"
    );
}

/// The first text in the value that contains `part`.
fn find_text(value: &serde_json::Value, part: &str) -> Option<String> {
    match value {
        serde_json::Value::String(text) if text.contains(part) => Some(text.clone()),
        serde_json::Value::Array(values) => values.iter().find_map(|value| find_text(value, part)),
        serde_json::Value::Object(fields) => {
            fields.values().find_map(|value| find_text(value, part))
        }
        _ => None,
    }
}
