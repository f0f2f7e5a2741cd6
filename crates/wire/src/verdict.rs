//! Reasons and explanations, as decisions report them and operators read them.

use weft_policy::{Explanation, Near, Reason};

use crate::error::{ConversionError, Problem};
use crate::v1;

/// Reads the reason of a refusal.
pub fn read_reason(value: i32) -> Result<Reason, ConversionError> {
    let reason = match v1::Reason::try_from(value).map_err(|_| Problem::UnknownValue(value))? {
        v1::Reason::Unspecified => return Err(Problem::Missing.into()),
        v1::Reason::NoRule => Reason::NoRule,
        v1::Reason::Quarantined => Reason::Quarantined,
        v1::Reason::Revoked => Reason::Revoked,
        v1::Reason::PathNotCanonical => Reason::PathNotCanonical,
        v1::Reason::Malformed => Reason::Malformed,
        v1::Reason::UnknownTarget => Reason::UnknownTarget,
        v1::Reason::Misdirected => Reason::Misdirected,
        v1::Reason::WrongProtocol => Reason::WrongProtocol,
        v1::Reason::UpgradeNotAllowed => Reason::UpgradeNotAllowed,
        v1::Reason::PolicyUnreadable => Reason::PolicyUnreadable,
        v1::Reason::Stale => Reason::Stale,
        v1::Reason::Unauthenticated => Reason::Unauthenticated,
        v1::Reason::ForbiddenAddress => Reason::ForbiddenAddress,
    };
    Ok(reason)
}

impl From<Reason> for v1::Reason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NoRule => Self::NoRule,
            Reason::Quarantined => Self::Quarantined,
            Reason::Revoked => Self::Revoked,
            Reason::PathNotCanonical => Self::PathNotCanonical,
            Reason::Malformed => Self::Malformed,
            Reason::UnknownTarget => Self::UnknownTarget,
            Reason::Misdirected => Self::Misdirected,
            Reason::WrongProtocol => Self::WrongProtocol,
            Reason::UpgradeNotAllowed => Self::UpgradeNotAllowed,
            Reason::PolicyUnreadable => Self::PolicyUnreadable,
            Reason::Stale => Self::Stale,
            Reason::Unauthenticated => Self::Unauthenticated,
            Reason::ForbiddenAddress => Self::ForbiddenAddress,
        }
    }
}

impl From<&Explanation> for v1::Explanation {
    /// Source and target are the question's; whoever asked it adds them.
    fn from(explanation: &Explanation) -> Self {
        Self {
            allowed: explanation.allowed,
            rule: explanation
                .rule
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            reason: explanation
                .reason
                .map_or(v1::Reason::Unspecified, Into::into)
                .into(),
            nearest: explanation.nearest.iter().map(Into::into).collect(),
            suggested_yaml: explanation.suggested_yaml.clone().unwrap_or_default(),
            hints: explanation.hints.clone(),
            learn_until: explanation.learn_until.map(crate::write_timestamp),
            source: String::new(),
            target: String::new(),
        }
    }
}

impl From<&Near> for v1::NearRule {
    fn from(near: &Near) -> Self {
        Self {
            name: near.rule.to_string(),
            failed_condition: near.failed.as_str().to_owned(),
            wanted: near.wanted.clone(),
            got: near.got.clone(),
        }
    }
}
