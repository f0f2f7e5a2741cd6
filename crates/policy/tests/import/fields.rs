//! The corpus uses every field that the references define, and the reader knows each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;
use weft_identity::document::{Origin, read_value};
use weft_policy::import::Importer;

use crate::corpus::{documents, folder, inputs};

/// A field's path from its document, as the table in the corpus' README lists it, with the document that uses it.
fn listed() -> Vec<(String, String, String)> {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, kind, field, document, _] = cells.as_slice() else {
            return None;
        };
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        field
            .starts_with('`')
            .then(|| (plain(kind), plain(field), plain(document)))
    };
    readme.lines().filter_map(row).collect()
}

#[test]
fn the_documents_use_every_field_that_the_table_lists() {
    let listed = listed();
    assert!(
        listed.len() >= 190,
        "only {} fields are listed",
        listed.len()
    );
    let missing: Vec<String> = listed
        .iter()
        .filter(|(kind, field, document)| {
            let path = folder().join(document);
            !fields_of(&fs::read_to_string(&path).unwrap_or_default())
                .contains(&(kind.clone(), field.clone()))
        })
        .map(|(kind, field, document)| format!("{kind} {field} is not in {document}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_table_lists_every_field_of_a_policy_that_the_documents_use() {
    let listed: BTreeSet<(String, String)> = listed()
        .into_iter()
        .map(|(kind, field, _)| (kind, field))
        .collect();
    let mut unlisted = BTreeSet::new();
    for path in inputs() {
        for (kind, field) in fields_of(&fs::read_to_string(&path).unwrap()) {
            if !listed.contains(&(kind.clone(), field.clone())) {
                unlisted.insert(format!(
                    "| {kind} | `{field}` | `{}` |",
                    path.strip_prefix(folder()).unwrap().display()
                ));
            }
        }
    }
    let unlisted: Vec<String> = unlisted.into_iter().collect();
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
}

/// Wherever a document has an object with fields of its own, one more is an error that names it and its place.
#[test]
fn a_field_that_is_not_known_is_an_error_wherever_it_stands() {
    let mut tried = BTreeMap::<String, usize>::new();
    for path in inputs() {
        for (_, text) in documents(&fs::read_to_string(&path).unwrap()) {
            let Some(document) = policy(&text) else {
                continue;
            };
            let kind = document["kind"].as_str().unwrap().to_owned();
            for place in objects(&document, "") {
                let mut spoilt = document.clone();
                let object = spoilt.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                object.insert("surprise".to_owned(), Value::from("x"));
                let text = serde_json::to_string_pretty(&spoilt).unwrap();
                let line = 1 + text
                    .lines()
                    .position(|line| line.contains("\"surprise\""))
                    .unwrap();
                let error = Importer::default()
                    .read(&text, &Origin::file("spoilt.json"))
                    .err();
                let error = error
                    .unwrap_or_else(|| panic!("{}: {place}: not refused", path.display()))
                    .to_string();
                assert!(
                    error.contains("unknown field `surprise`"),
                    "{place}: {error}"
                );
                assert!(
                    error.starts_with(&format!("spoilt.json:{line}:")),
                    "{place}: line {line}: {error}"
                );
                *tried.entry(kind.clone()).or_default() += 1;
            }
        }
    }
    let kinds: Vec<&str> = tried.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "AuthorizationPolicy",
            "HTTPRoute",
            "MeshTLSAuthentication",
            "NetworkAuthentication",
            "NetworkPolicy",
            "Server",
            "ServerAuthorization"
        ]
    );
    assert!(tried.values().all(|places| *places >= 4), "{tried:?}");
}

/// Pointers to the objects that have fields rather than keys of the user's.
fn objects(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let mut found = vec![at.to_owned()];
            for (name, value) in fields {
                if !is_free(name) {
                    found.extend(objects(value, &format!("{at}/{name}")));
                }
            }
            found
        }
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.flat_map(|(index, item)| objects(item, &format!("{at}/{index}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// What the reference leaves to the user, or what is read and forgotten.
fn is_free(name: &str) -> bool {
    matches!(
        name,
        "labels"
            | "annotations"
            | "matchLabels"
            | "managedFields"
            | "ownerReferences"
            | "finalizers"
            | "status"
    )
}

/// The kind and path of each field of the policies in a text.
fn fields_of(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (_, text) in documents(text) {
        let Some(document) = policy(&text) else {
            continue;
        };
        let group = document["apiVersion"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        let kind = match (group.as_str(), document["kind"].as_str().unwrap()) {
            ("policy.linkerd.io", "AuthorizationPolicy") => {
                "AuthorizationPolicy (Linkerd)".to_owned()
            }
            (_, "AuthorizationPolicy") => "AuthorizationPolicy (Istio)".to_owned(),
            (_, kind) => kind.to_owned(),
        };
        let mut fields = BTreeSet::new();
        collect(&document, "", &mut fields);
        found.extend(fields.into_iter().map(|field| (kind.clone(), field)));
    }
    found
}

fn collect(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                if !is_free(name) {
                    collect(value, &path, found);
                }
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, at, found)),
        _ => {}
    }
}

/// A policy as JSON; the first of a list of them.
fn policy(text: &str) -> Option<Value> {
    let document: Value = read_value(text, &Origin::file("corpus")).unwrap();
    let document = document
        .get("items")
        .map_or(document.clone(), |items| items[0].clone());
    let api_version = document["apiVersion"].as_str().unwrap();
    let is_policy = api_version.starts_with("policy.linkerd.io/")
        || api_version.starts_with("security.istio.io/")
        || document["kind"] == "NetworkPolicy";
    is_policy.then_some(document)
}
