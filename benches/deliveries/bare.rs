//! HTTP clients alone, with which a delivery is compared.

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

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Sends `count` requests through a client of reqwest, `in_flight` at once.
pub(crate) fn reqwest(url: &str, count: u32, in_flight: u32) {
    block_on(async {
        let client = client();
        let url = url::Url::parse(url).unwrap();
        run_senders(count, in_flight, |left| {
            let client = client.clone();
            let url = url.clone();
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

/// Sends `count` requests over `in_flight` connections of hyper, one at a time on each.
pub(crate) fn hyper(url: &str, count: u32, in_flight: u32) {
    block_on(async {
        let url = url::Url::parse(url).unwrap();
        let address = *url.socket_addrs(|| None).unwrap().first().unwrap();
        run_senders(count, in_flight, |left| {
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

async fn run_senders<F: Future<Output = ()> + Send + 'static>(
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

/// Takes one of the requests that are left; returns whether there was one.
fn take(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}
