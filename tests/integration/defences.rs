//! The table of defences still fits the sources: what it takes out is there, and so are the tests that it names.

use std::path::Path;
use std::process::Command;

use weft_tests::Defence;

#[test]
fn every_listed_defence_is_in_the_sources_and_names_a_test_that_exists() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let defences = Defence::all(&repository).expect("the table can be read");
    assert!(!defences.is_empty(), "no defence is listed");
    for defence in &defences {
        if let Err(error) = defence.removed(&repository) {
            panic!("{error:#}");
        }
        let name = defence.fails.test.rsplit("::").next().unwrap_or_default();
        let found = Command::new("grep")
            .args(["-rlE", "--include=*.rs", &format!("fn {name}\\b")])
            .args(["crates", "control-plane", "sidecar", "tests"])
            .current_dir(&repository)
            .output()
            .expect("grep runs");
        assert!(
            found.status.success(),
            "{} ({}): no test is named {name}",
            defence.row,
            defence.removes
        );
    }
}
