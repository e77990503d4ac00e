use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use twin_inference_pipeline::conversations::Conversations;

use crate::fixture::House;

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
