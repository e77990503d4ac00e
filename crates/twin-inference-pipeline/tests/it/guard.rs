use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;
use twin_inference_pipeline::server::{ServeError, ServerConfig, listen};
use twin_inference_pipeline::twins::InferenceConfig;
use twin_models::language::ScriptedModel;

use crate::fixture::{House, post};

const KEY: &str = "correct-horse-battery-staple";

async fn guarded() -> House {
    let model = ScriptedModel::new(vec!["Yes.".to_owned()]);
    House::configured(model, InferenceConfig::default(), ServerConfig::new(vec!["twin.example".into()], Some(KEY)))
        .await
}

#[tokio::test]
async fn other_names_are_turned_away() {
    let house = guarded().await;
    for (host, status) in [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("twin.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ] {
        let reply = house.send(Request::get("/").header("host", host)).await;
        assert_eq!(reply.status.as_u16(), status, "{host}");
    }
    let nameless = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(house.request(nameless).await.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn other_sites_cannot_post() {
    let house = House::answering(&["Yes."]).await;
    let body = json!({ "author": "ada", "request": { "task": "ask", "question": "What is the mallet made of?" } });
    for (name, value, status) in [
        ("origin", "http://localhost", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "http://localhost:9999", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ] {
        let mut request = post("/api/chat", &body);
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(house.request(request).await.status.as_u16(), status, "{name}: {value}");
    }
}

#[tokio::test]
async fn the_key_is_asked_for_where_there_is_one() {
    let house = guarded().await;
    for open in ["/", "/app.js", "/healthz", "/readyz"] {
        assert_eq!(house.get(open).await.status, StatusCode::OK, "{open}");
    }
    for closed in ["/api/authors", "/api/conversations", "/v1/models", "/metrics"] {
        let reply = house.get(closed).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{closed}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        for wrong in ["Bearer wrong", "Bearer ", KEY] {
            let reply = house.send(Request::get(closed).header("authorization", wrong)).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        let reply = house.send(Request::get(closed).header("authorization", format!("Bearer {KEY}"))).await;
        assert_eq!(reply.status, StatusCode::OK, "{closed}");
    }
    assert!(!format!("{:?}", ServerConfig::new(vec![], Some(KEY))).contains(KEY));
}

#[tokio::test]
async fn other_machines_are_let_in_only_with_a_key() {
    let open = ServerConfig::default();
    let short = ServerConfig::new(vec![], Some("short"));
    for config in [&open, &short] {
        assert!(matches!(listen("0.0.0.0:0", config).await, Err(ServeError::NeedsKey { .. })));
        assert!(listen("127.0.0.1:0", config).await.is_ok());
    }
    assert!(listen("0.0.0.0:0", &ServerConfig::new(vec![], Some(KEY))).await.is_ok());
    assert!(matches!(listen("nonsense", &open).await, Err(ServeError::Address { .. })));
    let taken = listen("127.0.0.1:0", &open).await.unwrap().local_addr().unwrap();
    let _holder = tokio::net::TcpListener::bind(taken).await.unwrap();
    assert!(matches!(listen(&taken.to_string(), &open).await, Err(ServeError::InUse { .. })));
}

#[tokio::test]
async fn limits_and_headers_hold_on_every_answer() {
    let house = House::answering(&["Yes."]).await;
    let large = json!({ "author": "ada", "request": { "task": "ask", "question": "x".repeat(3 << 20) } });
    let reply = house.post("/api/chat", &large).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    let not_json = Request::post("/api/chat").header("host", "localhost").body(Body::from("{")).unwrap();
    assert_eq!(house.request(not_json).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(house.get("/nowhere").await.json()["error"]["type"], "invalid_request_error");
    assert_eq!(house.get("/api/chat").await.status, StatusCode::METHOD_NOT_ALLOWED);
    for path in ["/", "/style.css", "/api/authors", "/nowhere"] {
        let headers = house.get(path).await.headers;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn the_page_needs_nothing_that_its_policy_forbids() {
    let house = House::answering(&["Yes."]).await;
    let html = house.get("/").await.text;
    for forbidden in ["<script>", "style=", "onclick", "onload", "http://", "https://"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for script in ["/app.js", "/answer.js", "/element.js", "/server.js", "/sources.js"] {
        let reply = house.get(script).await;
        assert_eq!(reply.headers["content-type"], "text/javascript; charset=utf-8");
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "setAttribute(\"style\""]
        {
            assert!(!reply.text.contains(forbidden), "{script}: {forbidden}");
        }
    }
}

#[tokio::test]
async fn hostile_text_stays_json_text() {
    let payload = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> is what the chandler's tag said.";
    let house = House::answering(&[payload]).await;
    let question = "What script tag and img came from the chandler with the sloop alert?";
    let body = json!({ "author": "ada", "request": { "task": "ask", "question": question } });
    let reply = house.post("/api/chat", &body).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let done: serde_json::Value = serde_json::from_str(&reply.events().pop().unwrap().1).unwrap();
    assert!(done["text"].as_str().unwrap().starts_with(payload));
    assert!(done["passages"][0]["text"].as_str().unwrap().contains("<img src=x onerror=alert(1)>"));
}
