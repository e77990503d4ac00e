//! Who may ask, and what browsers are told: host names, origins, the API key, security headers.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::openai::ApiError;

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
pub(super) async fn browsers(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = host.filter(|host| is_own(host, &state.config.hosts)) else {
        let message = "this server does not go by that name: add it to `hosts` in the `[server]` section of twin.toml";
        return ApiError::new(StatusCode::MISDIRECTED_REQUEST, "invalid_request_error", message).into_response();
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Browsers send `Origin` with every request that changes something; other clients send none.
    let foreign = header(ORIGIN).is_some_and(|origin| origin.split("://").nth(1) != Some(host));
    if changes && foreign {
        let message = "requests from other sites are refused";
        return ApiError::new(StatusCode::FORBIDDEN, "invalid_request_error", message).into_response();
    }
    next.run(request).await
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

/// Asks for the key, where one is set.
pub(super) async fn api_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Some(key) = &state.config.api_key else { return next.run(request).await };
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if same(shown.as_bytes(), key.as_bytes()) {
        return next.run(request).await;
    }
    let message = "the API key is missing or wrong: send it as `Authorization: Bearer <key>`";
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).code("invalid_api_key").into_response()
}

/// Compares without telling by its duration how much is right.
fn same(shown: &[u8], key: &[u8]) -> bool {
    let differences = shown.iter().zip(key).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differences) == 0 && shown.len() == key.len()
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

    #[test]
    fn keys_are_compared_whole() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secre", b"secret"));
        assert!(!same(b"secretx", b"secret"));
        assert!(!same(b"", b"secret"));
    }
}
