//! Waiting until the sidecars enforce a change, and saying so: `enforced by 3/3 sidecars in 12 ms`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use weft_wire::v1;

use crate::changes::Changes;
use crate::client::{Client, refused};
use crate::failure::Answer;
use crate::moments::{exact, length, moment, parse_length, proto_length, shown};
use crate::output::{Output, printable};

/// `--wait` and `--timeout`, for verbs that change something.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct WaitArgs {
    /// Return when every affected sidecar that lives has acknowledged the change.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait; then the silent sidecars are named and the answer is no.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_length, requires = "wait")]
    pub(crate) timeout: SignedDuration,
}

/// Who enforces a revision.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rollout {
    affected: u32,
    acknowledged: u32,
    done: bool,
    elapsed_ms: u128,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pending {
    instance: String,
    identity: String,
    last_heard: Option<String>,
    #[serde(skip)]
    since: String,
    /// Why the sidecar refused the change; absent when it is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    nack: Option<String>,
}

/// Waits for a revision; the last status that came is the answer, also when time ran out.
pub(crate) async fn wait(
    client: &Client,
    changes: &Changes,
    timeout: SignedDuration,
) -> anyhow::Result<Rollout> {
    let revision = changes.revision;
    let request = v1::WaitRolloutRequest {
        revision,
        timeout: Some(proto_length(timeout)),
    };
    let mut last = v1::RolloutStatus::default();
    let follow = async {
        let mut statuses = client
            .resources()
            .wait_rollout(request)
            .await
            .map_err(refused)?
            .into_inner();
        while let Some(status) = statuses.message().await.map_err(refused)? {
            last = status;
            if last.done {
                break;
            }
        }
        anyhow::Ok(())
    };
    // The control plane keeps the deadline; the margin is for a control plane that has stopped answering.
    let patience = timeout.unsigned_abs() + MARGIN;
    let outcome = tokio::time::timeout(patience, follow).await;
    match outcome {
        Ok(Ok(())) | Err(_) => Ok(Rollout {
            elapsed_ms: changes.sent.elapsed().as_millis(),
            ..Rollout::from(last)
        }),
        Ok(Err(error)) => Err(error.context(format!(
            "revision {revision} is stored, but who enforces it is not known"
        ))),
    }
}

impl From<v1::RolloutStatus> for Rollout {
    fn from(status: v1::RolloutStatus) -> Self {
        Self {
            affected: status.affected,
            acknowledged: status.acknowledged,
            done: status.done,
            elapsed_ms: length(status.elapsed).unwrap_or_default().as_millis(),
            pending: status.pending.into_iter().map(Pending::from).collect(),
        }
    }
}

impl From<v1::PendingSidecar> for Pending {
    fn from(sidecar: v1::PendingSidecar) -> Self {
        let heard = moment(sidecar.last_heard);
        Self {
            instance: sidecar.instance,
            identity: sidecar.spiffe_id,
            last_heard: exact(heard),
            since: shown(heard),
            nack: Some(sidecar.nack).filter(|nack| !nack.is_empty()),
        }
    }
}

impl Rollout {
    pub(crate) fn answer(&self) -> Answer {
        Answer::from(self.done)
    }

    pub(crate) fn print(&self, out: Output) -> std::io::Result<()> {
        out.line(self.sentence())
    }

    fn sentence(&self) -> String {
        let sidecars = if self.affected == 1 {
            "sidecar"
        } else {
            "sidecars"
        };
        let Self {
            affected,
            acknowledged,
            elapsed_ms,
            ..
        } = self;
        match (self.done, self.affected) {
            (true, 0) => "no sidecar is affected".to_owned(),
            (true, _) => {
                format!("enforced by {acknowledged}/{affected} {sidecars} in {elapsed_ms} ms")
            }
            (false, _) => format!(
                "enforced by {acknowledged}/{affected} {sidecars}{}",
                self.missing()
            ),
        }
    }

    /// `, 1 unreachable: api-1 since …` and `, 1 refused it: web-1: …`.
    fn missing(&self) -> String {
        let (refusing, silent): (Vec<_>, Vec<_>) = self
            .pending
            .iter()
            .partition(|sidecar| sidecar.nack.is_some());
        let mut text = String::new();
        if !silent.is_empty() {
            let named: Vec<_> = silent
                .iter()
                .map(|it| format!("{} since {}", printable(&it.instance), it.since))
                .collect();
            text.push_str(&format!(
                ", {} unreachable: {}",
                silent.len(),
                named.join(", ")
            ));
        }
        if !refusing.is_empty() {
            let reason = |it: &&Pending| it.nack.as_deref().map(printable).unwrap_or_default();
            let named: Vec<_> = refusing
                .iter()
                .map(|it| format!("{}: {}", printable(&it.instance), reason(it)))
                .collect();
            text.push_str(&format!(
                ", {} refused it: {}",
                refusing.len(),
                named.join("; ")
            ));
        }
        if self.pending.is_empty() {
            text.push_str(", and the control plane did not say that these are all");
        }
        text
    }
}

const MARGIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn status(acknowledged: u32, pending: Vec<v1::PendingSidecar>) -> Rollout {
        let elapsed = Some(proto_length(SignedDuration::from_millis(12)));
        Rollout::from(v1::RolloutStatus {
            affected: 3,
            acknowledged,
            done: pending.is_empty(),
            pending,
            elapsed,
        })
    }

    #[test]
    fn a_complete_rollout_says_how_many_and_how_long() {
        let rollout = status(3, vec![]);
        assert_eq!(rollout.sentence(), "enforced by 3/3 sidecars in 12 ms");
        assert_eq!(rollout.answer(), Answer::Yes);
    }

    #[test]
    fn a_silent_sidecar_is_named_and_the_answer_is_no() {
        let heard = proto_length(SignedDuration::from_secs(0));
        let silent = v1::PendingSidecar {
            instance: "api-1".to_owned(),
            last_heard: Some(prost_types::Timestamp {
                seconds: heard.seconds,
                nanos: 0,
            }),
            ..Default::default()
        };
        let rollout = status(2, vec![silent]);
        assert_eq!(
            rollout.sentence(),
            "enforced by 2/3 sidecars, 1 unreachable: api-1 since 1970-01-01T00:00:00Z"
        );
        assert_eq!(rollout.answer(), Answer::No);
    }

    #[test]
    fn a_refusing_sidecar_is_named_with_its_reason() {
        let refusing = v1::PendingSidecar {
            instance: "web-1".into(),
            nack: "schema 2".into(),
            ..Default::default()
        };
        assert_eq!(
            status(2, vec![refusing]).sentence(),
            "enforced by 2/3 sidecars, 1 refused it: web-1: schema 2"
        );
    }
}
