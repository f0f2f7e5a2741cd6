//! Packets dropped at random between the namespaces, as long as a value lives.

use anyhow::Context as _;

use super::ip;
use crate::process;

/// Each namespace drops one of a hundred packets that arrive from the other, until this is dropped.
#[derive(Debug)]
pub(crate) struct Loss<'n> {
    namespaces: &'n [String],
}

impl<'n> Loss<'n> {
    pub(super) fn between(namespaces: &'n [String]) -> anyhow::Result<Self> {
        process::find("nft").context("`nft` is missing: apt-get install nftables")?;
        // Made before its parts, so that it removes what there is when one of them fails.
        let made = Self { namespaces };
        for name in namespaces {
            // One transaction: all of it, or nothing.
            nft(name, RULE)?;
        }
        Ok(made)
    }

    /// How many packets were dropped so far, in both directions.
    pub(crate) fn dropped(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for name in self.namespaces {
            let listed = nft(name, &format!("list table inet {TABLE}"))?;
            sum += counted(&listed).with_context(|| format!("no counter in {listed:?}"))?;
        }
        Ok(sum)
    }
}

impl Drop for Loss<'_> {
    fn drop(&mut self) {
        for name in self.namespaces {
            // Where it was not made it cannot be removed; with its namespace it ends at the latest.
            let _ = nft(name, &format!("delete table inet {TABLE}"));
        }
    }
}

fn nft(namespace: &str, command: &str) -> anyhow::Result<String> {
    ip(&["netns", "exec", namespace, "nft", command])
}

/// The packets of the one counter in a listing.
fn counted(listing: &str) -> Option<u64> {
    let (_, after) = listing.split_once("counter packets ")?;
    after.split(' ').next()?.parse().ok()
}

const TABLE: &str = "bench-loss";
/// Only what crosses the link: neither the application's leg nor the backend's goes over it.
const RULE: &str = "add table inet bench-loss; \
    add chain inet bench-loss arriving { type filter hook prerouting priority raw; }; \
    add rule inet bench-loss arriving iifname bench numgen random mod 100 == 0 counter drop";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LINK;

    #[test]
    fn the_counter_is_read_from_a_listing() {
        let listing = "table inet bench-loss {\n\tchain arriving {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\
            \t\tiifname \"bench\" numgen random mod 100 0 counter packets 4711 bytes 99 drop\n\t}\n}\n";
        assert_eq!(counted(listing), Some(4711));
        assert_eq!(counted("table inet bench-loss {\n}\n"), None);
    }

    #[test]
    fn the_rule_is_of_its_table_and_its_link() {
        assert!(RULE.contains(&format!("add table inet {TABLE};")));
        assert!(RULE.contains(&format!("iifname {LINK} ")));
    }
}
