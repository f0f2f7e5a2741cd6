//! Local port numbers: free when chosen, and the same again at the next start where they still are free.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::failure::SaysNo;

/// Hands out addresses on loopback. Each stays bound until [`Ports::release`], so that no two are the same.
#[derive(Debug)]
pub(super) struct Ports {
    file: PathBuf,
    remembered: BTreeMap<String, u16>,
    assigned: BTreeMap<String, u16>,
    held: Vec<TcpListener>,
}

impl Ports {
    /// Reads the numbers of the last start; a file that cannot be read only costs their sameness.
    pub(super) fn remembered_in(state: &Path) -> Self {
        let file = state.join("ports.json");
        let remembered = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            file,
            remembered,
            assigned: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    /// The address for `key`: the wanted number if it is not 0, else the one of the last start, else any free one.
    pub(super) fn assign(&mut self, key: &str, wanted: u16) -> anyhow::Result<SocketAddr> {
        let listener = match (wanted, self.remembered.get(key)) {
            (0, Some(&last)) => bind(last).or_else(|_| bind(0)),
            (number, _) => bind(number),
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) if wanted != 0 => {
                bail!(SaysNo(format!(
                    "port {wanted}, which {key} asks for, is taken: {error}"
                )))
            }
            Err(error) => {
                return Err(error).with_context(|| SaysNo(format!("no free port for {key}")));
            }
        };
        let address = listener.local_addr()?;
        self.held.push(listener);
        self.assigned.insert(key.to_owned(), address.port());
        Ok(address)
    }

    /// Lets go of all addresses for the processes that will listen there, and remembers their numbers.
    pub(super) fn release(self) -> anyhow::Result<()> {
        drop(self.held);
        let text = serde_json::to_vec_pretty(&self.assigned)?;
        weft_daemon::files::write_private(&self.file, &text)?;
        Ok(())
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_within_a_start_and_stay_the_same_at_the_next() {
        let state = tempfile::tempdir().expect("a folder");
        let mut first = Ports::remembered_in(state.path());
        let (a, b) = (
            first.assign("a", 0).expect("free"),
            first.assign("b", 0).expect("free"),
        );
        assert_ne!(a, b);
        first.release().expect("written");
        let mut second = Ports::remembered_in(state.path());
        assert_eq!(second.assign("b", 0).expect("free"), b);
        let _elsewhere = TcpListener::bind(a);
        assert_ne!(second.assign("a", 0).expect("another"), b);
    }
}
