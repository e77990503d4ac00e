//! What a request says: in its body, which is JSON within the limits of size and time, and in its address. Errors have the
//! form that clients expect.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
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

/// A part of the address: a `Path` or a `Query`.
pub(super) struct Address<T>(pub T);

impl<S: Send + Sync, T: FromRequestParts<S>> FromRequestParts<S> for Address<T>
where
    ApiError: From<T::Rejection>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(T::from_request_parts(parts, state).await?))
    }
}
