use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{House, Reply};

const QUESTION: &str = "What is the mallet made of, live oak?";

/// What every route takes, with each of its fields.
fn valid() -> Vec<(&'static str, Value)> {
    let common = json!({
        "model": "ada", "stream": false, "stream_options": { "include_usage": true }, "max_tokens": 9,
        "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "min_p": 0.1, "presence_penalty": 0.5,
        "frequency_penalty": 0.5, "seed": 7, "stop": ["x"], "n": 1, "logit_bias": {}, "user": "reader",
    });
    let with = |fields: Value| {
        let mut body = common.clone();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    vec![
        (
            "/v1/chat/completions",
            with(json!({
                "messages": [
                    { "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hello" },
                    { "role": "assistant", "content": "Aye." },
                    { "role": "user", "content": [{ "type": "text", "text": QUESTION }] },
                ],
                "tools": [], "tool_choice": "none", "functions": [], "audio": null, "logprobs": true, "top_logprobs": 2,
                "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } },
            })),
        ),
        (
            "/v1/completions",
            with(json!({ "prompt": "The mallet is", "suffix": "", "echo": false, "best_of": 1, "logprobs": 2 })),
        ),
        ("/v1/embeddings", json!({ "input": ["live oak"], "model": "scripted", "encoding_format": "float" })),
        (
            "/api/chat",
            json!({
                "author": "ada", "request": { "task": "ask", "question": QUESTION }, "conversation": null,
                "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.1, "max_tokens": 9, "seed": 7,
            }),
        ),
        ("/api/outcomes", json!({ "conversation": "nowhere", "outcome": "helpful", "helpful": true })),
    ]
}

/// Where a body has values, its own parts included.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found))
        }
        _ => {}
    }
}

/// The body with another value at a place; `strange` is text, because much of it is no JSON.
fn with(body: &Value, place: &str, strange: &str) -> String {
    const HERE: &str = "\"<here>\"";
    let mut body = body.clone();
    *body.pointer_mut(place).unwrap() = json!("<here>");
    body.to_string().replace(HERE, strange)
}

async fn send(house: &House, path: &str, body: impl Into<Body>) -> Reply {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    house.request(request.body(body.into()).unwrap()).await
}

/// It was done, or refused in the form that clients know and with words; in no time.
fn is_answered_or_refused(reply: &Reply, what: &str, begun: Instant) {
    let what: String = what.chars().take(300).collect();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for {what}", begun.elapsed());
    if reply.status.is_success() {
        return;
    }
    assert!(reply.status.is_client_error(), "{what}: {} {}", reply.status, reply.text);
    let error = &reply.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{what}: {}", reply.text);
    assert!(
        error["message"].as_str().is_some_and(|message| (5..2_000).contains(&message.len())),
        "{what}: {}",
        reply.text
    );
    assert!(error.get("param").is_some() && error.get("code").is_some(), "{what}: {}", reply.text);
}

#[tokio::test]
async fn wrong_types_are_refused_in_every_field() {
    let house = House::answering(&["The mallet is live oak."]).await;
    // What any value stands for nothing in, or what takes more than one type.
    let lenient =
        ["/logit_bias", "/tools", "/tool_choice", "/functions", "/audio", "/suffix", "/echo", "/schema", "/name"];
    for (path, body) in valid() {
        let mut found = Vec::new();
        places(&body, "", &mut found);
        for place in found.iter().filter(|place| !lenient.iter().any(|lenient| place.contains(lenient))) {
            let wrong = match body.pointer(place).unwrap() {
                Value::String(_) | Value::Array(_) | Value::Object(_) => json!(17),
                Value::Number(_) | Value::Bool(_) | Value::Null => json!({ "a": [] }),
            };
            let reply = send(&house, path, with(&body, place, &wrong.to_string())).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}{place} = {wrong}: {}", reply.text);
            is_answered_or_refused(&reply, place, Instant::now());
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused() {
    let house = House::answering(&["The mallet is live oak."]).await;
    let many = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    let stops = format!("{{\"model\":\"ada\",\"stop\":[{}\"x\"],\"messages\":[]}}", many("\"x\",", 1_000_000));
    for path in valid().iter().map(|(path, _)| *path) {
        for (body, status) in [
            (b"".to_vec(), 400),
            (b"{".to_vec(), 400),
            (b"}".to_vec(), 400),
            (b"{\"model\":\"ada\"}{}".to_vec(), 400),
            (b"{\"model\":\"ada\",\"model\":\"ben\"}".to_vec(), 400),
            (b"{'model': 'ada'}".to_vec(), 400),
            (b"\xef\xbb\xbf{}".to_vec(), 400),
            (b"{\"model\":\"\xff\xfe\"}".to_vec(), 400),
            (b"\x00\x01\x02".to_vec(), 400),
            (b"null".to_vec(), 400),
            (b"[]".to_vec(), 400),
            (many("[", 1_000_000).into_bytes(), 400),
            (many("{\"a\":", 1_000_000).into_bytes(), 400),
            (stops.clone().into_bytes(), 400),
            (many(" ", 1_900_000).into_bytes(), 400),
            (many(" ", 2_200_000).into_bytes(), 413),
        ] {
            let what = format!("{path}: {}", String::from_utf8_lossy(&body[..body.len().min(60)]));
            let begun = Instant::now();
            let reply = send(&house, path, body).await;
            assert_eq!(reply.status.as_u16(), status, "{what}: {}", reply.text);
            is_answered_or_refused(&reply, &what, begun);
        }
        let request = Request::post(path).header("host", "localhost").body(Body::from("{}")).unwrap();
        let reply = house.request(request).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        is_answered_or_refused(&reply, path, Instant::now());
    }
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_refused() {
    let house = House::answering(&["The mallet is live oak."]).await;
    let ids = ["%ff", "%00", "..%2f..%2fetc", "%F0%9F%98%80", "'%20OR%201=1", "-1", "9999999999999999999999"];
    let long = "x".repeat(4_000);
    for id in ids.into_iter().chain([long.as_str()]) {
        for (method, path) in [
            (Method::GET, format!("/v1/models/{id}")),
            (Method::GET, format!("/api/conversations/{id}")),
            (Method::DELETE, format!("/api/conversations/{id}")),
            (Method::GET, format!("/api/conversations/{id}/answer")),
            (Method::DELETE, format!("/api/conversations/{id}/answer")),
            (Method::GET, format!("/api/traces/{id}")),
            (Method::PATCH, format!("/api/traces/{id}")),
            (Method::GET, format!("/api/{id}")),
        ] {
            let reply = house.send(Request::builder().method(&method).uri(&path)).await;
            assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.status);
            is_answered_or_refused(&reply, &path, Instant::now());
        }
    }
    for query in
        ["limit=-1", "limit=x", "limit=99999999999", "limit=1&limit=2", "author=%ff", "before=%00&author='", "%ff=%fe"]
    {
        for path in ["/api/traces", "/api/traces.jsonl"] {
            let reply = house.get(&format!("{path}?{query}")).await;
            is_answered_or_refused(&reply, query, Instant::now());
        }
    }
    assert_eq!(house.get("/api/traces?limit=-1").await.status, StatusCode::BAD_REQUEST);
}
