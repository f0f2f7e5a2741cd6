use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    methods: Vec<String>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    strict: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Mode {
    Enforce,
    Audit,
}

fn origin() -> Origin {
    Origin {
        file: "mesh.yaml".into(),
        first_line: 10,
    }
}

fn failure(spec: &str) -> String {
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: Thing\nmetadata: {{name: a, namespace: b}}\nspec:\n{spec}\n"
    );
    read::<Spec>(&text, &origin(), "Thing")
        .unwrap_err()
        .to_string()
}

#[test]
fn a_document_is_read_with_its_metadata() {
    let text = "apiVersion: weft.dev/v1\nkind: Thing\nmetadata:\n  name: a\n  namespace: b\n  labels: {team: x}\nspec: {methods: [GET], mode: Audit}\n";
    let document = read::<Spec>(text, &origin(), "Thing").unwrap();
    assert_eq!(document.metadata.name.as_str(), "a");
    assert_eq!(document.metadata.namespace.unwrap().as_str(), "b");
    assert_eq!(document.metadata.labels["team"], "x");
    assert_eq!(
        document.spec,
        Spec {
            methods: vec!["GET".into()],
            mode: Some(Mode::Audit),
            strict: false
        }
    );
}

#[test]
fn json_is_read_as_yaml() {
    let text = r#"{"apiVersion": "weft.dev/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"methods": ["\u0047ET"], "strict": true}}"#;
    let document = read::<Spec>(text, &origin(), "Thing").unwrap();
    assert_eq!(document.spec.methods, ["GET"]);
    assert!(document.spec.strict);
    assert_eq!(read_envelope(text, &origin()).unwrap().kind, "Thing");
}

#[test]
fn errors_name_file_line_column_and_the_nearest_word() {
    for (spec, expected) in [
        (
            "  methdos: [GET]",
            "mesh.yaml:14:3: unknown field `methdos`, did you mean `methods`?",
        ),
        (
            "  methods: []\n  zzz: 1",
            "mesh.yaml:15:3: unknown field `zzz`, expected one of `methods`, `mode`, `strict`",
        ),
        (
            "  methods: []\n  mode: Audti",
            "mesh.yaml:15:9: unknown value `Audti`, did you mean `Audit`?",
        ),
        (
            "  methods: []\n  methods: [GET]",
            "mesh.yaml:15:3: field `methods` is given twice",
        ),
        (
            "  methods: &a []",
            "mesh.yaml:14:15: anchors, aliases and merge keys are not allowed",
        ),
    ] {
        assert_eq!(failure(spec), expected);
    }
}

#[test]
fn what_yaml_would_guess_is_refused() {
    for spec in [
        "  mode: Audit",
        "  methods: GET",
        "  methods: []\n  strict: yes",
        "  methods: !custom []",
        "  methods: []\n---\na: b",
        "  methods: []\n  <<: {strict: true}",
        "  methods: [",
        "\tmethods: []",
    ] {
        let message = failure(spec);
        assert!(message.starts_with("mesh.yaml:1"), "{spec}: {message}");
    }
}

#[test]
fn the_envelope_is_checked_before_the_spec() {
    let read = |text: &str| {
        read::<Spec>(text, &origin(), "Thing")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        read("apiVersion: weft.dev/v2\nkind: Thing\nmetadata: {name: a}\nspec: {x: 1}"),
        "mesh.yaml:10:13: apiVersion `weft.dev/v2` is not known; this version reads `weft.dev/v1`"
    );
    assert_eq!(
        read("apiVersion: weft.dev/v1\nkind: Thimg\nmetadata: {name: a}\nspec: {x: 1}"),
        "mesh.yaml:11:7: expected kind `Thing`, found `Thimg`"
    );
    for text in [
        "",
        "# nothing",
        "kind: Thing\nmetadata: {name: a}",
        "apiVersion: weft.dev/v1\nkind: Thing\nspec: {methods: []}",
        "apiVersion: weft.dev/v1\nkind: Thing\nmetadata: {name: a}",
        "apiVersion: weft.dev/v1\nkind: Thing\nmetadata: {name: A_b}\nspec: {methods: []}",
        "apiVersion: weft.dev/v1\nkind: Thing\nmetadata: {name: a}\nspec: {methods: []}\nstatus: {}",
    ] {
        assert!(read(text).starts_with("mesh.yaml:1"), "{text}");
    }
}

#[test]
fn alias_bombs_deep_nests_and_huge_texts_end_early() {
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]";
    for text in [
        bomb.to_owned(),
        "[".repeat(100_000),
        "- ".repeat(5_000),
        "x".repeat(DOCUMENT_LIMIT_BYTES + 1),
    ] {
        assert!(read_value::<IgnoredAny>(&text, &origin()).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = read::<Spec>(&text, &origin(), "Thing").map_err(|error| error.to_string());
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(text in "[\\-\\[\\]{}:,&*!|>'\"%@`#?~ \\n\\ta-c0-9.<]{0,60}") {
        let _ = read_value::<BTreeMap<String, Option<Vec<String>>>>(&text, &origin()).map_err(|error| error.to_string());
        let _ = read_envelope(&format!("apiVersion: weft.dev/v1\n{text}"), &origin()).map_err(|error| error.to_string());
    }
}
