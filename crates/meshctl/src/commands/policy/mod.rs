//! `meshctl policy`: what the allow-list says, asked of the same evaluator that the sidecars use.

mod coverage;
mod evidence;
mod explain;
mod import;
mod preview;
mod suggest;
mod test;
pub(crate) mod verdict;

use crate::failure::Answer;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, clap::Subcommand)]
enum PolicyVerb {
    /// Judge a table of expected verdicts; exit code 1 when one differs.
    Test(test::TestArgs),
    /// Say whether a request would pass, by which rule, or what is missing; exit code 1 when refused.
    Explain(Box<explain::ExplainArgs>),
    /// Show what an edit would do to the traffic of the last day.
    Preview(Box<preview::PreviewArgs>),
    /// Write the smallest allow-list for the traffic that was recorded, to review and apply.
    Suggest(suggest::SuggestArgs),
    /// Show rules that no traffic used, and traffic that only a broad rule allows.
    Coverage(coverage::CoverageArgs),
    /// Write the rules that policies of Kubernetes, Istio or Linkerd become, with a comment on what has no equal.
    Import(Box<import::ImportArgs>),
}

pub(crate) async fn run(args: PolicyArgs, session: &Session) -> anyhow::Result<Answer> {
    match args.verb {
        PolicyVerb::Test(args) => test::run(args, session).await,
        PolicyVerb::Explain(args) => explain::run(*args, session).await,
        PolicyVerb::Preview(args) => preview::run(*args, session).await,
        PolicyVerb::Suggest(args) => suggest::run(args, session).await,
        PolicyVerb::Coverage(args) => coverage::run(args, session).await,
        PolicyVerb::Import(args) => import::run(*args, session),
    }
}

/// Where nothing says which trust domain files are about.
const DEFAULT_TRUST_DOMAIN: &str = "weft.local";
