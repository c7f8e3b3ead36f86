//! A receiver that answers 200 at the least cost, in a process of its own. It counts what it
//! takes, and tells when asked by a line on its standard input, at whose end it ends.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::BODY_BYTES;
use crate::process::{Running, this_binary};

/// How soon it answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    AtOnce,
    Slow,
}

impl Pace {
    /// What [`Pace::Slow`] waits.
    pub(crate) const WAIT: Duration = Duration::from_millis(10);
    const SLOW_PATH: &str = "/slow";
}

#[derive(Default)]
struct Counts {
    received: AtomicU32,
    connections: AtomicU32,
}

/// What came so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) received: u32,
    pub(crate) connections: u32,
}

/// The process that receives.
pub(crate) struct Receiver {
    pub(crate) process: Running,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u32,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let mut command = this_binary(&["receiver"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut receiver = Self {
            process: Running(child),
            asks,
            answers: BufReader::new(answers),
            port: 0,
        };
        receiver.port = receiver.line()[0];
        receiver
    }

    pub(crate) fn url(&self, pace: Pace) -> String {
        let path = match pace {
            Pace::AtOnce => "/",
            Pace::Slow => Pace::SLOW_PATH,
        };
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn count(&mut self) -> Count {
        self.asks.write_all(b"\n").unwrap();
        let numbers = self.line();
        Count {
            received: numbers[0],
            connections: numbers[1],
        }
    }

    fn line(&mut self) -> Vec<u32> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let numbers = line.split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

/// Receives until its standard input ends.
pub(crate) fn run() {
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    runtime.spawn(accept(listener, Arc::clone(&counts)));
    for _ask in std::io::stdin().lines() {
        let received = counts.received.load(Ordering::Relaxed);
        let connections = counts.connections.load(Ordering::Relaxed);
        println!("{received} {connections}");
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let counts = Arc::clone(&counts);
        let answer = service_fn(move |request| answer(request, Arc::clone(&counts)));
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // A client that goes away is no error here.
        tokio::spawn(async move { served.await.ok() });
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let slow = request.uri().path() == Pace::SLOW_PATH;
    let body = request.into_body().collect().await;
    let mut response = Response::new(Empty::new());
    if body.is_ok_and(|body| body.to_bytes().len() == BODY_BYTES) {
        if slow {
            tokio::time::sleep(Pace::WAIT).await;
        }
        counts.received.fetch_add(1, Ordering::Relaxed);
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}
