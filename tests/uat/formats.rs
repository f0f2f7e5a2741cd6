//! Every reading verb answers as a table, a wide table, JSON and YAML, and the last two say the same.

use serde_json::{Value, json};
use weft_tests::{Up, eventually};

/// What more a wide answer shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wide {
    /// Further columns.
    Columns,
    /// Further lines.
    Lines,
    /// The table leaves nothing out.
    Nothing,
}

#[tokio::test]
async fn every_reading_verb_speaks_every_format() {
    let shop = Up::start("examples/shop/mesh.yaml").await;
    let refused = shop
        .through_proxy("intruder", "http://api.shop/orders/1")
        .await;
    let id = refused.decision();
    shop.meshctl_until_ok(&["why", &id]).await;
    let denied = ["flows", "--verdict", "denied"];
    eventually("the refusal is a flow", || async {
        let told = shop.meshctl(&denied).await.ok().stdout;
        if told.contains("shop/intruder") {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    let policy =
        std::fs::read_to_string(shop.source("examples/shop/policy.yaml")).expect("it is there");
    let edited = policy.replace("[GET, HEAD]", "[GET]");
    std::fs::write(shop.folder().join("edited.yaml"), edited).expect("written");
    let tests = shop.source("examples/shop/tests.yaml");
    let verbs: &[(&[&str], i32, Wide)] = &[
        (&["check"], 0, Wide::Nothing),
        (
            &["diff", "-f", "edited.yaml", "--set", "up"],
            1,
            Wide::Lines,
        ),
        (&["services"], 0, Wide::Columns),
        (&["endpoints"], 0, Wide::Columns),
        (&["sidecars"], 0, Wide::Columns),
        (&["identity", "list"], 0, Wide::Columns),
        (&["identity", "show", "shop/web"], 0, Wide::Columns),
        (&["audit", "tail"], 0, Wide::Columns),
        (&denied, 0, Wide::Columns),
        (&["why", &id], 0, Wide::Lines),
        (
            &[
                "policy",
                "explain",
                "shop/intruder",
                "shop/api:http",
                "GET",
                "/",
            ],
            1,
            Wide::Nothing,
        ),
        (&["policy", "test", &tests], 0, Wide::Columns),
    ];
    for &(verb, code, wide) in verbs {
        people_read(&shop, verb, code, wide).await;
        programs_read(&shop, verb, code).await;
    }
    let short = shop.meshctl(&["check", "-o", "short"]).await.ok();
    assert!(
        short.stdout.contains("0 failed") && !short.stdout.contains('√'),
        "{}",
        short.stdout
    );
    let unknown = shop
        .meshctl(&["diff", "-f", "edited.yaml", "-o", "text"])
        .await;
    assert_eq!(unknown.code, 2, "{unknown:?}");
}

async fn ask(shop: &Up, verb: &[&str], format: &str, code: i32) -> String {
    let ran = shop.meshctl(&[verb, &["-o", format]].concat()).await;
    assert_eq!(ran.code, code, "{verb:?} -o {format}: {ran:?}");
    assert!(!ran.stdout.trim().is_empty(), "{verb:?} -o {format}");
    ran.stdout
}

async fn people_read(shop: &Up, verb: &[&str], code: i32, wide: Wide) {
    let plain = shop.meshctl(verb).await;
    assert_eq!(plain.code, code, "{verb:?}: {plain:?}");
    let (table, wider) = (
        ask(shop, verb, "table", code).await,
        ask(shop, verb, "wide", code).await,
    );
    assert!(
        !table.contains('\u{1b}'),
        "{verb:?}: colours without a terminal"
    );
    let heading = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first
            .split("   ")
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>()
    };
    match wide {
        Wide::Columns => {
            let (few, many) = (heading(&table), heading(&wider));
            assert!(
                few.iter().all(|name| many.contains(name)),
                "{few:?} {many:?}"
            );
            assert!(many.len() > few.len(), "{verb:?}: {few:?} {many:?}");
        }
        Wide::Lines => assert!(
            wider.lines().count() > table.lines().count(),
            "{verb:?}: {wider}"
        ),
        Wide::Nothing => assert_eq!(wider.lines().count(), table.lines().count(), "{verb:?}"),
    }
}

/// What was last heard of a sidecar may change between two calls; that they agree once is enough.
async fn programs_read(shop: &Up, verb: &[&str], code: i32) {
    eventually("JSON and YAML say the same", || async {
        let (json, yaml) = (
            ask(shop, verb, "json", code).await,
            ask(shop, verb, "yaml", code).await,
        );
        assert_eq!(json.lines().count(), 1, "{verb:?}: one value on one line");
        let json = read_json(&json);
        let yaml = read_yaml(&yaml);
        assert!(json.is_object() || json.is_array(), "{verb:?}: {json}");
        if json == yaml {
            Ok(())
        } else {
            Err((json, yaml))
        }
    })
    .await;
}

fn read_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in: {text}"))
}

fn read_yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in: {text}"))
}

#[tokio::test]
async fn resources_are_documents_that_can_be_applied_again_and_json_says_where_they_stand() {
    let shop = Up::start("examples/shop/mesh.yaml").await;
    let one = ["get", "allow", "shop/web-reads-orders"];
    for verb in [&["get", "all"][..], &["get", "allow"], &one] {
        people_read(&shop, verb, 0, Wide::Columns).await;
        let json = read_json(&ask(&shop, verb, "json", 0).await);
        let yaml = ask(&shop, verb, "yaml", 0).await;
        let stored = match json {
            Value::Array(stored) => stored,
            single => vec![single],
        };
        assert!(!stored.is_empty());
        let documents: Vec<&str> = yaml.split("---\n").collect();
        assert_eq!(documents.len(), stored.len(), "{yaml}");
        for (document, stored) in documents.iter().zip(&stored) {
            assert_eq!(read_yaml(document), stored["resource"]);
            let about = format!("# revision: {}, set: up\n", stored["revision"]);
            assert!(document.starts_with(&about), "{about}{document}");
            assert_eq!(stored["set"], json!("up"));
        }
        std::fs::write(shop.folder().join("again.yaml"), &yaml).expect("written");
        let again = shop
            .meshctl(&["diff", "-f", "again.yaml", "--set", "up"])
            .await;
        assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again:?}");
    }
}
