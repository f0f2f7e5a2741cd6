//! What `policy suggest` and `policy coverage` rest on: recorded traffic, and the rules and services to hold it against.

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use weft_identity::{DnsLabel, TrustDomain};
use weft_policy::World;

use super::DEFAULT_TRUST_DOMAIN;
use crate::client::Client;
use crate::documents;
use crate::failure::SaysNo;
use crate::moments::parse_length;
use crate::output::Output;
use crate::session::Session;
use crate::traffic::{self, Scope, Traffic};
use crate::world::{live, world};

#[derive(Debug, clap::Args)]
pub(super) struct EvidenceArgs {
    /// Only services of this namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    /// How far back to look.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_length)]
    since: SignedDuration,
    /// Take the traffic from this file, which `meshctl flows -o json` wrote, instead of the control plane; all of it counts.
    #[arg(short = 'f', long = "flows", value_name = "FILE|-")]
    flows: Option<String>,
    /// Take rules and services from here instead of the control plane; with --flows this needs none.
    #[arg(long = "rules", value_name = "FILE|DIR", requires = "flows")]
    rules: Vec<String>,
    /// The trust domain that --rules is about.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN, requires = "rules")]
    trust_domain: TrustDomain,
}

pub(super) struct Gathered {
    pub(super) traffic: Traffic,
    pub(super) world: World,
    /// What was seen before does not count as use.
    pub(super) since: Timestamp,
}

/// How far back the record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// As far as was asked for.
    Asked,
    /// All that is kept.
    Everything,
}

impl EvidenceArgs {
    pub(super) async fn gather(&self, session: &Session, reach: Reach) -> anyhow::Result<Gathered> {
        let asked = Timestamp::now().saturating_sub(self.since)?;
        let (mut traffic, world) = if self.rules.is_empty() {
            self.online(session, asked, reach).await?
        } else {
            let resources = documents::load(&self.rules)?.resources;
            if resources.is_empty() {
                bail!("no resources in {}", self.rules.join(", "));
            }
            let resources = resources.iter().map(|placed| &placed.value);
            let world = world(&self.trust_domain, resources);
            (
                traffic::from_file(self.flows.as_deref().unwrap_or("-"))?,
                world,
            )
        };
        if let Some(namespace) = &self.namespace {
            traffic
                .flows
                .retain(|flow| flow.key.target.service.namespace == *namespace);
        }
        warn_of_losses(&traffic, session.out);
        let since = match &self.flows {
            Some(_) => Timestamp::MIN,
            None => asked,
        };
        Ok(Gathered {
            traffic,
            world,
            since,
        })
    }

    async fn online(
        &self,
        session: &Session,
        asked: Timestamp,
        reach: Reach,
    ) -> anyhow::Result<(Traffic, World)> {
        let context = session.context().await?;
        let client = Client::connect(&context).await?;
        let resources = live(&client, None, "").await?;
        let world = world(&context.settings.trust_domain, &resources);
        let traffic = match &self.flows {
            Some(file) => traffic::from_file(file)?,
            None => {
                let since = match reach {
                    Reach::Asked => asked,
                    Reach::Everything => Timestamp::UNIX_EPOCH,
                };
                let scope = match &self.namespace {
                    Some(namespace) => Scope::Namespace(namespace.clone()),
                    None => Scope::Mesh,
                };
                traffic::recorded(&client, since, &scope)
                    .await?
                    .context(SaysNo::new("this control plane records no traffic"))?
            }
        };
        Ok((traffic, world))
    }

    /// Whether a rule's namespace was asked for.
    pub(super) fn covers(&self, namespace: &DnsLabel) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|asked| asked == namespace)
    }
}

fn warn_of_losses(traffic: &Traffic, out: Output) {
    if traffic.dropped > 0 || traffic.folded > 0 {
        out.warn(format!(
            "the record is incomplete: {} requests and connections are in no flow, {} are told less exactly",
            traffic.dropped, traffic.folded
        ));
    }
}
