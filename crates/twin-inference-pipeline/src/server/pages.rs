//! The web pages: compiled in, without a build step and without anything from elsewhere.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;

type Page = ([(HeaderName, &'static str); 2], &'static str);

const fn page(kind: &'static str, text: &'static str) -> Page {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

pub(super) async fn index() -> impl IntoResponse {
    page("text/html; charset=utf-8", include_str!("../pages/index.html"))
}

pub(super) async fn script() -> impl IntoResponse {
    page("text/javascript; charset=utf-8", include_str!("../pages/app.js"))
}

pub(super) async fn style() -> impl IntoResponse {
    page("text/css; charset=utf-8", include_str!("../pages/style.css"))
}

pub(super) async fn icon() -> impl IntoResponse {
    page("image/svg+xml", include_str!("../pages/icon.svg"))
}
