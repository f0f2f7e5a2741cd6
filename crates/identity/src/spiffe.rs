//! Trust domains and SPIFFE IDs, exactly as the SPIFFE-ID standard spells them.
//!
//! Invariant: a value of either type is in the one canonical spelling (lower-case scheme and trust domain, no empty, dot or
//! trailing segment), so equal text means equal identity.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    str::FromStr,
    sync::Arc,
};

use crate::name::{DnsLabel, NameError, NameKind, Problem, WorkloadName, string_form};

/// The name of one mesh's root of trust, for example `weft.local`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match trust_domain_problem(text) {
            None => Ok(Self(text.into())),
            Some(problem) => Err(NameError::new(NameKind::TrustDomain, text, problem)),
        }
    }
}

/// One identity, for example `spiffe://weft.local/ns/shop/sa/web`.
#[derive(Clone)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins in `text`.
    path_start: usize,
    /// Where the workload's name begins in `text`, if the path has the workloads' layout: decisions ask for it each time.
    name_start: Option<NonZeroUsize>,
}

impl SpiffeId {
    pub fn for_workload(trust_domain: &TrustDomain, workload: &WorkloadName) -> Self {
        Self::from_parts(
            trust_domain,
            &format!("/ns/{}/sa/{}", workload.namespace, workload.name),
        )
    }

    pub fn for_control_plane(trust_domain: &TrustDomain) -> Self {
        Self::from_parts(trust_domain, CONTROL_PLANE_PATH)
    }

    pub fn for_operator(trust_domain: &TrustDomain, operator: &DnsLabel) -> Self {
        Self::from_parts(trust_domain, &format!("{OPERATOR_PREFIX}{operator}"))
    }

    /// `path` comes from this file's layouts only, so it needs no check; the longest (255 + 2 × 63 bytes) is within the limit.
    fn from_parts(trust_domain: &TrustDomain, path: &str) -> Self {
        Self::new(
            format!("{SCHEME}{trust_domain}{path}").into(),
            SCHEME.len() + trust_domain.as_str().len(),
        )
    }

    fn new(text: Arc<str>, path_start: usize) -> Self {
        let path = text.get(path_start..).unwrap_or_default();
        let name = workload_layout(path).map(|(_, name)| name);
        let name_start = name.and_then(|name| NonZeroUsize::new(text.len() - name.len()));
        Self {
            text,
            path_start,
            name_start,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_str().into())
    }

    /// The trust domain without an allocation, for comparisons.
    pub fn trust_domain_str(&self) -> &str {
        self.text
            .get(SCHEME.len()..self.path_start)
            .unwrap_or_default()
    }

    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_str() == trust_domain.as_str()
    }

    /// Empty for the ID of a trust domain itself, else it begins with `/`.
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// The workload that this names in its own trust domain, if it has the workloads' layout.
    pub fn workload(&self) -> Option<WorkloadName> {
        let (namespace, name) = self.workload_parts()?;
        Some(WorkloadName {
            namespace: namespace.parse().ok()?,
            name: name.parse().ok()?,
        })
    }

    /// Namespace and name of a workload without an allocation; both are DNS labels.
    pub fn workload_parts(&self) -> Option<(&str, &str)> {
        let name_start = self.name_start?.get();
        let namespace = self.path_start + NAMESPACE.len()..name_start - SERVICE_ACCOUNT.len();
        Some((self.text.get(namespace)?, self.text.get(name_start..)?))
    }

    /// `shop/sa/web`: what tells the workloads of one trust domain apart, if this has their layout.
    pub fn workload_path(&self) -> Option<&str> {
        self.name_start?;
        self.text.get(self.path_start + NAMESPACE.len()..)
    }

    pub fn operator(&self) -> Option<DnsLabel> {
        self.path().strip_prefix(OPERATOR_PREFIX)?.parse().ok()
    }

    pub fn is_control_plane(&self) -> bool {
        self.path() == CONTROL_PLANE_PATH
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |problem| NameError::new(NameKind::SpiffeId, text, problem);
        if text.len() > SPIFFE_ID_LIMIT {
            return Err(error(Problem::TooLong {
                limit: SPIFFE_ID_LIMIT,
            }));
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| error(Problem::Scheme))?;
        let (trust_domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if let Some(problem) = trust_domain_problem(trust_domain).or_else(|| path_problem(path)) {
            return Err(error(problem));
        }
        Ok(Self::new(text.into(), SCHEME.len() + trust_domain.len()))
    }
}

// Equal texts have equal parts, so the text is all that is compared.

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

/// Namespace and name, of a path with the workloads' layout.
fn workload_layout(path: &str) -> Option<(&str, &str)> {
    // no label holds a `/`
    let (namespace, name) = path.strip_prefix(NAMESPACE)?.split_once(SERVICE_ACCOUNT)?;
    (DnsLabel::is_valid(namespace) && DnsLabel::is_valid(name)).then_some((namespace, name))
}

/// SPIFFE-ID §2.1.
fn trust_domain_problem(text: &str) -> Option<Problem> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    if text.is_empty() {
        Some(Problem::Empty)
    } else if text.len() > TRUST_DOMAIN_LIMIT {
        Some(Problem::TooLong {
            limit: TRUST_DOMAIN_LIMIT,
        })
    } else {
        text.chars()
            .find(|c| !allowed(*c))
            .map(|found| Problem::Character { found })
    }
}

/// SPIFFE-ID §2.2.
fn path_problem(path: &str) -> Option<Problem> {
    let allowed = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | '/');
    if let Some(found) = path.chars().find(|c| !allowed(*c)) {
        return Some(Problem::Character { found });
    }
    path.split('/').skip(1).find_map(|segment| match segment {
        "" => Some(Problem::EmptySegment),
        "." | ".." => Some(Problem::DotSegment),
        _ => None,
    })
}

string_form!(TrustDomain, "^[a-z0-9._-]{1,255}$");
string_form!(SpiffeId, "^spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._-]+)*$");

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const SCHEME: &str = "spiffe://";
const NAMESPACE: &str = "/ns/";
const SERVICE_ACCOUNT: &str = "/sa/";
const CONTROL_PLANE_PATH: &str = "/ns/weft/sa/control-plane";
const OPERATOR_PREFIX: &str = "/operator/";
/// SPIFFE-ID §2.3: at most this many bytes need be supported, and more must not be made.
const SPIFFE_ID_LIMIT: usize = 2048;
const TRUST_DOMAIN_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spiffe_ids_are_accepted_exactly_as_the_standard_says() {
        let long_domain = "a".repeat(256);
        let longest_path = "a".repeat(2048 - "spiffe://td/".len());
        for (text, valid) in [
            ("spiffe://weft.local/ns/shop/sa/web", true),
            ("spiffe://weft.local", true),
            ("spiffe://a_b-c.9/X.y_Z-0/...", true),
            (&format!("spiffe://td/{longest_path}"), true),
            (&format!("spiffe://td/{longest_path}a"), false),
            (&format!("spiffe://{long_domain}/a"), false),
            ("", false),
            ("spiffe:/weft.local/a", false),
            ("SPIFFE://weft.local/a", false),
            ("https://weft.local/a", false),
            ("spiffe:///a", false),
            ("spiffe://Weft.local/a", false),
            ("spiffe://weft.local:80/a", false),
            ("spiffe://user@weft.local/a", false),
            ("spiffe://weft.local/", false),
            ("spiffe://weft.local/a/", false),
            ("spiffe://weft.local//a", false),
            ("spiffe://weft.local/a//b", false),
            ("spiffe://weft.local/a/./b", false),
            ("spiffe://weft.local/..", false),
            ("spiffe://weft.local/a%2fb", false),
            ("spiffe://weft.local/a?b", false),
            ("spiffe://weft.local/a#b", false),
            ("spiffe://weft.local/ä", false),
            ("spiffe://weft.local/a b", false),
            ("spiffe://weft.local/a\n", false),
        ] {
            assert_eq!(text.parse::<SpiffeId>().is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn layouts_are_recognised_and_nothing_else_is() {
        let td: TrustDomain = "weft.local".parse().unwrap();
        let web = SpiffeId::for_workload(&td, &"shop/web".parse().unwrap());
        assert_eq!(web.as_str(), "spiffe://weft.local/ns/shop/sa/web");
        assert_eq!(web.path(), "/ns/shop/sa/web");
        assert_eq!(web.trust_domain(), td);
        assert_eq!(web.workload().unwrap().to_string(), "shop/web");
        assert_eq!(web.workload_path(), Some("shop/sa/web"));
        for other in ["/operator/ops", "/ns/Shop/sa/web", "/ns/a/sa/b/c", ""] {
            let id: SpiffeId = format!("spiffe://weft.local{other}").parse().unwrap();
            assert_eq!(id.workload_path(), None, "{id}");
        }
        assert_eq!(web.operator(), None);
        assert!(SpiffeId::for_control_plane(&td).is_control_plane());
        assert_eq!(
            SpiffeId::for_operator(&td, &"ana".parse().unwrap()).operator(),
            Some("ana".parse().unwrap())
        );
        for text in [
            "spiffe://weft.local",
            "spiffe://weft.local/ns/shop/sa",
            "spiffe://weft.local/ns/shop/sa/web/x",
            "spiffe://weft.local/x/ns/shop/sa/web",
            "spiffe://weft.local/ns/Shop/sa/web",
            "spiffe://weft.local/operator/ana/x",
            "spiffe://weft.local/ns/weft/sa/control-plane/x",
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!(
                (id.workload(), id.operator(), id.is_control_plane()),
                (None, None, false),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_spiffe_id_that_parses_prints_as_it_was_read(text in "spiffe://[a-zA-Z._-]{0,5}[/a-z.%]{0,10}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
            }
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in any::<String>()) {
            let _ = text.parse::<SpiffeId>();
            let _ = format!("spiffe://{text}").parse::<SpiffeId>().map_err(|error| error.to_string());
        }
    }
}
