//! One way to one back end under one kind of rules; the cases of a lane follow one after another.

use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_tests::{Sidecar, Svid};

use super::backends::Kind;
use super::table::{Case, Rules, Then};

#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) to: Kind,
    pub(super) way: Way,
    pub(super) rules: Rules,
}

/// What became of a lane's cases, as the client saw it.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// What was wrong with the answers.
    pub(super) problems: Vec<String>,
    /// The marks of the cases after which a further request was answered.
    pub(super) went_on: Vec<String>,
}

/// How the bytes get to the server side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As the application's, through its own sidecar.
    Own,
    /// Past it, with the workload's SVID: whoever attacks brings a client side of its own.
    Straight,
}

/// The lanes of one back end, in the order of its ports.
pub(super) const WAYS: [(Way, Rules); 4] = [
    (Way::Own, Rules::Paths),
    (Way::Own, Rules::Open),
    (Way::Straight, Rules::Paths),
    (Way::Straight, Rules::Open),
];

impl Lane {
    /// The name of its service: every lane has one, so that nothing of one can be taken for another's.
    pub(super) fn service(self) -> String {
        let way = match self.way {
            Way::Own => "own",
            Way::Straight => "straight",
        };
        let rules = match self.rules {
            Rules::Paths => "paths",
            Rules::Open => "open",
        };
        format!("{}-{way}-{rules}", self.to.name())
    }

    pub(super) fn target(self) -> String {
        format!("shop/{}:http", self.service())
    }

    /// Sends every case of its rules.
    pub(super) async fn run(self, cases: &[Case], web: &Sidecar, inbound: SocketAddr) -> Ran {
        let svid = Svid::of_sidecar(&web.runtime);
        let mut ran = Ran::default();
        for case in cases.iter().filter(|case| case.rules == self.rules) {
            let answer = match self.way {
                Way::Own => {
                    let upstream = TcpStream::connect(web.upstream(&self.target())).await;
                    let upstream = upstream.expect("a listener");
                    upstream.set_nodelay(true).expect("an open socket");
                    exchange(upstream, case, self.pieces()).await
                }
                Way::Straight => {
                    let name = format!("http.{}.shop.test.example", self.service());
                    let stream = svid.connect(inbound, &name, "http/1.1").await;
                    exchange(stream.expect("a good handshake"), case, self.pieces()).await
                }
            };
            match answer.and_then(|answer| self.check(case, &answer)) {
                Ok(goes_on) if goes_on => ran.went_on.push(case.mark.clone()),
                Ok(_) => {}
                Err(what) => {
                    ran.problems
                        .push(format!("{}: {}: {what}", self.service(), case.name))
                }
            }
        }
        ran
    }

    /// In how many writes a case leaves: where one ends must never matter. Each back end has its own number.
    fn pieces(self) -> usize {
        match self.to {
            Kind::Nginx => 1,
            Kind::Python => 7,
            Kind::Node => 100,
        }
    }

    /// Whether the connection went on, if all is well.
    fn check(self, case: &Case, answer: &[u8]) -> Result<bool, String> {
        let text = String::from_utf8_lossy(answer);
        let statuses = statuses(answer);
        let (passed, rest) = statuses
            .split_at_checked(case.passes.len())
            .ok_or_else(|| format!("only {statuses:?} in {text:?}"))?;
        let turned_down = case.except.contains(&self.to);
        let passed_well = passed.iter().all(|status| {
            if turned_down {
                *status >= 400
            } else {
                *status == 200
            }
        });
        let rest_is_right = match case.then {
            Then::GoesOn => rest == [200],
            Then::Denied => rest == [403, 200],
            Then::DeniedEarly => matches!(rest, [403] | [403, 200]),
            Then::NotCanonical => rest == [400, 200],
            Then::Misdirected => rest == [421, 200],
            Then::Connect => rest == [403],
            Then::Refused => rest == [400],
            Then::Closed => rest.is_empty() || rest == [400],
            Then::Cut => matches!(rest, [] | [400 | 502]),
            Then::Ends => rest.is_empty(),
        };
        if !passed_well || !rest_is_right {
            return Err(format!("{:?}, but {statuses:?} in {text:?}", case.then));
        }
        let canary = format!("GET {}", case.canary().target);
        let goes_on = case.then.goes_on() && rest.last() == Some(&200);
        if goes_on && !text.ends_with(&canary) {
            return Err(format!("the last answer is another request's: {text:?}"));
        }
        Ok(goes_on)
    }
}

/// Sends case and canary in so many pieces, and reads until the peer ends the connection.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    case: &Case,
    pieces: usize,
) -> Result<Vec<u8>, String> {
    let bytes = case.bytes();
    let mut answer = Vec::new();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            // Whoever refuses may hang up in the middle.
            if writing.write_all(piece).await.is_err() || writing.flush().await.is_err() {
                return;
            }
        }
        if case.then == Then::Cut {
            let _ = writing.shutdown().await;
        }
    };
    let whole = async { tokio::join!(write, reading.read_to_end(&mut answer)) };
    let ended = tokio::time::timeout(LIMIT, whole).await.is_ok();
    if !ended {
        return Err(format!(
            "no end after {:?}",
            String::from_utf8_lossy(&answer)
        ));
    }
    Ok(answer)
}

/// Of the final responses; the back ends' and the sidecars' contents never look like one.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let starts = memmem::find_iter(answer, b"HTTP/1.");
    let status = |at: usize| {
        let line = std::str::from_utf8(answer.get(at..at + 12)?).ok()?;
        line.split(' ').nth(1)?.parse().ok()
    };
    starts
        .filter_map(status)
        .filter(|status| *status >= 200)
        .collect()
}

const LIMIT: Duration = Duration::from_secs(20);
