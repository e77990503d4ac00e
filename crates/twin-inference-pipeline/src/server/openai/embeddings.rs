//! `/v1/embeddings`: the vectors of texts, from the embedder that documents and questions go through.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

use super::ApiError;
use crate::server::ServerState;
use crate::server::body::Body;
use crate::server::openapi::Problems;

/// The most texts of one request.
const MAX_TEXTS: usize = 256;

#[derive(Deserialize, ToSchema)]
pub(in crate::server) struct EmbeddingsRequest {
    /// A text with words, or up to 256 of them.
    #[schema(schema_with = input_schema)]
    input: Input,
    model: Option<String>,
    /// `float` or `base64`.
    #[schema(pattern = "^(float|base64)$")]
    encoding_format: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Several(Vec<String>),
}

/// The form of [`Input`] for the description, which says that texts have words.
fn input_schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"\S")).build();
    let texts = ArrayBuilder::new().items(text()).min_items(Some(1)).max_items(Some(MAX_TEXTS)).build();
    OneOfBuilder::new().item(text()).item(texts).build().into()
}

/// The vectors of texts
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "OpenAI", request_body = EmbeddingsRequest,
    responses((status = 200, description = "A vector for each text", body = Value), Problems)
)]
pub(in crate::server) async fn embeddings(
    State(state): State<ServerState>,
    Body(body): Body<EmbeddingsRequest>,
) -> Result<Response, ApiError> {
    let texts = match body.input {
        Input::One(text) => vec![text],
        Input::Several(texts) => texts,
    };
    if texts.is_empty() || texts.len() > MAX_TEXTS || texts.iter().any(|text| text.trim().is_empty()) {
        let message = format!("`input` must be one text or 1 to {MAX_TEXTS} texts, none of them empty");
        return Err(ApiError::bad_request(message).param("input"));
    }
    let packed = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(format) => {
            let message = format!("`encoding_format` is `{format}`, and must be `float` or `base64`");
            return Err(ApiError::bad_request(message).param("encoding_format"));
        }
    };
    let embedder = state.twins.parts.embedder.clone();
    let name = embedder.name().to_owned();
    // Clients write the same model as `sentence-transformers/all-MiniLM-L6-v2` and in small letters.
    let last = |model: &str| model.rsplit('/').next().unwrap_or(model).to_lowercase();
    if let Some(unknown) = body.model.filter(|model| last(model) != last(&name)) {
        let message = format!("there is no embedder `{unknown}` here, only `{name}`");
        let error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        return Err(error.param("model").code("model_not_found"));
    }
    let embed = move || {
        let tokens: usize = texts.iter().map(|text| embedder.count_tokens(text)).sum();
        let embeddings = embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok::<_, twin_models::embedding::EmbedError>((tokens, embeddings))
    };
    let (tokens, embeddings) =
        tokio::task::spawn_blocking(embed).await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let entry = |(index, embedding): (usize, &twin_domain::Embedding)| -> Value {
        let bytes = || embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let values = if packed { json!(BASE64.encode(bytes())) } else { json!(embedding.values()) };
        json!({ "object": "embedding", "index": index, "embedding": values })
    };
    let data: Vec<Value> = embeddings.iter().enumerate().map(entry).collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Json(json!({ "object": "list", "data": data, "model": name, "usage": usage })).into_response())
}
