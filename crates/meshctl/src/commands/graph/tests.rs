use jiff::Timestamp;
use weft_policy::{FlowKey, Reason};

use super::*;

fn flow(source: &str, target: &str, judged: Judged, count: u64) -> Flow {
    Flow {
        key: FlowKey {
            source: format!("spiffe://{source}").parse().unwrap(),
            target: target.parse().unwrap(),
            request: None,
            judged,
        },
        count,
        first_seen: Timestamp::UNIX_EPOCH,
        last_seen: Timestamp::UNIX_EPOCH,
    }
}

/// The shop: a way over several layers, a circle, every verdict, a caller from elsewhere.
fn shop() -> Graph {
    let allowed = |rule: &str| Judged::Allowed(rule.parse().unwrap());
    let denied = || Judged::Denied(Reason::NoRule);
    Graph::of(
        &[
            flow(
                "weft.local/ns/shop/sa/web",
                "shop/api:http",
                allowed("shop/a"),
                120,
            ),
            flow(
                "weft.local/ns/shop/sa/web",
                "shop/api:http",
                allowed("shop/b"),
                3,
            ),
            flow(
                "weft.local/ns/shop/sa/api",
                "shop/orders:grpc",
                allowed("shop/c"),
                60,
            ),
            flow(
                "weft.local/ns/shop/sa/orders",
                "shop/ledger:tcp",
                allowed("shop/d"),
                7,
            ),
            flow(
                "weft.local/ns/shop/sa/ledger",
                "shop/api:http",
                Judged::Learned(Reason::NoRule),
                2,
            ),
            flow("weft.local/ns/shop/sa/web", "shop/ledger:tcp", denied(), 4),
            flow("weft.local/ns/shop/sa/web", "shop/api:admin", denied(), 1),
            flow(
                "partner.example/ns/crm/sa/sync",
                "shop/api:http",
                denied(),
                9,
            ),
            flow(
                "weft.local/ns/shop/sa/api",
                "shop/api:http",
                allowed("shop/e"),
                5,
            ),
        ],
        "weft.local",
    )
}

/// Golden files are what was looked at and found good; `WEFT_GOLDEN=write` writes them anew.
fn assert_golden(name: &str, drawn: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/commands/graph/golden")
        .join(name);
    if std::env::var_os("WEFT_GOLDEN").is_some() {
        std::fs::write(&file, drawn).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(
        drawn == golden,
        "{name} differs from its golden file:\n{drawn}"
    );
}

#[test]
fn the_shop_is_drawn_as_its_golden_files() {
    let graph = shop();
    assert_golden("shop.txt", &text::draw(&graph));
    assert_golden("shop.dot", &dot::draw(&graph));
    assert_golden("shop.mmd", &mermaid::draw(&graph));
    assert_golden("shop.svg", &svg::draw(&graph));
}

#[test]
fn row_15_what_a_name_holds_is_taken_for_nothing_but_a_name() {
    let hostile = "a\"]; x\\\n</text><script>&#`\u{1b}[31m";
    let graph = Graph {
        nodes: vec![hostile.to_owned(), "b".to_owned()],
        edges: vec![Edge {
            from: 0,
            to: 1,
            verdict: Verdict::Denied,
            counts: BTreeMap::from([(hostile.to_owned(), 1)]),
        }],
    };
    let drawn = dot::draw(&graph);
    assert!(
        drawn.contains("  \"a\\\"]; x\\\\ </text><script>&#` [31m\";\n"),
        "{drawn}"
    );
    let drawn = mermaid::draw(&graph);
    assert!(
        drawn.contains("n0[\"a#34;]#59; x#92; #60;/text#62;"),
        "{drawn}"
    );
    let drawn = svg::draw(&graph);
    assert!(
        !drawn.contains("<script") && !drawn.contains('\u{1b}'),
        "{drawn}"
    );
    assert!(
        drawn.contains("&lt;/text&gt;&lt;script&gt;&amp;#`"),
        "{drawn}"
    );
    let drawn = text::draw(&graph);
    assert!(
        !drawn.contains('\u{1b}') && drawn.lines().count() == 2,
        "{drawn}"
    );
}

#[test]
fn nothing_is_drawn_as_nothing() {
    let graph = Graph::default();
    assert_eq!(text::draw(&graph), "");
    assert!(svg::draw(&graph).ends_with("</svg>\n"));
    assert_eq!(mermaid::draw(&graph), "flowchart LR\n");
}

#[test]
fn callers_stand_left_of_whom_they_call_but_where_a_circle_closes() {
    let graph = shop();
    let layout = layout::Layout::of(&graph);
    let backwards = layout
        .ways
        .iter()
        .zip(&graph.edges)
        .filter(|(way, edge)| {
            let (first, last) = (way[0], way[way.len() - 1]);
            assert_eq!(
                layout.layers[first.0][first.1],
                layout::Place::Node(edge.from)
            );
            assert_eq!(layout.layers[last.0][last.1], layout::Place::Node(edge.to));
            first.0 >= last.0
        })
        .count();
    // ledger to api, and api to itself.
    assert_eq!(backwards, 2);
    let standing: usize = layout
        .layers
        .iter()
        .flatten()
        .filter(|place| matches!(place, layout::Place::Node(_)))
        .count();
    assert_eq!(standing, graph.nodes.len());
}
