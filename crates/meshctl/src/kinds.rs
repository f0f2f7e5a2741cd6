//! The kinds of resources as people type them: `allow`, `Allows`, `svc`.

/// A kind of resource that the control plane stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// As documents and the API spell it.
    pub(crate) name: &'static str,
    plural: &'static str,
    /// Whether its resources lie in namespaces.
    pub(crate) namespaced: bool,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind { name: "Mesh", plural: "meshes", namespaced: false },
    Kind { name: "Service", plural: "services", namespaced: true },
    Kind { name: "Allow", plural: "allows", namespaced: true },
    Kind { name: "Quarantine", plural: "quarantines", namespaced: true },
];

/// Understands a kind in any case, in singular or plural.
pub(crate) fn parse_kind(text: &str) -> Result<Kind, String> {
    let lower = text.to_ascii_lowercase();
    KINDS
        .into_iter()
        .find(|kind| kind.name.eq_ignore_ascii_case(text) || kind.plural == lower)
        .ok_or_else(|| format!("there is no kind `{text}`{}; the kinds are {}", did_you_mean(text), names().join(", ")))
}

/// `, did you mean …?` for a kind, where one is near.
pub(crate) fn did_you_mean(text: &str) -> String {
    let distance = |kind: &Kind| strsim::damerau_levenshtein(&kind.name.to_ascii_lowercase(), &text.to_ascii_lowercase());
    KINDS
        .iter()
        .map(|kind| (distance(kind), kind.name))
        .filter(|(distance, _)| *distance <= NEAR)
        .min()
        .map_or_else(String::new, |(_, name)| format!(", did you mean `{name}`?"))
}

fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// `KIND/NAMESPACE/NAME`, or `KIND/NAME` for a kind of the whole mesh.
pub(crate) fn parse_key(text: &str) -> Result<weft_wire::v1::ResourceKey, String> {
    let mut parts = text.splitn(3, '/');
    let kind = parse_kind(parts.next().unwrap_or_default())?;
    let (namespace, name) = match (kind.namespaced, parts.next(), parts.next()) {
        (true, Some(namespace), Some(name)) => (namespace, name),
        (false, Some(name), None) => ("", name),
        (true, ..) => return Err(format!("expected {}/NAMESPACE/NAME", kind.name)),
        (false, ..) => return Err(format!("expected {}/NAME", kind.name)),
    };
    let is_label = weft_identity::DnsLabel::is_valid;
    if !is_label(name) || (kind.namespaced && !is_label(namespace)) {
        return Err("a namespace and a name are lower-case DNS labels".to_owned());
    }
    Ok(weft_wire::v1::ResourceKey { kind: kind.name.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() })
}

const NEAR: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_understood_as_people_type_them() {
        for text in ["Allow", "allow", "allows", "ALLOWS"] {
            assert_eq!(parse_kind(text).unwrap().name, "Allow", "{text}");
        }
        assert!(parse_kind("alow").unwrap_err().contains("did you mean `Allow`?"));
        assert!(parse_kind("pod").is_err());
    }

    #[test]
    fn keys_name_one_resource() {
        let key = parse_key("allow/shop/web").unwrap();
        assert_eq!((key.kind.as_str(), key.namespace.as_str(), key.name.as_str()), ("Allow", "shop", "web"));
        assert_eq!(parse_key("Mesh/mesh").unwrap().namespace, "");
        for text in ["allow/web", "mesh/shop/mesh", "allow", "", "allow/shop/web/x", "allow/Shop/web"] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }
}
