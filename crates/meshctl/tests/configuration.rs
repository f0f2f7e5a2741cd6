//! docs/CONFIGURATION.md says what the programs' own tables say: the sidecar's keys and every flag.
//!
//! `WEFT_WRITE_DOCS=1 cargo test -p meshctl --test configuration` writes the page anew.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use weft_sidecar::config::{KEYS, Key};

#[test]
fn the_page_is_what_the_programs_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md");
    if std::env::var_os("WEFT_WRITE_DOCS").is_some() {
        std::fs::write(&page, rendered()).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == rendered(),
        "docs/CONFIGURATION.md differs; WEFT_WRITE_DOCS=1 writes it anew. It should be:\n{}",
        rendered()
    );
}

fn rendered() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| key | default | what it is |\n| --- | --- | --- |\n");
    for Key {
        name,
        default,
        what,
    } in KEYS
    {
        let _ = writeln!(page, "| `{name}` | {} | {what} |", shown(default));
    }
    page.push_str(SIDECAR_FLAGS);
    flags(
        &mut page,
        weft_sidecar::Arguments::augment_args(Command::new("weft-sidecar")),
        "",
    );
    page.push_str(CONTROL_PLANE);
    flags(
        &mut page,
        weft_control_plane::Flags::augment_args(Command::new("weft-control-plane")),
        &missing(),
    );
    let _ = write!(
        page,
        "\n`${}` holds the wrapping key when there is no `--key-file`.\n",
        weft_control_plane::STATE_KEY
    );
    page
}

/// What a control plane says that is given no flag at all.
fn missing() -> String {
    let command = weft_control_plane::Flags::augment_args(Command::new("weft-control-plane"));
    let matches = command.get_matches_from(["weft-control-plane"]);
    let flags = weft_control_plane::Flags::from_arg_matches(&matches).unwrap();
    match weft_control_plane::Config::from_flags(flags, None) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// A row for each flag; `missing` names those without which the program does not start.
fn flags(page: &mut String, command: Command, missing: &str) {
    page.push_str("| flag | default | what it is |\n| --- | --- | --- |\n");
    for flag in command.get_arguments() {
        let name = flag.get_long().expect("every flag has a long name");
        let value = flag
            .get_value_names()
            .filter(|_| flag.get_action().takes_values())
            .map(|names| format!(" {}", names.join(" ")))
            .unwrap_or_default();
        let default = flag
            .get_default_values()
            .iter()
            .filter(|_| flag.get_action().takes_values())
            .map(|value| value.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "--{name} says nothing about itself");
        let is_required = flag.is_required_set() || missing.contains(&format!("\n  --{name}: "));
        let default = match default.as_str() {
            "" if is_required => "required",
            "" => "none",
            value => value,
        };
        let _ = writeln!(
            page,
            "| `--{name}{value}` | {} | {} |",
            shown(default),
            help.replace('|', "\\|")
        );
    }
}

/// Words stand as they are, values as code.
fn shown(default: &str) -> String {
    match default {
        "required" | "none" => default.to_owned(),
        value => format!("`{value}`"),
    }
}

const HEAD: &str = "\
# Configuration

Every setting of the two servers. This page is written by a test from the tables in the programs, which also feed `--help`.

A configuration is read as a whole: an unknown key is refused, and everything that is wrong is told at once, each with its
key, its value and the reason. What concerns the whole mesh (certificate lifetimes, `maxStale`) is no setting of a server
but the resource `Mesh`; `meshctl schema mesh` describes it.

## Sidecar

`weft-sidecar --config FILE`, or `meshctl sidecar --config FILE`. The file is YAML:

```yaml
workload: shop/web
instance: web-1
trustDomain: weft.local
controlPlane: {api: \"10.0.0.2:15012\", attestation: \"10.0.0.2:15010\"}
joinTokenFile: /run/weft/web-1/token
runtime: /run/weft/web-1
inbound: {listen: \"0.0.0.0:15006\", advertise: \"10.0.0.7:15006\"}
httpProxy: {listen: \"127.0.0.1:15001\"}
upstreams: [{service: shop/api, port: http, listen: \"127.0.0.1:9001\"}]
apps: [{service: shop/web, port: http, address: \"127.0.0.1:8080\"}]
```

`httpProxy`, `upstreams` and `apps` may be left out; what is required of them is required of each entry.

";

const SIDECAR_FLAGS: &str = "\n### Flags of the sidecar\n\n";

const CONTROL_PLANE: &str = "
## Control plane

`weft-control-plane`, or `meshctl control-plane`. It has no file; every setting is a flag.

";
