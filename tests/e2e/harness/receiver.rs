//! A receiver of webhooks that records every request and answers as it was told to, path by
//! path. It must not know the service: what a request proves is for the tests to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use poem::http::{HeaderMap, StatusCode};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Request, Response, Server};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) arrived: Instant,
}

impl Received {
    /// The header `webhook-id`; empty where there is none.
    pub(crate) fn id(&self) -> &str {
        let value = self.headers.get("webhook-id");
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What a path answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// This status, always.
    Status(u16),
    /// 500 to the first few requests with the same `webhook-id`, then 200.
    FailFirst(usize),
    /// Nothing, ever.
    Hang,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    received: Vec<Received>,
    /// Requests by path and `webhook-id`.
    counts: HashMap<(String, String), usize>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    base: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of loopback; every path answers 200 until it is told otherwise.
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

    /// Tells what `path` answers from now on, and gives its URL.
    pub(crate) fn at(&self, path: &str, answer: Answer) -> String {
        let mut state = self.state.lock().unwrap();
        state.answers.insert(path.to_owned(), answer);
        format!("{}{path}", self.base)
    }

    /// What came to paths that start with `prefix` so far, in order of arrival.
    pub(crate) fn received(&self, prefix: &str) -> Vec<Received> {
        let state = self.state.lock().unwrap();
        let received = state.received.iter();
        received
            .filter(|request| request.path.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// How many different events came so far.
    pub(crate) fn distinct(&self) -> usize {
        self.state.lock().unwrap().counts.len()
    }

    /// How many requests came so far.
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
    let answer = {
        let mut state = shared.lock().unwrap();
        let answer = state.answers.get(&received.path).copied();
        let event = (received.path.clone(), received.id().to_owned());
        let count = state.counts.entry(event).or_default();
        *count += 1;
        let count = *count;
        state.received.push(received);
        match answer.unwrap_or(Answer::Status(200)) {
            Answer::Status(status) => Some(status),
            Answer::FailFirst(failures) => Some(if count <= failures { 500 } else { 200 }),
            Answer::Hang => None,
        }
    };
    let Some(status) = answer else {
        return std::future::pending().await;
    };
    Ok(Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .finish())
}
