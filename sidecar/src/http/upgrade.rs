//! What a request asks to become, and what of it may be passed on (RFC 9110 §7.8).
//!
//! Invariant: `Upgrade` and `HTTP2-Settings` never pass as they came. An upgrade that may happen is written anew.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Version};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::Control;
use super::headers::list;
use crate::tcp::Reset;

/// What a request asks to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    None,
    /// One protocol, in lower case.
    To(String),
    /// Several at once: the backend would choose, so policy cannot.
    Ambiguous,
    /// CONNECT.
    Connect,
    /// CONNECT with a protocol (RFC 8441).
    ExtendedConnect(String),
}

/// Takes the wish to upgrade out of a request. `h2c` is no wish that is ever granted: HTTP/2 is spoken from the start or not at all.
pub fn take<B>(request: &mut Request<B>) -> Upgrade {
    let asked = asked(request.headers(), request.version());
    let headers = request.headers_mut();
    headers.remove(UPGRADE);
    headers.remove(HTTP2_SETTINGS);
    if request.method() != Method::CONNECT {
        return asked;
    }
    match request.extensions().get::<hyper::ext::Protocol>() {
        Some(protocol) => Upgrade::ExtendedConnect(protocol.as_str().to_ascii_lowercase()),
        None => Upgrade::Connect,
    }
}

/// Writes the wish for one protocol, as a client does.
pub fn write(headers: &mut HeaderMap, protocol: &str) {
    if let Ok(value) = HeaderValue::from_str(protocol) {
        headers.insert(UPGRADE, value);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// One end of a tunnel that HTTP opened.
pub struct Tunnel {
    io: TokioIo<Upgraded>,
    /// Of the connection below, where that can be reset.
    control: Option<Arc<Control>>,
}

impl Tunnel {
    pub fn new(upgraded: Upgraded, control: Option<Arc<Control>>) -> Self {
        let io = TokioIo::new(upgraded);
        Self { io, control }
    }
}

impl Reset for Tunnel {
    fn reset(&self) {
        if let Some(control) = &self.control {
            control.reset_at_end();
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Upgrade {
    /// The protocol, as policy reads it.
    pub fn protocol(&self) -> Option<&str> {
        match self {
            Self::To(protocol) | Self::ExtendedConnect(protocol) => Some(protocol),
            Self::None | Self::Ambiguous | Self::Connect => None,
        }
    }

    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect | Self::ExtendedConnect(_))
    }
}

/// An upgrade is asked for only when `Connection` nominates it; HTTP/1.0 knows none.
fn asked(headers: &HeaderMap, version: Version) -> Upgrade {
    let nominated = list(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
    if version != Version::HTTP_11 || !nominated {
        return Upgrade::None;
    }
    let mut protocols =
        list(headers, &UPGRADE).filter(|protocol| !protocol.eq_ignore_ascii_case("h2c"));
    match (protocols.next(), protocols.next()) {
        (None, _) => Upgrade::None,
        (Some(protocol), None) => Upgrade::To(protocol.to_ascii_lowercase()),
        (Some(_), Some(_)) => Upgrade::Ambiguous,
    }
}

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn row_17_only_a_single_nominated_protocol_is_an_upgrade() {
        let cases: [(&[(&str, &str)], Upgrade); 8] = [
            (&[], Upgrade::None),
            (&[("upgrade", "websocket")], Upgrade::None),
            (
                &[("connection", "Upgrade"), ("upgrade", "WebSocket")],
                Upgrade::To("websocket".into()),
            ),
            (
                &[
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "websocket"),
                ],
                Upgrade::To("websocket".into()),
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "h2c")],
                Upgrade::None,
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "H2C, websocket")],
                Upgrade::To("websocket".into()),
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "websocket, other")],
                Upgrade::Ambiguous,
            ),
            (
                &[
                    ("connection", "upgrade"),
                    ("upgrade", "a"),
                    ("upgrade", "b"),
                ],
                Upgrade::Ambiguous,
            ),
        ];
        for (headers, expected) in cases {
            let mut request = request(headers);
            assert_eq!(take(&mut request), expected, "{headers:?}");
            assert!(!request.headers().contains_key(UPGRADE));
        }
    }

    #[test]
    fn row_17_h2c_and_its_settings_are_removed() {
        let mut request = request(&[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ]);
        assert_eq!(take(&mut request), Upgrade::None);
        assert!(!request.headers().contains_key("upgrade"));
        assert!(!request.headers().contains_key("http2-settings"));
    }

    #[test]
    fn row_17_connect_is_told_from_requests() {
        let mut request = Request::builder()
            .method("CONNECT")
            .uri("a.b:1")
            .body(())
            .unwrap();
        assert_eq!(take(&mut request), Upgrade::Connect);
    }
}
