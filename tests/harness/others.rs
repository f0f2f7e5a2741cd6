//! What a client notices while others do something to the mesh: small requests at a fixed rate over connections that are kept.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::KeepAlive;

/// What became of the requests of one client.
#[derive(Debug, Default)]
pub struct Noticed {
    pub failed: u64,
    pub first_failure: Option<String>,
    /// From the moment when each was due, the shortest first.
    latencies: Vec<Duration>,
}

impl Noticed {
    /// Sends `GET /` for a while. Anything but a 200 is a failure.
    pub async fn by_asking(address: SocketAddr, host: &str, length: Duration) -> Self {
        let (starts, every) = (Instant::now(), BETWEEN * CONNECTIONS);
        let mut connections = JoinSet::new();
        for number in 0..CONNECTIONS {
            let due = starts + BETWEEN * number;
            let host = host.to_owned();
            connections.spawn(one_by_one(address, host, (due, every), starts + length));
        }
        let mut all = Self::default();
        for part in connections.join_all().await {
            all.failed += part.failed;
            all.first_failure = all.first_failure.or(part.first_failure);
            all.latencies.extend(part.latencies);
        }
        all.latencies.sort_unstable();
        all
    }

    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.latencies.len()
    }

    /// The least that `permille` of all do not exceed.
    pub fn quantile(&self, permille: usize) -> Duration {
        let rank = (self.latencies.len() * permille).div_ceil(1000).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn p99(&self) -> Duration {
        self.quantile(990)
    }
}

async fn one_by_one(
    address: SocketAddr,
    host: String,
    (mut due, every): (Instant, Duration),
    until: Instant,
) -> Noticed {
    let mut noticed = Noticed::default();
    let mut kept = None;
    while due < until {
        // A late answer makes the next request late, and counts; a timer, which knows milliseconds alone, does not.
        let begun = if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            Instant::now()
        } else {
            due
        };
        match ask(address, &host, &mut kept).await {
            Ok(()) => noticed.latencies.push(begun.elapsed()),
            Err(failure) => {
                noticed.failed += 1;
                noticed.first_failure.get_or_insert(failure);
            }
        }
        due += every;
    }
    noticed
}

async fn ask(
    address: SocketAddr,
    host: &str,
    kept: &mut Option<KeepAlive<TcpStream>>,
) -> Result<(), String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            KeepAlive::new(stream)
        }
    };
    let answer = connection.request("GET", "/", &[("Host", host)]).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.text()));
    }
    if !connection.is_closed() {
        *kept = Some(connection);
    }
    Ok(())
}

/// 400 requests a second in all.
const CONNECTIONS: u32 = 8;
const BETWEEN: Duration = Duration::from_micros(2500);
