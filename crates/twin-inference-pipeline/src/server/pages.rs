//! The web pages: compiled in, without a build step and without anything from elsewhere.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;

use super::ServerState;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// Path, media type and content of each file.
const FILES: [(&str, &str, &str); 15] = [
    ("/", HTML, include_str!("../pages/index.html")),
    ("/style.css", STYLE, include_str!("../pages/style.css")),
    ("/icon.svg", ICON, include_str!("../pages/icon.svg")),
    ("/app.js", SCRIPT, include_str!("../pages/app.js")),
    ("/server.js", SCRIPT, include_str!("../pages/server.js")),
    ("/element.js", SCRIPT, include_str!("../pages/element.js")),
    ("/answer.js", SCRIPT, include_str!("../pages/answer.js")),
    ("/releases", HTML, include_str!("../pages/releases.html")),
    ("/releases.js", SCRIPT, include_str!("../pages/releases.js")),
    ("/traces", HTML, include_str!("../pages/traces.html")),
    ("/traces/{id}", HTML, include_str!("../pages/traces.html")),
    ("/traces.js", SCRIPT, include_str!("../pages/traces.js")),
    ("/api/docs", HTML, include_str!("../pages/docs.html")),
    ("/docs.js", SCRIPT, include_str!("../pages/docs.js")),
    ("/sources.js", SCRIPT, include_str!("../pages/sources.js")),
];

pub(super) fn router() -> Router<ServerState> {
    // Always asked for anew, so that an updated server never meets an old script.
    let serve = |kind, text| get(move || async move { ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text) });
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| router.route(path, serve(kind, text)))
}
