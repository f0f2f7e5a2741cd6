//! Two network namespaces and the pair of virtual interfaces between them, removed again whatever happens.
//!
//! Without the privilege for it everything runs on loopback, and the report says so.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{self, Place};

mod loss;

pub(crate) use loss::Loss;

/// The side of the client and the side of the backend.
#[derive(Debug)]
pub(crate) struct Network {
    pub a: Host,
    pub b: Host,
    /// Why there are no namespaces, if there are none.
    pub loopback: Option<String>,
    next: Cell<u16>,
    namespaces: Option<Namespaces>,
}

/// One side: where its processes run and what address the other side reaches.
#[derive(Debug)]
pub(crate) struct Host {
    namespace: Option<String>,
    pub address: IpAddr,
}

impl Host {
    /// A process of this side on a CPU.
    pub(crate) fn place(&self, cpu: Option<usize>) -> Place {
        Place {
            namespace: self.namespace.clone(),
            cpu,
        }
    }
}

impl Network {
    /// Makes the namespaces, or settles for loopback.
    pub(crate) fn make() -> Self {
        match Namespaces::make() {
            Ok(namespaces) => Self {
                a: namespaces.host(0),
                b: namespaces.host(1),
                loopback: None,
                next: Cell::new(FIRST_PORT),
                namespaces: Some(namespaces),
            },
            Err(error) => Self {
                a: on_loopback(),
                b: on_loopback(),
                loopback: Some(format!("{error:#}")),
                next: Cell::new(FIRST_PORT),
                namespaces: None,
            },
        }
    }

    /// A port that nobody listens on: in namespaces of our own the next one, on loopback one that the kernel chose.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        if self.loopback.is_none() {
            let port = self.next.get();
            self.next.set(if port >= LAST_PORT {
                FIRST_PORT
            } else {
                port + 1
            });
            return Ok(port);
        }
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
        Ok(listener
            .local_addr()
            .context("a listener has an address")?
            .port())
    }

    /// Drops packets between the sides as long as the value lives.
    pub(crate) fn lose(&self) -> anyhow::Result<Loss<'_>> {
        let namespaces = self.namespaces.as_ref();
        Loss::between(&namespaces.context("there are no namespaces")?.names)
    }

    /// A free port on loopback, inside either side.
    pub(crate) fn local(&self) -> anyhow::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, self.port()?).into())
    }

    /// A free port of the backend's side that the client's side reaches.
    pub(crate) fn at_b(&self) -> anyhow::Result<SocketAddr> {
        Ok((self.b.address, self.port()?).into())
    }
}

fn on_loopback() -> Host {
    Host {
        namespace: None,
        address: Ipv4Addr::LOCALHOST.into(),
    }
}

/// Owns the two namespaces.
#[derive(Debug)]
struct Namespaces {
    names: [String; 2],
}

impl Namespaces {
    fn make() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            anyhow::bail!("only root may make network namespaces");
        }
        remove_stale();
        let own = std::process::id();
        // Made before its parts, so that it removes what there is when one of them fails.
        let made = Self {
            names: SIDES.map(|side| format!("{PREFIX}{own}-{side}")),
        };
        for name in &made.names {
            ip(&["netns", "add", name])?;
        }
        let [a, b] = &made.names;
        ip(&[
            "link", "add", LINK, "netns", a, "type", "veth", "peer", "name", LINK, "netns", b,
        ])?;
        for (name, address) in made.names.iter().zip(ADDRESSES) {
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                LINK,
            ])?;
            ip(&["-n", name, "link", "set", LINK, "up"])?;
            for setting in SETTINGS {
                ip(&["netns", "exec", name, "sysctl", "-qw", setting])?;
            }
            control_congestion(name, address)?;
        }
        Ok(made)
    }

    fn host(&self, side: usize) -> Host {
        Host {
            namespace: Some(self.names[side].clone()),
            address: ADDRESSES[side].into(),
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            remove(name);
        }
    }
}

/// BBR, the default of some hosts, paces even what never leaves the machine. A namespace may not choose cubic for all of its sockets if
/// the host does not allow it, but each of its routes may.
fn control_congestion(name: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let own = address.to_string();
    let link = [&format!("{NETWORK}/24"), "dev", LINK, "src", &own].map(String::from);
    let local = |to: &str| ["local", to, "dev", "lo", "table", "local"].map(String::from);
    for route in [
        link.as_slice(),
        &local("127.0.0.0/8"),
        &local("127.0.0.1"),
        &local(&own),
    ] {
        let words = ["-n", name, "route", "replace"].into_iter();
        let route = route.iter().map(String::as_str);
        let words: Vec<&str> = words.chain(route).chain(["congctl", "cubic"]).collect();
        ip(&words)?;
    }
    Ok(())
}

/// What runs in a namespace of ours is ours: it ends with it.
fn remove(name: &str) {
    for pid in ip(&["netns", "pids", name]).unwrap_or_default().lines() {
        if let Ok(pid) = pid.trim().parse::<i32>() {
            let pid = rustix::process::Pid::from_raw(pid);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    // One that was never made cannot be removed.
    let _ = ip(&["netns", "del", name]);
}

/// Removes the namespaces of benchmarks that were killed before they could.
fn remove_stale() {
    let listed = ip(&["netns", "list"]).unwrap_or_default();
    for name in listed.lines().filter_map(|line| line.split(' ').next()) {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let program = process::find("ip").context("`ip` is missing: apt-get install iproute2")?;
    let mut command = Command::new(program);
    command.args(arguments);
    process::output(command)
}

const PREFIX: &str = "weft-bench-";
const SIDES: [&str; 2] = ["a", "b"];
const LINK: &str = "bench";
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// Closed connections by the ten thousand must not use up the ports.
const SETTINGS: [&str; 3] = [
    "net.ipv4.ip_local_port_range=10000 65000",
    "net.ipv4.tcp_tw_reuse=1",
    "net.core.somaxconn=4096",
];
const FIRST_PORT: u16 = 2000;
const LAST_PORT: u16 = 9900;
