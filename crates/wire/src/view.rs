//! What one identity sees of the mesh, service by service.
//!
//! Invariant: a view that could be read is complete. Its policy and its endpoints come from one message, so neither is ever newer than the other.

use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{
    Endpoint, External, HealthCheck, Port, check_health, check_mesh_ports, check_outside_ports,
    check_ports,
};
use weft_identity::ServiceName;
use weft_policy::{EncodedSlashes, LEARN_SCHEMA, Rule};

use crate::error::{At, ConversionError, Problem, check_schema, each};
use crate::rule::{read_named_rule, write_named_rule};
use crate::time::{read_optional_timestamp, write_timestamp};
use crate::v1;

/// A service that the identity may call.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboundView {
    pub service: ServiceName,
    /// Only ports that a rule below opens; all of them while the namespace learns.
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
    /// Its names in the world outside, if it is there; it has no endpoints then.
    pub external: Option<External>,
    /// Only rules that match the identity.
    pub rules: Vec<Arc<Rule>>,
    pub encoded_slashes: EncodedSlashes,
    /// Until when the service's namespace learns.
    pub learn_until: Option<Timestamp>,
}

/// A service that the identity offers, with every rule for it.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundView {
    pub service: ServiceName,
    pub ports: Vec<Port>,
    pub rules: Vec<Arc<Rule>>,
    pub encoded_slashes: EncodedSlashes,
    pub health: Option<HealthCheck>,
    /// Until when the service's namespace learns.
    pub learn_until: Option<Timestamp>,
}

impl TryFrom<&v1::Outbound> for OutboundView {
    type Error = ConversionError;

    fn try_from(view: &v1::Outbound) -> Result<Self, ConversionError> {
        check_schema(view.schema)?;
        let service: ServiceName = view.service.parse().map_err(Problem::Name).at("service")?;
        let ports = read_ports(&view.ports)?;
        let external = view
            .external
            .as_ref()
            .map(External::try_from)
            .transpose()
            .at("external")?;
        match external {
            None => check_mesh_ports("ports", &ports)?,
            Some(_) => check_outside_ports("ports", &ports)?,
        }
        if external.is_some() && !view.endpoints.is_empty() {
            return Err(Problem::EndpointOutside).at("endpoints");
        }
        Ok(Self {
            ports,
            endpoints: each(&view.endpoints, "endpoints", Endpoint::try_from)?,
            external,
            rules: read_rules(&view.rules, &service)?,
            encoded_slashes: read_encoded_slashes(view.keep_encoded_slashes),
            learn_until: read_optional_timestamp(view.learn_until.as_ref()).at("learnUntil")?,
            service,
        })
    }
}

impl From<&OutboundView> for v1::Outbound {
    fn from(view: &OutboundView) -> Self {
        Self {
            // Whoever does not know external services would take this for a service that nobody offers.
            schema: match view.external {
                None => schema(view.learn_until),
                Some(_) => EXTERNAL_SCHEMA,
            },
            external: view.external.as_ref().map(Into::into),
            service: view.service.to_string(),
            ports: view.ports.iter().map(Into::into).collect(),
            endpoints: view.endpoints.iter().map(Into::into).collect(),
            rules: view
                .rules
                .iter()
                .map(|rule| write_named_rule(rule))
                .collect(),
            keep_encoded_slashes: view.encoded_slashes == EncodedSlashes::Keep,
            learn_until: view.learn_until.map(write_timestamp),
        }
    }
}

impl TryFrom<&v1::Inbound> for InboundView {
    type Error = ConversionError;

    fn try_from(view: &v1::Inbound) -> Result<Self, ConversionError> {
        check_schema(view.schema)?;
        let service: ServiceName = view.service.parse().map_err(Problem::Name).at("service")?;
        let ports = read_ports(&view.ports)?;
        check_mesh_ports("ports", &ports)?;
        let health = view
            .health
            .as_ref()
            .map(HealthCheck::try_from)
            .transpose()
            .at("health")?;
        if let Some(health) = &health {
            check_health("health", health, &ports)?;
        }
        Ok(Self {
            rules: read_rules(&view.rules, &service)?,
            encoded_slashes: read_encoded_slashes(view.keep_encoded_slashes),
            learn_until: read_optional_timestamp(view.learn_until.as_ref()).at("learnUntil")?,
            service,
            ports,
            health,
        })
    }
}

impl From<&InboundView> for v1::Inbound {
    fn from(view: &InboundView) -> Self {
        Self {
            schema: schema(view.learn_until),
            service: view.service.to_string(),
            ports: view.ports.iter().map(Into::into).collect(),
            rules: view
                .rules
                .iter()
                .map(|rule| write_named_rule(rule))
                .collect(),
            keep_encoded_slashes: view.encoded_slashes == EncodedSlashes::Keep,
            health: view.health.as_ref().map(Into::into),
            learn_until: view.learn_until.map(write_timestamp),
        }
    }
}

/// What `policy` is told about encoded slashes, from what the service says.
pub fn encoded_slashes(service: weft_catalog::EncodedSlashes) -> EncodedSlashes {
    match service {
        weft_catalog::EncodedSlashes::Keep => EncodedSlashes::Keep,
        weft_catalog::EncodedSlashes::Refuse => EncodedSlashes::Refuse,
    }
}

fn read_encoded_slashes(keep: bool) -> EncodedSlashes {
    if keep {
        EncodedSlashes::Keep
    } else {
        EncodedSlashes::Refuse
    }
}

fn read_ports(ports: &[v1::ServicePort]) -> Result<Vec<Port>, ConversionError> {
    let ports = each(ports, "ports", Port::try_from)?;
    check_ports("ports", &ports)?;
    Ok(ports)
}

/// A rule for another service here would be a rule that nobody judges.
fn read_rules(
    rules: &[v1::NamedRule],
    service: &ServiceName,
) -> Result<Vec<Arc<Rule>>, ConversionError> {
    each(rules, "rules", |rule| {
        let rule = read_named_rule(rule)?;
        if rule.service != *service {
            let (found, expected) = (rule.service.clone(), service.clone());
            return Err(Problem::RuleOfAnotherService { found, expected }).at("allow.service");
        }
        Ok(Arc::new(rule))
    })
}

/// The oldest schema whose readers understand everything in such a message but the rules, which say their own.
fn schema(learn_until: Option<Timestamp>) -> u32 {
    learn_until.map_or(STRICT_SCHEMA, |_| LEARN_SCHEMA)
}

const STRICT_SCHEMA: u32 = 1;
/// Where a service is external, whether or not its namespace learns.
const EXTERNAL_SCHEMA: u32 = 3;
