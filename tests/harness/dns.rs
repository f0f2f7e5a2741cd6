//! A DNS server that knows what a test tells it, and what it was asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Answers A and AAAA over UDP; stopped when dropped.
#[derive(Debug)]
pub struct Dns {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, (Vec<IpAddr>, u32)>,
    asked: Vec<String>,
}

impl Dns {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("a bound address");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer = answer(&buffer[..length], &mut lock(&shared));
                if let Some(answer) = answer {
                    // A client that is gone is no concern of the server's.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            state,
            serving,
        }
    }

    /// From now on the name leads there; seconds that an answer may be kept.
    pub fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        lock(&self.state)
            .names
            .insert(name.to_owned(), (addresses, ttl));
    }

    /// Every name that was asked for so far, in lower case.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panicked")
}

/// RFC 1035 §4: the question comes back with the records that it asks for.
fn answer(query: &[u8], state: &mut State) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(12..at + 4)?;
    let name = labels.join(".");
    state.asked.push(name.clone());
    let known = state.names.get(&name);
    let records: Vec<Vec<u8>> = known
        .into_iter()
        .flat_map(|(addresses, ttl)| addresses.iter().map(move |address| (address, ttl)))
        .filter_map(|(address, ttl)| {
            let content = match (kind, address) {
                (1, IpAddr::V4(address)) => address.octets().to_vec(),
                (28, IpAddr::V6(address)) => address.octets().to_vec(),
                _ => return None,
            };
            let length = u16::try_from(content.len()).expect("short");
            let head = [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1]].concat();
            Some(
                [
                    head,
                    ttl.to_be_bytes().to_vec(),
                    length.to_be_bytes().to_vec(),
                    content,
                ]
                .concat(),
            )
        })
        .collect();
    let no_such_name = if known.is_some() { 0 } else { 3 };
    let count = u16::try_from(records.len()).expect("few");
    let mut message = query.get(..2)?.to_vec();
    message.extend([0x81, 0x80 | no_such_name, 0, 1]);
    message.extend(count.to_be_bytes());
    message.extend([0, 0, 0, 0]);
    message.extend(question);
    message.extend(records.concat());
    Some(message)
}
