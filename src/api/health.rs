//! The probes: whether the process runs, and whether it can do its work.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::{Request, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::ApiState;
use super::body::json_response;
use super::problem::Problem;
use super::responses::Unavailable;

/// Reports the state of the process. Called for every probe, so that it must not wait.
pub trait Health: Send + Sync {
    fn report(&self) -> HealthReport;
}

/// The state of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether the process can do what its roles ask for.
    pub ready: bool,
    /// The name of each component with its state.
    pub checks: Vec<(String, String)>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Liveness)]
pub(super) struct LivenessView {
    live: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub(super) struct ReadinessView {
    ready: bool,
    /// The state of each component.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    checks: Map<String, Value>,
}

/// Whether the process responds
#[utoipa::path(
    get, path = "/livez", tag = "service",
    responses((status = 200, description = "It does.", body = LivenessView)),
)]
pub(super) async fn live(_: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    Ok(json_response(StatusCode::OK, &LivenessView { live: true }))
}

/// Whether the instance can do its work
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "It can.", body = ReadinessView),
        (status = 503, response = Unavailable),
    ),
)]
pub(super) async fn ready(state: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    let HealthReport { ready, checks } = state.health.report();
    let checks: Map<String, Value> = checks
        .into_iter()
        .map(|(component, state)| (component, Value::from(state)))
        .collect();
    if ready {
        return Ok(json_response(
            StatusCode::OK,
            &ReadinessView { ready, checks },
        ));
    }
    let detail = "a component that this instance needs is not ready";
    let fix = "see `checks`; the service keeps retrying";
    Err(
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail, fix)
            .with("ready", false)
            .with("checks", checks),
    )
}
