//! `meshctl up examples/shop/mesh.yaml`: four hops work, the intruder is refused and told nothing, an operator learns why.

use std::time::Duration;

use weft_tests::{Up, get};

#[tokio::test]
async fn the_shop_works_and_the_intruder_is_refused() {
    let mut shop = Up::start("examples/shop/mesh.yaml").await;

    // web -> api -> orders -> ledger.
    let web = shop.port("web", "http");
    let page = get(&format!("http://{web}/checkout/7"))
        .await
        .expect("web answers");
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.json()["order"]["balance"], 7 * 1999, "{}", page.text());

    // Every printed line does what is printed beside it.
    let lines = shop.report["try"].as_array().expect("lines to try").clone();
    assert!(lines.iter().any(|line| line["expectStatus"] == 200));
    assert!(lines.iter().any(|line| line["expectStatus"] == 403));
    for line in &lines {
        let command = line["command"].as_str().expect("a command");
        let ran = shop.shell(command).await.ok();
        let status = format!(" {} ", line["expectStatus"]);
        assert!(
            ran.stdout
                .lines()
                .next()
                .is_some_and(|first| first.contains(&status)),
            "{command}: {}",
            ran.stdout
        );
    }

    // The refused caller gets an id and no rule; the operator gets the rest.
    let refused = shop
        .through_proxy("intruder", "http://api.shop/orders/1")
        .await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(
        !refused.text().contains("web-reads-orders"),
        "{}",
        refused.text()
    );
    let id = refused.decision();
    let why = shop.meshctl_until_ok(&["why", &id]).await.stdout;
    for part in [
        "spiffe://shop.example/ns/shop/sa/intruder",
        "shop/api",
        "shop/web-reads-orders",
        "kind: Allow",
        "shop/intruder",
    ] {
        assert!(why.contains(part), "{part} is missing in:\n{why}");
    }

    // What would happen is what happened.
    let explained = shop
        .meshctl(&[
            "policy",
            "explain",
            "shop/intruder",
            "shop/api:http",
            "GET",
            "/orders/1",
        ])
        .await;
    assert_eq!(explained.code, 1, "{explained:?}");
    let allowed = shop
        .meshctl(&[
            "policy",
            "explain",
            "shop/web",
            "shop/api:http",
            "GET",
            "/orders/1",
        ])
        .await
        .ok();
    assert!(
        allowed.stdout.contains("shop/web-reads-orders"),
        "{}",
        allowed.stdout
    );
    shop.meshctl(&["policy", "test", &shop.source("examples/shop/tests.yaml")])
        .await
        .ok();

    let ids = shop.spiffe_ids();
    shop.interrupt(Duration::from_secs(20));
    shop.assert_nothing_left();

    // A second start goes on with the same identities and the same trust.
    let bundle = shop.bundle();
    let again = shop.start_again().await;
    assert_eq!(again.spiffe_ids(), ids);
    assert_eq!(again.bundle(), bundle);
    let web = again.port("web", "http");
    assert_eq!(
        get(&format!("http://{web}/checkout/1"))
            .await
            .expect("web answers")
            .status,
        200
    );
}
