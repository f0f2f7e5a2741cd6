//! An operator who looks after identities, works with several meshes, and reads on a terminal or through a pipe.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weft_tests::{Mesh, Up, binary};

#[tokio::test]
async fn identities_are_listed_shown_and_revoked() {
    let shop = Up::start("examples/shop/mesh.yaml").await;
    let list = shop
        .meshctl(&["identity", "list", "-o", "json"])
        .await
        .ok()
        .json();
    let mut listed: Vec<&str> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|identity| identity["identity"].as_str().expect("an id"))
        .collect();
    listed.sort_unstable();
    let wanted = ["api", "intruder", "ledger", "orders", "web"]
        .map(|name| format!("spiffe://shop.example/ns/shop/sa/{name}"));
    assert_eq!(listed, wanted);

    // By its short name and by its id; two replicas have two lineages.
    let show = ["identity", "show", "shop/api", "-o", "json"];
    let api = shop.meshctl(&show).await.ok().json();
    let by_id = shop
        .meshctl(&["identity", "show", &wanted[0], "-o", "json"])
        .await
        .ok()
        .json();
    assert_eq!(api, by_id);
    let lineages = api["lineages"].as_array().expect("a list");
    assert_eq!(lineages.len(), 2, "{api}");
    for lineage in lineages {
        assert_eq!(lineage["state"], "active", "{api}");
        assert!(lineage["issued"].as_u64() >= Some(1), "{api}");
        assert!(
            lineage["attestedBy"]
                .as_str()
                .is_some_and(|by| !by.is_empty()),
            "{api}"
        );
    }
    let table = shop
        .meshctl(&["identity", "show", "shop/api"])
        .await
        .ok()
        .stdout;
    let serial = lineages[0]["currentSerial"].as_str().expect("a serial");
    assert!(table.contains(serial), "{table}");
    let nobody = shop.meshctl(&["identity", "show", "shop/nobody"]).await;
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.stderr.contains("has never joined"), "{nobody:?}");

    // One of the two is revoked, which the list shows for it alone.
    let revoked = lineages[0]["id"].as_str().expect("an id");
    shop.meshctl(&[
        "identity",
        "revoke",
        "--lineage",
        revoked,
        "--reason",
        "drill",
    ])
    .await
    .ok();
    let states = |shown: &Value| -> Vec<(String, String)> {
        let lineages = shown["lineages"].as_array().expect("a list");
        lineages
            .iter()
            .map(|it| (it["id"].to_string(), it["state"].to_string()))
            .collect()
    };
    for (id, state) in states(&shop.meshctl(&show).await.ok().json()) {
        let expected = if id.contains(revoked) {
            "\"revoked\""
        } else {
            "\"active\""
        };
        assert_eq!(state, expected, "{id}");
    }
}

#[tokio::test]
async fn the_flag_names_the_mesh_before_the_environment_does() {
    let (one, two) = (Mesh::start().await, Mesh::start().await);
    for (mesh, name) in [(&one, "first"), (&two, "second")] {
        let service = format!(
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: x}}\n\
             spec: {{workloads: [x/a], ports: [{{name: http, port: 80, protocol: http}}]}}\n"
        );
        mesh.meshctl_with(&["apply", "-f", "-"], &service)
            .await
            .ok();
    }
    let services = |arguments: &[&str], env: Option<&Path>| {
        let mut command = Command::new(binary("meshctl"));
        command
            .args(arguments)
            .args(["services"])
            .current_dir(one.folder());
        match env {
            Some(context) => command.env("WEFT_CONTEXT", context),
            None => command.env_remove("WEFT_CONTEXT"),
        };
        command
            .env("XDG_CONFIG_HOME", one.folder().join("nothing"))
            .output()
            .expect("it runs")
    };
    let (first, second) = (one.context(), two.context());
    let flag = second.display().to_string();
    assert!(text(&services(&[], Some(&first)).stdout).contains("x/first"));
    assert!(text(&services(&["--context", &flag], Some(&first)).stdout).contains("x/second"));
    assert!(text(&services(&["--context", &flag], None).stdout).contains("x/second"));
    // A named one that is no context is an error, whatever the environment says.
    let nowhere = services(&["--context", "nowhere"], Some(&first));
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
    assert_eq!(services(&[], None).status.code(), Some(2));
}

#[tokio::test]
async fn colours_appear_on_a_terminal_alone() {
    let mesh = Mesh::start().await;
    let check = ["check"];
    let json = ["check", "-o", "json"];
    let green = "\u{1b}[32m√\u{1b}[0m";
    let shown = |verb: &[&str], terminal: bool, no_color: Option<&str>| {
        let output = run(&mesh, verb, terminal, no_color);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let coloured = shown(&check, true, None);
    assert!(coloured.contains(green), "{coloured:?}");
    assert!(
        shown(&check, true, Some("")).contains(green),
        "an empty NO_COLOR asks for nothing"
    );
    for (verb, terminal, no_color) in [
        (&check[..], true, Some("1")),
        (&check, false, None),
        (&json, true, None),
        (&json, false, None),
    ] {
        let plain = shown(verb, terminal, no_color);
        assert!(
            !plain.is_empty() && !plain.contains('\u{1b}'),
            "{verb:?} {terminal} {no_color:?}: {plain:?}"
        );
    }
}

/// Runs `meshctl` with its output on a terminal or in a pipe.
fn run(mesh: &Mesh, verb: &[&str], terminal: bool, no_color: Option<&str>) -> Output {
    let meshctl = binary("meshctl");
    let mut command = if terminal {
        let mut python = Command::new("python3");
        python.args(["-c", ON_A_TERMINAL]).arg(&meshctl);
        python
    } else {
        Command::new(&meshctl)
    };
    command
        .args(verb)
        .env("WEFT_CONTEXT", mesh.context())
        .env_remove("NO_COLOR");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs its arguments with a terminal and copies what they write there.
const ON_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
