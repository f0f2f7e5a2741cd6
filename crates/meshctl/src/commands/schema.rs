//! `meshctl schema [KIND]`: the JSON Schema of documents, from the very types that read them.

use std::path::PathBuf;

use anyhow::Context as _;
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
///
/// An editor with a YAML language server checks and completes a file that begins with `# yaml-language-server: $schema=FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// Mesh, Service, Allow, Quarantine, NamespaceSettings or PolicyTest.
    kind: Option<String>,
    /// Write into this folder instead: a file for each kind, such as allow.json, and weft.json for files of any kind.
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &SchemaArgs, session: &Session) -> anyhow::Result<Answer> {
    let Some(folder) = &args.dir else {
        let schema = match &args.kind {
            Some(kind) if kind.eq_ignore_ascii_case(POLICY_TEST) => Schema::Test,
            Some(kind) => Schema::Of(parse_kind(kind)?),
            None => Schema::Any,
        };
        session.out.line(schema.text()?)?;
        return Ok(Answer::Yes);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for schema in Schema::all() {
        let file = folder.join(schema.file_name());
        std::fs::write(&file, schema.text()? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        session.out.line(file.display().to_string())?;
    }
    Ok(Answer::Yes)
}

#[derive(Debug, Clone, Copy)]
enum Schema {
    Of(Kind),
    Test,
    /// Of any kind.
    Any,
}

impl Schema {
    fn all() -> impl Iterator<Item = Self> {
        let kinds = Kind::ALL.into_iter().map(Self::Of);
        kinds.chain([Self::Test, Self::Any])
    }

    fn file_name(self) -> String {
        let name = match self {
            Self::Of(kind) => kind.as_str(),
            Self::Test => POLICY_TEST,
            Self::Any => "weft",
        };
        format!("{}.json", name.to_ascii_lowercase())
    }

    fn text(self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&self.root())?)
    }

    fn root(self) -> Map<String, Value> {
        let mut schemas = SchemaSettings::draft2020_12().into_generator();
        let mut root = match self {
            Self::Of(kind) => of(kind, &mut schemas),
            Self::Test => of_test(&mut schemas),
            Self::Any => {
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
        root
    }
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
            "apiVersion": {"const": "weft.dev/v1", "description": "The version of the documents."},
            "kind": {"const": kind, "description": "What this document is."},
            "metadata": schemas.subschema_for::<Metadata>(),
            "spec": schemas.subschema_for::<S>(),
        },
    });
    match whole {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property below a schema that neither it nor what it refers to describes.
    fn undescribed(schema: &Value, definitions: &Value, place: &str, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                let properties = fields.get("properties").and_then(Value::as_object);
                for (name, property) in properties.into_iter().flatten() {
                    if !is_described(property, definitions) {
                        found.push(format!("{place}.{name}"));
                    }
                }
                for (name, inner) in fields {
                    undescribed(inner, definitions, &format!("{place}.{name}"), found);
                }
            }
            Value::Array(items) => {
                for item in items {
                    undescribed(item, definitions, place, found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn is_described(property: &Value, definitions: &Value) -> bool {
        let referred = property.get("$ref").and_then(Value::as_str).map(|path| {
            let name = path.trim_start_matches("#/$defs/");
            definitions[name].get("description").is_some()
        });
        property.get("description").is_some() || referred == Some(true)
    }

    #[test]
    fn every_field_of_every_kind_is_described() {
        for schema in Schema::all() {
            let root = Value::Object(schema.root());
            let mut found = Vec::new();
            undescribed(&root, &root["$defs"], &schema.file_name(), &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn every_kind_has_a_file_of_its_own() {
        let mut names: Vec<_> = Schema::all().map(Schema::file_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len() + 2, "{names:?}");
    }
}
