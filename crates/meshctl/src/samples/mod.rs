//! The programs of `examples/shop`: small services that know nothing of the mesh and reach their peers through local addresses.
//!
//! web (HTTP) → api (HTTP) → orders (gRPC) → ledger (TCP), and an intruder that may call nothing.
#![allow(clippy::print_stdout)]

mod api;
mod http;
mod intruder;
mod ledger;
mod orders;
mod web;

use clap::{Args, Subcommand};

/// Runs one program of the example shop.
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// The shop's front: HTTP, calls api.
    Web(web::WebArgs),
    /// The shop's API: HTTP, calls orders over gRPC.
    Api(api::ApiArgs),
    /// Orders: gRPC with all four kinds of stream, asks the ledger over TCP.
    Orders(orders::OrdersArgs),
    /// The ledger: a line protocol over TCP.
    Ledger(ledger::LedgerArgs),
    /// Calls what it may not, again and again, and prints the answers.
    Intruder(intruder::IntruderArgs),
}

pub(crate) async fn run(args: SampleArgs) -> anyhow::Result<()> {
    match args.program {
        Program::Web(args) => web::run(args).await,
        Program::Api(args) => api::run(args).await,
        Program::Orders(args) => orders::run(args).await,
        Program::Ledger(args) => ledger::run(args).await,
        Program::Intruder(args) => intruder::run(args).await,
    }
}
