//! The description of the API, made from the types that read and write it, at `/api/openapi.json`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::{ServerState, ahead, api, health, metrics, openai, releases, traces, view};

/// What a client is told when it gets nothing else, as OpenAI's API says it.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// What happened, and what to do about it.
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    r#type: String,
    /// The field that is to blame.
    param: Option<String>,
    /// What programs can tell the error by.
    code: Option<String>,
}

/// How any request may fail.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a list for the description")]
pub(super) enum Problems {
    /// The request makes no sense; `param` says where.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// The API key is missing or wrong.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// A page of another site asks.
    #[response(status = 403)]
    Foreign(ErrorBody),
    /// There is no such model, conversation or trace.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// The body took too long to arrive.
    #[response(status = 408)]
    Timeout(ErrorBody),
    /// The body is longer than 2 MiB.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is not declared as JSON.
    #[response(status = 415)]
    NotJson(ErrorBody),
    /// The server does not go by this name.
    #[response(status = 421)]
    Misdirected(ErrorBody),
    /// Too many wait for the model, or the key has asked for too much: `Retry-After` says when to try again.
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// Something failed inside.
    #[response(status = 500)]
    Internal(ErrorBody),
    /// The server that runs the language model failed.
    #[response(status = 502)]
    Upstream(ErrorBody),
    /// The server is stopping, has no posts yet, or did not come to this answer in time.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// The key is sent as clients of OpenAI send it.
struct Key;

impl Modify for Key {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "LLM Twin",
        description = "AI twins of authors: questions answered from what they published, drafts in their voice."
    ),
    paths(
        openai::chat_completions,
        openai::completions,
        openai::embeddings,
        openai::models,
        openai::model,
        api::authors,
        api::chat,
        ahead::ahead,
        api::conversations,
        api::conversation,
        api::delete_conversation,
        api::follow_answer,
        api::stop_answer,
        releases::outcome,
        releases::all,
        traces::list,
        traces::one,
        traces::export,
        metrics::metrics,
        health::alive,
        health::ready,
    ),
    components(schemas(ErrorBody, view::AnswerView)),
    modifiers(&Key),
    security((), ("key" = []))
)]
struct Description;

/// The description as JSON.
pub(super) async fn openapi(State(state): State<ServerState>) -> Response {
    let mut description = Description::openapi();
    if let Some(others) = state.others {
        description.merge(others.description);
    }
    Json(description).into_response()
}
