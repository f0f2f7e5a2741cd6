//! `HTTPRoute` of policy.linkerd.io: as a document, and which requests it takes, as conditions of ours.

use serde::Deserialize;

use super::{Ignored, taken::Taken};
use crate::{
    header::{HeaderCondition, HeaderTest},
    import::{
        grants::Requests,
        meta::Holds,
        notes::{NoteKind, Notes},
        paths::{EVERYTHING, PathTest},
        text::TextTest,
    },
    path::PathPattern,
    source::SourcePattern,
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
    pub(super) path: Option<PathMatch>,
    #[serde(default)]
    pub(super) headers: Vec<ValueMatch>,
    #[serde(default)]
    pub(super) query_params: Vec<ValueMatch>,
    #[serde(default)]
    pub(super) method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathMatch {
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
pub(super) struct ValueMatch {
    #[serde(default, rename = "type")]
    pub(super) kind: ValueKind,
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum ValueKind {
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
                .is_none_or(|group| group == super::GROUP)
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

    pub(super) fn holds(&self, pattern: &PathPattern) -> Holds {
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
