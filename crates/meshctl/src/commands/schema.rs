//! `meshctl schema [KIND]`: the JSON Schema of documents, from the very types that read them.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use weft_catalog::{MeshSpec, NamespaceSettingsSpec, ServiceSpec};
use weft_identity::document::Metadata;
use weft_policy::{AllowSpec, POLICY_TEST, PolicyTestSpec, QuarantineSpec};
use weft_wire::Kind;

use crate::commands::named::parse_kind;
use crate::failure::Answer;
use crate::session::Session;

/// Print the JSON Schema of one kind, or of every kind in one schema.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// Mesh, Service, Allow, Quarantine, NamespaceSettings or PolicyTest.
    kind: Option<String>,
}

pub(crate) fn run(args: &SchemaArgs, session: &Session) -> anyhow::Result<Answer> {
    let mut schemas = SchemaSettings::draft2020_12().into_generator();
    let mut root = match &args.kind {
        Some(kind) if kind.eq_ignore_ascii_case(POLICY_TEST) => of_test(&mut schemas),
        Some(kind) => of(parse_kind(kind)?, &mut schemas),
        None => {
            let mut each: Vec<Value> = Kind::ALL
                .into_iter()
                .map(|kind| Value::Object(of(kind, &mut schemas)))
                .collect();
            each.push(Value::Object(of_test(&mut schemas)));
            Map::from_iter([("oneOf".to_owned(), Value::Array(each))])
        }
    };
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert(
        "$defs".to_owned(),
        Value::Object(schemas.take_definitions(true)),
    );
    session.out.line(serde_json::to_string_pretty(&root)?)?;
    Ok(Answer::Yes)
}

fn of(kind: Kind, schemas: &mut SchemaGenerator) -> Map<String, Value> {
    match kind {
        Kind::Mesh => document::<MeshSpec>(kind.as_str(), schemas),
        Kind::Service => document::<ServiceSpec>(kind.as_str(), schemas),
        Kind::Allow => document::<AllowSpec>(kind.as_str(), schemas),
        Kind::Quarantine => document::<QuarantineSpec>(kind.as_str(), schemas),
        Kind::NamespaceSettings => document::<NamespaceSettingsSpec>(kind.as_str(), schemas),
    }
}

fn of_test(schemas: &mut SchemaGenerator) -> Map<String, Value> {
    document::<PolicyTestSpec>(POLICY_TEST, schemas)
}

fn document<S: JsonSchema>(kind: &str, schemas: &mut SchemaGenerator) -> Map<String, Value> {
    let whole = json!({
        "title": kind,
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "weft.dev/v1"},
            "kind": {"const": kind},
            "metadata": schemas.subschema_for::<Metadata>(),
            "spec": schemas.subschema_for::<S>(),
        },
    });
    match whole {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
