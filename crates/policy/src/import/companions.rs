//! Companion documents, read for what is needed here and no further: they say what runs, not what is allowed.

use serde::Deserialize;

use super::{
    cluster::{Pod, Speaks},
    meta::{Labels, PortRef},
};

#[derive(Debug)]
pub(super) enum Companion {
    Pods(Pod),
    Service(ServiceDocument),
    Namespace(NamespaceDocument),
}

pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct CompanionMeta {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) labels: Labels,
}

#[derive(Debug, Deserialize)]
pub(super) struct NamespaceDocument {
    pub(super) metadata: CompanionMeta,
}

#[derive(Debug, Deserialize)]
pub(super) struct ServiceDocument {
    pub(super) metadata: CompanionMeta,
    pub(super) spec: ServiceSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct ServiceSpec {
    #[serde(default)]
    pub(super) selector: Labels,
    #[serde(default)]
    pub(super) ports: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort {
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) port: u16,
    #[serde(default)]
    pub(super) target_port: Option<PortRef>,
    #[serde(default)]
    pub(super) protocol: Option<String>,
    #[serde(default)]
    app_protocol: Option<String>,
}

impl ServicePort {
    /// What `appProtocol`, or else the beginning of the port's name, declares.
    pub(super) fn speaks(&self) -> Speaks {
        let declared = match &self.app_protocol {
            Some(protocol) => protocol
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase(),
            None => self
                .name
                .as_deref()
                .unwrap_or_default()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        match declared.as_str() {
            "http" | "http2" | "grpc" | "h2c" | "ws" => Speaks::Http,
            "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" | "wss" => Speaks::Bytes,
            _ => Speaks::Unknown,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PodTemplateOwner {
    metadata: CompanionMeta,
    spec: OwnerSpec,
}

#[derive(Debug, Deserialize)]
struct OwnerSpec {
    template: Template,
}

#[derive(Debug, Deserialize)]
struct Template {
    #[serde(default)]
    metadata: CompanionMeta,
    spec: PodSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct CronJobDocument {
    metadata: CompanionMeta,
    spec: CronJobSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CronJobSpec {
    job_template: JobTemplate,
}

#[derive(Debug, Deserialize)]
struct JobTemplate {
    spec: OwnerSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct PodDocument {
    metadata: CompanionMeta,
    spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    service_account_name: Option<String>,
    /// The older name of the same.
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
struct Container {
    #[serde(default)]
    ports: Vec<ContainerPort>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerPort {
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    #[serde(default)]
    protocol: Option<String>,
}

impl ContainerPort {
    pub(super) fn is_tcp(&self) -> bool {
        is_tcp(self.protocol.as_deref())
    }
}

fn pod(namespace: Option<String>, labels: Labels, spec: PodSpec) -> Companion {
    let account = spec
        .service_account_name
        .or(spec.service_account)
        .filter(|account| !account.is_empty());
    let containers = spec.containers.into_iter().chain(spec.init_containers);
    Companion::Pods(Pod {
        namespace,
        labels,
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        ports: containers.flat_map(|container| container.ports).collect(),
    })
}

impl From<PodTemplateOwner> for Companion {
    fn from(owner: PodTemplateOwner) -> Self {
        let template = owner.spec.template;
        pod(
            owner.metadata.namespace,
            template.metadata.labels,
            template.spec,
        )
    }
}

impl From<CronJobDocument> for Companion {
    fn from(job: CronJobDocument) -> Self {
        let template = job.spec.job_template.spec.template;
        pod(
            job.metadata.namespace,
            template.metadata.labels,
            template.spec,
        )
    }
}

impl From<PodDocument> for Companion {
    fn from(document: PodDocument) -> Self {
        pod(
            document.metadata.namespace,
            document.metadata.labels,
            document.spec,
        )
    }
}
