//! Allow rules and quarantines: the messages that decide who may reach whom.
//!
//! Invariant: a rule that was read is the rule that was written. "Any" must be said, an empty list is an error, and a condition
//! that cannot be read rejects the whole rule; so nothing lost on the way can widen one.

use weft_identity::{DnsLabel, RuleName, ServiceName};
use weft_policy::{
    ADDRESSES_SCHEMA, AddressRange, HeaderCondition, HeaderName, HeaderTest, HttpCondition, Match,
    Mode, NonEmpty, PatternError, Quarantine, Rule, RuleError, SourcePattern, Sources,
    required_schema,
};

use crate::error::{At, ConversionError, Problem, check_schema, each, required};
use crate::time::{read_optional_timestamp, write_timestamp};
use crate::v1;

pub(crate) fn read_rule(name: RuleName, allow: &v1::AllowSpec) -> Result<Rule, ConversionError> {
    check_schema(allow.schema)?;
    let service: DnsLabel = allow.service.parse().map_err(Problem::Name).at("service")?;
    let rule = Rule {
        service: ServiceName {
            namespace: name.namespace.clone(),
            name: service,
        },
        name,
        ports: read_ports(allow.ports.as_ref()).at("ports")?,
        from: read_sources(allow)?,
        http: read_http(allow.http.as_ref()).at("http")?,
        expires: read_optional_timestamp(allow.expires.as_ref()).at("expires")?,
        mode: read_mode(allow.mode).at("mode")?,
    };
    match rule.check() {
        Ok(()) => Ok(rule),
        Err(RuleError::EmptyCondition { index }) => {
            Err(Problem::EmptyCondition).at(format_args!("http.conditions[{index}]"))
        }
        Err(error) => Err(error.into()),
    }
}

impl From<&Rule> for v1::AllowSpec {
    fn from(rule: &Rule) -> Self {
        Self {
            schema: required_schema(rule),
            service: rule.service.name.to_string(),
            ports: Some(write_ports(&rule.ports)),
            from: texts(rule.from.identities()),
            from_addresses: texts(rule.from.addresses()),
            http: Some(write_http(&rule.http)),
            expires: rule.expires.map(write_timestamp),
            mode: write_mode(rule.mode).into(),
        }
    }
}

pub(crate) fn read_named_rule(named: &v1::NamedRule) -> Result<Rule, ConversionError> {
    let name = named.name.parse().map_err(Problem::Name).at("name")?;
    read_rule(name, required(&named.allow, "allow")?).at("allow")
}

pub(crate) fn write_named_rule(rule: &Rule) -> v1::NamedRule {
    v1::NamedRule {
        name: rule.name.to_string(),
        allow: Some(rule.into()),
    }
}

pub(crate) fn read_quarantine(
    name: RuleName,
    spec: &v1::QuarantineSpec,
) -> Result<Quarantine, ConversionError> {
    check_schema(spec.schema)?;
    let workload = spec
        .workload
        .parse()
        .map_err(Problem::Name)
        .at("workload")?;
    Ok(Quarantine {
        name,
        workload,
        reason: spec.reason.clone(),
    })
}

impl From<&Quarantine> for v1::QuarantineSpec {
    fn from(quarantine: &Quarantine) -> Self {
        Self {
            schema: QUARANTINE_SCHEMA,
            workload: quarantine.workload.to_string(),
            reason: quarantine.reason.clone(),
        }
    }
}

/// Whoever states addresses states the schema by which a reader knows them: one that knows less must refuse the rule, not read a part
/// of it.
fn read_sources(allow: &v1::AllowSpec) -> Result<Sources, ConversionError> {
    let identities = each(&allow.from, "from", |pattern| {
        pattern.parse::<SourcePattern>()
    })?;
    let addresses = each(&allow.from_addresses, "fromAddresses", |range| {
        range.parse::<AddressRange>()
    })?;
    if !addresses.is_empty() && allow.schema < ADDRESSES_SCHEMA {
        let (found, needed) = (allow.schema, ADDRESSES_SCHEMA);
        return Err(Problem::SchemaTooOld { found, needed }).at("schema");
    }
    Sources::new(identities, addresses)
        .ok_or(Problem::Empty)
        .at("from")
}

fn read_mode(value: i32) -> Result<Mode, Problem> {
    match v1::Mode::try_from(value).map_err(|_| Problem::UnknownValue(value))? {
        v1::Mode::Unspecified => Err(Problem::Missing),
        v1::Mode::Enforce => Ok(Mode::Enforce),
        v1::Mode::Audit => Ok(Mode::Audit),
    }
}

fn write_mode(mode: Mode) -> v1::Mode {
    match mode {
        Mode::Enforce => v1::Mode::Enforce,
        Mode::Audit => v1::Mode::Audit,
    }
}

fn read_ports(ports: Option<&v1::PortMatch>) -> Result<Match<DnsLabel>, ConversionError> {
    match ports
        .and_then(|ports| ports.r#match.as_ref())
        .ok_or(Problem::Missing)?
    {
        v1::port_match::Match::Any(v1::Any {}) => Ok(Match::Any),
        v1::port_match::Match::Names(list) => Ok(Match::OneOf(non_empty(each(
            &list.names,
            "names",
            |name| name.parse::<DnsLabel>(),
        )?)?)),
    }
}

fn write_ports(ports: &Match<DnsLabel>) -> v1::PortMatch {
    let choice = match ports {
        Match::Any => v1::port_match::Match::Any(v1::Any {}),
        Match::OneOf(names) => v1::port_match::Match::Names(write_list(names)),
    };
    v1::PortMatch {
        r#match: Some(choice),
    }
}

fn read_http(http: Option<&v1::HttpMatch>) -> Result<Match<HttpCondition>, ConversionError> {
    match http
        .and_then(|http| http.r#match.as_ref())
        .ok_or(Problem::Missing)?
    {
        v1::http_match::Match::Any(v1::Any {}) => Ok(Match::Any),
        v1::http_match::Match::Conditions(list) => Ok(Match::OneOf(non_empty(each(
            &list.conditions,
            "conditions",
            read_condition,
        )?)?)),
    }
}

fn write_http(http: &Match<HttpCondition>) -> v1::HttpMatch {
    let choice = match http {
        Match::Any => v1::http_match::Match::Any(v1::Any {}),
        Match::OneOf(conditions) => v1::http_match::Match::Conditions(v1::HttpConditions {
            conditions: conditions.iter().map(write_condition).collect(),
        }),
    };
    v1::HttpMatch {
        r#match: Some(choice),
    }
}

fn read_condition(condition: &v1::HttpCondition) -> Result<HttpCondition, ConversionError> {
    Ok(HttpCondition {
        methods: read_strings(condition.methods.as_ref()).at("methods")?,
        paths: read_strings(condition.paths.as_ref()).at("paths")?,
        hosts: read_strings(condition.hosts.as_ref()).at("hosts")?,
        headers: stated(each(&condition.headers, "headers", read_header)?),
        upgrades: stated(each(&condition.upgrades, "upgrades", |upgrade| {
            upgrade.parse::<weft_policy::Upgrade>()
        })?),
    })
}

fn write_condition(condition: &HttpCondition) -> v1::HttpCondition {
    v1::HttpCondition {
        methods: Some(write_strings(&condition.methods)),
        paths: Some(write_strings(&condition.paths)),
        hosts: Some(write_strings(&condition.hosts)),
        headers: condition
            .headers
            .listed()
            .iter()
            .map(write_header)
            .collect(),
        upgrades: condition
            .upgrades
            .listed()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn read_strings<T>(strings: Option<&v1::StringMatch>) -> Result<Match<T>, ConversionError>
where
    T: std::str::FromStr<Err = PatternError>,
{
    match strings
        .and_then(|strings| strings.r#match.as_ref())
        .ok_or(Problem::Missing)?
    {
        v1::string_match::Match::Any(v1::Any {}) => Ok(Match::Any),
        v1::string_match::Match::Patterns(list) => Ok(Match::OneOf(non_empty(each(
            &list.names,
            "names",
            |name| name.parse::<T>(),
        )?)?)),
    }
}

fn write_strings<T: ToString>(strings: &Match<T>) -> v1::StringMatch {
    let choice = match strings {
        Match::Any => v1::string_match::Match::Any(v1::Any {}),
        Match::OneOf(patterns) => v1::string_match::Match::Patterns(write_list(patterns)),
    };
    v1::StringMatch {
        r#match: Some(choice),
    }
}

fn write_list<T: ToString>(values: &NonEmpty<T>) -> v1::NameList {
    v1::NameList {
        names: texts(values.as_slice()),
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

pub(crate) fn read_header(header: &v1::HeaderMatch) -> Result<HeaderCondition, ConversionError> {
    let name = header.name.parse::<HeaderName>().at("name")?;
    let test = match required(&header.r#match, "match")? {
        v1::header_match::Match::Exact(value) => HeaderTest::Exact(value.clone()),
        v1::header_match::Match::Prefix(value) if value.is_empty() => {
            return Err(Problem::Empty).at("prefix");
        }
        v1::header_match::Match::Prefix(value) => HeaderTest::Prefix(value.clone()),
        v1::header_match::Match::Present(true) => HeaderTest::Present,
        v1::header_match::Match::Present(false) => return Err(Problem::NotPresent).at("present"),
    };
    Ok(HeaderCondition { name, test })
}

pub(crate) fn write_header(header: &HeaderCondition) -> v1::HeaderMatch {
    let choice = match &header.test {
        HeaderTest::Exact(value) => v1::header_match::Match::Exact(value.clone()),
        HeaderTest::Prefix(value) => v1::header_match::Match::Prefix(value.clone()),
        HeaderTest::Present => v1::header_match::Match::Present(true),
    };
    v1::HeaderMatch {
        name: header.name.to_string(),
        r#match: Some(choice),
    }
}

/// Headers and upgrades are each a list of demands or grants of its own, of which there may be none.
fn stated<T>(values: Vec<T>) -> Match<T> {
    NonEmpty::new(values).map_or(Match::Any, Match::OneOf)
}

fn non_empty<T>(values: Vec<T>) -> Result<NonEmpty<T>, Problem> {
    NonEmpty::new(values).ok_or(Problem::Empty)
}

const QUARANTINE_SCHEMA: u32 = 1;
