//! Looks for secrets in what was persisted, in each form that somebody might have written them in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem::Finder;
use weft_identity::WrappingKey;
use weft_tests::{Mesh, Svid};

/// Secrets by what they are.
#[derive(Default)]
pub(crate) struct Secrets {
    forms: BTreeMap<Vec<u8>, String>,
}

impl Secrets {
    /// A private key in PKCS#8.
    pub(crate) fn add_key(&mut self, name: &str, pkcs8: &[u8]) {
        self.add_bytes(&format!("{name} (PKCS#8)"), pkcs8);
        self.add_bytes(&format!("{name} (scalar)"), scalar(pkcs8));
    }

    /// A join token as it was printed: the whole, and its secret part.
    pub(crate) fn add_token(&mut self, name: &str, token: &str) {
        self.add_form(name, token.as_bytes().to_vec());
        let secret = token.split('.').nth(1).expect("a token's second part");
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(secret)
            .expect("base64url");
        self.add_bytes(&format!("{name} (secret)"), &secret);
    }

    /// Raw bytes, and what they become as hex, base64 at any offset, or a list of decimals.
    pub(crate) fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 16, "{name} is too short to be looked for");
        self.add_form(name, bytes.to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add_form(&format!("{name} as hex"), hex.to_uppercase().into_bytes());
        self.add_form(&format!("{name} as hex"), hex.into_bytes());
        let decimals: Vec<String> = bytes.iter().map(u8::to_string).collect();
        self.add_form(
            &format!("{name} as decimals"),
            decimals.join(",").into_bytes(),
        );
        for (alphabet, engine) in [("base64", &STANDARD), ("base64url", &URL_SAFE)] {
            // Within something longer it starts at any of three offsets; the characters at the seams depend on neighbours.
            for offset in 0..3 {
                let whole = engine.encode([&vec![0; offset], bytes].concat());
                let whole = whole.trim_end_matches('=');
                let inner = &whole[[0, 2, 3][offset]..whole.len() - 1];
                self.add_form(&format!("{name} as {alphabet}"), inner.as_bytes().to_vec());
            }
        }
    }

    fn add_form(&mut self, name: &str, form: Vec<u8>) {
        self.forms.insert(form, name.to_owned());
    }

    pub(crate) fn count(&self) -> usize {
        self.forms.len()
    }

    /// What is found in this content, however its lines are broken.
    pub(crate) fn found_in(&self, content: &[u8]) -> Vec<&str> {
        let unbroken: Vec<u8> = content
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        self.forms
            .iter()
            .filter(|(form, _)| {
                let finder = Finder::new(form);
                finder.find(content).is_some() || finder.find(&unbroken).is_some()
            })
            .map(|(_, name)| name.as_str())
            .collect()
    }

    /// What is found in the files below a folder, links not followed; `spared` are not read.
    pub(crate) fn found_below(&self, folder: &Path, spared: &[PathBuf]) -> Vec<String> {
        let mut found = Vec::new();
        for file in files(folder) {
            if spared.contains(&file) {
                continue;
            }
            let content = std::fs::read(&file).unwrap_or_default();
            let secrets = self.found_in(&content).into_iter();
            found.extend(secrets.map(|secret| format!("{secret} in {}", file.display())));
        }
        found
    }
}

/// The octets of a P-256 private key: in PKCS#8 they follow `04 20`.
fn scalar(pkcs8: &[u8]) -> &[u8] {
    let at = memchr::memmem::find(pkcs8, &[0x04, 0x20]).expect("a P-256 key in PKCS#8") + 2;
    &pkcs8[at..at + 32]
}

/// All regular files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => all.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    all
}

/// The root's private key, as only who has the wrapping key can read it from the state folder.
pub(crate) fn root_key(mesh: &Mesh) -> Vec<u8> {
    let text = std::fs::read_to_string(mesh.key_file()).expect("the wrapping key");
    let key = WrappingKey::parse(text.trim()).expect("a wrapping key");
    let context = format!("weft root key of {}", mesh.trust_domain());
    for file in files(&mesh.state()) {
        let content = std::fs::read(file).unwrap_or_default();
        for at in memchr::memmem::find_iter(&content, b"\"sealedKey\":\"") {
            let sealed: Vec<u8> = content[at + 13..]
                .iter()
                .copied()
                .take_while(|byte| *byte != b'"')
                .collect();
            let sealed = STANDARD.decode(sealed).unwrap_or_default();
            if let Ok(opened) = weft_identity::open(&key, context.as_bytes(), &sealed) {
                return opened.to_vec();
            }
        }
    }
    panic!("no sealed root in {}", mesh.state().display());
}

/// The wrapping key, the root's and the operator's: what every mesh has.
pub(crate) fn of_mesh(mesh: &Mesh) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add_key("the root's key", &root_key(mesh));
    let text = std::fs::read_to_string(mesh.key_file()).expect("the wrapping key");
    let bytes: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect();
    secrets.add_bytes("the wrapping key", &bytes);
    let operator = Svid::of_operator(&mesh.context());
    secrets.add_key("the operator's key", &operator.key_pkcs8);
    secrets
}
