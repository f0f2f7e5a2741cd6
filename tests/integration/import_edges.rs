//! The house: which of our crates may import which, and which crates do no I/O. Read from the manifests, so that a new edge is a decision.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Each crate of the workspace and those of ours that it may import, in any kind of dependency.
const HOUSE: &[(&str, &[&str])] = &[
    ("weft-identity", &[]),
    ("weft-policy", &["weft-identity"]),
    ("weft-catalog", &["weft-identity"]),
    (
        "weft-wire",
        &["weft-identity", "weft-policy", "weft-catalog"],
    ),
    ("weft-daemon", &[]),
    ("weft-control-plane", SERVER),
    ("weft-sidecar", SERVER),
    ("meshctl", EVERYTHING),
    ("weft-tests", EVERYTHING),
];

const SERVER: &[&str] = &[
    "weft-identity",
    "weft-policy",
    "weft-catalog",
    "weft-wire",
    "weft-daemon",
];

const EVERYTHING: &[&str] = &[
    "weft-identity",
    "weft-policy",
    "weft-catalog",
    "weft-wire",
    "weft-daemon",
    "weft-control-plane",
    "weft-sidecar",
];

/// These decide and never act: no socket, no clock, no disk, no protobuf.
const PURE: &[&str] = &["weft-identity", "weft-policy", "weft-catalog"];

const IMPURE_IMPORTS: &[&str] = &[
    "h2",
    "hyper",
    "prost",
    "redb",
    "rustix",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tonic",
    "tracing",
];

#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// The package's own name, also where the manifest renames it.
    name: String,
}

#[test]
fn every_import_between_our_crates_is_one_that_the_house_allows() -> Result<()> {
    let workspace = read_manifests()?;
    assert_eq!(forbidden_edges(&workspace), Vec::<String>::new());
    Ok(())
}

#[test]
fn the_house_names_exactly_the_crates_that_exist() -> Result<()> {
    let mut found: Vec<String> = read_manifests()?
        .packages
        .into_iter()
        .map(|package| package.name)
        .collect();
    let mut named: Vec<&str> = HOUSE.iter().map(|(name, _)| *name).collect();
    found.sort_unstable();
    named.sort_unstable();
    assert_eq!(found, named);
    Ok(())
}

#[test]
fn an_edge_outside_the_house_is_found() {
    let cases = [
        ("weft-policy", "weft-catalog"),
        ("weft-identity", "weft-policy"),
        ("weft-catalog", "weft-wire"),
        ("weft-daemon", "weft-identity"),
        ("weft-sidecar", "weft-control-plane"),
        ("weft-control-plane", "weft-sidecar"),
        ("weft-wire", "meshctl"),
        ("weft-sidecar", "weft-tests"),
        ("weft-identity", "tokio"),
        ("weft-policy", "prost"),
        ("weft-common", "weft-identity"),
    ];
    for (importer, imported) in cases {
        assert_eq!(
            forbidden_edges(&one_edge(importer, imported)),
            [format!("{importer} -> {imported}")]
        );
    }
    assert!(forbidden_edges(&one_edge("weft-wire", "weft-policy")).is_empty());
    assert!(forbidden_edges(&one_edge("weft-sidecar", "tokio")).is_empty());
}

fn forbidden_edges(workspace: &Workspace) -> Vec<String> {
    let house: BTreeMap<&str, &[&str]> = HOUSE.iter().copied().collect();
    let is_ours = |name: &str| house.contains_key(name);
    let mut forbidden = Vec::new();
    for package in &workspace.packages {
        let allowed = house
            .get(package.name.as_str())
            .copied()
            .unwrap_or_default();
        let is_pure = PURE.contains(&package.name.as_str());
        for Dependency { name } in &package.dependencies {
            let name = name.as_str();
            let breaks_house = is_ours(name) && !allowed.contains(&name);
            let breaks_purity = is_pure && IMPURE_IMPORTS.contains(&name);
            if breaks_house || breaks_purity {
                forbidden.push(format!("{} -> {name}", package.name));
            }
        }
    }
    forbidden
}

fn one_edge(importer: &str, imported: &str) -> Workspace {
    let dependencies = vec![Dependency {
        name: imported.to_owned(),
    }];
    Workspace {
        packages: vec![Package {
            name: importer.to_owned(),
            dependencies,
        }],
    }
}

/// Lets cargo read the manifests, so that renamed, optional and platform dependencies are seen as it sees them.
fn read_manifests() -> Result<Workspace> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("starting cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata printed")
}
