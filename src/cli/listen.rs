//! A receiver to try the service with: prints what it gets, and whether its signature verifies.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use poem::http::StatusCode;
use poem::listener::{Listener, TcpListener};
use poem::{Body, Request, Response, Server};

use crate::domain::signature::verify;
use crate::domain::subscription::Secret;
use crate::shutdown;

const BODY_BYTES_MAX: usize = 1 << 20;
const SHOWN_MAX: usize = 1_024;

/// Answers every request on loopback with `status`, until SIGTERM or SIGINT.
pub async fn run(port: u16, secret: Option<String>, status: u16) -> anyhow::Result<()> {
    let secret = secret.map(|text| Secret::parse(&text)).transpose()?;
    let secret = Arc::new(secret);
    let status = StatusCode::from_u16(status).context("--status must be 100–999")?;
    let acceptor = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .into_acceptor()
        .await;
    let acceptor = acceptor.with_context(|| format!("port {port} can not be bound"))?;
    tracing::info!("listening on http://127.0.0.1:{port}/");
    let endpoint = poem::endpoint::make(move |mut request: Request| {
        let secret = Arc::clone(&secret);
        async move {
            let body = request.take_body();
            print(&describe(&request, body, secret.as_ref().as_ref()).await);
            Ok::<_, poem::Error>(Response::builder().status(status).finish())
        }
    });
    let stop = async { drop(shutdown::requested().await) };
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(endpoint, stop, None)
        .await
        .context("the listener failed")
}

async fn describe(request: &Request, body: Body, secret: Option<&Secret>) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    let Ok(body) = body.into_bytes_limit(BODY_BYTES_MAX).await else {
        return format!("a body over {BODY_BYTES_MAX} bytes\n");
    };
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signature = header("webhook-signature");
    let verdict = match secret {
        None => "signature not checked (no --secret)",
        Some(secret) if verify(secret, id, timestamp, &body, signature) => "signature verified",
        Some(_) => "SIGNATURE WRONG",
    };
    let shown = body.get(..body.len().min(SHOWN_MAX)).unwrap_or_default();
    format!(
        "{} {} webhook-id={id} {verdict}\n{}\n",
        request.method(),
        request.uri().path(),
        String::from_utf8_lossy(shown)
    )
}

fn print(text: &str) {
    if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
        tracing::warn!(%error, "stdout is gone");
    }
}
