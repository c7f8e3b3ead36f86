//! The error responses that several operations share, as the `OpenAPI` document lists them.

use utoipa::openapi::{ComponentsBuilder, ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{ToResponse, ToSchema};

use super::problem::{ProblemDocument, Violation};

macro_rules! problem_responses {
    ($($name:ident: $description:literal,)*) => {
        $(
            #[derive(Debug)]
            pub(super) enum $name {}

            impl<'name> ToResponse<'name> for $name {
                fn response() -> (&'name str, RefOr<Response>) {
                    (stringify!($name), RefOr::T(problem_response($description)))
                }
            }
        )*

        /// Adds the responses, and the schema of their body, to the components of a document.
        pub(super) fn register(components: ComponentsBuilder) -> ComponentsBuilder {
            components
                .schema_from::<ProblemDocument>()
                .schema_from::<Violation>()
                $(.response_from::<$name>())*
        }
    };
}

problem_responses! {
    BadRequest: "The body is not a JSON object, or a header, a parameter or a part of the path is invalid.",
    Unauthorized: "The request has no API key, or one that is not configured.",
    NotFound: "The subscription does not exist; `fix` says how to create it.",
    SlowBody: "The body did not arrive in time.",
    Conflict: "A subscription with this id already exists.",
    PreconditionFailed: "The subscription has another version than `If-Match`.",
    TooLarge: "The body, or an event of a batch, is larger than the limit.",
    UnsupportedMediaType: "The body is not declared as JSON.",
    Invalid: "Fields are invalid; `errors` lists each with the reason and the fix.",
    HeadersTooLarge: "The headers that are stored with the event are too large.",
    InternalError: "Internal error; the server's log has the details under `trace_id`.",
    Unavailable: "The database or the log does not answer, the request took too long, or the instance is not ready. The type `outcome-unknown` means that the event may be in the log; send it again with the `id` of the problem.",
}

fn problem_response(description: &str) -> Response {
    let schema = Ref::from_schema_name(ProblemDocument::name());
    ResponseBuilder::new()
        .description(description)
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}

/// Returns a reference to one of the responses.
pub(super) fn reference<T: ToResponse<'static>>() -> RefOr<Response> {
    RefOr::Ref(Ref::from_response_name(T::response().0))
}
