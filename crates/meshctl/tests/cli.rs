//! The binary as a shell sees it: help, exit codes, and what works without a control plane.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use weft_identity::Root;

/// Runs `meshctl` in a folder that holds no context, without the user's own.
fn meshctl(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("WEFT_CONTEXT")
        .env("HOME", folder)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// A context whose control plane is gone: its port was free a moment ago and nothing listens there.
fn unreachable_context(folder: &Path) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let context = folder.join(".weft");
    std::fs::create_dir(&context).unwrap();
    std::fs::set_permissions(&context, PermissionsExt::from_mode(0o700)).unwrap();
    let domain = "weft.local".parse().unwrap();
    let now = Timestamp::now();
    let day = std::time::Duration::from_secs(24 * 3600);
    let root = Root::generate(&domain, now, day, [1; 16]).unwrap();
    let intermediate = root.issue_intermediate(now, day, [2; 16]).unwrap();
    let made = weft_identity::new_key_and_csr().unwrap();
    let operator = weft_identity::SpiffeId::for_operator(&domain, &"admin".parse().unwrap());
    let request = weft_identity::SvidRequest {
        id: &operator,
        public_key: &weft_identity::read_csr(&made.csr_der).unwrap(),
        ttl: day,
        serial: [3; 16],
        now,
    };
    let issued = intermediate.issue_svid(&request).unwrap();
    let settings = format!(
        "trustDomain: weft.local\noperator: admin\napi: 127.0.0.1:{port}\nattestation: 127.0.0.1:{port}\n"
    );
    let chain: String = issued
        .chain
        .iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    write(&context, "operator.pem", &chain);
    write(
        &context,
        "operator.key",
        &pem("PRIVATE KEY", &made.key_pkcs8),
    );
    write(
        &context,
        "bundle.pem",
        &pem("CERTIFICATE", &root.to_parts().certificate),
    );
    write(&context, "context.yaml", &settings);
    for name in ["operator.pem", "operator.key", "bundle.pem", "context.yaml"] {
        std::fs::set_permissions(context.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

const WORLD: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web-reads-orders, namespace: shop}
spec:
  to: {service: api, ports: [http]}
  from: [shop/web]
  http: [{methods: [GET], paths: [\"/orders/**\"]}]
";

const OUTSIDE: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: payments, namespace: shop}
spec:
  type: External
  hosts: [api.pay.example, \"*.files.example\"]
  ports: [{name: https, port: 443, protocol: tls}]
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web-pays, namespace: shop}
spec: {to: {service: payments, ports: [https]}, from: [shop/web]}
";

fn test_document(expect: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1\nkind: PolicyTest\nmetadata: {{name: t}}\nspec:\n  cases:\n  - {{name: web reads, \
         from: shop/web, to: \"shop/api:http\", method: GET, path: /orders/1, expect: {expect}}}\n"
    )
}

#[test]
fn every_verb_has_help() {
    let folder = tempfile::tempdir().unwrap();
    let verbs: &[&[&str]] = &[
        &[],
        &["up"],
        &["check"],
        &["apply"],
        &["diff"],
        &["get"],
        &["edit"],
        &["delete"],
        &["policy"],
        &["policy", "test"],
        &["policy", "explain"],
        &["why"],
        &["identity"],
        &["identity", "list"],
        &["identity", "show"],
        &["identity", "revoke"],
        &["quarantine"],
        &["token"],
        &["token", "create"],
        &["services"],
        &["endpoints"],
        &["sidecars"],
        &["audit", "tail"],
        &["login"],
        &["schema"],
        &["completion"],
        &["control-plane"],
        &["sidecar"],
        &["sample"],
    ];
    for verb in verbs {
        let output = meshctl(folder.path(), &[*verb, &["--help"]].concat());
        assert_eq!(code(&output), 0, "{verb:?}");
        assert!(text(&output.stdout).contains("Usage: meshctl"), "{verb:?}");
        assert!(output.stderr.is_empty(), "{verb:?}");
    }
}

#[test]
fn a_usage_error_is_2_and_goes_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let wrong: &[&[&str]] = &[
        &["aply"],
        &["apply"],
        &["apply", "-f", "x", "--timeout", "3s"],
        &["apply", "-f", "x", "--prune"],
        &["get"],
        &["delete"],
        &["identity", "revoke"],
        &["identity", "revoke", "shop/web", "--serial", "ab"],
        &["token", "create", "web"],
        &["policy", "explain", "shop/web", "shop/api"],
        &["sidecars", "-o", "xml"],
    ];
    for arguments in wrong {
        let output = meshctl(folder.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn without_a_context_the_error_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = meshctl(folder.path(), &["sidecars"]);
    assert_eq!(code(&output), 2);
    let error = text(&output.stderr);
    assert!(
        error.contains("no mesh here") && error.contains("meshctl up"),
        "{error}"
    );
}

#[test]
fn an_unreachable_control_plane_is_3() {
    let folder = tempfile::tempdir().unwrap();
    unreachable_context(folder.path());
    write(folder.path(), "world.yaml", WORLD);
    let calls: &[&[&str]] = &[
        &["sidecars"],
        &["get", "allow"],
        &["apply", "-f", "world.yaml"],
        &["diff", "-f", "world.yaml"],
        &["delete", "allow/shop/web-reads-orders"],
        &["quarantine", "shop/web"],
        &["why", "01K9ZQ0W8Y5N2V7C3B1M4T6R8D"],
        &["check"],
    ];
    for arguments in calls {
        let output = meshctl(folder.path(), arguments);
        assert_eq!(code(&output), 3, "{arguments:?}: {}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("cannot reach the control plane at 127.0.0.1:"),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_context_is_found_upwards() {
    let folder = tempfile::tempdir().unwrap();
    unreachable_context(folder.path());
    let deep = folder.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    assert_eq!(code(&meshctl(&deep, &["sidecars"])), 3);
}

#[test]
fn row_09_a_planted_context_is_ignored_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    unreachable_context(folder.path());
    std::fs::set_permissions(
        folder.path().join(".weft"),
        PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let output = meshctl(folder.path(), &["sidecars"]);
    assert_eq!(code(&output), 2);
    assert!(
        text(&output.stderr).contains("warning: ignoring a context"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn documents_with_problems_are_2_and_all_are_named() {
    let folder = tempfile::tempdir().unwrap();
    unreachable_context(folder.path());
    write(
        folder.path(),
        "a.yaml",
        "apiVersion: weft.dev/v1\nkind: Alow\nmetadata: {name: a, namespace: shop}\nspec: {}\n",
    );
    write(
        folder.path(),
        "b.yaml",
        &WORLD.replace("methods", "methdos"),
    );
    let output = meshctl(
        folder.path(),
        &[
            "apply",
            "-f",
            "a.yaml",
            "-f",
            "b.yaml",
            "-f",
            "missing.yaml",
        ],
    );
    assert_eq!(code(&output), 2);
    let error = text(&output.stderr);
    assert!(error.contains("missing.yaml: "), "{error}");
    assert!(
        error.contains("a.yaml:1: unknown kind `Alow`, did you mean `Allow`?"),
        "{error}"
    );
    assert!(
        error.contains("b.yaml:12:11: unknown field `methdos`, did you mean `methods`?"),
        "{error}"
    );
}

#[test]
fn policy_test_judges_a_file_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "good.yaml",
        &format!("{WORLD}{}", test_document("allow")),
    );
    write(
        folder.path(),
        "bad.yaml",
        &format!("{WORLD}{}", test_document("deny")),
    );
    let good = meshctl(folder.path(), &["policy", "test", "good.yaml"]);
    assert_eq!(code(&good), 0, "{}", text(&good.stderr));
    assert!(
        text(&good.stdout).contains("1 cases, 0 failed"),
        "{}",
        text(&good.stdout)
    );
    assert!(
        text(&good.stdout).contains("allow by shop/web-reads-orders"),
        "{}",
        text(&good.stdout)
    );
    let bad = meshctl(folder.path(), &["policy", "test", "bad.yaml", "-o", "json"]);
    assert_eq!(code(&bad), 1);
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(report["failed"], 1);
    assert_eq!(report["results"][0]["pass"], false);
    assert_eq!(report["results"][0]["rule"], "shop/web-reads-orders");
}

#[test]
fn policy_test_passes_the_whole_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/policy");
    let mut cases = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let output = meshctl(
            Path::new("/"),
            &["policy", "test", path.to_str().unwrap(), "-o", "json"],
        );
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(
            code(&output),
            0,
            "{}: {}{}",
            path.display(),
            text(&output.stderr),
            report
        );
        cases += report["cases"].as_u64().unwrap();
    }
    assert!(cases >= 120, "{cases}");
}

#[test]
fn policy_explain_names_the_rule_or_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "world.yaml", WORLD);
    let explain = |arguments: &[&str]| {
        meshctl(
            folder.path(),
            &[&["policy", "explain", "-f", "world.yaml"], arguments].concat(),
        )
    };
    let allowed = explain(&["shop/web", "shop/api:http", "GET", "/orders/1"]);
    assert_eq!(code(&allowed), 0, "{}", text(&allowed.stderr));
    assert!(text(&allowed.stdout).contains("by shop/web-reads-orders"));
    let refused = explain(&["shop/intruder", "shop/api:http", "GET", "/orders/1"]);
    assert_eq!(code(&refused), 1);
    let shown = text(&refused.stdout);
    for part in [
        "noRule",
        "shop/web-reads-orders",
        "source",
        "kind: Allow",
        "shop/intruder",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let refused = explain(&[
        "shop/web",
        "shop/api:http",
        "POST",
        "/orders/1",
        "-o",
        "json",
    ]);
    assert_eq!(code(&refused), 1);
    let verdict: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(verdict["reason"], "noRule");
    assert_eq!(verdict["nearest"][0]["failedCondition"], "method");
}

#[test]
fn policy_explain_takes_an_address_and_says_that_no_sidecar_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let rule = WORLD.replace("from: [shop/web]", "fromAddresses: [10.1.0.0/16]");
    write(folder.path(), "world.yaml", &rule);
    let explain = |source: &str| {
        let asked = [source, "shop/api:http", "GET", "/orders/1"];
        meshctl(
            folder.path(),
            &[&["policy", "explain", "-f", "world.yaml"][..], &asked].concat(),
        )
    };
    for (source, expected, says) in [
        (
            "10.1.2.3",
            0,
            "allowed: 10.1.2.3 → shop/api:http by shop/web-reads-orders",
        ),
        ("10.2.0.1", 1, "fromAddresses: [\"10.2.0.1\"]"),
        ("::1", 1, "plaintext-to-api"),
    ] {
        let output = explain(source);
        let shown = text(&output.stdout);
        assert_eq!(
            code(&output),
            expected,
            "{source}: {shown}{}",
            text(&output.stderr)
        );
        assert!(shown.contains(says), "{source}: {shown}");
        assert!(
            shown.contains("hint: no sidecar accepts plaintext yet"),
            "{source}: {shown}"
        );
    }
    // Whoever has an identity is not matched by addresses.
    assert_eq!(code(&explain("shop/web")), 1);
}

#[test]
fn policy_explain_finds_the_service_of_a_host_outside_and_judges_where_it_leads() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "world.yaml", OUTSIDE);
    let explain = |arguments: &[&str]| {
        let line = ["policy", "explain", "-f", "world.yaml", "-o", "json"];
        let output = meshctl(folder.path(), &[&line[..], arguments].concat());
        let verdict: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (code(&output), verdict)
    };
    let (exit, allowed) = explain(&["shop/web", "API.pay.example:443"]);
    assert_eq!((exit, &allowed["rule"]), (0, &"shop/web-pays".into()));
    assert_eq!(allowed["target"], "shop/payments:https");
    let private = ["shop/web", "api.pay.example:443", "--address", "10.0.0.1"];
    let (exit, refused) = explain(&private);
    assert_eq!((exit, &refused["reason"]), (1, &"forbiddenAddress".into()));
    let hints = refused["hints"].to_string();
    assert!(hints.contains("allowAddresses of shop/payments"), "{hints}");
    let (exit, refused) = explain(&["shop/batch", "api.pay.example:443"]);
    assert_eq!((exit, &refused["reason"]), (1, &"noRule".into()));
    assert_eq!(refused["nearest"][0]["rule"], "shop/web-pays");
    assert!(refused["suggestedYaml"].to_string().contains("shop/batch"));
    let (exit, unknown) = explain(&["shop/web", "api.pay.example:80", "GET"]);
    assert_eq!((exit, &unknown["reason"]), (1, &"unknownTarget".into()));
    for wrong in ["payments.shop:443", "api.pay.example", "api.pay.example:x"] {
        let line = ["policy", "explain", "-f", "world.yaml", "shop/web", wrong];
        assert_eq!(code(&meshctl(folder.path(), &line)), 2, "{wrong}");
    }
}

#[test]
fn documents_are_read_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["policy", "test", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{WORLD}{}", test_document("allow"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
}

#[test]
fn a_schema_is_json_and_knows_the_kind() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [
        "mesh",
        "Service",
        "allows",
        "quarantine",
        "namespacesettings",
        "PolicyTest",
    ] {
        let output = meshctl(folder.path(), &["schema", kind]);
        assert_eq!(code(&output), 0, "{kind}");
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            schema["properties"]["apiVersion"]["const"], "weft.dev/v1",
            "{kind}"
        );
    }
    let all: serde_json::Value =
        serde_json::from_slice(&meshctl(folder.path(), &["schema"]).stdout).unwrap();
    assert_eq!(all["oneOf"].as_array().unwrap().len(), 6);
    let modes = &all["$defs"]["ModeSpec"];
    // What exists only to be refused is not offered.
    assert!(!modes.to_string().contains("permissive"), "{modes}");
    assert!(modes.to_string().contains("learn"), "{modes}");
    assert_eq!(code(&meshctl(folder.path(), &["schema", "pod"])), 2);
}

#[test]
fn completion_scripts_know_the_verbs() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = meshctl(folder.path(), &["completion", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        assert!(text(&output.stdout).contains("quarantine"), "{shell}");
    }
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stderr).as_str()), (0, ""));
}

/// Not what was typed but what happened: 1.
#[cfg(target_os = "linux")]
#[test]
fn what_fails_while_it_runs_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = command(folder.path(), &["schema"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = meshctl(folder.path(), &["sample", "ledger", "--listen", &address]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let no_place = command(folder.path(), &["login", "--socket", "nothing.sock"])
        .output()
        .unwrap();
    assert_eq!(code(&no_place), 3, "{}", text(&no_place.stderr));
}

#[test]
fn the_long_help_of_the_sidecar_describes_every_key_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let help = text(&meshctl(folder.path(), &["sidecar", "--help"]).stdout);
    for key in weft_sidecar::config::KEYS {
        let line = format!("  {} ({})", key.name, key.default);
        assert!(help.contains(&line), "{line} is missing in:\n{help}");
    }
}
