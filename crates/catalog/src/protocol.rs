//! What a service port speaks. It is declared, never guessed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// What a service port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC: HTTP/2 whose refusals are gRPC statuses.
    Grpc,
    /// Bytes that the mesh does not look into.
    Tcp,
    /// TLS of the application's own, to an external service: only the server name of its handshake is looked at.
    Tls,
}

/// Why a text names no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownProtocol {
    #[error(
        "protocol `auto` needs transparent interception, which is not available; declare `http`, `http2`, `grpc`, `tcp` or `tls`"
    )]
    Auto,
    #[error("`{0}` is not a protocol; use `http`, `http2`, `grpc`, `tcp` or `tls`")]
    Other(String),
}

impl Protocol {
    /// Whether requests on this port are judged one by one.
    pub fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Http2 | Self::Grpc => true,
            Self::Tcp | Self::Tls => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "http" => Ok(Self::Http),
            "http2" => Ok(Self::Http2),
            "grpc" => Ok(Self::Grpc),
            "tcp" => Ok(Self::Tcp),
            "tls" => Ok(Self::Tls),
            "auto" => Err(UnknownProtocol::Auto),
            other => Err(UnknownProtocol::Other(other.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| match error {
            UnknownProtocol::Auto => de::Error::custom(error),
            UnknownProtocol::Other(other) => de::Error::unknown_variant(&other, NAMES),
        })
    }
}

const NAMES: &[&str] = &["http", "http2", "grpc", "tcp", "tls"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_read_as_it_is_written() {
        for name in NAMES {
            assert_eq!(name.parse::<Protocol>().unwrap().as_str(), *name);
        }
    }

    #[test]
    fn auto_is_refused_with_the_reason() {
        let error = serde_json::from_str::<Protocol>("\"auto\"").unwrap_err();
        assert!(
            error.to_string().contains("transparent interception"),
            "{error}"
        );
    }
}
