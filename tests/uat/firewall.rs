//! From no rules to enforced ones: watch a mesh in learn mode, take the rules that its traffic suggests, enforce them, find out why a call
//! is refused, look at what an edit would do before it is made, and be stopped before a harmful one.

use std::time::Duration;

use weft_tests::Up;

const SETTINGS: &str = "
apiVersion: weft.dev/v1
kind: NamespaceSettings
metadata: {name: settings, namespace: shop}
spec: {mode: learn, learnUntil: UNTIL}
";

const STRICT: &str = "
apiVersion: weft.dev/v1
kind: NamespaceSettings
metadata: {name: settings, namespace: shop}
spec: {mode: strict}
";

#[tokio::test]
async fn a_firewall_is_learned_enforced_asked_and_changed() {
    let mut shop = Journey::start().await;

    // Nothing is refused while the namespace learns, and everything is judged.
    shop.checkout().await;
    shop.call_from_web("GET", "/orders/17").await;
    shop.call_from_web("GET", "/orders/18").await;
    let learned = shop
        .up
        .meshctl_until(&["flows", "--verdict", "learned", "-o", "json"], |ran| {
            ["shop/orders", "shop/ledger", "/orders/{number}"]
                .iter()
                .all(|part| ran.stdout.contains(part))
        })
        .await;
    assert!(!learned.stdout.contains("/orders/17"), "{}", learned.stdout);

    // What it suggests is a file to review: every rule with its evidence, nothing for everybody.
    let suggested = shop
        .up
        .meshctl(&["policy", "suggest", "-n", "shop"])
        .await
        .ok();
    assert!(suggested.stdout.contains("kind: Allow"), "{suggested:?}");
    assert!(suggested.stdout.contains("# "), "evidence: {suggested:?}");
    for broad in ["\"/**\"", "\"*\""] {
        assert!(!suggested.stdout.contains(broad), "{suggested:?}");
    }
    let reviewed = without_intruder(&suggested.stdout);
    std::fs::write(shop.up.folder().join("reviewed.yaml"), &reviewed).expect("written");

    // Enforced: what was seen still passes, what was not is refused.
    shop.up
        .meshctl(&["apply", "-f", "reviewed.yaml", "--wait"])
        .await
        .ok();
    std::fs::write(shop.up.folder().join("strict.yaml"), STRICT).expect("written");
    // It cuts the intruder, if that has called already: that is meant.
    shop.up
        .meshctl(&["apply", "-f", "strict.yaml", "--wait", "--yes"])
        .await
        .ok();
    shop.checkout().await;
    shop.call_from_web("GET", "/orders/19").await;
    let refused = shop.call("intruder", "GET", "/orders/17").await;
    assert!(refused.contains("refused by the mesh"), "{refused}");

    // A call that nobody made while it learned: why says which rule is missing, preview what it would change.
    let broken = shop.call("web", "HEAD", "/orders/17").await;
    assert!(broken.contains("403"), "{broken}");
    let id = decision_of(&broken);
    shop.up.meshctl_until_ok(&["why", &id]).await;
    let why = shop
        .up
        .meshctl(&["why", &id, "-o", "json"])
        .await
        .ok()
        .json();
    let fix = find_text(&why, "kind: Allow").expect("a rule that would allow it");
    std::fs::write(shop.up.folder().join("fix.yaml"), &fix).expect("written");
    let preview = shop
        .up
        .meshctl_until(
            &["policy", "preview", "-f", "fix.yaml", "--fail-on-deny"],
            |ran| ran.stdout.contains("HEAD"),
        )
        .await
        .ok();
    assert!(preview.stdout.contains("NEWLY ALLOWED"), "{preview:?}");
    shop.up
        .meshctl(&["apply", "-f", "fix.yaml", "--wait"])
        .await
        .ok();
    let passes = shop.call("web", "HEAD", "/orders/17").await;
    assert!(passes.contains("200"), "{passes}");

    // A harmful edit: one that would cut the checkout. Preview names the flow, and apply stops.
    let harmful = reviewed.replace("shop/web]", "shop/wbe]");
    assert_ne!(harmful, reviewed);
    std::fs::write(shop.up.folder().join("harmful.yaml"), harmful).expect("written");
    let preview = shop
        .up
        .meshctl(&["policy", "preview", "-f", "harmful.yaml", "--fail-on-deny"])
        .await;
    assert_eq!(preview.code, 1, "{preview:?}");
    assert!(preview.stdout.contains("NEWLY DENIED"), "{preview:?}");
    assert!(preview.stdout.contains("shop/web"), "{preview:?}");
    let stopped = shop.up.meshctl(&["apply", "-f", "harmful.yaml"]).await;
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert!(stopped.stderr.contains("--yes"), "{stopped:?}");
    shop.checkout().await;

    shop.up.interrupt(Duration::from_secs(20));
    shop.up.assert_nothing_left();
}

/// The shop without its rules, in learn mode.
struct Journey {
    up: Up,
}

impl Journey {
    async fn start() -> Self {
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
        let settings = SETTINGS.replace("UNTIL", &until.to_string());
        let mesh = include_str!("../../examples/shop/mesh.yaml").replace(
            "[services.yaml, policy.yaml]",
            "[services.yaml, settings.yaml]",
        );
        let (mesh, _) = mesh.split_once("\ntry:").expect("lines to try");
        let services = include_str!("../../examples/shop/services.yaml");
        let files = [
            ("mesh.yaml", mesh),
            ("services.yaml", services),
            ("settings.yaml", &settings),
        ];
        Self {
            up: Up::start_from(&files).await,
        }
    }

    /// Through all four services.
    async fn checkout(&self) {
        let web = self.up.port("web", "http");
        let answer = self
            .up
            .shell(&format!("curl -s http://{web}/checkout/1"))
            .await
            .ok();
        assert!(answer.stdout.contains("balance"), "{answer:?}");
    }

    async fn call_from_web(&self, method: &str, path: &str) {
        let answer = self.call("web", method, path).await;
        assert!(answer.contains("200"), "{method} {path}: {answer}");
    }

    /// The head and the content of the answer to a call through a workload's sidecar.
    async fn call(&self, instance: &str, method: &str, path: &str) -> String {
        let proxy = self.up.address(instance, "proxy");
        let how = if method == "HEAD" { "--head" } else { "-i" };
        let line = format!("curl -s {how} -x http://{proxy} http://api.shop{path}");
        self.up.shell(&line).await.ok().stdout
    }
}

/// The review: the shop's intruder calls by itself, so that it may have been learned with the others.
fn without_intruder(suggested: &str) -> String {
    let rules = suggested
        .split("---\n")
        .filter(|rule| !rule.contains("from: [shop/intruder]"));
    let rules: Vec<String> = rules
        .map(|rule| rule.replace("shop/intruder, ", ""))
        .collect();
    rules.join("---\n")
}

/// What the header of a refusal names.
fn decision_of(answer: &str) -> String {
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-weft-decision: "));
    line.expect("a decision").trim().to_owned()
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
