//! What a request asks to become (RFC 9110 §7.8).

/// What a request asks to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    None,
    /// One protocol, in lower case.
    To(String),
    /// Several at once: the backend would choose, so policy cannot.
    Ambiguous,
    /// CONNECT. HTTP/2 has another one, with a protocol (RFC 8441): nobody announces it, so that it is an error there.
    Connect,
}

impl Upgrade {
    /// The protocol, as policy reads it.
    pub fn protocol(&self) -> Option<&str> {
        match self {
            Self::To(protocol) => Some(protocol),
            Self::None | Self::Ambiguous | Self::Connect => None,
        }
    }

    pub fn is_connect(&self) -> bool {
        *self == Self::Connect
    }
}
