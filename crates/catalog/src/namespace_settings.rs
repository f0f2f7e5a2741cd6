//! Settings of one namespace: whether it enforces its rules or learns what they should be.
//!
//! Invariant: learning has an end, and only learning has one.

use jiff::{SignedDuration, Timestamp};
use weft_identity::DnsLabel;
use weft_identity::document::{Document, Metadata};

use crate::documents::{ModeSpec, NamespaceSettingsSpec};
use crate::invalid::{Invalid, Problem};

/// Settings of one namespace. A namespace without any is strict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSettings {
    pub namespace: DnsLabel,
    pub mode: NamespaceMode,
}

/// What becomes of traffic to the namespace's services that no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceMode {
    /// It is refused.
    Strict,
    /// It passes until then, and is marked.
    Learn { until: Timestamp },
}

impl NamespaceSettings {
    /// The name of a namespace's only settings.
    pub const NAME: &'static str = "settings";

    #[allow(clippy::expect_used)] // NAME is a literal
    pub fn name() -> DnsLabel {
        Self::NAME.parse().expect("`settings` is a DNS label")
    }

    pub fn from_document(document: &Document<NamespaceSettingsSpec>) -> Result<Self, Invalid> {
        Self::from_spec(namespace_of(&document.metadata)?, &document.spec)
    }

    pub fn from_spec(namespace: DnsLabel, spec: &NamespaceSettingsSpec) -> Result<Self, Invalid> {
        let mode = match (spec.mode, spec.learn_until) {
            (ModeSpec::Strict, None) => NamespaceMode::Strict,
            (ModeSpec::Strict, Some(_)) => {
                return Err(Invalid::at("spec.learnUntil", Problem::EndOfNoLearning));
            }
            (ModeSpec::Learn, Some(until)) => NamespaceMode::Learn { until },
            (ModeSpec::Learn, None) => {
                return Err(Invalid::at("spec.learnUntil", Problem::LearnsForever));
            }
            (ModeSpec::Permissive, _) => {
                return Err(Invalid::at("spec.mode", Problem::NeedsInterception));
            }
        };
        Ok(Self { namespace, mode })
    }

    pub fn to_spec(&self) -> NamespaceSettingsSpec {
        let (mode, learn_until) = match self.mode {
            NamespaceMode::Strict => (ModeSpec::Strict, None),
            NamespaceMode::Learn { until } => (ModeSpec::Learn, Some(until)),
        };
        NamespaceSettingsSpec { mode, learn_until }
    }

    /// Until when the namespace learns, whether or not that is over; `None`: it is strict.
    pub fn learn_until(&self) -> Option<Timestamp> {
        match self.mode {
            NamespaceMode::Strict => None,
            NamespaceMode::Learn { until } => Some(until),
        }
    }

    /// Checks that learning does not go on for longer than anyone watches it. It may be over: a document that was applied applies again.
    pub fn check_end(&self, now: Timestamp) -> Result<(), Invalid> {
        match self.learn_until() {
            Some(until) if until.duration_since(now) > LONGEST_LEARNING => {
                Err(Invalid::at("spec.learnUntil", Problem::LearnsTooLong))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn namespace_of(metadata: &Metadata) -> Result<DnsLabel, Invalid> {
    if metadata.name.as_str() != NamespaceSettings::NAME {
        let found = metadata.name.to_string();
        return Err(Invalid::at("metadata.name", Problem::NotTheSettings(found)));
    }
    metadata.namespace.clone().ok_or(Invalid::at(
        "metadata.namespace",
        Problem::NamespaceMissing {
            kind: "NamespaceSettings",
        },
    ))
}

const LONGEST_LEARNING: SignedDuration = SignedDuration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use weft_identity::document::{Origin, read};

    use super::*;

    fn settings(metadata: &str, spec: &str) -> Result<NamespaceSettings, String> {
        let text = format!(
            "apiVersion: weft.dev/v1\nkind: NamespaceSettings\nmetadata: {metadata}\nspec: {spec}\n"
        );
        let document = read(&text, &Origin::file("test".to_owned()), "NamespaceSettings")
            .map_err(|error| error.to_string())?;
        NamespaceSettings::from_document(&document).map_err(|error| error.to_string())
    }

    const SHOP: &str = "{name: settings, namespace: shop}";

    #[test]
    fn strict_and_learn_are_read_and_written_the_same() {
        let until = "2026-12-24T00:00:00Z".parse().unwrap();
        for (spec, mode) in [
            ("{mode: strict}", NamespaceMode::Strict),
            (
                "{mode: learn, learnUntil: 2026-12-24T00:00:00Z}",
                NamespaceMode::Learn { until },
            ),
        ] {
            let read = settings(SHOP, spec).unwrap();
            assert_eq!(read.mode, mode);
            let again = NamespaceSettings::from_spec(read.namespace.clone(), &read.to_spec());
            assert_eq!(again, Ok(read));
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_place() {
        let end = "learnUntil: 2026-12-24T00:00:00Z";
        for (metadata, spec, problem) in [
            (
                SHOP,
                "{mode: learn}".to_owned(),
                "spec.learnUntil: learn mode needs an end",
            ),
            (
                SHOP,
                format!("{{mode: strict, {end}}}"),
                "spec.learnUntil: only learn mode",
            ),
            (
                SHOP,
                "{mode: permissive}".to_owned(),
                "spec.mode: permissive mode needs transparent interception",
            ),
            (
                SHOP,
                format!("{{mode: permissive, {end}}}"),
                "spec.mode: permissive",
            ),
            (SHOP, "{}".to_owned(), "mode"),
            (SHOP, "{mode: open}".to_owned(), "open"),
            (
                SHOP,
                "{mode: strict, udp: true}".to_owned(),
                "unknown field `udp`",
            ),
            (
                "{name: other, namespace: shop}",
                "{mode: strict}".to_owned(),
                "metadata.name: the settings of a namespace",
            ),
            (
                "{name: settings}",
                "{mode: strict}".to_owned(),
                "metadata.namespace: a NamespaceSettings needs a namespace",
            ),
        ] {
            let error = settings(metadata, &spec).unwrap_err();
            assert!(error.contains(problem), "{metadata} {spec}: {error}");
        }
    }

    #[test]
    fn learning_ends_within_thirty_days_and_may_have_ended() {
        let now: Timestamp = "2026-11-29T08:00:00Z".parse().unwrap();
        let learning = |until: &str| NamespaceSettings {
            namespace: "shop".parse().unwrap(),
            mode: NamespaceMode::Learn {
                until: until.parse().unwrap(),
            },
        };
        assert_eq!(learning("2026-12-29T08:00:00Z").check_end(now), Ok(()));
        assert_eq!(learning("2026-11-01T00:00:00Z").check_end(now), Ok(()));
        let error = learning("2026-12-29T08:00:01Z").check_end(now).unwrap_err();
        assert_eq!(error.problem, Problem::LearnsTooLong);
    }
}
