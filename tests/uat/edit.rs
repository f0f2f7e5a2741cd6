//! `meshctl edit`: what the editor leaves is stored, refused or kept, and never lost.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use weft_tests::{Mesh, Ran, binary};

const RULE: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec: {to: {service: api, ports: [http]}, from: [shop/web]}
";

/// An operator at a terminal, with an editor that does one thing.
struct Desk {
    mesh: Mesh,
}

impl Desk {
    async fn new() -> Self {
        let mesh = Mesh::start().await;
        mesh.meshctl_with(&["apply", "-f", "-", "--set", "mine"], RULE)
            .await
            .ok();
        std::fs::create_dir(mesh.folder().join("drafts")).expect("a folder");
        Self { mesh }
    }

    /// Edits the rule with a shell script in the place of the editor; the file is its `$1`.
    fn edit(&self, script: &str) -> Ran {
        let editor = self.mesh.folder().join("editor");
        std::fs::write(&editor, format!("set -e\n{script}\n")).expect("written");
        let output = Command::new(binary("meshctl"))
            .args(["edit", "allow", "shop/web"])
            .env("WEFT_CONTEXT", self.mesh.context())
            .env("EDITOR", format!("sh {}", editor.display()))
            .env("MESHCTL", binary("meshctl"))
            .env("TMPDIR", self.mesh.folder().join("drafts"))
            .env("NO_COLOR", "1")
            .env_remove("VISUAL")
            .current_dir(self.mesh.folder())
            .output()
            .expect("it runs");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    async fn stored(&self) -> Value {
        let one = ["get", "allow", "shop/web", "-o", "json"];
        self.mesh.meshctl(one).await.ok().json()
    }

    fn drafts(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.mesh.folder().join("drafts")).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// The one draft that is kept; it is named in the error, and taken away here.
    fn kept(&self, ran: &Ran) -> String {
        let drafts = self.drafts();
        let [draft] = drafts.as_slice() else {
            panic!("not one draft: {drafts:?}");
        };
        let told = format!("your text is kept in {}", draft.display());
        assert!(ran.stderr.contains(&told), "{told}: {}", ran.stderr);
        let text = std::fs::read_to_string(draft).expect("it can be read");
        std::fs::remove_file(draft).expect("removed");
        text
    }
}

#[tokio::test]
async fn what_was_changed_is_stored_in_its_set_and_what_was_not_changed_is_left() {
    let desk = Desk::new().await;
    let before = desk.stored().await;
    let unchanged = desk.edit("true").ok();
    assert_eq!(unchanged.stdout, "Allow/shop/web unchanged\n");
    assert_eq!(desk.stored().await, before);

    let changed = desk.edit(r#"sed -i 's,shop/web,shop/batch-*,' "$1""#).ok();
    assert_eq!(changed.stdout, "Allow/shop/web updated\n");
    let after = desk.stored().await;
    assert_eq!(after["resource"]["spec"]["from"][0], "shop/batch-*");
    assert_eq!(after["set"], "mine", "the set that it belongs to stays");
    assert!(after["revision"].as_u64() > before["revision"].as_u64());
    assert_eq!(desk.drafts(), Vec::<PathBuf>::new(), "nothing is left");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_place_and_kept() {
    let desk = Desk::new().await;
    let before = desk.stored().await;
    let misspelt = desk.edit(r#"sed -i 's/^  from:/  form:/' "$1""#);
    assert_eq!(misspelt.code, 2, "{misspelt:?}");
    let draft = desk.drafts().pop().expect("a draft").display().to_string();
    let line = {
        let text = desk.kept(&misspelt);
        text.lines()
            .position(|line| line.starts_with("  form:"))
            .expect("the edit")
            + 1
    };
    let place = format!("{draft}:{line}:3: unknown field `form`, did you mean `from`?");
    assert!(
        misspelt.stderr.contains(&place),
        "{place}: {}",
        misspelt.stderr
    );

    let renamed = desk.edit(r#"sed -i 's/name: web/name: other/' "$1""#);
    assert_eq!(renamed.code, 2, "{renamed:?}");
    assert!(
        renamed
            .stderr
            .contains("this is Allow/shop/other, not Allow/shop/web"),
        "{}",
        renamed.stderr
    );
    assert!(desk.kept(&renamed).contains("other"));

    let emptied = desk.edit(r#": > "$1""#);
    assert_eq!(emptied.code, 2, "{emptied:?}");
    desk.kept(&emptied);

    let given_up = desk.edit("exit 4");
    assert_eq!(given_up.code, 1, "{given_up:?}");
    desk.kept(&given_up);
    assert_eq!(desk.stored().await, before);
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let desk = Desk::new().await;
    let conflict = desk.edit(
        r#"sed 's,shop/web,shop/theirs,' "$1" > theirs.yaml
"$MESHCTL" apply -f theirs.yaml --set mine > /dev/null
sed -i 's,shop/web,shop/mine,' "$1""#,
    );
    assert_eq!(conflict.code, 1, "{conflict:?}");
    assert!(conflict.stderr.contains("conflict"), "{}", conflict.stderr);
    assert!(
        desk.kept(&conflict).contains("shop/mine"),
        "the own text is kept"
    );
    assert_eq!(
        desk.stored().await["resource"]["spec"]["from"][0],
        "shop/theirs"
    );
}

#[tokio::test]
async fn a_text_with_a_mistake_comes_back_with_the_mistake_above_it() {
    let desk = Desk::new().await;
    // the first time a slip; then, told of it, it is mended
    let mended = desk
        .edit(
            r##"cp "$1" "seen-$(ls seen-* 2>/dev/null | wc -l)"
if grep -q '^#!' "$1"; then sed -i 's/^  form:/  from:/; s,shop/web,shop/mended,' "$1"
else sed -i 's/^  from:/  form:/' "$1"; fi"##,
        )
        .ok();
    assert_eq!(mended.stdout, "Allow/shop/web updated\n");
    let spec = &desk.stored().await["resource"]["spec"];
    assert_eq!(spec["from"][0], "shop/mended");
    let seen = std::fs::read_to_string(desk.mesh.folder().join("seen-1")).expect("a second look");
    let line = 1 + seen
        .lines()
        .position(|line| line.starts_with("  form:"))
        .expect("the text that was typed");
    let remark = format!(":{line}:3: unknown field `form`, did you mean `from`?");
    assert!(seen.starts_with("#! It was not stored."), "{seen}");
    assert!(seen.contains(&remark), "{remark} in:\n{seen}");
    assert_eq!(desk.drafts(), Vec::<PathBuf>::new(), "nothing is left");

    // told of it, the text is put back as it was: nothing is stored, and nothing is kept
    let before = desk.stored().await;
    let given_up = desk
        .edit(
            r##"if grep -q '^#!' "$1"; then sed -i '/^#!/d; s/^  form:/  from:/' "$1"
else sed -i 's/^  from:/  form:/' "$1"; fi"##,
        )
        .ok();
    assert_eq!(given_up.stdout, "Allow/shop/web unchanged\n");
    assert_eq!(desk.stored().await, before);
    assert_eq!(desk.drafts(), Vec::<PathBuf>::new());
}
