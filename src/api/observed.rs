//! Counts and traces the requests to operations. Probes and documentation are left out: they
//! would drown the rest.

use std::time::Instant;

use poem::http::Method;
use poem::{Endpoint, Request, Response};

use super::OPERATIONS;
use crate::telemetry::Telemetry;

const UNOBSERVED: [&str; 4] = ["/livez", "/readyz", "/openapi.json", "/docs"];

/// Serves a request within a span that goes on with the caller's trace.
pub(super) async fn serve(
    telemetry: &Telemetry,
    endpoint: &impl Endpoint<Output = Response>,
    request: Request,
) -> poem::Result<Response> {
    let path = request.uri().path();
    let Some((method, route)) = operation(request.method(), path) else {
        return endpoint.call(request).await;
    };
    let begun = Instant::now();
    let span = telemetry
        .traces
        .start_request(method, route, path, request.headers());
    let response = span.run(endpoint.call(request)).await?;
    let status = response.status().as_u16();
    let took = begun.elapsed();
    telemetry
        .metrics
        .record_request(method, route, status, took);
    span.record_response(status);
    Ok(response)
}

/// The operation that a request asks for, as its method and route.
fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static str)> {
    let observed = OPERATIONS
        .into_iter()
        .filter(|(_, route)| !UNOBSERVED.contains(route));
    observed
        .into_iter()
        .find(|(name, route)| method == name && fits(route, path))
}

fn fits(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(part)) if expected == part || expected.starts_with(':') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_for_its_route_and_not_for_its_path() {
        let of = |method: Method, path| operation(&method, path).map(|(_, route)| route);
        assert_eq!(of(Method::POST, "/ingestion"), Some("/ingestion"));
        assert_eq!(
            of(Method::POST, "/ingestion/batch"),
            Some("/ingestion/batch")
        );
        assert_eq!(
            of(Method::GET, "/subscription/7"),
            Some("/subscription/:id")
        );
        assert_eq!(of(Method::GET, "/subscription/7/x"), None);
        assert_eq!(of(Method::DELETE, "/ingestion"), None);
        assert_eq!(of(Method::GET, "/livez"), None);
    }
}
