//! Row 16: malformed input to every listener and method of the control plane.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tonic::Code;
use weft_tests::{Mesh, Svid, get, peer};

use super::join;
use super::row_09::methods;

#[tokio::test(flavor = "multi_thread")]
async fn row_16_garbage_at_any_listener_ends_that_connection_alone() {
    let mut mesh = Mesh::start().await;
    let svid = join(&mesh, "shop/web").await;
    let (at, svid) = (&mesh, &svid);
    let thrown = garbage().into_iter().map(|garbage| async move {
        for address in [at.api, at.attestation, at.admin] {
            throw(address, &garbage).await;
        }
        if let Ok(socket) = UnixStream::connect(at.operator_socket()).await {
            exchange(socket, &garbage).await;
        }
        // Behind a good handshake.
        for address in [at.api, at.attestation] {
            let stream = svid.connect(address, "control-plane.test", "h2").await;
            exchange(stream.expect("a good handshake"), &garbage).await;
        }
    });
    futures_util::future::join_all(thrown).await;
    assert_well(&mut mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_a_message_that_cannot_be_read_is_refused_by_every_method() {
    let mut mesh = Mesh::start().await;
    let web = join(&mesh, "shop/web").await.channel(mesh.api);
    let operator = Svid::of_operator(&mesh.context()).channel(mesh.api);
    let anybody = peer::anonymous_channel(mesh.attestation);
    for method in methods() {
        for message in messages() {
            for (who, channel) in [
                ("web", &web),
                ("operator", &operator),
                ("anybody", &anybody),
            ] {
                let call = peer::call_raw(channel.clone(), &method, message.clone());
                // A stream that a message happened to open goes on: that is an answer too.
                let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), call).await
                else {
                    continue;
                };
                if let Err(status) = answer {
                    let is_fault = matches!(
                        status.code(),
                        Code::Unknown | Code::Unavailable | Code::DataLoss
                    );
                    assert!(
                        !is_fault,
                        "{who} at {method} with {message:02x?}: {status:?}"
                    );
                }
            }
        }
    }
    assert_well(&mut mesh).await;
}

/// The process lives, has not panicked, and serves everybody else.
async fn assert_well(mesh: &mut Mesh) {
    assert!(mesh.control_plane.ended().is_none(), "it ended");
    let log = mesh.control_plane.log();
    assert!(!log.contains("panicked"), "{log}");
    join(mesh, "shop/other").await;
    mesh.meshctl(["sidecars", "-o", "json"]).await.ok();
    let ready = get(&format!("http://{}/ready", mesh.admin)).await;
    assert_eq!(ready.expect("its admin answers").status, 200);
}

async fn throw(address: SocketAddr, bytes: &[u8]) {
    let socket = TcpStream::connect(address)
        .await
        .expect("the listener accepts");
    exchange(socket, bytes).await;
}

/// Sends, says that nothing more comes, and reads what comes back for a moment.
async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    bytes: &[u8],
) {
    let _ = tokio::time::timeout(Duration::from_millis(200), async {
        // It may hang up in the middle.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
}

pub(crate) fn garbage() -> Vec<Vec<u8>> {
    let mut random = vec![0; 4096];
    aws_lc_rs::rand::fill(&mut random).expect("random bytes");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = |length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let head = [
            &length.to_be_bytes()[1..],
            &[kind, flags],
            &stream.to_be_bytes(),
        ]
        .concat();
        [preface, &settings[..], &head, payload].concat()
    };
    vec![
        random,
        vec![0; 4096],
        vec![0xff; 4096],
        // A ClientHello that promises more than it holds; a record of 64 KiB; an alert.
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3],
        [&[0x16, 3, 3, 0xff, 0xff][..], &[0x41; 2048]].concat(),
        vec![0x15, 3, 3, 0, 2, 2, 0x28],
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        [&b"GET / HTTP/1.1\r\nX: "[..], &[b'a'; 100_000], b"\r\n\r\n"].concat(),
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\x00\r\n\r\n".to_vec(),
        preface.to_vec(),
        // HEADERS of broken HPACK; CONTINUATION out of nowhere; DATA on stream 0; a frame of 16 MiB; a SETTINGS of 5 bytes; an unknown kind.
        frame(4, 1, 4, 1, &[0xff, 0xff, 0xff, 0xff]),
        frame(4, 9, 4, 1, &[0x82; 4]),
        frame(4, 0, 1, 0, b"data"),
        frame(0x00ff_ffff, 0, 0, 1, &[0; 64]),
        frame(5, 4, 0, 0, &[0; 5]),
        frame(3, 0xee, 0xff, 7, &[1, 2, 3]),
        frame(4, 8, 0, 0, &[0; 4]),
    ]
}

/// What no protobuf message of ours is, and what one might take for one.
fn messages() -> Vec<Bytes> {
    vec![
        Bytes::from_static(&[0xff; 16]),
        // A length of 2^63, a field of a wrong type, a group that never ends, text that is not UTF-8.
        Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        Bytes::from_static(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8]),
        Bytes::from_static(&[0x0b, 0x0b, 0x0b, 0x0b]),
        Bytes::from_static(&[0x0a, 2, 0xc3, 0x28, 0x12, 2, 0xc3, 0x28]),
        // A hundred messages inside each other.
        Bytes::from([0x0a, 100].repeat(100)),
        // Control characters and a name that is none.
        Bytes::from_static(b"\x0a\x06a\r\n\x00/\x1b\x12\x04\x0d\x0a\x0d\x0a"),
        Bytes::from(vec![b'a'; 100_000]),
    ]
}
