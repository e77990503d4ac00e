use axum::http::StatusCode;
use serde_json::{Value, json};
use twin_domain::DocumentId;

use crate::fixture::{House, id};

const QUESTION: &str = "What is the mallet made of, live oak?";
const ANSWER: &str = "The mallet is live oak with slots cut through the head.";

async fn complete(house: &House, question: &str) {
    let body = json!({ "model": "ada", "messages": [{ "role": "user", "content": question }] });
    assert_eq!(house.post("/v1/chat/completions", &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_leaves_a_trace_that_can_be_looked_at() {
    let house = House::answering(&[ANSWER]).await;
    house.registry.serve("ada@v1");
    house.ask("ada", QUESTION).await;
    complete(&house, "Is the mallet of live oak, with slots?").await;
    let list = house.get("/api/traces").await.json();
    let asked: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["asked"].as_str().unwrap()).collect();
    assert_eq!(asked, ["Is the mallet of live oak, with slots?", QUESTION]);
    assert_eq!(list[0]["release"], 1);
    for entry in list.as_array().unwrap() {
        let one = house.get(&format!("/api/traces/{}", entry["id"].as_str().unwrap())).await.json();
        assert_eq!(one["answer"], ANSWER);
        assert!(one["trace"]["retrieval"]["candidates"].as_array().unwrap().len() > 1);
        assert_eq!(one["trace"]["passages"][0]["document"]["url"], "https://ada.example/mallet");
    }
    let older = house.get(&format!("/api/traces?before={}", list[0]["created_at"].as_str().unwrap())).await.json();
    assert_eq!(older.as_array().unwrap().len(), 1);
    assert_eq!(house.get("/api/traces?author=ben").await.json(), json!([]));
    assert_eq!(house.get("/api/traces?limit=1").await.json().as_array().unwrap().len(), 1);
    for unknown in ["chat-99", "api-99", "nonsense", "chat-x"] {
        assert_eq!(house.get(&format!("/api/traces/{unknown}")).await.status, StatusCode::NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn traces_are_exported_as_lines() {
    let house = House::answering(&[ANSWER]).await;
    for number in 0..60 {
        complete(&house, &format!("What is the mallet made of, live oak? {number}")).await;
    }
    let reply = house.get("/api/traces.jsonl").await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 60, "more than one look at the database has");
    assert!(lines.iter().all(|line| line["trace"]["author"] == "ada"));
}

#[tokio::test]
async fn what_is_forgotten_leaves_the_traces_of_clients_too() {
    let house = House::answering(&[ANSWER]).await;
    complete(&house, QUESTION).await;
    let document = DocumentId::new(&id("ada"), "https://ada.example/mallet");
    assert_eq!(house.twins.conversations().forget(document).await.unwrap(), 1);
    let text = house.get("/api/traces.jsonl").await.text;
    assert!(!text.contains("That is what makes it ring"), "{text}");
    assert!(text.contains("[forgotten]"));
}

#[tokio::test]
async fn what_happens_is_counted() {
    let house = House::answering(&[ANSWER]).await;
    house.registry.serve("ada@v1");
    complete(&house, QUESTION).await;
    complete(&house, "Which violin concerto is the loudest?").await;
    let reply = house.get("/metrics").await;
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "twin_answers_total{outcome=\"finished\"} 1",
        "twin_answers_total{outcome=\"abstained\"} 1",
        "twin_tokens_total{author=\"ada\",release=\"1\",type=\"generated\"} 11",
        "twin_time_to_first_token_seconds_count 1",
        "twin_queue_seconds_count 1",
        "twin_answer_seconds_count 2",
        "twin_requests_at_once_count 2",
        "twin_retrieval_seconds_count{stage=\"rerank\"} 2",
        "twin_requests_running 0",
        "# EOF",
    ] {
        assert!(reply.text.lines().any(|found| found == line), "{line} is not in\n{}", reply.text);
    }
}
