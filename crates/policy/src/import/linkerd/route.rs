//! `HTTPRoute` of policy.linkerd.io: which requests it takes, as conditions of ours and as a refusal for those whom it does not admit.

use serde::Deserialize;

use super::Ignored;
use crate::{
    header::{HeaderCondition, HeaderTest},
    http::HostPattern,
    import::{
        grants::{Named, Refusal, Requests},
        meta::Holds,
        notes::{NoteKind, Notes},
        paths::{EVERYTHING, PathTest},
        sources::contains,
        text::TextTest,
    },
    path::PathPattern,
    source::{NamePattern, SourcePattern},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::import) struct RouteSpec {
    #[serde(default)]
    parent_refs: Vec<ParentRef>,
    #[serde(default)]
    pub(super) hostnames: Vec<String>,
    #[serde(default = "one_rule")]
    pub(super) rules: Vec<RouteRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ParentRef {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    section_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RouteRule {
    #[serde(default)]
    matches: Vec<Match>,
    #[serde(default)]
    filters: Vec<Filter>,
    #[serde(default, rename = "backendRefs")]
    _backend_refs: Vec<BackendRef>,
    #[serde(default, rename = "timeouts")]
    _timeouts: Option<Timeouts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Match {
    #[serde(default)]
    path: Option<PathMatch>,
    #[serde(default)]
    headers: Vec<ValueMatch>,
    #[serde(default)]
    query_params: Vec<ValueMatch>,
    #[serde(default)]
    method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathMatch {
    #[serde(default, rename = "type")]
    kind: PathKind,
    #[serde(default = "root")]
    value: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum PathKind {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueMatch {
    #[serde(default, rename = "type")]
    kind: ValueKind,
    name: String,
    value: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ValueKind {
    #[default]
    Exact,
    RegularExpression,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(rename = "type")]
    kind: FilterKind,
    #[serde(default, rename = "requestHeaderModifier")]
    _request_header_modifier: Option<HeaderModifier>,
    #[serde(default, rename = "responseHeaderModifier")]
    _response_header_modifier: Option<HeaderModifier>,
    #[serde(default, rename = "requestRedirect")]
    _request_redirect: Option<Redirect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum FilterKind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderModifier {
    #[serde(default, rename = "add")]
    _add: Vec<HeaderValue>,
    #[serde(default, rename = "set")]
    _set: Vec<HeaderValue>,
    #[serde(default, rename = "remove")]
    _remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderValue {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "value")]
    _value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    #[serde(default, rename = "hostname")]
    _hostname: Ignored,
    #[serde(default, rename = "path")]
    _path: Option<RedirectPath>,
    #[serde(default, rename = "port")]
    _port: Ignored,
    #[serde(default, rename = "scheme")]
    _scheme: Ignored,
    #[serde(default, rename = "statusCode")]
    _status_code: Ignored,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedirectPath {
    #[serde(rename = "type")]
    _kind: Ignored,
    #[serde(default, rename = "replaceFullPath")]
    _replace_full_path: Ignored,
    #[serde(default, rename = "replacePrefixMatch")]
    _replace_prefix_match: Ignored,
}

/// Where requests go on the way out: not asked on the way in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendRef {
    #[serde(default, rename = "group")]
    _group: Ignored,
    #[serde(default, rename = "kind")]
    _kind: Ignored,
    #[serde(rename = "name")]
    _name: Ignored,
    #[serde(default, rename = "namespace")]
    _namespace: Ignored,
    #[serde(default, rename = "port")]
    _port: Ignored,
    #[serde(default, rename = "weight")]
    _weight: Ignored,
    #[serde(default, rename = "filters")]
    _filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Timeouts {
    #[serde(default, rename = "backendRequest")]
    _backend_request: Ignored,
    #[serde(default, rename = "request")]
    _request: Ignored,
}

fn one_rule() -> Vec<RouteRule> {
    vec![RouteRule {
        matches: Vec::new(),
        filters: Vec::new(),
        _backend_refs: Vec::new(),
        _timeouts: None,
    }]
}

fn root() -> String {
    "/".to_owned()
}

impl ParentRef {
    fn is_server(&self) -> bool {
        self.kind.as_deref() == Some("Server")
            && self
                .group
                .as_deref()
                .is_none_or(|group| group == super::convert::GROUP)
    }
}

impl RouteSpec {
    pub(super) fn problem(&self) -> Option<&'static str> {
        let mut servers = self.parent_refs.iter().filter(|parent| parent.is_server());
        servers
            .any(|parent| parent.port.is_some() || parent.section_name.is_some())
            .then_some("a route of a Server names it without `port` and `sectionName`")
    }

    pub(super) fn is_of(&self, server: &str, namespace: &str) -> bool {
        self.parent_refs.iter().any(|parent| {
            parent.is_server()
                && parent.name == server
                && parent
                    .namespace
                    .as_deref()
                    .is_none_or(|other| other == namespace)
        })
    }
}

impl RouteRule {
    /// Such a request is answered by the proxy and goes no further.
    pub(super) fn redirects(&self) -> bool {
        self.filters
            .iter()
            .any(|filter| filter.kind == FilterKind::RequestRedirect)
    }

    pub(super) fn changes_headers(&self) -> bool {
        self.filters
            .iter()
            .any(|filter| filter.kind != FilterKind::RequestRedirect)
    }

    /// The requests that the rule takes, as far as they can be said.
    pub(super) fn requests(
        &self,
        hostnames: &[String],
        notes: &mut Notes,
        path: &str,
    ) -> Vec<Requests> {
        let any = [Match::default()];
        let matches = if self.matches.is_empty() {
            &any[..]
        } else {
            &self.matches
        };
        let mut found = Vec::new();
        for (index, one) in matches.iter().enumerate() {
            found.extend(one.requests(hostnames, notes, &format!("{path}.matches[{index}]")));
        }
        found
    }

    /// What it takes away from other routes, but from callers whom it admits.
    pub(super) fn refusals<'a>(&'a self, admitted: &'a [SourcePattern]) -> Vec<Taken<'a>> {
        if self.matches.is_empty() {
            return vec![Taken { by: None, admitted }];
        }
        self.matches
            .iter()
            .map(|one| Taken {
                by: Some(one),
                admitted,
            })
            .collect()
    }
}

impl Match {
    fn requests(&self, hostnames: &[String], notes: &mut Notes, path: &str) -> Option<Requests> {
        let mut lose = |kind, text: String| {
            notes.add(kind, path, text);
            None
        };
        if !self.query_params.is_empty() {
            return lose(
                NoteKind::Query,
                "rules do not look at the query, so this is left out".to_owned(),
            );
        }
        let Some(paths) = self
            .path
            .as_ref()
            .map_or_else(|| Some(None), PathMatch::patterns)
        else {
            return lose(
                NoteKind::Path,
                "no pattern matches the same paths, so this is left out".to_owned(),
            );
        };
        let mut headers = Vec::new();
        for header in &self.headers {
            if header.kind == ValueKind::RegularExpression {
                return lose(
                    NoteKind::Header,
                    format!(
                        "no condition is a regular expression, so what asks header {} is left out",
                        header.name
                    ),
                );
            }
            match header.name.parse() {
                Ok(name) => headers.push(HeaderCondition {
                    name,
                    test: HeaderTest::Exact(header.value.clone()),
                }),
                Err(error) => return lose(NoteKind::Header, format!("left out: {error}")),
            }
        }
        let methods = match self.method.as_deref().map(str::parse).transpose() {
            Ok(method) => method.map(|method| vec![method]),
            Err(error) => return lose(NoteKind::Method, format!("left out: {error}")),
        };
        let hosts = match hostnames
            .iter()
            .map(|host| host.parse())
            .collect::<Result<Vec<_>, _>>()
        {
            Ok(hosts) => (!hosts.is_empty()).then_some(hosts),
            Err(error) => return lose(NoteKind::Host, format!("left out: {error}")),
        };
        Some(Requests {
            methods,
            paths,
            hosts,
            headers,
            http_only: true,
        })
    }
}

impl PathMatch {
    /// `Some(None)` is any path.
    fn patterns(&self) -> Option<Option<Vec<PathPattern>>> {
        let prefix = self.value.trim_end_matches('/');
        let texts = match self.kind {
            PathKind::RegularExpression => return None,
            _ if self.value.contains('*') => return None,
            PathKind::PathPrefix if prefix.is_empty() => return Some(None),
            PathKind::PathPrefix => vec![prefix.to_owned(), format!("{prefix}{EVERYTHING}")],
            PathKind::Exact => vec![self.value.clone()],
        };
        texts
            .iter()
            .map(|text| text.parse().ok())
            .collect::<Option<Vec<_>>>()
            .map(Some)
    }

    fn holds(&self, pattern: &PathPattern) -> Holds {
        let exact = |text: &str| PathTest::Text(TextTest::Exact(text.to_owned())).holds(pattern);
        match self.kind {
            PathKind::RegularExpression => Holds::Unknown,
            PathKind::Exact => exact(&self.value),
            PathKind::PathPrefix => {
                let prefix = self.value.trim_end_matches('/');
                let below = PathTest::Text(TextTest::Prefix(format!("{prefix}/"))).holds(pattern);
                if prefix.is_empty() {
                    Holds::Yes
                } else {
                    exact(prefix).or(below)
                }
            }
        }
    }
}

/// Requests that a route takes: no other route of the server sees them.
pub(super) struct Taken<'a> {
    /// `None` takes all.
    by: Option<&'a Match>,
    /// Whom it admits, so that it takes nothing from them.
    admitted: &'a [SourcePattern],
}

impl Refusal for Taken<'_> {
    fn source(&self, pattern: &SourcePattern) -> Holds {
        if self.admitted.iter().any(|outer| contains(outer, pattern)) {
            return Holds::No;
        }
        let is_one = matches!(
            pattern,
            SourcePattern::Exact(_)
                | SourcePattern::Local {
                    name: NamePattern::Exact(_),
                    ..
                }
        );
        let overlaps = self.admitted.iter().any(|inner| contains(pattern, inner));
        if is_one || !overlaps {
            Holds::Yes
        } else {
            Holds::Unknown
        }
    }

    fn method(&self, method: &str) -> Holds {
        let named = self.by.and_then(|one| one.method.as_deref());
        named.map_or(Holds::Yes, |named| Holds::from(named == method))
    }

    fn path(&self, pattern: &PathPattern) -> Holds {
        let path = self.by.and_then(|one| one.path.as_ref());
        path.map_or(Holds::Yes, |path| path.holds(pattern))
    }

    fn host(&self, _: &HostPattern) -> Holds {
        // another route's names may be among these
        Holds::Unknown
    }

    fn headers(&self, headers: &[HeaderCondition]) -> Holds {
        let asked = self.by.map_or(&[][..], |one| &one.headers);
        let outside = asked
            .iter()
            .filter(|asked| asked.kind == ValueKind::Exact)
            .any(|asked| {
                headers.iter().any(|header| {
                    header.name.as_str().eq_ignore_ascii_case(&asked.name)
                        && match &header.test {
                            HeaderTest::Exact(value) => *value != asked.value,
                            HeaderTest::Prefix(prefix) => !asked.value.starts_with(prefix.as_str()),
                            HeaderTest::Present => false,
                        }
                })
            });
        match (outside, asked.is_empty()) {
            (true, _) => Holds::No,
            (false, true) => Holds::Yes,
            (false, false) => Holds::Unknown,
        }
    }

    fn names(&self) -> Named {
        let Some(one) = self.by else {
            return Named::default();
        };
        Named {
            methods: one.method.is_some(),
            paths: one.path.is_some(),
            hosts: false,
            headers: !one.headers.is_empty() || !one.query_params.is_empty(),
        }
    }
}
