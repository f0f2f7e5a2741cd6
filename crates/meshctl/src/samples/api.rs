//! The shop's API: `GET /orders/ID` asks orders over gRPC.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use weft_wire::sample::OrderRequest;
use weft_wire::sample::orders_client::OrdersClient;

use super::http::{Answer, serve};

#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The orders service, as `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    orders: String,
    /// What this replica calls itself in its answers.
    #[arg(long, default_value = "api")]
    name: String,
}

pub(super) async fn run(args: ApiArgs) -> anyhow::Result<()> {
    let orders = Endpoint::from_shared(format!("http://{}", args.orders))
        .context("--orders")?
        .connect_lazy();
    let client = OrdersClient::new(orders);
    serve(args.listen, move |method, path| {
        let (client, name) = (client.clone(), args.name.clone());
        async move { answer(client, &name, &method, &path).await }
    })
    .await
}

async fn answer(
    mut orders: OrdersClient<Channel>,
    name: &str,
    method: &Method,
    path: &str,
) -> Answer {
    if path == "/healthz" {
        return Answer(StatusCode::OK, json!({"healthy": true}));
    }
    if path == "/orders" {
        return Answer(
            StatusCode::OK,
            json!({"orders": ["/orders/1", "/orders/2"]}),
        );
    }
    let id = path.strip_prefix("/orders/").and_then(|id| id.parse().ok());
    let Some(id) = id else {
        return Answer(StatusCode::NOT_FOUND, json!({"error": "no such page"}));
    };
    if method != Method::GET {
        // Enough to show that policy, not the program, decides who may write.
        return Answer(StatusCode::OK, json!({"order": id, "changed": true}));
    }
    match orders.get(OrderRequest { id }).await {
        Ok(order) => {
            let order = order.into_inner();
            Answer(
                StatusCode::OK,
                json!({"id": order.id, "balance": order.balance, "servedBy": [name, order.served_by]}),
            )
        }
        Err(status) => Answer(
            StatusCode::BAD_GATEWAY,
            json!({"error": status.message(), "grpcStatus": status.code() as i32}),
        ),
    }
}
