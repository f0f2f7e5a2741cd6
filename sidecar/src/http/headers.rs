//! What an intermediary must change in a message's headers, and nothing else.
//!
//! Invariants: no header that belongs to one hop passes (RFC 9110 §7.6.1); no `x-forwarded-client-cert` of a client passes, in
//! whatever spelling; a message whose target is ambiguous is refused.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Version, request};
use weft_identity::SpiffeId;
use weft_policy::{HeaderLookup, HeaderValue as PolicyValue};

use super::strict;

/// The values of a header that is a comma-separated list, over all its lines, without empty members.
pub fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

/// Removes what belongs to the hop that the message came over, and what `Connection` nominates.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = list(headers, &CONNECTION)
        .filter_map(|option| option.parse().ok())
        .filter(|name| !is_end_to_end(name))
        .collect();
    let takes_trailers = list(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes `x-forwarded-client-cert` in any spelling: case is folded already, and many servers read `_` as `-`.
pub fn remove_client_cert(headers: &mut HeaderMap) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| names_client_cert(name.as_str()))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

/// Tells the application who calls, from the verified SVID.
pub fn write_client_cert(
    headers: &mut HeaderMap,
    own: &SpiffeId,
    peer: &SpiffeId,
    peer_leaf_sha256: &str,
) {
    let value = client_cert(own, peer, peer_leaf_sha256);
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(CLIENT_CERT, value);
    }
}

/// The same as one line of an HTTP/1.1 head.
pub fn client_cert_line(own: &SpiffeId, peer: &SpiffeId, peer_leaf_sha256: &str) -> Vec<u8> {
    let value = client_cert(own, peer, peer_leaf_sha256);
    format!("{CLIENT_CERT}: {value}\r\n").into_bytes()
}

fn client_cert(own: &SpiffeId, peer: &SpiffeId, peer_leaf_sha256: &str) -> String {
    format!("By={own};Hash={peer_leaf_sha256};URI={peer}")
}

/// Whether Content-Length stands more than once. Readers of HTTP/2 take equal ones for one, and an HTTP/1.1 backend would get them all.
pub fn repeats_length(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
}

/// Whether a header could be taken for one that says where the content ends; over HTTP/2 nobody has looked before.
pub fn disguise_framing(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    names.any(|name| strict::disguises_framing(name.as_str().as_bytes()))
}

/// Whether an HTTP/2 request's path is one (RFC 9113 §8.3.1), not something that would be made one on its way. Over HTTP/1.1 the
/// target's form is judged before.
pub fn has_path(head: &request::Parts) -> bool {
    if head.version != Version::HTTP_2 || head.method == Method::CONNECT {
        return true;
    }
    match head.uri.path_and_query().map(PathAndQuery::as_str) {
        Some("*") => head.method == Method::OPTIONS,
        path => path.is_some_and(|path| path.starts_with('/')),
    }
}

/// The one authority that a request names, in `Host`, in its target, or equally in both.
pub fn authority(head: &request::Parts) -> Result<Option<&str>, Ambiguous> {
    let mut hosts = head.headers.get_all(HOST).into_iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().map_err(|_| Ambiguous)?),
        (Some(_), Some(_)) => return Err(Ambiguous),
    };
    let named = head.uri.authority().map(http::uri::Authority::as_str);
    if ![named, host].into_iter().flatten().all(is_authority) {
        return Err(Ambiguous);
    }
    match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => Err(Ambiguous),
        (named, host) => Ok(host.or(named)),
    }
}

/// `uri-host [":" port]` (RFC 9110 §7.2), and nothing that another reader could take for another host: no user, no junk after the host.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => (
            address.parse::<std::net::Ipv6Addr>().is_ok(),
            port.strip_prefix(':').map_or(port.is_empty(), is_port),
        ),
        Some(None) => return false,
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, "0"));
            let is_name = !name.is_empty() && name.bytes().all(is_name_byte);
            (is_name, is_port(port))
        }
    };
    host && port
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 3986 §3.2.2, `reg-name`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=,".contains(&byte)
}

/// `Host` and the request's target, or two `Host`s, disagree, or one of them is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authority is ambiguous")]
pub struct Ambiguous;

/// Writes target and `Host` as HTTP/1.1 to an origin server wants them; path and query stay as they are.
pub fn target_for_http1(head: &mut request::Parts) {
    if let (false, Some(authority)) = (head.headers.contains_key(HOST), head.uri.authority())
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(HOST, host);
    }
    // An asterisk stays one; `http://a` without a path means `/`.
    let path = head
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
}

/// Writes target and authority as HTTP/2 wants them; path and query stay as they are.
pub fn target_for_http2(head: &mut request::Parts) -> Result<(), Ambiguous> {
    let authority = authority(head)?
        .ok_or(Ambiguous)?
        .parse()
        .map_err(|_| Ambiguous)?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(head.uri.scheme().cloned().unwrap_or(Scheme::HTTP));
    parts.authority = Some(authority);
    parts.path_and_query = Some(
        head.uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    );
    head.uri = Uri::from_parts(parts).map_err(|_| Ambiguous)?;
    head.headers.remove(HOST);
    head.version = Version::HTTP_2;
    Ok(())
}

/// Whether a request is gRPC, and wants its errors as gRPC tells them.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A request's headers as policy looks at them.
pub struct Lookup<'h>(pub &'h HeaderMap);

impl HeaderLookup for Lookup<'_> {
    fn lookup(&self, name: &str) -> PolicyValue<'_> {
        let mut values = self.0.get_all(name).into_iter();
        match (values.next(), values.next()) {
            (None, _) => PolicyValue::Absent,
            (Some(value), None) => PolicyValue::One(value.as_bytes()),
            (Some(_), Some(_)) => PolicyValue::Many,
        }
    }
}

fn names_client_cert(name: &str) -> bool {
    let bytes = name.bytes().map(|byte| {
        if byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    });
    bytes.eq(CLIENT_CERT.as_str().bytes())
}

/// Headers that a message cannot lose, whatever `Connection` says of them.
fn is_end_to_end(name: &HeaderName) -> bool {
    name == HOST || name == CONTENT_LENGTH
}

/// Whom the request comes from; the form is Envoy's.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_belongs_to_one_hop_is_removed_and_the_rest_stays() {
        let mut headers = map(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["trailer", "x-kept"]);
    }

    #[test]
    fn nominating_host_or_content_length_does_not_remove_them() {
        let mut headers = map(&[
            ("connection", "host, Content-Length"),
            ("host", "a"),
            ("content-length", "5"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn the_wish_for_trailers_stays() {
        let mut headers = map(&[("te", "trailers, deflate;q=0.5"), ("connection", "te")]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.get(TE).unwrap(), "trailers");
    }

    #[test]
    fn row_04_a_clients_certificate_header_is_removed_in_any_spelling() {
        let mut headers = HeaderMap::new();
        for name in [
            "X-Forwarded-Client-Cert",
            "x_forwarded_client_cert",
            "X-FORWARDED_client-Cert",
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name.clone(), HeaderValue::from_static("URI=spiffe://evil"));
            headers.append(name, HeaderValue::from_static("twice"));
        }
        headers.insert(
            "x-forwarded-client-certs",
            HeaderValue::from_static("another header"),
        );
        remove_client_cert(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn row_05_what_is_no_path_is_seen() {
        let cases = [
            ("GET", "http://a/b?c", true),
            ("GET", "http://a", true),
            ("GET", "http://a?c", false),
            ("GET", "/", true),
            ("GET", "*", false),
            ("OPTIONS", "*", true),
            ("GET", "a", false),
            ("CONNECT", "a:80", true),
        ];
        for (method, uri, expected) in cases {
            let request = Request::builder().version(Version::HTTP_2);
            let request = request.method(method).uri(uri);
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(has_path(&head), expected, "{method} {uri}");
        }
    }

    #[test]
    fn row_05_names_that_gateways_take_for_framing_are_seen() {
        for name in ["content_length", "Transfer_Encoding"] {
            assert!(
                disguise_framing(&map(&[("x-a", "b"), (name, "5")])),
                "{name}"
            );
        }
        let names = [
            ("content-length", "5"),
            ("x_content_length", "5"),
            ("content_lengths", "5"),
        ];
        assert!(!disguise_framing(&map(&names)));
    }

    #[test]
    fn row_03_an_ambiguous_authority_is_refused() {
        type Case = (
            &'static str,
            &'static [(&'static str, &'static str)],
            Result<Option<&'static str>, Ambiguous>,
        );
        let cases: [Case; 15] = [
            ("/", &[], Ok(None)),
            ("/", &[("host", "a:80")], Ok(Some("a:80"))),
            ("http://a/", &[], Ok(Some("a"))),
            ("http://a/", &[("host", "A")], Ok(Some("A"))),
            ("http://a/", &[("host", "b")], Err(Ambiguous)),
            ("http://u@a/", &[], Err(Ambiguous)),
            ("/", &[("host", "a.internal:x.b.example")], Err(Ambiguous)),
            ("/", &[("host", "orders.shop:x")], Err(Ambiguous)),
            ("/", &[("host", "orders.shop:")], Err(Ambiguous)),
            ("/", &[("host", "a/b.example")], Err(Ambiguous)),
            ("/", &[("host", "a b")], Err(Ambiguous)),
            ("/", &[("host", "[::1]:80")], Ok(Some("[::1]:80"))),
            ("/", &[("host", "[::1]x")], Err(Ambiguous)),
            ("/", &[("host", "::1")], Err(Ambiguous)),
            ("/", &[("host", "a"), ("host", "a")], Err(Ambiguous)),
        ];
        for (uri, headers, expected) in cases {
            let (mut head, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            head.headers = HeaderMap::new();
            for (name, value) in headers {
                head.headers
                    .append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            assert_eq!(authority(&head), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn targets_keep_path_and_query_byte_for_byte() {
        for path in ["/", "/a%2fb//c/../d?x=%41&y", "//double", "/?q", "*"] {
            let (mut head, ()) = Request::builder()
                .uri(path)
                .header(HOST, "A.b:80")
                .body(())
                .unwrap()
                .into_parts();
            target_for_http1(&mut head);
            assert_eq!(head.uri.to_string(), path);
            assert_eq!(head.headers.get(HOST).unwrap(), "A.b:80");
        }
        let (mut head, ()) = Request::builder()
            .uri("http://a.b:80/x%2f?y")
            .body(())
            .unwrap()
            .into_parts();
        target_for_http1(&mut head);
        assert_eq!(head.uri.to_string(), "/x%2f?y");
        assert_eq!(head.headers.get(HOST).unwrap(), "a.b:80");
        target_for_http2(&mut head).unwrap();
        assert_eq!(head.uri.to_string(), "http://a.b:80/x%2f?y");
        assert!(!head.headers.contains_key(HOST));
    }
}
