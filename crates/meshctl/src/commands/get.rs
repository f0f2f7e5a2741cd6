//! `meshctl get KIND [NAME]`: what the mesh holds.

use serde::Serialize;
use weft_identity::DnsLabel;
use weft_wire::{Kind, Resource, v1};

use crate::client::refused;
use crate::commands::named::Target;
use crate::failure::Answer;
use crate::output::{Format, FormatArg, Table, or_dash};
use crate::rendering::{Printed, printed, summary, yaml};
use crate::session::Session;
use crate::world::live;

/// List resources, or show one.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Mesh, Service, Allow, Quarantine or NamespaceSettings; `all` for every kind; or KIND/NAMESPACE/NAME.
    #[arg(value_name = "KIND")]
    kind: String,
    /// The name of one: NAME with -n, or NAMESPACE/NAME.
    name: Option<String>,
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
struct Stored {
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<DnsLabel>,
    resource: Printed,
}

pub(crate) async fn run(args: GetArgs, session: &Session) -> anyhow::Result<Answer> {
    match Target::of(&args.kind, args.name.as_deref(), args.namespace.as_ref())? {
        Target::One(key) => {
            let client = session.connect().await?;
            let request = v1::GetRequest {
                key: Some((&key).into()),
            };
            let answer = client
                .resources()
                .get(request)
                .await
                .map_err(refused)?
                .into_inner();
            let resource = Resource::try_from(&answer)?;
            match args.format.format {
                Format::Json => session.out.json(&Stored::of(&resource)?)?,
                _ => print(&[resource], args.format.format, session)?,
            }
        }
        Target::Many(kind) => {
            let namespace = args
                .namespace
                .map(|namespace| namespace.to_string())
                .unwrap_or_default();
            let resources = live(&session.connect().await?, kind, &namespace).await?;
            print(&resources, args.format.format, session)?;
        }
    }
    Ok(Answer::Yes)
}

fn print(resources: &[Resource], format: Format, session: &Session) -> anyhow::Result<()> {
    match format {
        Format::Json => {
            let stored = resources
                .iter()
                .map(Stored::of)
                .collect::<anyhow::Result<Vec<_>>>()?;
            session.out.json(&stored)
        }
        Format::Yaml => {
            let documents = resources
                .iter()
                .map(document)
                .collect::<anyhow::Result<Vec<_>>>()?;
            Ok(session.out.raw(documents.join("---\n"))?)
        }
        Format::Table | Format::Wide => Ok(session
            .out
            .table(&table(resources, format == Format::Wide))?),
    }
}

/// What is no part of a document stands in a comment, so that it can be applied as it is.
fn document(resource: &Resource) -> anyhow::Result<String> {
    let mut about = format!("# revision: {}", resource.revision);
    if let Some(set) = &resource.set {
        about.push_str(&format!(", set: {set}"));
    }
    Ok(format!("{about}\n{}", yaml(resource)?))
}

impl Stored {
    fn of(resource: &Resource) -> anyhow::Result<Self> {
        Ok(Self {
            revision: resource.revision,
            set: resource.set.clone(),
            resource: printed(resource)?,
        })
    }
}

fn table(resources: &[Resource], wide: bool) -> Table {
    let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "REVISION", "WHAT"]);
    if wide {
        table = table.with_columns(&["SET", "LABELS"]);
    }
    for resource in resources {
        let metadata = resource.metadata();
        let namespace = metadata
            .namespace
            .map(|namespace| namespace.to_string())
            .unwrap_or_default();
        let kind: Kind = resource.kind();
        let mut cells = vec![
            kind.to_string(),
            or_dash(&namespace),
            metadata.name.to_string(),
            resource.revision.to_string(),
            summary(resource),
        ];
        if wide {
            let labels: Vec<String> = metadata
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            cells.push(or_dash(
                resource.set.as_ref().map_or("", |set| set.as_str()),
            ));
            cells.push(or_dash(&labels.join(",")));
        }
        table.row(cells);
    }
    table
}
