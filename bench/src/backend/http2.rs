//! HTTP/2: reads a request's body to its end, then answers.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::net::TcpStream;

pub(super) async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(async move { drop(answer(request, respond).await) });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let size = super::size(request.uri().path());
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let response = Response::builder()
        .header("content-type", "text/plain")
        .header("content-length", size)
        .body(())?;
    let mut send = respond.send_response(response, false)?;
    let body = match BODY.get(..size) {
        Some(body) => Bytes::from_static(body),
        None => Bytes::from(vec![b'x'; size]),
    };
    send.send_data(body, true)?;
    Ok(())
}

const WINDOW: u32 = 1 << 20;
const STREAMS: u32 = 1024;
const BODY: &[u8] = &[b'x'; 1024];
