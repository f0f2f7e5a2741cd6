//! Files → resources and tests: split into documents, each read by the crate that owns its kind.
//!
//! Invariant: nothing is taken from an input with a problem, and all problems are reported together, each with its place.

mod files;
mod split;

use std::collections::BTreeMap;

use jiff::Timestamp;
use weft_catalog::{
    Mesh, MeshSpec, NamespaceSettings, NamespaceSettingsSpec, Service, ServiceSpec,
};
use weft_identity::document::{self, Document, Origin};
use weft_policy::{
    AllowSpec, POLICY_TEST, PolicyTestSpec, Quarantine, QuarantineSpec, Rule, Warning, lint,
};
use weft_wire::{Kind, Resource, ResourceKey, Spec};

/// Everything that some files hold.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) resources: Vec<Placed<Resource>>,
    pub(crate) tests: Vec<Placed<PolicyTestSpec>>,
    /// Files met in a folder that hold no resources at all.
    pub(crate) skipped: Vec<String>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    pub(crate) origin: Origin,
    pub(crate) value: T,
}

/// Reads files, folders and `-`.
pub(crate) fn load(named: &[String]) -> Result<Documents, InputProblems> {
    let mut problems = Vec::new();
    let texts = files::read_all(named, &mut problems);
    let mut documents = Documents::default();
    for text in texts {
        if text.in_folder && holds_no_resource(&text.content) {
            documents.skipped.push(text.file);
        } else {
            documents.add(&text.file, &text.content, &mut problems);
        }
    }
    documents.check_unique(&mut problems);
    InputProblems::none(problems).map(|()| documents)
}

/// Reads one text, such as what an editor left.
pub(crate) fn parse(file: &str, text: &str) -> Result<Documents, InputProblems> {
    let mut problems = Vec::new();
    let mut documents = Documents::default();
    documents.add(file, text, &mut problems);
    documents.check_unique(&mut problems);
    InputProblems::none(problems).map(|()| documents)
}

/// The documents of files, folders and `-` as they stand, for readers of other kinds.
pub(crate) fn pieces(named: &[String]) -> Result<Vec<(Origin, String)>, InputProblems> {
    let mut problems = Vec::new();
    let mut pieces = Vec::new();
    for text in files::read_all(named, &mut problems) {
        match split::split(&text.content) {
            Ok(split) => pieces.extend(split.into_iter().map(|piece| {
                let origin = Origin {
                    file: text.file.clone(),
                    first_line: piece.first_line,
                };
                (origin, piece.text)
            })),
            Err(error) => problems.push(format!(
                "{}:{}:{}: {}",
                text.file, error.line, error.column, error.problem
            )),
        }
    }
    InputProblems::none(problems).map(|()| pieces)
}

impl Documents {
    /// What the linter says of the rules among themselves. Services are only known when the input names some.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let mut rules = Vec::new();
        for resource in &self.resources {
            if let Spec::Allow(rule) = &resource.value.spec {
                rules.push(std::sync::Arc::clone(rule));
            }
        }
        // Whether a service exists is the control plane's to say: its answer carries that warning.
        lint(&rules, None, Timestamp::now())
    }

    fn add(&mut self, file: &str, text: &str, problems: &mut Vec<String>) {
        let pieces = match split::split(text) {
            Ok(pieces) => pieces,
            Err(error) => {
                return problems.push(format!(
                    "{file}:{}:{}: {}",
                    error.line, error.column, error.problem
                ));
            }
        };
        for piece in pieces {
            let origin = Origin {
                file: file.to_owned(),
                first_line: piece.first_line,
            };
            if let Err(problem) = self.read(&piece.text, &origin) {
                problems.push(problem);
            }
        }
    }

    fn read(&mut self, text: &str, origin: &Origin) -> Result<(), String> {
        let envelope = document::read_envelope(text, origin).map_err(|error| error.to_string())?;
        if envelope.kind == POLICY_TEST {
            let test = read::<PolicyTestSpec>(text, origin, POLICY_TEST)?;
            self.tests.push(Placed {
                origin: origin.clone(),
                value: test.spec,
            });
            return Ok(());
        }
        let Some(kind) = Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == envelope.kind)
        else {
            return Err(place(origin, unknown_kind(&envelope.kind)));
        };
        let (spec, labels) = match kind {
            Kind::Mesh => {
                let read = read::<MeshSpec>(text, origin, kind.as_str())?;
                (
                    Mesh::from_document(&read)
                        .map(Spec::Mesh)
                        .map_err(|error| place(origin, error))?,
                    read.metadata.labels,
                )
            }
            Kind::Service => {
                let read = read::<ServiceSpec>(text, origin, kind.as_str())?;
                let service =
                    Service::from_document(&read).map_err(|error| place(origin, error))?;
                (Spec::Service(service), read.metadata.labels)
            }
            Kind::Allow => {
                let read = read::<AllowSpec>(text, origin, kind.as_str())?;
                let rule = Rule::from_document(&read).map_err(|error| place(origin, error))?;
                (Spec::Allow(rule.into()), read.metadata.labels)
            }
            Kind::Quarantine => {
                let read = read::<QuarantineSpec>(text, origin, kind.as_str())?;
                let quarantine =
                    Quarantine::from_document(&read).map_err(|error| place(origin, error))?;
                (Spec::Quarantine(quarantine), read.metadata.labels)
            }
            Kind::NamespaceSettings => {
                let read = read::<NamespaceSettingsSpec>(text, origin, kind.as_str())?;
                let settings = NamespaceSettings::from_document(&read)
                    .map_err(|error| place(origin, error))?;
                (Spec::NamespaceSettings(settings), read.metadata.labels)
            }
        };
        let value = Resource::new(spec, labels).map_err(|error| place(origin, error))?;
        self.resources.push(Placed {
            origin: origin.clone(),
            value,
        });
        Ok(())
    }

    fn check_unique(&self, problems: &mut Vec<String>) {
        let mut seen: BTreeMap<ResourceKey, &Origin> = BTreeMap::new();
        for resource in &self.resources {
            let key = resource.value.key();
            match seen.get(&key) {
                Some(first) => problems.push(place(
                    &resource.origin,
                    format!(
                        "{key} stands in {}:{} already",
                        first.file, first.first_line
                    ),
                )),
                None => {
                    seen.insert(key, &resource.origin);
                }
            }
        }
    }
}

fn read<S: serde::de::DeserializeOwned>(
    text: &str,
    origin: &Origin,
    kind: &str,
) -> Result<Document<S>, String> {
    document::read(text, origin, kind).map_err(|error| error.to_string())
}

fn place(origin: &Origin, problem: impl std::fmt::Display) -> String {
    format!("{}:{}: {problem}", origin.file, origin.first_line)
}

fn unknown_kind(kind: &str) -> String {
    format!(
        "unknown kind `{}`{}",
        kind.escape_debug(),
        did_you_mean(kind)
    )
}

/// `, did you mean …?` for a kind, where one is near.
pub(crate) fn did_you_mean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let names = Kind::ALL.into_iter().map(Kind::as_str).chain([POLICY_TEST]);
    names
        .map(|name| {
            (
                strsim::damerau_levenshtein(&name.to_ascii_lowercase(), &lower),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= NEAR)
        .min()
        .map_or_else(String::new, |(_, name)| format!(", did you mean `{name}`?"))
}

/// Whether a file is of another sort, such as a mesh file of `meshctl up`: it begins no line with a field of the envelope.
fn holds_no_resource(text: &str) -> bool {
    !text.trim_start().starts_with(['{', '['])
        && !text
            .lines()
            .any(|line| ENVELOPE.iter().any(|field| line.starts_with(field)))
}

/// Everything that is wrong with an input, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct InputProblems(Vec<String>);

impl InputProblems {
    fn none(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self(problems))
        }
    }
}

const NEAR: usize = 2;
const ENVELOPE: [&str; 4] = ["apiVersion:", "kind:", "metadata:", "spec:"];

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: &str = "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: a, namespace: shop}\n\
                         spec: {to: {service: api}, from: [shop/web]}\n";

    fn problems(text: &str) -> Vec<String> {
        parse("x.yaml", text).unwrap_err().0
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = format!(
            "{ALLOW}---\napiVersion: weft.dev/v1\nkind: Alow\nmetadata: {{name: b, namespace: shop}}\nspec: {{}}\n---\n\
             apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: c, namespace: shop}}\nspec:\n  to: {{service: api}}\n  form: [shop/web]\n"
        );
        let problems = problems(&text);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(
            problems[0],
            "x.yaml:5: unknown kind `Alow`, did you mean `Allow`?"
        );
        assert!(
            problems[1].starts_with("x.yaml:16:3: unknown field `form`"),
            "{problems:?}"
        );
    }

    #[test]
    fn the_same_resource_twice_names_both_places() {
        assert_eq!(
            problems(&format!("{ALLOW}---\n{ALLOW}")),
            ["x.yaml:5: Allow/shop/a stands in x.yaml:1 already"]
        );
    }

    #[test]
    fn resources_and_tests_may_stand_in_one_file() {
        let test = "apiVersion: weft.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  cases:\n  - {name: one, from: shop/web, to: \"shop/api:http\", expect: allow}\n";
        let documents = parse("x.yaml", &format!("{ALLOW}---\n{test}")).unwrap();
        assert_eq!((documents.resources.len(), documents.tests.len()), (1, 1));
    }

    #[test]
    fn json_is_read_too() {
        let text = r#"{"apiVersion": "weft.dev/v1", "kind": "Quarantine", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"workload": "shop/web"}}"#;
        assert_eq!(
            parse("x.json", text).unwrap().resources[0]
                .value
                .key()
                .to_string(),
            "Quarantine/shop/web"
        );
    }

    #[test]
    fn a_mesh_file_in_a_folder_is_no_resource() {
        assert!(holds_no_resource(
            "trustDomain: shop.example\nworkloads: []\n"
        ));
        assert!(!holds_no_resource(ALLOW));
        assert!(!holds_no_resource("# text\nkind: Allow\n"));
    }
}
