//! What is still being typed is read ahead.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use twin_inference_pipeline::server::ServerConfig;
use twin_inference_pipeline::twins::InferenceConfig;
use twin_models::language::{GenerateRequest, Input, ScriptedModel};

use crate::fixture::House;

const TYPED: &str = "What is the mallet made of, live";

fn typed(question: &str) -> Value {
    json!({ "author": "ada", "request": { "task": "ask", "question": question } })
}

/// The last message of a request, and how many tokens it may write.
fn seen(request: &GenerateRequest) -> (String, usize) {
    let Input::Messages(messages) = &request.input else { panic!("a conversation is asked for") };
    (messages.last().unwrap().content.clone(), request.sampling.max_new_tokens)
}

/// What the model was asked once it was asked so often.
async fn requests(house: &House, count: usize) -> Vec<(String, usize)> {
    for _ in 0..200 {
        if house.model.requests().len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.model.requests().iter().map(seen).collect()
}

#[tokio::test]
async fn what_is_typed_is_read_with_its_passages_and_leaves_no_trace() {
    let house = House::answering(&["The mallet is live oak."]).await;
    let reply = house.post("/api/chat/ahead", &typed(TYPED)).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text);
    let requests = requests(&house, 1).await;
    assert_eq!(requests.len(), 1);
    let (prompt, tokens) = &requests[0];
    assert!(prompt.contains("Passages from") && prompt.ends_with(TYPED), "{prompt}");
    assert_eq!(*tokens, 1, "nothing is written");
    assert_eq!(house.get("/api/conversations").await.json(), json!([]));
    let traces = house.get("/api/traces").await;
    assert!(!traces.text.contains("mallet"), "{}", traces.text);
    assert_eq!(house.ask("ada", "What is the mallet made of, live oak?").await["text"], "The mallet is live oak.");
}

#[tokio::test]
async fn nothing_is_read_ahead_while_somebody_is_answered() {
    let model = ScriptedModel::new(vec!["word ".repeat(100)]).with_delay(Duration::from_millis(5));
    let house = House::with(model).await;
    let asking = house.ask("ada", "What is the mallet made of, live oak?");
    let typing = async {
        requests(&house, 1).await;
        house.post("/api/chat/ahead", &typed(TYPED)).await
    };
    let (_, reply) = tokio::join!(asking, typing);
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(house.model.requests().len(), 1);
}

#[tokio::test]
async fn what_is_not_in_the_posts_is_not_read_and_no_more_where_it_is_switched_off() {
    let house = House::answering(&["x"]).await;
    assert_eq!(house.post("/api/chat/ahead", &typed("Which opera is it?")).await.status, StatusCode::NO_CONTENT);
    let unknown =
        json!({ "author": "ada", "request": { "task": "ask", "question": TYPED }, "conversation": "nowhere" });
    assert_eq!(house.post("/api/chat/ahead", &unknown).await.status, StatusCode::NOT_FOUND);
    let off = InferenceConfig { read_ahead: false, ..InferenceConfig::default() };
    let other = House::configured(ScriptedModel::new(vec!["x".to_owned()]), off, ServerConfig::default()).await;
    assert_eq!(other.post("/api/chat/ahead", &typed(TYPED)).await.status, StatusCode::NO_CONTENT);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(house.model.requests().is_empty() && other.model.requests().is_empty());
}
