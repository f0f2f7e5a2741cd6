//! The shop's front: `GET /checkout/ID` asks api for the order.

use std::net::SocketAddr;

use clap::Args;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::{Answer, get, serve};

#[derive(Debug, Args)]
pub(super) struct WebArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The api, as `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
}

pub(super) async fn run(args: WebArgs) -> anyhow::Result<()> {
    serve(args.listen, move |method, path| {
        let api = args.api.clone();
        async move { answer(&api, &method, &path).await }
    })
    .await
}

async fn answer(api: &str, method: &Method, path: &str) -> Answer {
    if method != Method::GET {
        return Answer(StatusCode::METHOD_NOT_ALLOWED, json!({"error": "only GET"}));
    }
    let Some(id) = path.strip_prefix("/checkout/") else {
        return Answer(
            StatusCode::OK,
            json!({"shop": "open", "try": "/checkout/1"}),
        );
    };
    match get(&format!("http://{api}/orders/{id}"), None).await {
        Ok((status, body)) => {
            let order: Value = serde_json::from_str(&body).unwrap_or(Value::String(body));
            Answer(status, json!({"page": "checkout", "order": order}))
        }
        Err(error) => Answer(
            StatusCode::BAD_GATEWAY,
            json!({"error": format!("{error:#}")}),
        ),
    }
}
