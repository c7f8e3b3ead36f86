//! Serves the operations of the table: what happens to each request around its handler. Every
//! request is counted and traced, except probes and documentation, which would drown the others;
//! needs an API key, except those too; has a deadline; and gets a response if its handler panics.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use poem::endpoint::make;
use poem::error::MethodNotAllowedError;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, EndpointExt as _, IntoEndpoint, Request, Response, Route, RouteMethod};
use tokio::time::{Duration, timeout};
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::{HttpMethod, Operation as OperationDocument};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use super::ApiState;
use super::auth::Keys;
use super::problem::Problem;

type Handler = Box<
    dyn Fn(Arc<ApiState>, Request) -> BoxFuture<'static, Result<Response, Problem>> + Send + Sync,
>;

/// What `#[utoipa::path]` generates for a handler. Two of the traits are hidden in utoipa's
/// documentation; utoipa-axum builds its routes with them in the same way.
pub(super) trait Description: utoipa::Path + SchemaReferences + Tags<'static> {}

impl<D: utoipa::Path + SchemaReferences + Tags<'static>> Description for D {}

/// An operation as `#[utoipa::path]` describes it, with the function that serves it.
pub(super) struct Operation {
    method: Method,
    /// The path in the syntax of `OpenAPI`: `/subscription/{id}`.
    path: String,
    /// The path in poem's syntax, `/subscription/:id`, which is also the value of `http.route`.
    route: String,
    needs_key: bool,
    is_observed: bool,
    document: OperationDocument,
    schemas: Vec<(String, RefOr<Schema>)>,
    handler: Handler,
    /// The names of the description and the handler, which must belong together.
    #[cfg(test)]
    type_names: [&'static str; 2],
}

impl Operation {
    /// An operation that needs an API key. `D` is the description that `#[utoipa::path]` generates
    /// for `handler`.
    pub(super) fn new<D, H, F>(_: D, handler: H) -> Self
    where
        D: Description,
        H: Fn(Arc<ApiState>, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let path = D::path();
        let mut schemas = Vec::new();
        D::schemas(&mut schemas);
        let mut document = D::operation();
        document.tags = Some(D::tags().into_iter().map(str::to_owned).collect());
        Self {
            method: method(D::methods().first()),
            route: path.replace('{', ":").replace('}', ""),
            path,
            needs_key: true,
            is_observed: true,
            document,
            schemas,
            handler: Box::new(move |state, request| handler(state, request).boxed()),
            #[cfg(test)]
            type_names: [std::any::type_name::<D>(), std::any::type_name::<H>()],
        }
    }

    /// A probe or a part of the documentation: needs no API key, and is neither counted nor traced.
    pub(super) fn open<D, H, F>(document: D, handler: H) -> Self
    where
        D: Description,
        H: Fn(Arc<ApiState>, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        Self {
            needs_key: false,
            is_observed: false,
            ..Self::new(document, handler)
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn needs_key(&self) -> bool {
        self.needs_key
    }

    pub(super) fn document(&self) -> &OperationDocument {
        &self.document
    }

    pub(super) fn schemas(&self) -> &[(String, RefOr<Schema>)] {
        &self.schemas
    }

    #[cfg(test)]
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The method as the document has it.
    pub(super) fn document_method(&self) -> HttpMethod {
        match self.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        }
    }
}

/// Converts a method of a description. The operations use these four only.
fn method(described: Option<&HttpMethod>) -> Method {
    match described {
        Some(HttpMethod::Post) => Method::POST,
        Some(HttpMethod::Put) => Method::PUT,
        Some(HttpMethod::Delete) => Method::DELETE,
        _ => Method::GET,
    }
}

/// Builds the routes of a table of operations.
pub(super) struct RouteBuilder {
    state: Arc<ApiState>,
    keys: Keys,
    deadline: Duration,
}

impl RouteBuilder {
    pub(super) fn new(state: ApiState) -> Self {
        Self {
            keys: Keys::new(&state.config.keys),
            deadline: state.config.request_timeout + state.config.ingestion_timeout,
            state: Arc::new(state),
        }
    }

    pub(super) fn build(
        self,
        operations: &'static [Operation],
    ) -> impl Endpoint<Output = Response> + 'static {
        let builder = Arc::new(self);
        let mut paths: BTreeMap<&'static str, Vec<&'static Operation>> = BTreeMap::new();
        for operation in operations {
            paths.entry(&operation.route).or_default().push(operation);
        }
        let routes = paths
            .into_iter()
            .fold(Route::new(), |routes, (route, operations)| {
                routes.at(route, path_endpoint(&builder, &operations))
            });
        routes.around(|endpoint, request: Request| async move {
            let path = request.uri().path().to_owned();
            let response = endpoint.call(request).await;
            Ok(response.unwrap_or_else(|error| Problem::from_framework(&error, &path).response()))
        })
    }

    /// Serves a request within a span that continues the trace of its caller.
    async fn serve(&self, operation: &'static Operation, request: Request) -> Response {
        if !operation.is_observed {
            return self
                .respond(operation, request)
                .await
                .unwrap_or_else(|panic| internal_error(None, operation, &*panic));
        }
        let (method, route) = (operation.method.as_str(), operation.route.as_str());
        let telemetry = &self.state.telemetry;
        let start = Instant::now();
        let path = request.uri().path().to_owned();
        let span = telemetry
            .traces
            .start_request(method, route, &path, request.headers());
        let response = span
            .run(self.respond(operation, request))
            .await
            .unwrap_or_else(|panic| internal_error(span.trace_id(), operation, &*panic));
        let status = response.status().as_u16();
        telemetry
            .metrics
            .record_request(method, route, status, start.elapsed());
        span.record_response(status);
        response
    }

    /// Checks the key and calls the handler. An error is a panic of the handler.
    async fn respond(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<Response, Box<dyn Any + Send>> {
        let handled = async {
            // Before any of the body is read, so that strangers cannot make the service read it.
            if operation.needs_key {
                self.keys.admit(&request)?;
            }
            (operation.handler)(Arc::clone(&self.state), request).await
        };
        let caught = AssertUnwindSafe(handled).catch_unwind();
        match timeout(self.deadline, caught).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(problem))) => Ok(problem.response()),
            Ok(Err(panic)) => Err(panic),
            Err(_elapsed) => Ok(out_of_time().response()),
        }
    }
}

/// The endpoint of one path with all its methods.
fn path_endpoint(
    builder: &Arc<RouteBuilder>,
    operations: &[&'static Operation],
) -> impl IntoEndpoint<Endpoint = impl Endpoint<Output = Response> + 'static> + 'static {
    let allowed: Vec<_> = operations
        .iter()
        .map(|operation| operation.method.as_str())
        .collect();
    let allowed: Arc<str> = allowed.join(", ").into();
    let methods = operations
        .iter()
        .fold(RouteMethod::new(), |methods, &operation| {
            let builder = Arc::clone(builder);
            let endpoint = make(move |request| {
                let builder = Arc::clone(&builder);
                async move { Ok::<_, poem::Error>(builder.serve(operation, request).await) }
            });
            methods.method(operation.method.clone(), endpoint)
        });
    methods.around(move |endpoint, request: Request| {
        let allowed = Arc::clone(&allowed);
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            match endpoint.call(request).await {
                Err(error) if error.is::<MethodNotAllowedError>() => {
                    Ok(Problem::method_not_allowed(&path, &method, &allowed).response())
                }
                response => response,
            }
        }
    })
}

/// Logs a panic under the id of its trace, or a random one without traces, and names it to the
/// client.
fn internal_error(
    trace_id: Option<String>,
    operation: &Operation,
    panic: &(dyn Any + Send),
) -> Response {
    let trace_id = trace_id.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&'static str>().copied())
        .unwrap_or("no message");
    tracing::error!(
        %trace_id,
        method = %operation.method,
        route = operation.route,
        panic = message,
        "internal error: the handler of a request panicked"
    );
    Problem::internal(&trace_id).response()
}

fn out_of_time() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "out-of-time",
        "the request took too long; whether it had an effect is unknown",
        "send the same request again later",
    )
    .with_header(header::RETRY_AFTER, "5")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Operation;
    use crate::api::OPERATIONS;

    #[test]
    fn every_handler_has_its_own_description() {
        let mut handlers = BTreeSet::new();
        for operation in OPERATIONS.iter() {
            let [description, handler] = operation.type_names;
            assert_eq!(description.replace("__path_", ""), handler);
            assert!(handlers.insert(handler), "{handler} is twice in the table");
        }
    }

    #[test]
    fn only_probes_and_documentation_are_not_observed() {
        let open: Vec<_> = OPERATIONS
            .iter()
            .filter(|operation| !operation.is_observed)
            .map(Operation::path)
            .collect();
        assert_eq!(open, ["/livez", "/readyz", "/openapi.json", "/docs"]);
    }
}
