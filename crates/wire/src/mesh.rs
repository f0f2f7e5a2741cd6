//! Settings of the whole mesh, as a resource and as discovery carries them.

use weft_catalog::{Length, Mesh, MeshSpec};

use crate::error::{At, ConversionError, check_schema, required};
use crate::time::{read_duration, write_duration};
use crate::v1;

impl TryFrom<&v1::MeshSpec> for Mesh {
    type Error = ConversionError;

    fn try_from(spec: &v1::MeshSpec) -> Result<Self, ConversionError> {
        let spec = MeshSpec {
            ttl: Some(read_length(&spec.ttl, "spec.ttl")?),
            renew_every: Some(read_length(&spec.renew_every, "spec.renewEvery")?),
            max_stale: Some(read_length(&spec.max_stale, "spec.maxStale")?),
        };
        Ok(Self::from_spec(&spec)?)
    }
}

impl From<&Mesh> for v1::MeshSpec {
    fn from(mesh: &Mesh) -> Self {
        Self {
            ttl: Some(write_duration(mesh.ttl())),
            renew_every: Some(write_duration(mesh.renew_every())),
            max_stale: Some(write_duration(mesh.max_stale())),
        }
    }
}

impl TryFrom<&v1::MeshSettings> for Mesh {
    type Error = ConversionError;

    fn try_from(settings: &v1::MeshSettings) -> Result<Self, ConversionError> {
        check_schema(settings.schema)?;
        let v1::MeshSettings {
            schema: _,
            ttl,
            renew_every,
            max_stale,
        } = *settings;
        Self::try_from(&v1::MeshSpec {
            ttl,
            renew_every,
            max_stale,
        })
    }
}

impl From<&Mesh> for v1::MeshSettings {
    fn from(mesh: &Mesh) -> Self {
        let v1::MeshSpec {
            ttl,
            renew_every,
            max_stale,
        } = mesh.into();
        Self {
            schema: SCHEMA,
            ttl,
            renew_every,
            max_stale,
        }
    }
}

fn read_length(
    length: &Option<prost_types::Duration>,
    path: &str,
) -> Result<Length, ConversionError> {
    let length = read_duration(required(length, path)?).at(path)?;
    Length::try_from(length).at(path)
}

/// The oldest schema whose readers understand everything in this message.
const SCHEMA: u32 = 1;
