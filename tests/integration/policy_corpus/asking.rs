//! A client that asks what a case asks: over the source's upstream listener, or with its SVID straight at the server.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use weft_catalog::Protocol;
use weft_identity::{ServicePort, server_name};
use weft_policy::{Case, Expect};
use weft_tests::{KeepAlive, Svid};

use super::corpus::{TRUST_DOMAIN, target};

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) verdict: Expect,
    /// The decision id that a refused HTTP client was told.
    pub(super) decision: Option<String>,
    /// What else is worth knowing when it was not as expected.
    _detail: String,
}

/// Asks for one source; keeps its connections.
pub(super) struct Client {
    svid: Svid,
    plain: HashMap<ServicePort, KeepAlive<TcpStream>>,
    mutual: HashMap<ServicePort, KeepAlive<TlsStream<TcpStream>>>,
}

impl Client {
    pub(super) fn new(svid: Svid) -> Self {
        Self {
            svid,
            plain: HashMap::new(),
            mutual: HashMap::new(),
        }
    }

    pub(super) async fn through_own(
        &mut self,
        listener: SocketAddr,
        protocol: Protocol,
        case: &Case,
    ) -> Answer {
        if !protocol.is_http() {
            return echo(TcpStream::connect(listener).await).await;
        }
        let mut connection = match self.plain.remove(target(case)) {
            Some(connection) => connection,
            None => match TcpStream::connect(listener).await {
                Ok(stream) => KeepAlive::new(stream),
                Err(error) => return Answer::broken(&error),
            },
        };
        let answer = ask(&mut connection, case).await;
        if !connection.is_closed() {
            self.plain.insert(target(case).clone(), connection);
        }
        answer
    }

    pub(super) async fn straight(
        &mut self,
        inbound: SocketAddr,
        protocol: Protocol,
        case: &Case,
    ) -> Answer {
        let trust_domain = TRUST_DOMAIN.parse().expect("a trust domain");
        let name = server_name(target(case), &trust_domain).expect("a server name");
        if !protocol.is_http() {
            return echo(self.svid.connect(inbound, &name, "weft-tcp").await).await;
        }
        let mut connection = match self.mutual.remove(target(case)) {
            Some(connection) => connection,
            None => match self.svid.connect(inbound, &name, "http/1.1").await {
                Ok(stream) => KeepAlive::new(stream),
                Err(error) => return Answer::broken(&error),
            },
        };
        let answer = ask(&mut connection, case).await;
        if !connection.is_closed() {
            self.mutual.insert(target(case).clone(), connection);
        }
        answer
    }
}

impl Answer {
    /// No answer at all: that is how a connection is refused.
    fn broken(error: &io::Error) -> Self {
        Self {
            verdict: Expect::Deny,
            decision: None,
            _detail: error.to_string(),
        }
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut KeepAlive<S>,
    case: &Case,
) -> Answer {
    let service = &target(case).service;
    let mesh_name = format!("{}.{}", service.name, service.namespace);
    let mut headers = vec![("Host", case.host.as_deref().unwrap_or(&mesh_name))];
    if let Some(protocol) = &case.upgrade {
        headers.extend([("Connection", "Upgrade"), ("Upgrade", protocol)]);
    }
    headers.extend(
        case.headers
            .iter()
            .map(|header| (header.name.as_str(), header.value.as_str())),
    );
    let method = case.method.as_deref().unwrap_or("GET");
    let path = case.path.as_deref().unwrap_or("/");
    let response = match connection.request(method, path, &headers).await {
        Ok(response) => response,
        Err(error) => return Answer::broken(&error),
    };
    let verdict = match response.status {
        200 => Expect::Allow,
        400 => Expect::Error400,
        403 => Expect::Deny,
        other => panic!("`{}`: {other} {}", case.name, response.text()),
    };
    Answer {
        verdict,
        decision: response.headers.get("x-weft-decision").cloned(),
        _detail: response.text(),
    }
}

/// A TCP connection is allowed when what is sent comes back.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: io::Result<S>) -> Answer {
    let exchange = async {
        let mut stream = stream?;
        stream.write_all(SAID).await?;
        stream.flush().await?;
        let mut heard = [0; SAID.len()];
        stream.read_exact(&mut heard).await?;
        stream.shutdown().await
    };
    match exchange.await {
        Ok(()) => Answer {
            verdict: Expect::Allow,
            decision: None,
            _detail: String::new(),
        },
        Err(error) => Answer::broken(&error),
    }
}

/// Nothing that could be the beginning of HTTP.
const SAID: &[u8] = b"\0corpus";
