//! Whether the process lives and whether it can work, for whoever supervises it. It must not
//! know what the checks mean.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::{Request, Response};
use serde_json::{Map, Value, json};

use super::ApiState;
use super::problem::Problem;
use super::subscriptions::json_response;

/// Knows how the parts of the process fare. Asked for every probe: an answer is at hand, and
/// nothing is waited for.
pub trait Health: Send + Sync {
    /// How the parts fare now.
    fn report(&self) -> HealthReport;
}

/// How the parts of the process fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether the process can do what its roles ask for.
    pub ready: bool,
    /// Each part with a few words on how it fares.
    pub checks: Vec<(String, String)>,
}

/// `GET /livez`: the process answers.
pub(super) async fn live(_state: Arc<ApiState>, _request: Request) -> Result<Response, Problem> {
    Ok(json_response(StatusCode::OK, &json!({ "live": true })))
}

/// `GET /readyz`: the process can work, or which part cannot.
pub(super) async fn ready(state: Arc<ApiState>, _request: Request) -> Result<Response, Problem> {
    let HealthReport { ready, checks } = state.health.report();
    let checks: Map<String, Value> = checks
        .into_iter()
        .map(|(part, words)| (part, Value::from(words)))
        .collect();
    if ready {
        return Ok(json_response(
            StatusCode::OK,
            &json!({ "ready": true, "checks": checks }),
        ));
    }
    let detail = "a part that this instance needs does not work yet";
    let fix = "see `checks`; the service goes on trying by itself";
    Err(
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail, fix)
            .with("ready", false)
            .with("checks", checks),
    )
}
