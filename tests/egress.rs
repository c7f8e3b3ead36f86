//! One request to receivers that cannot be trusted, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails if its setup does")]

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use webhook_delivery::domain::outcome::TransportError;
use webhook_delivery::egress::{Egress, EgressConfig, Response};

fn egress(allow: &[&str]) -> Egress {
    Egress::new(&EgressConfig {
        allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
        timeout: Duration::from_millis(500),
        response_bytes_max: 64 * 1_024,
    })
    .unwrap()
}

async fn post(url: &str, allow: &[&str]) -> Result<Response, TransportError> {
    let url = Url::parse(url).unwrap();
    egress(allow)
        .post(url, HeaderMap::new(), Bytes::from_static(b"{}"), 0)
        .await
}

/// Starts a receiver that reads a request and then runs `answer`. Returns its URL.
async fn receiver<F>(answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            drop(tokio::spawn(answer(stream)));
        }
    }));
    url
}

async fn send(mut stream: TcpStream, text: &'static str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

#[tokio::test]
async fn attempt_to_a_silent_receiver_ends_at_the_deadline() {
    let url = receiver(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(post(&url, LOOPBACK).await, Err(TransportError::Timeout));
}

#[tokio::test]
async fn endless_body_is_read_up_to_its_limit() {
    let url = receiver(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(&[b'x'; 8_192]).await.is_ok() {}
    })
    .await;
    assert_eq!(post(&url, LOOPBACK).await.unwrap().status, 200);
}

#[tokio::test]
async fn redirect_is_returned_and_not_followed() {
    let head = "HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let url = receiver(move |stream| send(stream, head)).await;
    assert_eq!(post(&url, LOOPBACK).await.unwrap().status, 307);
}

#[tokio::test]
async fn retry_after_is_returned() {
    let head = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let url = receiver(move |stream| send(stream, head)).await;
    let response = post(&url, LOOPBACK).await.unwrap();
    assert_eq!(
        response,
        Response {
            status: 503,
            retry_after: Some(Duration::from_secs(7))
        }
    );
}

#[tokio::test]
async fn forbidden_address_is_never_contacted() {
    let url = receiver(|_| async { unreachable!("no connection may be made") }).await;
    assert_eq!(post(&url, &[]).await, Err(TransportError::Blocked));
    let named = url.replace("127.0.0.1", "localhost");
    assert_eq!(post(&named, &[]).await, Err(TransportError::Blocked));
    let metadata = "http://169.254.169.254/latest/meta-data/";
    assert_eq!(post(metadata, LOOPBACK).await, Err(TransportError::Blocked));
}

#[tokio::test]
async fn refused_connection_and_non_http_are_distinguished() {
    assert_eq!(
        post("http://127.0.0.1:1/", LOOPBACK).await,
        Err(TransportError::Connect)
    );
    let url = receiver(|stream| send(stream, "not HTTP at all\r\n\r\n")).await;
    assert_eq!(post(&url, LOOPBACK).await, Err(TransportError::Exchange));
}
