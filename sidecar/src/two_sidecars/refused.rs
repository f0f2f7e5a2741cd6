//! Connections of bytes that only the server's side refuses: nobody can be answered in words, so the decision is named in both logs.

use super::*;

const FOR_ANOTHER: &str = "
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: rule, namespace: shop}
spec:
  to: {service: api, ports: [main]}
  from: [shop/other]
";

#[tokio::test]
async fn a_refused_connection_of_bytes_is_reset_and_the_client_is_told_the_decision() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    mesh.server_allows(FOR_ANOTHER);
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let read = client.read(&mut [0; 8]).await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert_eq!(refusals(&mesh), 1);
    assert_eq!(mesh.client.metrics.refused_by_peer.get(), 1);
}

#[tokio::test]
async fn a_connection_of_bytes_that_loses_its_rule_has_a_decision() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let mut bytes = TcpStream::connect(mesh.upstream).await.unwrap();
    bytes.write_all(b"ping").await.unwrap();
    while mesh.server.connections.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(refusals(&mesh), 0);
    mesh.server_allows(FOR_ANOTHER);
    inlets::assert_ends(&mut bytes).await;
    while refusals(&mesh) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn refusals(mesh: &Pair) -> u64 {
    let label = crate::metrics::ReasonLabel::of(weft_policy::Reason::NoRule);
    mesh.server.metrics.refusals.get_or_create(&label).get()
}
