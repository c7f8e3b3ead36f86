//! What the API says of itself: the `OpenAPI` document, kept by hand beside this file and held to
//! the routes by a test, and a page to read and try it that needs nothing from elsewhere.

use std::sync::Arc;

use poem::http::header;
use poem::{Request, Response};

use super::ApiState;
use super::problem::Problem;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");
/// The page.
const PAGE: &str = include_str!("docs.html");
/// The page may run what is in it and ask this service, no more.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// `GET /openapi.json`.
pub(super) async fn document(_state: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    Ok(Response::builder()
        .content_type("application/json")
        .body(DOCUMENT))
}

/// `GET /docs`.
pub(super) async fn page(_state: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    Ok(Response::builder()
        .content_type("text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(PAGE))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::OPERATIONS;

    #[test]
    fn the_document_has_every_operation_that_is_served_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let path = path.replace('{', ":").replace('}', "");
                documented.insert((method.to_uppercase(), path));
            }
        }
        let served: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|(m, p)| ((*m).to_owned(), (*p).to_owned()))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn the_page_asks_nobody_but_this_service() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"));
    }
}
