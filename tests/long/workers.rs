//! What a second worker costs: the instructions of one request in both sidecars, counted by callgrind, against those with one worker, and how
//! often a worker waits for a lock, told by strace.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow_http, service};
use weft_tests::{KeepAlive, Mesh, Sidecar, SidecarSpec, eventually_within, request};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_spend_as_many_instructions_on_a_request_as_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut counted = Vec::new();
    for workers in [1, 2] {
        let out = |side: &str| folder.path().join(format!("{side}-{workers}"));
        let under = |side: &str| {
            let file = format!("--callgrind-out-file={}", out(side).display());
            ["valgrind", "--tool=callgrind", "--fair-sched=yes", &file].map(String::from)
        };
        let stage = Stage::start(workers, |side| under(side).to_vec()).await;
        ask(stage.entry, REQUESTS / 10).await;
        for sidecar in stage.sidecars() {
            control(sidecar, "--zero");
        }
        ask(stage.entry, REQUESTS).await;
        let sides = [(&stage.web, "web"), (&stage.api, "api")].map(|(sidecar, side)| {
            control(sidecar, "--dump");
            total(&out(side)) / REQUESTS as u64
        });
        println!("{workers} workers: {sides:?} instructions a request");
        counted.push(sides.iter().sum::<u64>());
    }
    let [one, two] = counted[..] else {
        unreachable!("two runs")
    };
    let more = two as f64 / one as f64 - 1.0;
    println!(
        "{one} with one worker, {two} with two: {:+.1} %",
        more * 100.0
    );
    assert!(more <= 0.05, "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_a_lock_that_workers_share() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for workers in [1, 2] {
        let stage = Stage::start(workers, |_| Vec::new()).await;
        ask(stage.entry, REQUESTS).await;
        let before = stage.sidecars().map(processor_time);
        ask(stage.entry, REQUESTS * 10).await;
        for (sidecar, before) in stage.sidecars().into_iter().zip(before) {
            let micros = (processor_time(sidecar) - before).as_micros();
            let each = micros as f64 / (REQUESTS * 10) as f64;
            println!("{workers} workers: {each:.1} µs of processor time a request");
        }
        for (sidecar, side) in stage.sidecars().into_iter().zip(["web", "api"]) {
            let told = folder.path().join(format!("{side}-{workers}"));
            let tracer = Tracer::attach(sidecar.process.pid(), &told).await;
            ask(stage.entry, REQUESTS).await;
            tracer.detach();
            let waits = Waits::of(&std::fs::read_to_string(&told).expect("what strace told"));
            println!("{workers} workers, {side}, {REQUESTS} requests: {waits:?}");
            assert!(waits.for_locks * 1000 <= REQUESTS, "{waits:?}");
        }
    }
}

/// A strace that tells of every futex with the stack that called it.
struct Tracer(Child);

impl Tracer {
    async fn attach(pid: u32, into: &Path) -> Self {
        let strace = Command::new("strace")
            .args([
                "-f",
                "-q",
                "-k",
                "-e",
                "trace=futex",
                "-p",
                &pid.to_string(),
                "-o",
            ])
            .arg(into)
            .stdin(Stdio::null())
            .spawn()
            .expect("strace is there: apt-get install strace");
        eventually_within(LIMIT, "all threads are traced", || async {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
            for task in tasks {
                let status = task.expect("a task").path().join("status");
                let status = std::fs::read_to_string(status).unwrap_or_default();
                if status.contains("TracerPid:\t0\n") {
                    return Err(status);
                }
            }
            Ok(())
        })
        .await;
        Self(strace)
    }

    fn detach(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        self.0.wait().expect("it ends");
    }
}

/// The calls of futex by what they were for.
#[derive(Debug, Default)]
struct Waits {
    /// Of a worker that has nothing to do.
    to_be_woken: usize,
    /// Of a worker for what another one holds.
    for_locks: usize,
    /// Of somebody else.
    wakes: usize,
}

impl Waits {
    fn of(told: &str) -> Self {
        let mut waits = Self::default();
        let mut calls = told.split_inclusive('\n').peekable();
        while let Some(call) = calls.next() {
            let mut stack = String::new();
            while let Some(frame) = calls.next_if(|line| line.starts_with(" > ")) {
                stack.push_str(frame);
            }
            let is_contended = [
                "_contended",
                "lock_slow",
                "lock_exclusive_slow",
                "lock_shared_slow",
            ]
            .iter()
            .any(|name| stack.contains(name));
            match call {
                call if call.contains("FUTEX_WAKE") => waits.wakes += 1,
                call if !call.contains("FUTEX_WAIT") => {}
                _ if is_contended => waits.for_locks += 1,
                _ => waits.to_be_woken += 1,
            }
        }
        waits
    }
}

struct Stage {
    entry: SocketAddr,
    web: Sidecar,
    api: Sidecar,
    _backend: Backend,
    _mesh: Mesh,
}

impl Stage {
    async fn start(workers: usize, under: impl Fn(&str) -> Vec<String>) -> Self {
        let mesh = Mesh::start().await;
        let rule = allow_http("web", "shop/api:http", "shop/web", "{paths: [/**]}");
        mesh.apply(&(service("shop/api:http", "http") + &rule))
            .await;
        let backend = Backend::http().await;
        let spec = |side: &str| {
            let words = under(side);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            SidecarSpec::of(&format!("shop/{side}"))
                .under(&words)
                .set(
                    "log",
                    json!({"format": "text", "level": "warn", "access": false}),
                )
                .set("limits", json!({"workers": workers}))
        };
        let api = mesh
            .sidecar(spec("api").app("shop/api:http", backend.address))
            .await;
        let web = mesh.sidecar(spec("web").upstream("shop/api:http")).await;
        let entry = web.upstream("shop/api:http");
        eventually_within(LIMIT, "the endpoint is known", || async {
            match request(entry, "GET", "/", &[("Host", "api.shop")], b"").await {
                Ok(response) if response.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        Self {
            entry,
            web,
            api,
            _backend: backend,
            _mesh: mesh,
        }
    }

    fn sidecars(&self) -> [&Sidecar; 2] {
        [&self.web, &self.api]
    }
}

/// So many requests over 32 connections, each of which sends its next one when it has its answer.
async fn ask(entry: SocketAddr, requests: usize) {
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(async move {
            let stream = TcpStream::connect(entry).await.expect("it accepts");
            let mut connection = KeepAlive::new(stream);
            for _ in 0..requests / CONNECTIONS {
                let answer = connection
                    .request("GET", "/", &[("Host", "api.shop")])
                    .await;
                assert_eq!(answer.expect("an answer").status, 200);
            }
        });
    }
    connections.join_all().await;
}

/// User and system time of all threads so far, in ticks of 10 ms.
fn processor_time(sidecar: &Sidecar) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.process.pid()));
    let stat = stat.expect("the process lives");
    // proc_pid_stat(5): fields 14 and 15, the third of which is the first after the name.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    TICK * u32::try_from(ticks).expect("less than a year")
}

/// Tells callgrind in a sidecar's process what to do.
fn control(sidecar: &Sidecar, what: &str) {
    let ran = Command::new("callgrind_control")
        .args([what, &sidecar.process.pid().to_string()])
        .output()
        .expect("valgrind is there: apt-get install valgrind");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success() && told.contains("OK"),
        "{told} {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// The instructions in the dumps of a process.
fn total(begins: &Path) -> u64 {
    let name = begins
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let folder = begins.parent().expect("a folder");
    let dumps = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let dumps = dumps.filter(|path| {
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        file.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    let totals = dumps.map(|path| {
        let text = std::fs::read_to_string(&path).expect("a dump");
        let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
        line.and_then(|number| number.trim().parse::<u64>().ok())
            .expect("a total")
    });
    totals.sum()
}

/// USER_HZ is 100 wherever Linux runs this.
const TICK: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 32;
const REQUESTS: usize = 6400;
