//! Settings of the whole mesh, with their defaults and bounds.
//!
//! Invariant: `renew_every` is at most half of `ttl`, so that a renewal that fails once can still be repeated in time.

use std::time::Duration;

use weft_identity::DnsLabel;
use weft_identity::document::{Document, Metadata};

use crate::documents::MeshSpec;
use crate::invalid::{Invalid, Problem};
use crate::length::Length;

/// Settings of the whole mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    ttl: Length,
    renew_every: Length,
    max_stale: Length,
}

impl Mesh {
    /// The name of the only Mesh.
    pub const NAME: &'static str = "mesh";

    #[allow(clippy::expect_used)] // NAME is a literal
    pub fn name() -> DnsLabel {
        Self::NAME.parse().expect("`mesh` is a DNS label")
    }

    pub fn from_document(document: &Document<MeshSpec>) -> Result<Self, Invalid> {
        check_metadata(&document.metadata)?;
        Self::from_spec(&document.spec)
    }

    pub fn from_spec(spec: &MeshSpec) -> Result<Self, Invalid> {
        let ttl = spec.ttl.unwrap_or(DEFAULT_TTL);
        within("spec.ttl", ttl, LEAST_TTL, MOST_TTL)?;
        let half = ttl.half();
        let renew_every = spec.renew_every.unwrap_or(DEFAULT_RENEW_EVERY.min(half));
        within("spec.renewEvery", renew_every, LEAST_RENEW_EVERY, MOST_TTL)?;
        if renew_every > half {
            let problem = Problem::RenewsTooLate {
                value: renew_every.get(),
                ttl: ttl.get(),
            };
            return Err(Invalid::at("spec.renewEvery", problem));
        }
        let max_stale = spec.max_stale.unwrap_or(ttl);
        within("spec.maxStale", max_stale, LEAST_MAX_STALE, MOST_TTL)?;
        Ok(Self {
            ttl,
            renew_every,
            max_stale,
        })
    }

    /// The spec that says everything, defaults included.
    pub fn to_spec(&self) -> MeshSpec {
        MeshSpec {
            ttl: Some(self.ttl),
            renew_every: Some(self.renew_every),
            max_stale: Some(self.max_stale),
        }
    }

    /// How long an SVID is valid.
    pub fn ttl(&self) -> Duration {
        self.ttl.get()
    }

    /// How often an SVID is replaced.
    pub fn renew_every(&self) -> Duration {
        self.renew_every.get()
    }

    /// How long a sidecar serves without hearing from any control plane.
    pub fn max_stale(&self) -> Duration {
        self.max_stale.get()
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            renew_every: DEFAULT_RENEW_EVERY,
            max_stale: DEFAULT_TTL,
        }
    }
}

/// Checks that this names the only Mesh.
fn check_metadata(metadata: &Metadata) -> Result<(), Invalid> {
    if metadata.namespace.is_some() {
        return Err(Invalid::at(
            "metadata.namespace",
            Problem::NamespaceGiven { kind: "Mesh" },
        ));
    }
    if metadata.name.as_str() != Mesh::NAME {
        return Err(Invalid::at(
            "metadata.name",
            Problem::NotTheMesh(metadata.name.to_string()),
        ));
    }
    Ok(())
}

pub(crate) fn within(
    path: &str,
    value: Length,
    least: Length,
    most: Length,
) -> Result<(), Invalid> {
    if value < least || value > most {
        let problem = Problem::OutOfBounds {
            value: value.get(),
            least: least.get(),
            most: most.get(),
        };
        return Err(Invalid::at(path, problem));
    }
    Ok(())
}

const DEFAULT_TTL: Length = Length::from_secs(24 * 60 * 60);
const LEAST_TTL: Length = Length::from_secs(60);
const MOST_TTL: Length = Length::from_secs(7 * 24 * 60 * 60);
const DEFAULT_RENEW_EVERY: Length = Length::from_secs(60 * 60);
const LEAST_RENEW_EVERY: Length = Length::from_secs(1);
const LEAST_MAX_STALE: Length = Length::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mesh(
        ttl: Option<&str>,
        renew_every: Option<&str>,
        max_stale: Option<&str>,
    ) -> Result<Mesh, Invalid> {
        let read = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        Mesh::from_spec(&MeshSpec {
            ttl: read(ttl),
            renew_every: read(renew_every),
            max_stale: read(max_stale),
        })
    }

    #[test]
    fn nothing_said_gives_the_defaults() {
        assert_eq!(mesh(None, None, None).unwrap(), Mesh::default());
    }

    #[test]
    fn a_short_ttl_alone_is_renewed_at_its_half() {
        let mesh = mesh(Some("90s"), None, None).unwrap();
        assert_eq!(mesh.renew_every(), Duration::from_secs(45));
        assert_eq!(mesh.max_stale(), Duration::from_secs(90));
    }

    #[test]
    fn values_out_of_bounds_name_their_field() {
        for (ttl, renew, stale, path) in [
            (Some("59s"), None, None, "spec.ttl"),
            (Some("169h"), None, None, "spec.ttl"),
            (Some("90s"), Some("46s"), None, "spec.renewEvery"),
            (Some("90s"), Some("0s"), None, "spec.renewEvery"),
            (None, None, Some("8d"), "spec.maxStale"),
            (None, None, Some("0s"), "spec.maxStale"),
        ] {
            assert_eq!(mesh(ttl, renew, stale).unwrap_err().path, path);
        }
    }

    proptest! {
        #[test]
        fn every_accepted_mesh_renews_by_half_of_its_ttl(ttl in 0u64..700_000_000, renew in 0u64..400_000_000) {
            let spec = MeshSpec { ttl: Some(Length::from_millis(ttl)), renew_every: Some(Length::from_millis(renew)), max_stale: None };
            if let Ok(mesh) = Mesh::from_spec(&spec) {
                prop_assert!(mesh.renew_every() * 2 <= mesh.ttl());
                prop_assert_eq!(Mesh::from_spec(&mesh.to_spec()).unwrap(), mesh);
            }
        }
    }
}
