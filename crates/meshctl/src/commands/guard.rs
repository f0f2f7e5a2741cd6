//! What an edit does to live traffic, looked at before it is made: `apply` asks, `delete` and `quarantine` say.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use jiff::SignedDuration;
use weft_identity::TrustDomain;

use crate::client::Client;
use crate::moments::parse_length;
use crate::output::Output;
use crate::preview::{self, Edit, Report};

/// For `apply`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct GuardArgs {
    /// Do not ask before live traffic is cut, and do not look at it.
    #[arg(short = 'y', long, conflicts_with = "fail_on_deny")]
    yes: bool,
    /// Change nothing and exit with 1 if live traffic would be cut, or if the record cannot exclude it.
    #[arg(long)]
    fail_on_deny: bool,
    /// How far back live traffic is looked at.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_length)]
    since: SignedDuration,
}

impl GuardArgs {
    pub(crate) fn looks(self) -> bool {
        !self.yes
    }

    pub(crate) fn window(self) -> SignedDuration {
        self.since
    }

    /// Whether the answer is no whatever was done, for a dry run.
    pub(crate) fn fails(self, report: Option<&Report>) -> bool {
        self.fail_on_deny && report.is_some_and(|report| report.may_cut)
    }

    /// Shows what would be cut and asks; where nobody can be asked, it is a no.
    pub(crate) fn may_go_on(self, report: &Report, out: Output) -> anyhow::Result<bool> {
        if !report.may_cut {
            return Ok(true);
        }
        out.note(report.text(LINES, out).trim_end());
        let cut = report.cut();
        if self.fail_on_deny {
            out.note(format!("meshctl: {cut}; nothing was changed"));
            return Ok(false);
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            out.note(format!(
                "meshctl: {cut}; nothing was changed. --yes applies it all the same"
            ));
            return Ok(false);
        }
        let mut terminal = std::io::stderr().lock();
        write!(terminal, "{cut}. Apply it? [y/N] ")?;
        terminal.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        if !yes {
            out.note("nothing was changed");
        }
        Ok(yes)
    }
}

/// The preview of an edit that concerns verdicts; `None` where there is nothing to look at.
pub(crate) async fn look(
    client: &Client,
    trust_domain: &TrustDomain,
    edit: &Edit,
    window: SignedDuration,
    out: Output,
) -> anyhow::Result<Option<Report>> {
    if !edit.decides() {
        return Ok(None);
    }
    let report = preview::of_live(client, trust_domain, edit, window).await?;
    if report.is_none() {
        out.note("this control plane records no traffic: what the edit does to it is not known");
    }
    Ok(report)
}

/// Says what an edit cuts, for verbs that do not ask.
pub(crate) async fn say(client: &Client, trust_domain: &TrustDomain, edit: &Edit, out: Output) {
    match look(client, trust_domain, edit, DAY, out).await {
        Ok(Some(report)) if report.may_cut => {
            out.note(report.text(LINES, out).trim_end());
            out.note(report.cut());
        }
        Ok(_) => {}
        // what is cut in an emergency does not wait for its description
        Err(error) => out.warn(format!(
            "what this does to live traffic is not known: {error:#}"
        )),
    }
}

pub(crate) const LINES: usize = 20;
const DAY: SignedDuration = SignedDuration::from_hours(24);
