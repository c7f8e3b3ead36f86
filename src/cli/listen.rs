//! `webhook-delivery listen`: a receiver to try the service with. Prints what it receives, and
//! whether the signature is valid.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use poem::http::StatusCode;
use poem::listener::{Listener, TcpListener};
use poem::{Body, Request, Response, Server};

use super::print;
use crate::domain::signature::verify;
use crate::domain::subscription::Secret;
use crate::shutdown;

/// Longer bodies are refused.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Only the beginning of a long body is printed.
const PRINTED_BYTES_MAX: usize = 1_024;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Port to listen on, at 127.0.0.1
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// Signing secret (whsec_…) to verify signatures with [default: signatures are not checked]
    #[arg(long)]
    secret: Option<String>,
    /// HTTP status to answer with, 100–999
    #[arg(long, default_value_t = 200)]
    status: u16,
}

/// Answers every request until SIGTERM or SIGINT.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let secret = arguments
        .secret
        .map(|text| Secret::parse(&text))
        .transpose()
        .context("--secret is invalid")?;
    let secret = Arc::new(secret);
    let status = StatusCode::from_u16(arguments.status)
        .context("--status is invalid; it must be from 100 to 999")?;
    let port = arguments.port;
    let acceptor = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .into_acceptor()
        .await
        .with_context(|| {
            format!("cannot listen on 127.0.0.1:{port}; choose another port with --port")
        })?;
    tracing::info!("listening on http://127.0.0.1:{port}/");
    let endpoint = poem::endpoint::make(move |mut request: Request| {
        let secret = Arc::clone(&secret);
        async move {
            let body = request.take_body();
            let description = describe(&request, body, secret.as_ref().as_ref()).await;
            if let Err(error) = print(&description) {
                tracing::warn!(error = format!("{error:#}"), "a request was not printed");
            }
            Ok::<_, poem::Error>(Response::builder().status(status).finish())
        }
    });
    let stop = async { drop(shutdown::requested().await) };
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(endpoint, stop, None)
        .await
        .context("the HTTP server failed")
}

async fn describe(request: &Request, body: Body, secret: Option<&Secret>) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    let Ok(body) = body.into_bytes_limit(BODY_BYTES_MAX).await else {
        return format!(
            "a request whose body is longer than {BODY_BYTES_MAX} bytes or incomplete\n"
        );
    };
    let id = header("webhook-id");
    let timestamp = header("webhook-timestamp");
    let signature = header("webhook-signature");
    let verdict = match secret {
        None => "signature not checked (no --secret)",
        Some(secret) if verify(secret, id, timestamp, &body, signature) => "signature verified",
        Some(_) => "SIGNATURE INVALID",
    };
    let printed = body
        .get(..body.len().min(PRINTED_BYTES_MAX))
        .unwrap_or_default();
    format!(
        "{} {} webhook-id={id} {verdict}\n{}\n",
        request.method(),
        request.uri().path(),
        String::from_utf8_lossy(printed)
    )
}
