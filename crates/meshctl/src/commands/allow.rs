//! `meshctl allow FROM TO`: the one-line rule for a bad hour, which ends by itself.
//!
//! The same command again finds the rule that it made: a rule that grants just this is kept and lasts longer, never shorter.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use tonic::Code;
use weft_identity::{DnsLabel, RuleName, ServiceName};
use weft_policy::{
    HttpCondition, Match, Method, Mode, NamePattern, NonEmpty, PathPattern, Rule, SourcePattern,
};
use weft_wire::{Resource, ResourceKey, Spec, v1};

use crate::changes::Changes;
use crate::client::{Client, refused};
use crate::commands::apply::{ChangesFormat, finish};
use crate::failure::{Answer, SaysNo};
use crate::moments::{parse_length, shown};
use crate::rendering;
use crate::rollout::WaitArgs;
use crate::session::Session;

/// Let one source reach one service for a while: makes an Allow that expires.
///
/// The same command again keeps the rule and moves its end, never to an earlier time. `meshctl delete` ends it sooner.
#[derive(Debug, clap::Args)]
#[group(id = "lasts", required = true, multiple = false, args = ["duration", "forever"])]
pub(crate) struct AllowArgs {
    /// Who may call: `namespace/name`, `namespace/prefix*` or a whole SPIFFE ID.
    #[arg(value_name = "FROM")]
    from: SourcePattern,
    /// What: `namespace/service`, or `namespace/service:port`.
    #[arg(value_name = "TO")]
    to: To,
    /// Ports by name, with commas between; absent, and none in TO: every port of the service.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ports: Vec<DnsLabel>,
    /// HTTP methods, with commas between.
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<Method>,
    /// Paths, such as `/orders/**`; may be repeated.
    #[arg(long, value_name = "PATH")]
    paths: Vec<PathPattern>,
    /// How long: 30m, 2h, 3d.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_lifetime)]
    duration: Option<SignedDuration>,
    /// Without an end.
    #[arg(long)]
    forever: bool,
    /// The rule's name [default: SOURCE-to-SERVICE, numbered where another rule has it].
    #[arg(long)]
    name: Option<DnsLabel>,
    /// Show the rule and change nothing.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print one JSON value.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: ChangesFormat,
}

/// `namespace/service[:port]`.
#[derive(Debug, Clone)]
struct To {
    service: ServiceName,
    port: Option<DnsLabel>,
}

impl FromStr for To {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (text, None),
        };
        Ok(Self {
            service: service
                .parse()
                .context("expected namespace/service or namespace/service:port")?,
            port: port.map(str::parse).transpose()?,
        })
    }
}

pub(crate) async fn run(args: AllowArgs, session: &Session) -> anyhow::Result<Answer> {
    let wanted = args.grant()?;
    let client = session.connect().await?;
    let stored = find(&client, wanted, args.name.is_some()).await?;
    let rule = stored.rule(args.end()?);
    let (expires, name) = (rule.expires, rule.name.clone());
    let resource = Resource {
        spec: Spec::Allow(rule.into()),
        labels: stored.labels,
        revision: 0,
        set: None,
    };
    if args.output == ChangesFormat::Text {
        session.out.raw(rendering::yaml(&resource)?)?;
        session.out.line("---")?;
    }
    let request = v1::ApplyRequest {
        resources: vec![v1::Resource::from(&resource)],
        dry_run: args.dry_run,
        set: stored.set,
        prune: false,
        preconditions: vec![v1::Precondition {
            key: Some((&resource.key()).into()),
            revision: stored.revision,
        }],
    };
    let changes = Changes::apply(&client, request).await?;
    let answer = finish(changes, &client, args.wait, args.output, session.out).await?;
    if args.output == ChangesFormat::Text && !args.dry_run {
        session.out.line(match expires {
            Some(_) => format!(
                "It ends at {}; sooner with `meshctl delete allow/{name}`.",
                shown(expires)
            ),
            None => format!("It has no end; `meshctl delete allow/{name}` takes it back."),
        })?;
    }
    Ok(answer)
}

impl AllowArgs {
    /// The rule without its end, under the name that it gets if that is free.
    fn grant(&self) -> anyhow::Result<Rule> {
        let mut ports = self.ports.clone();
        ports.extend(self.to.port.clone());
        ports.sort();
        ports.dedup();
        let condition = HttpCondition {
            methods: listed(&self.methods),
            paths: listed(&self.paths),
            ..HttpCondition::default()
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => default_name(&self.from, &self.to.service)?,
        };
        Ok(Rule {
            name: RuleName {
                namespace: self.to.service.namespace.clone(),
                name,
            },
            service: self.to.service.clone(),
            ports: listed(&ports),
            from: self.from.clone().into(),
            http: match condition.is_empty() {
                true => Match::Any,
                false => Match::OneOf(NonEmpty::one(condition)),
            },
            expires: None,
            mode: Mode::Enforce,
        })
    }

    /// `None`: it has none.
    fn end(&self) -> anyhow::Result<Option<Timestamp>> {
        let Some(duration) = self.duration else {
            return Ok(None);
        };
        let seconds = TimestampRound::new()
            .smallest(Unit::Second)
            .mode(RoundMode::Ceil);
        let end = Timestamp::now().checked_add(duration);
        Ok(Some(end.and_then(|end| end.round(seconds)).context(
            "--for: that is longer than time can be written",
        )?))
    }
}

/// The rule that is stored already, or the name for a new one.
struct Stored {
    grant: Rule,
    /// When the stored rule ends; outer `None`: there is none.
    expires: Option<Option<Timestamp>>,
    labels: BTreeMap<String, String>,
    set: String,
    revision: u64,
}

impl Stored {
    /// The rule with the later one of the two ends.
    fn rule(&self, end: Option<Timestamp>) -> Rule {
        let expires = match (self.expires, end) {
            (Some(None), _) | (_, None) => None,
            (Some(Some(old)), Some(new)) => Some(old.max(new)),
            (None, Some(new)) => Some(new),
        };
        Rule {
            expires,
            ..self.grant.clone()
        }
    }
}

/// The first name that is free or has a rule that grants just this; only that one if it `is_named`.
async fn find(client: &Client, wanted: Rule, is_named: bool) -> anyhow::Result<Stored> {
    for number in 1..=NAMES_TRIED {
        let mut grant = wanted.clone();
        if number > 1 {
            grant.name.name = format!("{}-{number}", wanted.name.name).parse()?;
        }
        let key = ResourceKey::allow(&grant.name);
        let request = v1::GetRequest {
            key: Some((&key).into()),
        };
        let found = match client.resources().get(request).await {
            Ok(found) => found.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Stored {
                    grant,
                    expires: None,
                    labels: BTreeMap::new(),
                    set: String::new(),
                    revision: 0,
                });
            }
            Err(status) => return Err(refused(status)),
        };
        let stored = Resource::try_from(&found)?;
        if let Spec::Allow(rule) = &stored.spec
            && grants_the_same(rule, &grant)
        {
            return Ok(Stored {
                grant,
                expires: Some(rule.expires),
                labels: stored.labels,
                set: found.set,
                revision: found.revision,
            });
        }
        if is_named {
            bail!(SaysNo(format!(
                "{key} exists and grants something else; choose another --name, or change it with `meshctl edit {key}`"
            )));
        }
    }
    bail!(SaysNo(format!(
        "{} and {NAMES_TRIED} names like it are taken; choose one with --name",
        wanted.name
    )))
}

fn grants_the_same(stored: &Rule, wanted: &Rule) -> bool {
    let stored = Rule {
        expires: None,
        ..stored.clone()
    };
    stored == *wanted
}

fn default_name(from: &SourcePattern, service: &ServiceName) -> anyhow::Result<DnsLabel> {
    let source = match from {
        SourcePattern::AnyLocal => "anyone".to_owned(),
        SourcePattern::Local { name, .. } => match name {
            NamePattern::Exact(name) => name.to_string(),
            NamePattern::Prefix(prefix) => prefix.trim_end_matches('-').to_owned(),
        },
        SourcePattern::Exact(id) => match id.workload() {
            Some(workload) => workload.name.to_string(),
            None => "other".to_owned(),
        },
    };
    let source = if source.is_empty() { "all" } else { &source };
    let name: String = format!("{source}-to-{}", service.name)
        .chars()
        .take(NAME_LENGTH)
        .collect();
    Ok(name.trim_end_matches('-').parse()?)
}

fn listed<T: Clone>(values: &[T]) -> Match<T> {
    NonEmpty::new(values.to_vec()).map_or(Match::Any, Match::OneOf)
}

/// Days are written too: a break-glass rule may have to last over a weekend.
fn parse_lifetime(text: &str) -> Result<SignedDuration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u16>().ok());
    let duration = match days {
        Some(days) => SignedDuration::from_hours(24_i64.saturating_mul(i64::from(days))),
        None => parse_length(text)?,
    };
    if duration < SignedDuration::from_secs(1) {
        return Err("a rule lasts a second at least".to_owned());
    }
    Ok(duration)
}

const NAMES_TRIED: usize = 20;
/// What a DNS label has room for, less the number that may follow.
const NAME_LENGTH: usize = 58;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_and_what() {
        for (from, name) in [
            ("shop/web", "web-to-api"),
            ("shop/batch-*", "batch-to-api"),
            ("shop/*", "all-to-api"),
            ("*", "anyone-to-api"),
            ("spiffe://partner.example/ns/crm/sa/sync", "sync-to-api"),
        ] {
            let from = from.parse().unwrap();
            let service = "shop/api".parse().unwrap();
            assert_eq!(default_name(&from, &service).unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_end_only_moves_to_a_later_time() {
        let at = |second| Timestamp::from_second(second).ok();
        let stored = |expires| Stored {
            grant: grant(),
            expires,
            labels: BTreeMap::new(),
            set: String::new(),
            revision: 1,
        };
        for (old, new, end) in [
            (None, at(5), at(5)),
            (None, None, None),
            (Some(at(9)), at(5), at(9)),
            (Some(at(4)), at(5), at(5)),
            (Some(at(4)), None, None),
            (Some(None), at(5), None),
        ] {
            assert_eq!(stored(old).rule(new).expires, end, "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_lifetime_is_written_in_hours_or_days() {
        assert_eq!(parse_lifetime("2h").unwrap(), SignedDuration::from_hours(2));
        assert_eq!(
            parse_lifetime("3d").unwrap(),
            SignedDuration::from_hours(72)
        );
        for text in ["", "d", "-1h", "0s", "soon", "99999999d"] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }

    fn grant() -> Rule {
        Rule {
            name: "shop/web-to-api".parse().unwrap(),
            service: "shop/api".parse().unwrap(),
            ports: Match::Any,
            from: "shop/web".parse::<SourcePattern>().unwrap().into(),
            http: Match::Any,
            expires: None,
            mode: Mode::Enforce,
        }
    }
}
