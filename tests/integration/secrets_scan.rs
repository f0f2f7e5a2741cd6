//! No key and no token of a run is in anything that was persisted, but for the three files that are made for them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, SidecarSpec, Svid};

use crate::rows_trust::until_status;
use crate::secrets::{self, Secrets};

const TARGET: &str = "shop/api:http";

#[tokio::test(flavor = "multi_thread")]
async fn no_key_or_token_of_a_run_is_persisted_and_a_planted_one_is_found() {
    let mut mesh = Mesh::start().await;
    let settings = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {ttl: 60s, renewEvery: 1s}\n";
    let documents = service(TARGET, "http") + &allow("all", TARGET, "shop/*") + "---\n" + settings;
    mesh.apply(&documents).await;
    let mut secrets = secrets::of_mesh(&mesh);

    // Tokens that are kept aside: the sidecars' own are deleted once used.
    let tokens = [mesh.token("shop/one").await, mesh.token("shop/two").await];
    let request = crate::rows_trust::new_request();
    crate::rows_trust::attest(&mesh, &tokens[0], "shop/one", &request.csr_der)
        .await
        .expect("a fresh token");
    for token in &tokens {
        secrets.add_token("a token", token);
    }

    let backend = Backend::http().await;
    let api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").upstream(TARGET))
        .await;
    let batch = mesh
        .sidecar(SidecarSpec::of("shop/batch").upstream(TARGET))
        .await;
    let mut keys = std::collections::BTreeSet::new();
    let sidecars = [&api, &web, &batch];
    until_status(web.upstream(TARGET), "api.shop", 200).await;
    // Each renews several times; refusals are reported; the control plane restarts amid it all.
    let mut rounds = 0;
    while keys.len() < 3 * RENEWALS {
        for sidecar in sidecars {
            keys.insert(Svid::of_sidecar(&sidecar.runtime).key_pkcs8);
        }
        let _ = weft_tests::request(
            web.proxy,
            "GET",
            "http://nothing.shop/",
            &[("Host", "nothing.shop")],
            b"",
        )
        .await;
        rounds += 1;
        if rounds == 10 {
            mesh.restart_control_plane().await;
        }
        assert!(rounds < 200, "only {} keys were seen", keys.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for key in &keys {
        secrets.add_key("a sidecar's key", key);
    }
    println!(
        "{} keys of sidecars, {} forms of secrets",
        keys.len(),
        secrets.count()
    );

    let spared = [mesh.key_file(), mesh.context().join("operator.key")];
    for file in &spared {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(file)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let found = secrets.found_below(mesh.folder(), &spared);
    assert!(found.is_empty(), "{found:#?}");
    let scanned = secrets::files(mesh.folder());
    for name in ["control-plane.log", "web.log", "context.yaml", ".redb"] {
        let is_scanned = scanned
            .iter()
            .any(|file| file.display().to_string().ends_with(name));
        assert!(is_scanned, "no {name} among {scanned:?}");
    }
    // The same scan sees them where they do lie.
    for file in &spared {
        let content = std::fs::read(file).expect("it can be read");
        assert!(!secrets.found_in(&content).is_empty(), "{}", file.display());
    }
    // The key of now: it may be newer than those above, and be renewed while it is looked for.
    weft_tests::eventually("the runtime folder's own key is found", || {
        secrets.add_key("a sidecar's key", &Svid::of_sidecar(&web.runtime).key_pkcs8);
        let is_found = !secrets.found_below(&web.runtime, &[]).is_empty();
        async move { is_found.then_some(()).ok_or(()) }
    })
    .await;

    assert_plants_are_found(&secrets, &mesh, keys.first().expect("a key"), &tokens[1]);
}

/// Whatever form a secret is written in, and whatever stands around it.
fn assert_plants_are_found(secrets: &Secrets, mesh: &Mesh, key: &[u8], token: &str) {
    let scalar = &key[memchr::memmem::find(key, &[0x04, 0x20]).expect("a key") + 2..][..32];
    let hex: String = scalar.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = STANDARD.encode(key);
    let broken: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("ASCII"))
        .collect();
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let plants: Vec<(&str, Vec<u8>)> = vec![
        ("the scalar", [b"before", scalar, b"after"].concat()),
        ("PKCS#8", [&[0; 100], key].concat()),
        (
            "PEM",
            format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                broken.join("\n")
            )
            .into_bytes(),
        ),
        (
            "base64 within more",
            STANDARD.encode([b"x", scalar, b"yz"].concat()).into_bytes(),
        ),
        (
            "base64url",
            url.encode([b"xy", scalar].concat()).into_bytes(),
        ),
        ("hex", format!("key={hex};").into_bytes()),
        ("upper-case hex", hex.to_uppercase().into_bytes()),
        (
            "a list of numbers",
            serde_json::to_vec(&scalar).expect("JSON"),
        ),
        (
            "a token in a log line",
            format!("WARN refused token={token} peer=x\n").into_bytes(),
        ),
    ];
    for (what, content) in plants {
        let file = mesh.state().join("planted");
        std::fs::write(&file, content).expect("the plant is written");
        let found = secrets.found_below(&mesh.state(), &[]);
        assert!(!found.is_empty(), "{what} was planted and not found");
        std::fs::remove_file(&file).expect("the plant is removed");
    }
}

/// SVIDs of each sidecar that the run sees.
const RENEWALS: usize = 3;
