//! The first message of the application's own TLS: whom it wants to speak with.
//!
//! It is read and left where it is: what leaves is what came. Only a whole and well-formed ClientHello with one server name is believed.

use std::io::Read as _;
use std::task::{Poll, ready};
use std::time::Duration;

use rustls::server::Acceptor;
use weft_catalog::HostName;
use weft_policy::Reason;

use crate::enforce::Refusal;
use crate::http1::Side;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// A ClientHello for this name. With encrypted ClientHello (RFC 9849) it is the outer one's, which says where the connection goes.
    For(HostName),
    /// A ClientHello without a name that could be a host's.
    Nameless,
    /// No ClientHello, or none that can be read.
    NotTls,
    /// Not all of one came in time.
    Incomplete,
}

impl Hello {
    /// Reads until it is known.
    pub async fn read(side: &mut Side, limit: Duration) -> Self {
        let mut reading = Reading::default();
        let reading = std::future::poll_fn(|cx| {
            loop {
                if let Some(hello) = reading.take(side.unused()) {
                    return Poll::Ready(hello);
                }
                match ready!(side.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Poll::Ready(Self::Incomplete),
                }
            }
        });
        let read = tokio::time::timeout(limit, reading).await;
        read.unwrap_or(Self::Incomplete)
    }

    /// The name, if it is one that `is_it` knows.
    pub fn named(self, is_it: impl Fn(&HostName) -> bool) -> Result<HostName, Refusal> {
        let (reason, why) = match self {
            Self::For(host) if is_it(&host) => return Ok(host),
            Self::For(_) => (
                Reason::Misdirected,
                "the server name of TLS is another host",
            ),
            Self::Nameless => (Reason::Misdirected, "TLS without a server name"),
            Self::NotTls => (
                Reason::WrongProtocol,
                "not TLS, on a port that is declared tls",
            ),
            Self::Incomplete => (Reason::WrongProtocol, "no whole ClientHello"),
        };
        Err(Refusal::new(reason).because(why))
    }
}

/// How far a ClientHello was read.
#[derive(Default)]
struct Reading {
    acceptor: Acceptor,
    read: usize,
}

impl Reading {
    /// Takes what is new of everything that came so far. None: more must come.
    fn take(&mut self, waiting: &[u8]) -> Option<Hello> {
        loop {
            let mut new = waiting.get(self.read..).unwrap_or_default();
            if new.is_empty() {
                return (self.read >= MOST_BYTES).then_some(Hello::NotTls);
            }
            let taken = self.acceptor.read_tls(&mut new.by_ref());
            match taken {
                Ok(count @ 1..) => self.read += count,
                Ok(0) | Err(_) => return Some(Hello::NotTls),
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::parse);
                    return Some(match name {
                        Some(Ok(host)) => Hello::For(host),
                        Some(Err(_)) | None => Hello::Nameless,
                    });
                }
                Ok(None) => {}
                Err(_) => return Some(Hello::NotTls),
            }
        }
    }
}

/// RFC 8446 §6.2: fatal, `unrecognized_name`. The client learns that it was the name, and no more.
pub const MISDIRECTED_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
/// The largest that clients send, with post-quantum key shares, is a tenth of it.
const MOST_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello of TLS 1.2 and 1.3 with these extensions.
    fn client_hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0x13, 0x01, 1, 0]);
        let mut all = Vec::new();
        for (kind, content) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            all.extend(content);
        }
        body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
        body.extend(all);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    /// RFC 6066 §3.
    fn server_name(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
        let list: Vec<u8> = names
            .iter()
            .flat_map(|(kind, name)| {
                let length = u16::try_from(name.len()).unwrap().to_be_bytes();
                [&[*kind], &length[..], name].concat()
            })
            .collect();
        let length = u16::try_from(list.len()).unwrap().to_be_bytes();
        (0, [&length[..], &list].concat())
    }

    fn others() -> Vec<(u16, Vec<u8>)> {
        vec![
            (43, vec![2, 3, 4]),
            (13, vec![0, 2, 4, 3]),
            (10, vec![0, 2, 0, 29]),
        ]
    }

    /// In records of so many bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    fn hello_for(names: &[(u8, &[u8])]) -> Vec<u8> {
        let extensions = [vec![server_name(names)], others()].concat();
        records(&client_hello(&extensions), 16_384)
    }

    /// In pieces of so many bytes.
    fn read(bytes: &[u8], piece: usize) -> Option<Hello> {
        let mut reading = Reading::default();
        let ends = (0..bytes.len()).step_by(piece).skip(1).chain([bytes.len()]);
        ends.into_iter().find_map(|end| reading.take(&bytes[..end]))
    }

    fn host(name: &str) -> Option<Hello> {
        Some(Hello::For(name.parse().unwrap()))
    }

    #[test]
    fn row_03_the_server_name_is_found_however_the_hello_is_cut() {
        let message = client_hello(&[vec![server_name(&[(0, b"API.example")])], others()].concat());
        for record in [1, 7, 64, 16_384] {
            let bytes = records(&message, record);
            for piece in [1, 5, 100, 20_000] {
                assert_eq!(read(&bytes, piece), host("api.example"), "{record} {piece}");
            }
            assert_eq!(read(&bytes[..bytes.len() - 1], 9), None, "{record}");
        }
        // A final dot is not allowed there (RFC 6066 §3), and names the same host.
        assert_eq!(
            read(&hello_for(&[(0, b"a.example.")]), 9),
            host("a.example")
        );
        let followed = [hello_for(&[(0, b"a.example")]), b"early data".to_vec()].concat();
        assert_eq!(read(&followed, followed.len()), host("a.example"));
    }

    #[test]
    fn row_03_a_hello_that_could_be_read_as_another_ones_is_believed_by_nobody() {
        let name = || server_name(&[(0, b"a.example")]);
        let hello = |extensions: Vec<(u16, Vec<u8>)>| records(&client_hello(&extensions), 16_384);
        for (what, bytes) in [
            ("no name", hello(others())),
            ("twice", hello([vec![name(), name()], others()].concat())),
            (
                "two names",
                hello_for(&[(0, b"a.example"), (0, b"b.example")]),
            ),
            ("an address", hello_for(&[(0, b"10.0.0.1")])),
            ("zero byte", hello_for(&[(0, b"a.example\0.b")])),
            ("no bytes", hello_for(&[(0, b"")])),
            ("other kind", hello_for(&[(1, b"a.example")])),
            (
                "HTTP",
                b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec(),
            ),
            ("SSL 2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]),
            ("other message", records(&[2, 0, 0, 1, 0], 100)),
            (
                "other record",
                [&[23][..], &hello_for(&[(0, b"a.example")])[1..]].concat(),
            ),
        ] {
            let read = read(&bytes, 3);
            assert!(
                matches!(read, Some(Hello::Nameless | Hello::NotTls)),
                "{what}: {read:?}"
            );
        }
    }

    #[test]
    fn row_16_a_hello_without_end_is_given_up() {
        let mut endless = vec![1, 0xff, 0xff, 0xff];
        endless.resize(1 << 20, 0);
        let bytes = records(&endless, 16_000);
        let mut reading = Reading::default();
        let seen = (0..bytes.len())
            .step_by(1000)
            .find(|end| reading.take(&bytes[..*end]).is_some());
        assert!(seen.is_some_and(|end| end <= MOST_BYTES + 1000), "{seen:?}");
    }
}
