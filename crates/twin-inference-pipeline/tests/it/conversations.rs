use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use twin_inference_pipeline::conversations::Conversations;
use twin_models::language::ScriptedModel;

use crate::fixture::{House, post};

const QUESTION: &str = "What is the mallet made of, live oak?";

#[tokio::test]
async fn conversations_are_kept_listed_and_deleted() {
    let house = House::answering(&["The mallet is live oak with slots cut through the head."]).await;
    let first = house.ask("ada", QUESTION).await;
    house.ask("ada", "How much whiting and raw oil does a batch of putty take?").await;
    let list = house.get("/api/conversations").await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[1]["title"], QUESTION);

    let path = format!("/api/conversations/{}", first["conversation"].as_str().unwrap());
    let conversation = house.get(&path).await.json();
    let messages = conversation["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!((&messages[0]["role"], &messages[0]["content"]), (&json!("user"), &json!(QUESTION)));
    assert_eq!(messages[1]["content"], first["text"]);
    assert_eq!(messages[1]["answer"]["sentences"], first["sentences"]);
    assert_eq!(messages[1]["answer"]["prompt"], first["prompt"]);

    assert_eq!(house.send(Request::delete(&path)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.send(Request::delete(&path)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_an_answer_was_made_of_can_be_read_from_the_file() {
    let house = House::answering(&["The mallet is live oak with slots cut through the head."]).await;
    let done = house.ask("ada", QUESTION).await;
    let reopened = Conversations::open(&house.database()).await.unwrap();
    let conversation = reopened.get(done["conversation"].as_str().unwrap()).await.unwrap();
    let trace = conversation.messages[1].trace.clone().unwrap();
    assert_eq!(trace.retrieval.query, QUESTION);
    assert!(trace.retrieval.relevant);
    let used: Vec<_> = trace.retrieval.candidates.iter().filter(|candidate| candidate.passage.is_some()).collect();
    assert_eq!(used.len(), trace.passages.len());
    assert!(used.iter().any(|candidate| candidate.chunk == trace.passages[0].chunks[0]));
    assert!(trace.total_seconds >= trace.first_token_seconds && trace.first_token_seconds > 0.0);
}

#[tokio::test]
async fn an_answer_that_was_broken_off_stops_the_model_and_is_kept_as_far_as_it_came() {
    let model = ScriptedModel::new(vec!["The mallet is live oak. ".repeat(200)]).with_delay(Duration::from_millis(10));
    let house = House::with(model).await;
    let body = json!({ "author": "ada", "request": { "task": "ask", "question": QUESTION }, "max_tokens": 1000 });
    let response = house.app.clone().oneshot(post("/api/chat", &body)).await.unwrap();
    let mut body = response.into_body();
    let mut seen = String::new();
    while seen.matches("event: token").count() < 5 {
        let frame = body.frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    drop(body); // The reader closes the page.

    let begun = Instant::now();
    let kept = loop {
        let list = house.get("/api/conversations").await.json();
        let path = format!("/api/conversations/{}", list[0]["id"].as_str().unwrap());
        let conversation = house.get(&path).await.json();
        if let Some(message) = conversation["messages"].get(1) {
            break message.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "the answer was never recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(kept["answer"]["finish_reason"], "cancelled");
    assert!(kept["content"].as_str().unwrap().starts_with("The mallet is live"));
    let written = kept["answer"]["usage"]["new_tokens"].as_u64().unwrap();
    assert!((5..200).contains(&written), "the model wrote {written} of 1000 tokens");
    assert!(house.twins.admit().is_ok());
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.contains("twin_answers_total{outcome=\"cancelled\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_conversation_is_with_one_author() {
    let house = House::answering(&["Yes."]).await;
    let conversation: Value = house.ask("ada", QUESTION).await["conversation"].clone();
    let body = json!({
        "author": "ben", "request": { "task": "ask", "question": QUESTION }, "conversation": conversation,
    });
    let reply = house.post("/api/chat", &body).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["param"], "conversation");
}
