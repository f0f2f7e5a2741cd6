//! Orders: gRPC with all four kinds of stream; each balance comes from the ledger over TCP.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use weft_wire::sample::orders_server::{Orders, OrdersServer};
use weft_wire::sample::{ImportSummary, ListOrdersRequest, Order, OrderRequest};

use crate::failure::SaysNo;

#[derive(Debug, Args)]
pub(super) struct OrdersArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The ledger, as `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    ledger: String,
    /// What this replica calls itself in its answers.
    #[arg(long, default_value = "orders")]
    name: String,
}

pub(super) async fn run(args: OrdersArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| SaysNo(format!("cannot listen on {}", args.listen)))?;
    println!("listening on {}", listener.local_addr()?);
    let shop = Shop {
        ledger: args.ledger,
        name: args.name,
    };
    tonic::transport::Server::builder()
        .add_service(OrdersServer::new(shop))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Shop {
    ledger: String,
    name: String,
}

type OrderStream = Pin<Box<dyn Stream<Item = Result<Order, Status>> + Send>>;

#[tonic::async_trait]
impl Orders for Shop {
    async fn get(&self, request: Request<OrderRequest>) -> Result<Response<Order>, Status> {
        Ok(Response::new(self.order(request.into_inner().id).await?))
    }

    type ListStream = OrderStream;

    async fn list(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<OrderStream>, Status> {
        let (shop, count) = (self.clone(), request.into_inner().count);
        Ok(Response::new(Box::pin(tokio_stream::iter(1..=count).then(
            move |id| {
                let shop = shop.clone();
                async move { shop.order(id).await }
            },
        ))))
    }

    async fn import(
        &self,
        request: Request<Streaming<Order>>,
    ) -> Result<Response<ImportSummary>, Status> {
        let mut orders = request.into_inner();
        let mut imported = 0;
        while orders.message().await?.is_some() {
            imported += 1;
        }
        Ok(Response::new(ImportSummary { imported }))
    }

    type FollowStream = OrderStream;

    async fn follow(
        &self,
        request: Request<Streaming<OrderRequest>>,
    ) -> Result<Response<OrderStream>, Status> {
        let mut asked = request.into_inner();
        let shop = self.clone();
        let (send, receive) = mpsc::channel(FOLLOW_BUFFER);
        tokio::spawn(async move {
            while let Ok(Some(order)) = asked.message().await {
                if send.send(shop.order(order.id).await).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

impl Shop {
    async fn order(&self, id: u64) -> Result<Order, Status> {
        let balance = tokio::time::timeout(LEDGER_TIMEOUT, self.balance(id))
            .await
            .map_err(|_| Status::deadline_exceeded("the ledger did not answer"))?
            .map_err(|error| Status::unavailable(format!("the ledger: {error:#}")))?;
        Ok(Order {
            id,
            balance,
            served_by: self.name.clone(),
        })
    }

    async fn balance(&self, id: u64) -> anyhow::Result<u64> {
        let mut ledger = BufReader::new(TcpStream::connect(&self.ledger).await?);
        ledger
            .write_all(format!("BALANCE {id}\n").as_bytes())
            .await?;
        let mut line = String::new();
        ledger.read_line(&mut line).await?;
        let amount = line.trim().strip_prefix("OK ").context("no balance")?;
        Ok(amount.parse()?)
    }
}

const FOLLOW_BUFFER: usize = 16;
const LEDGER_TIMEOUT: Duration = Duration::from_secs(5);
