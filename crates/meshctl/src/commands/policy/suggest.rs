//! `meshctl policy suggest`: the smallest readable allow-list for recorded traffic, as documents that `apply -f -` takes; what
//! it could not say stands on standard error.

use jiff::Timestamp;
use weft_policy::{Basis, Crowded, Flow, LeftOut, Lesson, Proposal, Proposed, propose};

use super::evidence::{EvidenceArgs, Reach};
use crate::failure::Answer;
use crate::output::{Output, printable};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(super) struct SuggestArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// Also allow what was refused because no rule allows it.
    #[arg(long)]
    include_denied: bool,
    /// Suggest a whole allow-list, as if there were no rules yet.
    #[arg(long)]
    from_scratch: bool,
}

pub(super) async fn run(args: SuggestArgs, session: &Session) -> anyhow::Result<Answer> {
    let gathered = args.evidence.gather(session, Reach::Asked).await?;
    let basis = Basis {
        world: &gathered.world,
        lesson: Lesson {
            denied: args.include_denied,
            from_scratch: args.from_scratch,
        },
        now: Timestamp::now(),
    };
    let proposal = propose(&gathered.traffic.flows, &basis);
    let documents: Vec<_> = proposal.rules.iter().map(Proposed::to_yaml).collect();
    session.out.raw(documents.join("---\n"))?;
    tell(&proposal, session.out);
    Ok(Answer::Yes)
}

fn tell(proposal: &Proposal, out: Output) {
    if proposal.rules.is_empty() {
        out.note("nothing to suggest");
    }
    if proposal.already_allowed > 0 {
        out.note(format!(
            "{} flows are allowed by the rules already",
            proposal.already_allowed
        ));
    }
    if proposal.denied > 0 {
        out.note(format!(
            "{} refused flows are not in it (--include-denied takes them in)",
            proposal.denied
        ));
    }
    for crowded in proposal.crowded.iter().take(LINES) {
        let Crowded {
            source,
            service,
            rules,
        } = crowded;
        out.note(format!(
            "{source} → {service} has {rules} rules: fewer would allow a method on a port where it was not seen"
        ));
    }
    tell_rest(proposal.crowded.len(), out);
    tell_left_out(&proposal.left_out, out);
    for flow in proposal.opened.iter().take(LINES) {
        out.warn(format!("was refused and would pass: {}", line(flow)));
    }
    tell_rest(proposal.opened.len(), out);
}

/// What passed, or was asked for, and no suggested rule allows.
pub(super) fn tell_left_out(left_out: &[LeftOut], out: Output) {
    for LeftOut { flow, why } in left_out.iter().take(LINES) {
        out.warn(format!(
            "could not fold {}: {}",
            line(flow),
            printable(&why.to_string())
        ));
    }
    tell_rest(left_out.len(), out);
}

fn tell_rest(all: usize, out: Output) {
    if let Some(rest) = all.checked_sub(LINES).filter(|rest| *rest > 0) {
        out.note(format!("and {rest} more like that"));
    }
}

fn line(flow: &Flow) -> String {
    let asked = match &flow.key.request {
        None => "bytes".to_owned(),
        Some(request) => {
            let path = request.path.as_ref().map_or("", |path| path.as_str());
            format!("{} {path}", request.method).trim_end().to_owned()
        }
    };
    let (source, target) = (&flow.key.source, &flow.key.target);
    printable(&format!("{} × {source} → {target} {asked}", flow.count))
}

const LINES: usize = 20;
