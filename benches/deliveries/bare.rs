//! The HTTP request and nothing else: what a delivery is compared with.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::BODY_BYTES;

static BODY: [u8; BODY_BYTES] = [b'b'; BODY_BYTES];

/// Runs to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// `count` requests through a client of reqwest's, `in_flight` at once.
pub(crate) fn reqwest(url: &str, count: u32, in_flight: u32) {
    block_on(async {
        let (client, url) = (client(), url::Url::parse(url).unwrap());
        at_once(count, in_flight, |left| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                while take(&left) {
                    post(&client, url.clone(), Bytes::from_static(&BODY)).await;
                }
            }
        })
        .await;
    });
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) async fn post(client: &reqwest::Client, url: url::Url, body: Bytes) {
    let request = client.post(url).body(body);
    let request = request.header(CONTENT_TYPE, "application/json");
    let response = request.send().await.unwrap().error_for_status();
    response.unwrap().bytes().await.unwrap();
}

/// `count` requests over `in_flight` connections of hyper's, one at a time on each.
pub(crate) fn hyper(url: &str, count: u32, in_flight: u32) {
    block_on(async {
        let url = url::Url::parse(url).unwrap();
        let address = *url.socket_addrs(|| None).unwrap().first().unwrap();
        at_once(count, in_flight, |left| {
            let path = url.path().to_owned();
            async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(async move { connection.await.unwrap() });
                while take(&left) {
                    let request = Request::post(&path)
                        .header(HOST, "127.0.0.1")
                        .header(CONTENT_TYPE, "application/json")
                        .body(Full::new(Bytes::from_static(&BODY)));
                    let response = sender.send_request(request.unwrap()).await.unwrap();
                    assert!(response.status().is_success());
                    response.into_body().collect().await.unwrap();
                    sender.ready().await.unwrap();
                }
            }
        })
        .await;
    });
}

async fn at_once<F: Future<Output = ()> + Send + 'static>(
    count: u32,
    in_flight: u32,
    sender: impl Fn(Arc<AtomicU32>) -> F,
) {
    let left = Arc::new(AtomicU32::new(count));
    let mut senders = JoinSet::new();
    for _ in 0..in_flight {
        senders.spawn(sender(Arc::clone(&left)));
    }
    senders.join_all().await;
}

/// Whether there was one left to send.
fn take(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}
