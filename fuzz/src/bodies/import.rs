//! Documents of other meshes: what is read converts or fails with a sentence, to rules that our own reader takes.

use weft_identity::document::Origin;
use weft_policy::import::{Import, ImportOptions, Importer};
use weft_wire::{Resource, Spec, text};

pub(super) fn import(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else {
        return;
    };
    let Some(import) = convert(input, None) else {
        return;
    };
    for note in import.notes() {
        let shown = note.to_string();
        assert!(
            !shown.contains(['\n', '\r', '\0']),
            "{shown:?} ends its comment"
        );
    }
    let mut written = Vec::new();
    for rule in import.rules() {
        let resource = Resource::new(Spec::Allow(rule.clone().into()), Default::default())
            .unwrap_or_else(|error| panic!("{error}: {rule:?}"));
        // what is too large for a resource is said where it is written
        if let Ok(text) = text::write(&resource) {
            let again = text::read(&text, &Origin::file("rule.yaml"));
            assert_eq!(again.ok().as_ref(), Some(&resource), "{text}");
        }
        assert!(!written.contains(&&rule.name), "{} stands twice", rule.name);
        written.push(&rule.name);
    }
    assert_eq!(
        convert(input, None).as_ref(),
        Some(&import),
        "one input, two answers"
    );
    // a mesh that refuses everything leaves nothing, whatever stands beside that
    if let Some(refused) = convert(input, Some(REFUSE_ALL)) {
        assert_eq!(refused.rules().count(), 0, "{refused:?}");
    }
}

fn convert(input: &str, further: Option<&str>) -> Option<Import> {
    let mut importer = Importer::default();
    let documents = further.into_iter().chain(input.split("\n---\n"));
    for document in documents.take(DOCUMENTS_LIMIT) {
        if let Err(error) = importer.read(document, &Origin::file("seed.yaml")) {
            assert!(error.to_string().starts_with("seed.yaml:"), "{error}");
            return None;
        }
    }
    importer
        .convert(&ImportOptions {
            trust_domain: "weft.local".parse().ok()?,
            foreign_trust_domain: "cluster.local".to_owned(),
            default_namespace: "default".to_owned(),
            control_plane_namespace: "linkerd".to_owned(),
            root_namespace: "istio-system".to_owned(),
        })
        .ok()
}

const DOCUMENTS_LIMIT: usize = 64;
const REFUSE_ALL: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                          metadata: {name: none, namespace: istio-system}\nspec: {action: DENY, rules: [{}]}\n";
