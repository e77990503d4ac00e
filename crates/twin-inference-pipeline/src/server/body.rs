//! The body of a request: JSON, within the limits of size and time, and errors in the form that clients expect.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::openai::ApiError;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        match tokio::time::timeout(BODY_TIMEOUT, Json::from_request(request, state)).await {
            Ok(read) => {
                let Json(body) = read?;
                Ok(Self(body))
            }
            Err(_) => {
                let message = "the body of the request took too long to arrive";
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message))
            }
        }
    }
}
