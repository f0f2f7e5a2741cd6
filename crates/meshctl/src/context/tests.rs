//! Which contexts are believed.

use std::os::unix::fs::symlink;

use weft_identity::Root;

use super::*;

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A context as `login` writes it.
fn save_context(folder: &Path) {
    let settings = Settings {
        trust_domain: "weft.local".parse().unwrap(),
        operator: "admin".parse().unwrap(),
        api: "127.0.0.1:15012".to_owned(),
        attestation: "127.0.0.1:15010".to_owned(),
        operator_socket: None,
    };
    let now = jiff::Timestamp::now();
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let root = Root::generate(&settings.trust_domain, now, year, [7; 16]).unwrap();
    let parts = root.to_parts();
    let certificates = [parts.certificate.clone()];
    save(
        folder,
        &settings,
        &certificates,
        &parts.key_pkcs8,
        &certificates,
    )
    .unwrap();
}

fn search_one(folder: &Path, uid: u32) -> (bool, Vec<String>) {
    let mut warnings = Vec::new();
    let found = search(vec![folder.to_owned()], uid, &mut |warning| {
        warnings.push(warning)
    })
    .unwrap();
    (found.is_some(), warnings)
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_saved_is_found_again_and_closed_to_others() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".weft");
    save_context(&folder);
    let context = open(&folder, own_uid()).unwrap().unwrap();
    assert_eq!(context.settings.api, "127.0.0.1:15012");
    assert_eq!(context.chain, context.bundle.roots);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join(KEY)), 0o600);
}

#[test]
fn row_09_a_planted_context_of_another_user_is_ignored_with_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".weft");
    save_context(&folder);
    // To every other user the folder is somebody else's.
    let (found, warnings) = search_one(&folder, own_uid() + 1);
    assert!(!found);
    assert!(
        warnings[0].contains("belongs to another user"),
        "{warnings:?}"
    );
}

#[test]
fn row_09_a_context_that_others_can_write_is_ignored_with_a_warning() {
    let home = tempfile::tempdir().unwrap();
    for (name, mode) in [
        ("", 0o777),
        ("", 0o770),
        (SETTINGS, 0o666),
        (CHAIN, 0o622),
        (BUNDLE, 0o620),
        (KEY, 0o602),
    ] {
        let folder = home
            .path()
            .join(format!("{}{mode:o}", name.replace('.', "-")));
        save_context(&folder);
        chmod(&folder.join(name), mode);
        let (found, warnings) = search_one(&folder, own_uid());
        assert!(!found, "{name} {mode:o}");
        assert!(
            warnings[0].contains("others can write it"),
            "{name} {mode:o}: {warnings:?}"
        );
    }
}

#[test]
fn row_09_a_key_that_others_can_read_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".weft");
    save_context(&folder);
    chmod(&folder.join(KEY), 0o640);
    let (found, warnings) = search_one(&folder, own_uid());
    assert!(!found);
    assert!(
        warnings[0].contains("others can read the key"),
        "{warnings:?}"
    );
}

#[test]
fn row_09_a_file_that_is_a_link_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".weft");
    save_context(&folder);
    std::fs::rename(folder.join(BUNDLE), home.path().join("elsewhere.pem")).unwrap();
    symlink(home.path().join("elsewhere.pem"), folder.join(BUNDLE)).unwrap();
    let (found, warnings) = search_one(&folder, own_uid());
    assert!(!found);
    assert!(warnings[0].contains("symbolic link"), "{warnings:?}");
}

#[test]
fn row_09_behind_an_ignored_context_the_next_one_is_found() {
    let home = tempfile::tempdir().unwrap();
    let (planted, own) = (home.path().join("planted"), home.path().join("own"));
    save_context(&planted);
    save_context(&own);
    chmod(&planted, 0o777);
    let mut warnings = Vec::new();
    let folders = vec![planted, own.clone()];
    let found = search(folders, own_uid(), &mut |warning| warnings.push(warning))
        .unwrap()
        .unwrap();
    assert_eq!(found.folder, own);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn row_09_a_named_context_that_is_not_trusted_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".weft");
    save_context(&folder);
    chmod(&folder, 0o777);
    let error = find(Some(&folder), |_| {}).unwrap_err();
    assert!(error.to_string().contains("is not trusted"), "{error}");
}

#[test]
fn a_folder_without_a_context_is_passed_by() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(search_one(home.path(), own_uid()), (false, vec![]));
    assert_eq!(
        search_one(&home.path().join("nothing"), own_uid()),
        (false, vec![])
    );
}

#[test]
fn every_folder_upwards_is_looked_at_before_the_users_own() {
    let folders = candidates(Path::new("/a/b"));
    assert_eq!(
        folders[..3],
        [
            Path::new("/a/b/.weft"),
            Path::new("/a/.weft"),
            Path::new("/.weft")
        ]
    );
}
