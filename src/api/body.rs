//! Reads the bodies of requests within their limits of size and time, and writes those of responses.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use poem::http::{HeaderMap, StatusCode, header};
use poem::{Body, Request, Response};
use serde::Serialize;
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiState;
use super::problem::Problem;

/// A request whose body is in memory.
#[derive(Debug)]
pub(super) struct BufferedRequest {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl BufferedRequest {
    /// Reads a body of at most `factor` times the configured size, within the configured time.
    pub(super) async fn read(
        state: &ApiState,
        request: Request,
        factor: usize,
    ) -> Result<Self, Problem> {
        let limit = state.config.body_bytes_max.saturating_mul(factor);
        let (parts, body) = request.into_parts();
        let read = timeout(state.config.request_timeout, read_up_to(body, limit)).await;
        match read {
            Ok(Ok(Some(body))) => Ok(Self {
                headers: parts.headers,
                body,
            }),
            Ok(Ok(None)) => Err(too_large(limit)),
            Ok(Err(error)) => Err(malformed(&format!("cannot read the body: {error}"))),
            Err(_elapsed) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "slow-body",
                "the body did not arrive in time",
                format!(
                    "send the whole body within {} s",
                    state.config.request_timeout.as_secs()
                ),
            )),
        }
    }
}

/// Returns the body, or `None` if it is larger than `limit`. The excess is read and discarded up to
/// a bound, because a client that is still sending would see a broken connection instead of the
/// response.
async fn read_up_to(body: Body, limit: usize) -> io::Result<Option<Bytes>> {
    const DISCARDED_MAX: usize = 16 << 20;
    let mut chunks = std::pin::pin!(body.into_bytes_stream());
    let mut kept = BytesMut::new();
    let mut read = 0_usize;
    while let Some(chunk) = chunks.try_next().await? {
        read = read.saturating_add(chunk.len());
        if read <= limit {
            kept.extend_from_slice(&chunk);
        } else if read > limit.saturating_add(DISCARDED_MAX) {
            break;
        }
    }
    Ok((read <= limit).then(|| kept.freeze()))
}

/// The problem of a body, or an event of a batch, that is larger than its limit.
pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!("the body is larger than {limit} bytes"),
        format!("send at most {limit} bytes; store larger content elsewhere and send a link to it"),
    )
    .with("bytes_max", limit)
}

/// The problem of a body that is not a JSON object.
pub(super) fn malformed(detail: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed-body",
        detail,
        "send a JSON object",
    )
}

/// A JSON response. It may hold a secret, so no cache may keep it.
pub(super) fn json_response(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(bytes) => Response::builder()
            .status(status)
            .content_type("application/json")
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from_vec(bytes)),
        Err(error) => {
            let trace_id = Uuid::new_v4().simple().to_string();
            tracing::error!(%trace_id, %error, "internal error: cannot write a response as JSON");
            Problem::internal(&trace_id).response()
        }
    }
}
