//! Who may ask, and what browsers are told: host names, origins, the API key, security headers.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use twin_domain::Digest;

use super::openai::ApiError;
use super::{Caller, ServerState};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Nothing but this server's own files runs on its pages, and they talk to nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Adds the security headers to every answer.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Refuses names this server does not go by, and requests that other sites' pages make.
pub(super) async fn browsers(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    match refusal(&request, &state.config.hosts) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request, hosts: &[String]) -> Option<ApiError> {
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = host.filter(|host| is_own(host, hosts)) else {
        let message = "this server does not go by that name: add it to `hosts` in the `[server]` section of twin.toml";
        return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "invalid_request_error", message));
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Browsers send these with every request that changes something; other clients send neither.
    let foreign_origin = header(ORIGIN).is_some_and(|origin| origin.split("://").nth(1) != Some(host));
    let foreign_site = header(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    (changes && (foreign_origin || foreign_site))
        .then(|| ApiError::new(StatusCode::FORBIDDEN, "invalid_request_error", "requests from other sites are refused"))
}

/// Whether a `Host` header names this machine, or one of the names it was given.
fn is_own(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || name.eq_ignore_ascii_case("localhost") || hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Asks for a key, where there are any, and holds its bearer to the limits. Where there are none, all count as one.
pub(super) async fn api_key(State(state): State<ServerState>, mut request: Request, next: Next) -> Response {
    let Some(caller) = caller(&state, &request) else {
        let message = "the API key is missing or wrong: send it as `Authorization: Bearer <key>`";
        let refusal = ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message);
        return refusal.code("invalid_api_key").into_response();
    };
    request.extensions_mut().insert(caller);
    // Only what costs something counts; what is read ahead takes nobody's time.
    if *request.method() != Method::POST || request.uri().path() == "/api/chat/ahead" {
        return next.run(request).await;
    }
    match state.limiter.admit(caller, Instant::now()) {
        Ok(None) => next.run(request).await,
        Ok(Some(left)) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(HeaderName::from_static("x-ratelimit-limit-requests"), left.limit.into());
            headers.insert(HeaderName::from_static("x-ratelimit-remaining-requests"), left.remaining.into());
            response
        }
        Err(limited) => {
            state.metrics.limited();
            ApiError::too_many(limited.to_string(), limited.seconds).into_response()
        }
    }
}

/// Who asks; `None` for nobody whose key is known. Digests are compared: how long that takes says nothing of the key,
/// because nobody can choose a digest.
fn caller(state: &ServerState, request: &Request) -> Option<Caller> {
    let keys = &state.config.api_keys;
    if keys.is_empty() {
        return Some(Caller(0));
    }
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = Digest::of(shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default());
    keys.iter().position(|key| key.digest == shown).map(Caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_answered() {
        let hosts = ["twin.example".to_owned()];
        for own in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "TWIN.example:443", "127.0.0.1"] {
            assert!(is_own(own, &hosts), "{own}");
        }
        for strange in ["evil.example", "localhost.evil.example", "10.0.0.1:8080", "", "[::2]:1"] {
            assert!(!is_own(strange, &hosts), "{strange}");
        }
    }
}
