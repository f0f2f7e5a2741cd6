//! What people type to name resources: `allow`, `allow shop/web`, `allow web -n shop`, `Allow/shop/web`.

use anyhow::{Context as _, bail};
use weft_catalog::{Mesh, NamespaceSettings};
use weft_identity::DnsLabel;
use weft_wire::{Kind, ResourceKey};

use crate::documents::did_you_mean;

/// One resource, or all of a kind; `None`: of every kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    One(ResourceKey),
    Many(Option<Kind>),
}

impl Target {
    pub(crate) fn of(
        kind: &str,
        name: Option<&str>,
        namespace: Option<&DnsLabel>,
    ) -> anyhow::Result<Self> {
        if kind.contains('/') {
            if name.is_some() {
                bail!("`{kind}` names one resource already");
            }
            return Ok(Self::One(parse_key(kind)?));
        }
        if kind == EVERY_KIND {
            if name.is_some() {
                bail!("a name needs one kind, not `{EVERY_KIND}`");
            }
            return Ok(Self::Many(None));
        }
        let kind = parse_kind(kind)?;
        match name {
            None => Ok(Self::Many(Some(kind))),
            Some(name) => Ok(Self::One(one(kind, name, namespace)?)),
        }
    }
}

fn one(kind: Kind, name: &str, namespace: Option<&DnsLabel>) -> anyhow::Result<ResourceKey> {
    let (given, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.parse::<DnsLabel>()?), name),
        None => (None, name),
    };
    if !kind.has_namespace() {
        if given.is_some() || name != Mesh::NAME {
            bail!("there is one Mesh, and its name is `{}`", Mesh::NAME);
        }
        return Ok(ResourceKey::mesh());
    }
    // A namespace has one: its name is name enough.
    if kind == Kind::NamespaceSettings && given.is_none() && name != NamespaceSettings::NAME {
        return Ok(ResourceKey::namespace_settings(&name.parse()?));
    }
    let namespace = match (given, namespace) {
        (Some(given), Some(flag)) if given != *flag => {
            bail!("`{given}/{name}` is not in namespace {flag}")
        }
        (Some(given), _) => given,
        (None, Some(flag)) => flag.clone(),
        (None, None) => {
            bail!("in which namespace? Write {kind} NAMESPACE/{name}, or use -n NAMESPACE")
        }
    };
    Ok(format!("{kind}/{namespace}/{name}").parse()?)
}

pub(crate) fn parse_kind(text: &str) -> anyhow::Result<Kind> {
    text.parse::<Kind>()
        .with_context(|| format!("no such kind{}", did_you_mean(text)))
}

/// `KIND/NAMESPACE/NAME`, `Mesh` or `Mesh/mesh`.
pub(crate) fn parse_key(text: &str) -> anyhow::Result<ResourceKey> {
    let kind = text.split('/').next().unwrap_or_default();
    parse_kind(kind)?;
    Ok(text.parse::<ResourceKey>()?)
}

const EVERY_KIND: &str = "all";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_resource_is_named_in_several_ways() {
        let shop: DnsLabel = "shop".parse().unwrap();
        let key = Target::One("Allow/shop/web".parse().unwrap());
        assert_eq!(Target::of("allow", Some("shop/web"), None).unwrap(), key);
        assert_eq!(Target::of("allows", Some("web"), Some(&shop)).unwrap(), key);
        assert_eq!(Target::of("Allow/shop/web", None, None).unwrap(), key);
        assert_eq!(Target::of("all", None, None).unwrap(), Target::Many(None));
        assert_eq!(
            Target::of("mesh", Some("mesh"), None).unwrap(),
            Target::One("Mesh/mesh".parse().unwrap())
        );
        let settings = Target::One("NamespaceSettings/shop/settings".parse().unwrap());
        for (name, namespace) in [
            ("shop", None),
            ("shop/settings", None),
            ("settings", Some(&shop)),
        ] {
            let target = Target::of("namespacesettings", Some(name), namespace);
            assert_eq!(target.unwrap(), settings, "{name}");
        }
        assert!(Target::of("namespacesettings", Some("shop/other"), None).is_err());
    }

    #[test]
    fn a_name_without_its_namespace_is_asked_about() {
        let error = Target::of("allow", Some("web"), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("-n NAMESPACE"), "{error}");
        let shop: DnsLabel = "shop".parse().unwrap();
        assert!(Target::of("allow", Some("bank/web"), Some(&shop)).is_err());
        assert!(Target::of("all", Some("web"), None).is_err());
    }

    #[test]
    fn an_unknown_kind_is_guessed() {
        let error = format!("{:#}", Target::of("servise", None, None).unwrap_err());
        assert!(error.contains("did you mean `Service`?"), "{error}");
    }
}
