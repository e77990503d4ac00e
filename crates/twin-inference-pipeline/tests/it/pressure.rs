use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use twin_domain::{CancelFlag, ChatMessage};
use twin_inference_pipeline::server::{Limits, ServerConfig};
use twin_inference_pipeline::twins::{AnswerRequest, InferenceConfig};
use twin_models::language::{Input, Sampling, ScriptedModel};
use twin_models::prompt::Request as Asked;

use crate::fixture::{House, post};

const QUESTION: &str = "What is the mallet made of, live oak?";
const KEYS: &str = "first-of-two-long-keys, second-of-two-long-keys";

fn chat(extra: &Value) -> Value {
    let mut body = json!({ "model": "ada", "messages": [{ "role": "user", "content": QUESTION }], "max_tokens": 1000 });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// A model that takes its time: so many words, each so many milliseconds.
fn slow(words: usize, delay_ms: u64) -> ScriptedModel {
    ScriptedModel::new(vec!["word ".repeat(words)]).with_delay(Duration::from_millis(delay_ms))
}

#[tokio::test]
async fn each_key_has_a_limit_of_its_own() {
    let limits = Limits { requests_per_minute: 2, tokens_per_minute: 0 };
    let server = ServerConfig::new(vec![], Some(KEYS)).with_limits(limits);
    let model = ScriptedModel::new(vec!["Live oak.".to_owned()]);
    let house = House::configured(model, InferenceConfig::default(), server).await;
    let ask = async |key: &str| {
        let mut request = post("/v1/chat/completions", &chat(&json!({})));
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        house.request(request).await
    };
    let first = ask("first-of-two-long-keys").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert_eq!(
        (&first.headers["x-ratelimit-limit-requests"], &first.headers["x-ratelimit-remaining-requests"]),
        (&"2".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(ask("first-of-two-long-keys").await.status, StatusCode::OK);
    let limited = ask("first-of-two-long-keys").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let wait: u64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(ask("second-of-two-long-keys").await.status, StatusCode::OK);
    assert_eq!(ask("first-of-two-long-keys, second-of-two-long-keys").await.status, StatusCode::UNAUTHORIZED);
    let looks = Request::get("/metrics").header("authorization", "Bearer first-of-two-long-keys");
    let metrics = house.send(looks).await;
    assert_eq!(metrics.status, StatusCode::OK, "looking costs nothing");
    assert!(metrics.text.contains("twin_answers_total{outcome=\"limited\"} 1"));
}

#[tokio::test]
async fn tokens_are_limited_once_they_are_known() {
    let limits = Limits { requests_per_minute: 0, tokens_per_minute: 20 };
    let model = ScriptedModel::new(vec!["Live oak.".to_owned()]);
    let server = ServerConfig::default().with_limits(limits);
    let house = House::configured(model, InferenceConfig::default(), server).await;
    assert_eq!(house.post("/v1/chat/completions", &chat(&json!({}))).await.status, StatusCode::OK);
    let limited = house.post("/v1/chat/completions", &chat(&json!({}))).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.json()["error"]["message"].as_str().unwrap().contains("20 tokens a minute"));
}

#[tokio::test]
async fn an_answer_ends_at_its_deadline_as_far_as_it_came() {
    let config = InferenceConfig { deadline_seconds: 1, ..InferenceConfig::default() };
    let house = House::configured(slow(900, 10), config, ServerConfig::default()).await;
    let reply = house.post("/v1/chat/completions", &chat(&json!({}))).await.json();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["x_twin"]["finish_reason"], "deadline");
    assert!(reply["choices"][0]["message"]["content"].as_str().unwrap().starts_with("word word"));
}

#[tokio::test]
async fn who_waits_past_the_deadline_is_told_to_come_back() {
    let config = InferenceConfig { deadline_seconds: 1, ..InferenceConfig::default() };
    let house = House::configured(slow(3, 2_500), config, ServerConfig::default()).await;
    let reply = house.post("/v1/chat/completions", &chat(&json!({}))).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text);
    assert_eq!(reply.json()["error"]["code"], "deadline_exceeded");
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_reader_who_stalls_holds_neither_the_model_nor_a_place() {
    let config = InferenceConfig { reader_seconds: 1, queue: 4, ..InferenceConfig::default() };
    let house = House::configured(slow(600, 1), config, ServerConfig::default()).await;
    let request = AnswerRequest {
        sampling: Some(Sampling { max_new_tokens: 600, ..Sampling::default() }),
        ..AnswerRequest::new("ada", Asked::Ask { question: QUESTION.to_owned() })
    };
    let (sender, events) = mpsc::channel(1); // Nobody ever takes from it.
    let (permit, twins) = (house.twins.admit().unwrap(), house.twins.clone());
    let stalled = tokio::spawn(async move { twins.answer(permit, request, sender, CancelFlag::new()).await });
    while house.model.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = house.post("/v1/chat/completions", &chat(&json!({ "max_tokens": 3 }))).await;
    assert_eq!(other.status, StatusCode::OK, "the model went on to the next: {}", other.text);
    let begun = Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(10), stalled).await.unwrap().unwrap();
    assert!(answer.is_ok(), "{answer:?} after {:?}", begun.elapsed());
    drop(events);
}

#[tokio::test]
async fn the_oldest_turns_give_way_before_the_passages_and_it_is_said() {
    let model = ScriptedModel::new(vec!["Live oak.".to_owned()]).with_context_length(175);
    let house = House::with(model).await;
    let long = "word ".repeat(60);
    let body = chat(&json!({ "messages": [
        { "role": "user", "content": format!("First: {long}") }, { "role": "assistant", "content": "Aye." },
        { "role": "user", "content": "Second, short." }, { "role": "assistant", "content": "Aye, aye." },
        { "role": "user", "content": QUESTION },
    ] }));
    let reply = house.post("/v1/chat/completions", &body).await.json();
    assert_eq!(reply["x_twin"]["trimmed"], json!({ "messages": 2, "passages": 0 }), "{reply}");
    let Input::Messages(messages) = house.model.requests().remove(0).input else { panic!("messages are sent") };
    assert_eq!(messages[1], ChatMessage::user("Second, short."));
    let whole = house.post("/v1/chat/completions", &chat(&json!({}))).await.json();
    assert_eq!(whole["x_twin"]["trimmed"], json!({ "messages": 0, "passages": 0 }));
}
