//! Calls what it may not, again and again, and prints the answers.

use std::time::Duration;

use clap::Args;

use super::http::get;

#[derive(Debug, Args)]
pub(super) struct IntruderArgs {
    /// The HTTP proxy of this workload's sidecar, as `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    proxy: String,
    /// What to call.
    #[arg(long, default_value = "http://api.shop/orders/1")]
    url: String,
    /// Seconds between two calls.
    #[arg(long, default_value_t = 60)]
    every: u64,
}

pub(super) async fn run(args: IntruderArgs) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(args.every.max(1)));
    loop {
        ticks.tick().await;
        match get(&args.url, Some(&args.proxy)).await {
            Ok((status, body)) => println!("GET {} -> {status} {body}", args.url),
            Err(error) => println!("{error:#}"),
        }
    }
}
