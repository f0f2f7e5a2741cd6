//! One corpus of policy cases, judged three times: by the library, by `meshctl policy test`, and by real sidecars over real sockets.
//!
//! A case is right only when all name the same rule, or the same reason where none allows.

mod asking;
mod corpus;
mod over_sockets;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use weft_policy::{Expect, Outcome};
use weft_tests::Mesh;

use corpus::{File, files};

#[tokio::test]
async fn meshctl_judges_every_case_as_the_library_does() {
    let mesh = Mesh::start().await;
    let files = files();
    assert!(files.iter().map(|file| file.cases.len()).sum::<usize>() >= 120);
    join_all(files.iter().map(|file| judged_by_meshctl(&mesh, file))).await;
}

async fn judged_by_meshctl(mesh: &Mesh, file: &File) {
    let outcomes = file.world.judge(&file.cases, Timestamp::now());
    let path = file.path.display().to_string();
    let ran = mesh
        .meshctl(["policy", "test", &path, "-o", "json"])
        .await
        .ok();
    let results = ran.json()["results"].clone();
    let results = results.as_array().expect("a list of results");
    assert_eq!(results.len(), outcomes.len(), "{path}");
    for ((case, outcome), told) in file.cases.iter().zip(&outcomes).zip(results) {
        assert_eq!(outcome.mismatch, None, "{path}: {}", case.name);
        assert_eq!(told["name"], case.name, "{path}");
        assert_eq!(told["pass"], true, "{path}: {}", case.name);
        assert_eq!(
            told["verdict"],
            word(outcome.verdict),
            "{path}: {}",
            case.name
        );
        assert_eq!(told["rule"], text(rule(outcome)), "{path}: {}", case.name);
        let reason = outcome.reason.map(|reason| reason.as_str().to_owned());
        assert_eq!(told["reason"], text(reason), "{path}: {}", case.name);
    }
}

#[tokio::test]
async fn meshctl_names_a_case_whose_expectation_is_wrong_and_exits_with_one() {
    let mesh = Mesh::start().await;
    let files = files();
    join_all(files.iter().map(|file| flipped(&mesh, file))).await;
}

/// Turns the last allowed case of the file round.
async fn flipped(mesh: &Mesh, file: &File) {
    let allowed = file
        .cases
        .iter()
        .rfind(|case| case.expect == Expect::Allow)
        .expect("a case that is allowed");
    let (before, after) = file
        .text
        .rsplit_once("expect: allow")
        .expect("the same case");
    let copy = mesh
        .folder()
        .join(file.path.file_name().expect("a file's name"));
    std::fs::write(&copy, format!("{before}expect: deny{after}")).expect("a copy");
    let path = copy.display().to_string();
    let ran = mesh.meshctl(["policy", "test", "--quiet", &path]).await;
    assert_eq!(ran.code, 1, "{path}: {ran:?}");
    assert!(ran.stdout.contains(&allowed.name), "{path}: {ran:?}");
    assert!(
        ran.stdout.contains("expected deny") && ran.stdout.contains("1 failed"),
        "{path}: {ran:?}"
    );
}

fn rule(outcome: &Outcome) -> Option<String> {
    outcome.rule.as_ref().map(ToString::to_string)
}

fn text(text: Option<String>) -> Value {
    text.map_or(Value::Null, Value::String)
}

fn word(verdict: Expect) -> &'static str {
    match verdict {
        Expect::Allow => "allow",
        Expect::Learn => "learn",
        Expect::Deny => "deny",
        Expect::Error400 => "error400",
    }
}
