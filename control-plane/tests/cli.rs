//! The binary itself: what it says when it is asked, and when it is told nonsense.

use std::process::{Command, Output};

fn weft(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
        .args(arguments)
        .env_remove("WEFT_STATE_KEY")
        .output()
        .expect("the binary was built with this test")
}

#[test]
fn help_names_every_flag() {
    let output = weft(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--trust-domain",
        "--state",
        "--runtime",
        "--key-file",
        "--api",
        "--attestation",
        "--admin",
        "--operator-socket",
        "--lease-grace",
    ] {
        assert!(text.contains(flag), "{flag} is missing in {text}");
    }
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = weft(&["--trust-domian", "weft.local"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("--trust-domain"),
        "a suggestion is missing in {text}"
    );
}

#[test]
fn all_problems_of_the_configuration_are_told_together() {
    let output = weft(&["--trust-domain", "Not A Domain", "--api", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for key in [
        "--trust-domain",
        "--api",
        "--state",
        "--runtime",
        "--key-file",
    ] {
        assert!(text.contains(key), "{key} is missing in {text}");
    }
}
