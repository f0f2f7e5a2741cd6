//! `meshctl policy import` as a shell sees it: what is written can be judged and applied as it is, and the exit code says how it went.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn meshctl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("WEFT_CONTEXT")
        .env("HOME", folder)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn corpus(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/import");
    folder
        .join(name)
        .canonicalize()
        .unwrap()
        .display()
        .to_string()
}

const TESTS: &str = "apiVersion: weft.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  cases:\n  \
                     - {name: web may, from: shop/web, to: \"shop/api:http\", expect: allow, rule: shop/web-calls-api-api}\n  \
                     - {name: batch may not, from: shop/batch, to: \"shop/api:http\", expect: deny}\n";

#[test]
fn what_is_written_is_judged_by_policy_test_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, policy) = (
        corpus("cluster.yaml"),
        corpus("kubernetes/pods-by-label.yaml"),
    );
    let output = meshctl(
        folder.path(),
        &[
            "policy",
            "import",
            "-f",
            &cluster,
            "-f",
            &policy,
            "-o",
            "rules.yaml",
        ],
    );
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "1 rule, 1 thing has no equal: see the comments\n"
    );
    let rules = std::fs::read_to_string(folder.path().join("rules.yaml")).unwrap();
    assert!(
        rules.contains("# default-allow: no policy covers shop/db, shop/orders, shop/web:"),
        "{rules}"
    );
    assert!(
        rules.contains(&format!(
            "# NetworkPolicy shop/web-calls-api ({policy}:1)\n"
        )),
        "{rules}"
    );
    std::fs::write(folder.path().join("tests.yaml"), TESTS).unwrap();
    let judged = meshctl(
        folder.path(),
        &["policy", "test", "rules.yaml", "tests.yaml"],
    );
    assert_eq!(
        code(&judged),
        0,
        "{}{}",
        text(&judged.stdout),
        text(&judged.stderr)
    );
    let strict = [
        "policy", "import", "-f", &cluster, "-f", &policy, "--strict",
    ];
    assert_eq!(code(&meshctl(folder.path(), &strict)), 1);
}

#[test]
fn every_document_of_the_corpus_is_written_as_our_own_reader_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = corpus("cluster.yaml");
    std::fs::write(folder.path().join("tests.yaml"), TESTS).unwrap();
    for input in inputs() {
        let input = input.display().to_string();
        let output = meshctl(
            folder.path(),
            &["policy", "import", "-f", &cluster, "-f", &input],
        );
        assert_eq!(code(&output), 0, "{input}: {}", text(&output.stderr));
        std::fs::write(folder.path().join("rules.yaml"), &output.stdout).unwrap();
        // exit code 1 is a case that differs; 2 would be a document that cannot be read
        let judged = meshctl(
            folder.path(),
            &["policy", "test", "rules.yaml", "tests.yaml"],
        );
        let has_rules = text(&output.stdout).contains("kind: Allow");
        assert_eq!(
            text(&judged.stderr).lines().count(),
            usize::from(!has_rules),
            "{input}: {}",
            text(&judged.stderr)
        );
        assert!(
            !has_rules || code(&judged) < 2,
            "{input}: {}",
            text(&judged.stderr)
        );
    }
}

#[test]
fn what_cannot_be_read_is_an_input_error_that_names_every_place() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelektor: {}\n";
    let other = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\n";
    let ours = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {workload: []}\n";
    std::fs::write(
        folder.path().join("a.yaml"),
        format!("{policy}---\n{other}---\n{ours}"),
    )
    .unwrap();
    let output = meshctl(folder.path(), &["policy", "import", "-f", "a.yaml"]);
    assert_eq!(code(&output), 2);
    let stderr = text(&output.stderr);
    for problem in [
        "a.yaml:5:3: unknown field `podSelektor`, did you mean `podSelector`?",
        "a.yaml:6: `cilium.io/v2 CiliumNetworkPolicy` is not imported",
        "a.yaml:14:8: unknown field `workload`, did you mean `workloads`?",
    ] {
        assert!(stderr.contains(problem), "{stderr}");
    }
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn from_refuses_policies_of_another_source() {
    let folder = tempfile::tempdir().unwrap();
    let policy = corpus("istio/allow-all.yaml");
    let arguments = |from| ["policy", "import", "-f", &policy, "--from", from].map(str::to_owned);
    let run = |from| {
        let arguments = arguments(from);
        meshctl(
            folder.path(),
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    assert_eq!(code(&run("istio")), 0);
    assert_eq!(code(&run("linkerd")), 2);
    let cluster = corpus("cluster.yaml");
    let nothing = meshctl(folder.path(), &["policy", "import", "-f", &cluster]);
    assert_eq!(code(&nothing), 2);
    assert!(text(&nothing.stderr).contains("no policy in"));
}

fn inputs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for source in ["kubernetes", "istio", "linkerd"] {
        for entry in std::fs::read_dir(corpus(source)).unwrap() {
            let path = entry.unwrap().path();
            if !path.display().to_string().ends_with(".requests.yaml") {
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 40);
    found
}
