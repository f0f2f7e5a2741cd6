//! The blocks of another implementation: the client of the `h2` crate sends requests and reads answers.

use ::h2::client::SendRequest;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const HEADERS: u8 = 1;
const END: u8 = 0x4 | 0x1;
/// So many that the client's table of 4096 bytes turns over many times.
const REQUESTS: u32 = 200;

#[tokio::test]
async fn a_client_of_another_implementation_agrees_in_both_directions() {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let (mut client, connection) = ::h2::client::handshake(near).await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let mut preface = [0; 24];
    far.read_exact(&mut preface).await.expect("the preface");
    far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .expect("settings");
    let (mut decoder, mut marks) = (Decoder::new(DEFAULT_TABLE), 0);
    for number in 0..REQUESTS {
        let request = request(number);
        let sent = fields_of(&request);
        let response = send(&mut client, request).await;
        let (stream, block) = next_block(&mut far).await;
        let mut got = Vec::new();
        let decoded = decoder.decode_marked(&block, NO_LIMIT, &mut |name, value, marked| {
            got.push((name.to_vec(), value.to_vec()));
            marks += u32::from(marked);
        });
        assert_eq!(decoded, Ok(Decoded::Whole));
        got.sort();
        assert_eq!(got, sent, "request {number}");
        let answer = answer(number, stream, &sent);
        far.write_all(&answer).await.expect("an answer");
        let response = response.await.expect("an answer");
        assert_answered(number, &response, &sent);
    }
    assert!(decoder.table().size() > 3500, "the table was in use");
    assert_eq!(marks, REQUESTS, "the client marks one field of each");
    connection.abort();
}

async fn send(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> ::h2::client::ResponseFuture {
    std::future::poll_fn(|cx| client.poll_ready(cx))
        .await
        .expect("ready");
    client.send_request(request, true).expect("a request").0
}

fn request(number: u32) -> Request<()> {
    let mut secret = HeaderValue::from_static("key");
    secret.set_sensitive(true);
    Request::get(format!("http://host-{}/{number}", number % 7))
        .header("x-api-key", secret)
        .header("user-agent", "weft ~^|{} tests")
        .header("x-turn", format!("{:?}", number.to_le_bytes()))
        .header(
            format!("x-name-{}", number % 13),
            "é\t\"\\`".repeat(number as usize % 17),
        )
        .header("x-long", "x".repeat(number as usize * 37 % 700))
        .header(
            "accept-encoding",
            ["gzip, deflate", "br"][number as usize % 2],
        )
        .body(())
        .expect("a request")
}

/// Sorted.
fn fields_of(request: &Request<()>) -> Vec<Field> {
    let uri = request.uri();
    let mut fields = vec![
        field(":method", request.method().as_str()),
        field(":scheme", uri.scheme_str().expect("a scheme")),
        field(
            ":authority",
            uri.authority().expect("an authority").as_str(),
        ),
        field(":path", uri.path()),
    ];
    let headers = request.headers().iter();
    fields.extend(headers.map(|(n, v)| (n.as_str().into(), v.as_bytes().to_vec())));
    fields.sort();
    fields
}

/// The stream and the block of the next HEADERS frame, which h2 sends in one piece, without padding or priority.
async fn next_block(far: &mut DuplexStream) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        far.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        far.read_exact(&mut payload).await.expect("its payload");
        if kind == HEADERS {
            assert_eq!(flags, END);
            return (u32::from_be_bytes(stream), payload);
        }
    }
}

/// The request's fields come back as those of an answer.
fn answer(number: u32, stream: u32, sent: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    if number == 0 {
        block.push(encoder::NO_TABLE);
    }
    encoder::status(status(number), &mut block);
    for (name, value) in sent.iter().filter(|(name, _)| !name.starts_with(b":")) {
        if name == b"x-api-key" {
            encoder::never_indexed(name, value, &mut block);
        } else {
            encoder::field(name, value, &mut block);
        }
    }
    let length = u32::try_from(block.len()).expect("a length").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([HEADERS, END]);
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

fn status(number: u32) -> u16 {
    [200, 204, 404, 429, 503][number as usize % 5]
}

fn assert_answered<B>(number: u32, response: &Response<B>, sent: &[Field]) {
    assert_eq!(response.status().as_u16(), status(number));
    let headers = response.headers().iter();
    let mut got = headers
        .map(|(n, v)| (n.as_str().into(), v.as_bytes().to_vec()))
        .collect::<Vec<Field>>();
    got.sort();
    let sent = sent.iter().filter(|(name, _)| !name.starts_with(b":"));
    assert_eq!(got, sent.cloned().collect::<Vec<_>>(), "answer {number}");
}
