//! Settings of one namespace.

use weft_catalog::{NamespaceMode, NamespaceSettings};
use weft_identity::DnsLabel;
use weft_policy::LEARN_SCHEMA;

use crate::error::{At, ConversionError, check_schema, required};
use crate::time::{read_timestamp, write_timestamp};
use crate::v1;
use crate::v1::namespace_settings_spec::Mode;

pub(crate) fn read_namespace_settings(
    namespace: DnsLabel,
    spec: &v1::NamespaceSettingsSpec,
) -> Result<NamespaceSettings, ConversionError> {
    check_schema(spec.schema)?;
    let mode = match required(&spec.mode, "mode")? {
        Mode::Strict(v1::Any {}) => NamespaceMode::Strict,
        Mode::Learn(learn) => NamespaceMode::Learn {
            until: read_timestamp(required(&learn.until, "learn.until")?).at("learn.until")?,
        },
    };
    Ok(NamespaceSettings { namespace, mode })
}

impl From<&NamespaceSettings> for v1::NamespaceSettingsSpec {
    fn from(settings: &NamespaceSettings) -> Self {
        let (schema, mode) = match settings.mode {
            NamespaceMode::Strict => (STRICT_SCHEMA, Mode::Strict(v1::Any {})),
            NamespaceMode::Learn { until } => {
                let until = Some(write_timestamp(until));
                (LEARN_SCHEMA, Mode::Learn(v1::LearnMode { until }))
            }
        };
        Self {
            schema,
            mode: Some(mode),
        }
    }
}

const STRICT_SCHEMA: u32 = 1;
