//! A receiver of webhooks that records every request and gives the answer that a test set for the
//! path. It knows nothing of the service: tests decide what a request proves.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt, stream};
use poem::http::{HeaderMap, StatusCode};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Body, Request, Response, Server};
use tokio::task::JoinHandle;

/// A request, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) arrived: Instant,
}

impl Received {
    /// Returns the header `webhook-id`, or an empty text.
    pub(crate) fn id(&self) -> &str {
        let value = self.headers.get("webhook-id");
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// The answer of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// This status, always.
    Status(u16),
    /// 500 to the first few requests with the same `webhook-id`, then 200.
    FailFirst(usize),
    /// No answer, ever.
    Hang,
    /// 307 to this path.
    Redirect(&'static str),
    /// 200 with a body of a gigabyte.
    Gigabyte,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    received: Vec<Received>,
    /// Requests by path and `webhook-id`.
    counts: HashMap<(String, String), usize>,
    /// Bytes of response bodies that were sent.
    bytes_sent: usize,
}

/// A server that listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    base: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of loopback; every path answers 200 until a test sets another answer.
    pub(crate) async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let endpoint = poem::endpoint::make(move |request| receive(Arc::clone(&shared), request));
        let server = tokio::spawn(async move {
            Server::new_with_acceptor(acceptor)
                .run(endpoint)
                .await
                .unwrap();
        });
        Self {
            base: format!("http://{address}"),
            state,
            server,
        }
    }

    /// Sets what `path` answers from now on; returns its URL.
    pub(crate) fn set(&self, path: &str, answer: Answer) -> String {
        let mut state = self.state.lock().unwrap();
        state.answers.insert(path.to_owned(), answer);
        format!("{}{path}", self.base)
    }

    /// Returns the requests to paths that start with `prefix`, in order of arrival.
    pub(crate) fn received(&self, prefix: &str) -> Vec<Received> {
        let state = self.state.lock().unwrap();
        let received = state.received.iter();
        received
            .filter(|request| request.path.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Returns the event of each request and when it arrived, in that order.
    pub(crate) fn arrivals(&self) -> Vec<(String, Instant)> {
        let state = self.state.lock().unwrap();
        let received = state.received.iter();
        received
            .map(|request| (request.id().to_owned(), request.arrived))
            .collect()
    }

    /// Returns the ids of the events that arrived so far.
    pub(crate) fn ids(&self) -> HashSet<String> {
        let state = self.state.lock().unwrap();
        state.counts.keys().map(|(_, id)| id.clone()).collect()
    }

    /// Counts the different events that arrived so far, by path.
    pub(crate) fn distinct(&self) -> usize {
        self.state.lock().unwrap().counts.len()
    }

    /// Counts the different events at this path that were answered 200.
    pub(crate) fn accepted(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        let failures = match state.answers.get(path) {
            Some(Answer::FailFirst(failures)) => *failures,
            _ => 0,
        };
        let counts = state.counts.iter();
        counts
            .filter(|((at, _), count)| at == path && **count > failures)
            .count()
    }

    /// Returns how many bytes of its answers' bodies were sent so far.
    pub(crate) fn bytes_sent(&self) -> usize {
        self.state.lock().unwrap().bytes_sent
    }

    /// Counts the requests so far.
    pub(crate) fn total(&self) -> usize {
        self.state.lock().unwrap().received.len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(shared: Arc<Mutex<State>>, mut request: Request) -> poem::Result<Response> {
    let arrived = Instant::now();
    let body = request.take_body().into_bytes().await?;
    let received = Received {
        path: request.uri().path().to_owned(),
        headers: request.headers().clone(),
        body,
        arrived,
    };
    let answer = record(&shared, received);
    let (status, body) = match answer {
        Answer::Status(status) => (status, Body::empty()),
        Answer::Redirect(_) => (307, Body::empty()),
        Answer::Gigabyte => (200, gigabyte(shared)),
        Answer::Hang | Answer::FailFirst(_) => return std::future::pending().await,
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Answer::Redirect(path) = answer {
        response = response.header("location", path);
    }
    Ok(response.body(body))
}

/// Records a request; returns the answer to it.
fn record(shared: &Mutex<State>, received: Received) -> Answer {
    let mut state = shared.lock().unwrap();
    let answer = state.answers.get(&received.path).copied();
    let event = (received.path.clone(), received.id().to_owned());
    let count = state.counts.entry(event).or_default();
    *count += 1;
    let count = *count;
    state.received.push(received);
    match answer.unwrap_or(Answer::Status(200)) {
        Answer::FailFirst(failures) => Answer::Status(if count <= failures { 500 } else { 200 }),
        other => other,
    }
}

fn gigabyte(shared: Arc<Mutex<State>>) -> Body {
    const CHUNK: Bytes = Bytes::from_static(&[b'x'; 1 << 16]);
    let chunks = stream::iter(0..1 << 14).map(move |_| {
        shared.lock().unwrap().bytes_sent += CHUNK.len();
        Ok::<_, std::io::Error>(CHUNK)
    });
    Body::from_bytes_stream(chunks)
}
