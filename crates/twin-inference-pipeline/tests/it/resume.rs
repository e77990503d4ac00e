use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use twin_inference_pipeline::server::ServerConfig;
use twin_inference_pipeline::twins::InferenceConfig;
use twin_models::language::ScriptedModel;

use crate::fixture::{House, Reply, events, post};

const QUESTION: &str = "What is the mallet made of, live oak?";

/// A house whose model says so many sentences, ten milliseconds a word.
async fn talkative(sentences: usize, config: InferenceConfig) -> House {
    let model = ScriptedModel::new(vec!["The mallet is live oak, aye. ".repeat(sentences)]);
    House::configured(model.with_delay(Duration::from_millis(10)), config, ServerConfig::default()).await
}

fn lingering(resume_seconds: u64) -> InferenceConfig {
    InferenceConfig { resume_seconds, patience: 0, ..InferenceConfig::default() }
}

/// A request of the page, the reader's end of the answer, and where else it can be read.
struct Reader {
    body: Body,
    path: String,
    seen: String,
}

impl Reader {
    async fn asks(house: &House) -> Self {
        Self::asks_in(house, Value::Null).await
    }

    async fn asks_in(house: &House, conversation: Value) -> Self {
        let request = json!({ "task": "ask", "question": QUESTION });
        let body = json!({ "author": "ada", "request": request, "conversation": conversation, "max_tokens": 2000 });
        let response = house.app.clone().oneshot(post("/api/chat", &body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let path = response.headers()["content-location"].to_str().unwrap().to_owned();
        Self { body: response.into_body(), path, seen: String::new() }
    }

    /// Reads until so many tokens came.
    async fn reads(mut self, tokens: usize) -> Self {
        while self.seen.matches("event: token").count() < tokens {
            let frame = self.body.frame().await.unwrap().unwrap();
            self.seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        self
    }

    /// Reads to the end.
    async fn finishes(mut self) -> String {
        while let Some(frame) = self.body.frame().await {
            self.seen.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
        self.seen
    }

    fn conversation(&self) -> &str {
        self.path.trim_end_matches("/answer")
    }
}

async fn follow(house: &House, path: &str, after: Option<&str>) -> Reply {
    let request = Request::get(path);
    house.send(after.into_iter().fold(request, |request, id| request.header("last-event-id", id))).await
}

/// The text of the tokens.
fn text(stream: &str) -> String {
    let tokens = events(stream).into_iter().filter(|(name, _)| name == "token");
    tokens.map(|(_, data)| serde_json::from_str::<Value>(&data).unwrap()["text"].as_str().unwrap().to_owned()).collect()
}

fn last_id(stream: &str) -> &str {
    stream.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap()
}

/// The data of the last event, which must be `done`.
fn done(stream: &str) -> Value {
    let (name, data) = events(stream).pop().unwrap();
    assert_eq!(name, "done", "{data}");
    serde_json::from_str(&data).unwrap()
}

/// The conversation, as soon as the answer is in it.
async fn recorded(house: &House, path: &str) -> Value {
    let begun = Instant::now();
    loop {
        let conversation = house.get(path).await.json();
        if conversation["messages"].as_array().is_some_and(|messages| messages.len() > 1) {
            return conversation;
        }
        assert!(begun.elapsed() < Duration::from_secs(8), "the answer was never recorded: {conversation}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_answer_goes_on_without_its_reader_and_is_read_on_where_it_was() {
    let house = talkative(20, lingering(60)).await;
    let reader = Reader::asks(&house).await.reads(5).await;
    let (path, conversation) = (reader.path.clone(), reader.conversation().to_owned());
    let seen = reader.seen.clone();
    drop(reader); // The page is reloaded.
    assert_eq!(house.get(&conversation).await.json()["answering"], true);

    let rest = follow(&house, &path, Some(last_id(&seen))).await;
    assert_eq!(rest.headers["content-type"], "text/event-stream");
    let done = done(&rest.text);
    assert_eq!(done["finish_reason"], "stop");
    assert_eq!(text(&seen) + &text(&rest.text), done["text"].as_str().unwrap(), "nothing is missing or said twice");
    assert!(!rest.text.contains("event: retrieval"), "that was seen");

    let whole = follow(&house, &path, None).await;
    assert_eq!(whole.events()[0].0, "retrieval");
    assert_eq!(text(&whole.text), done["text"].as_str().unwrap());
    let kept = recorded(&house, &conversation).await;
    assert_eq!((&kept["answering"], &kept["messages"][1]["content"]), (&json!(false), &done["text"]));
    assert_eq!(house.model.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_to_which_nobody_comes_back_ends_and_is_kept_as_far_as_it_came() {
    let house = talkative(200, lingering(1)).await;
    let reader = Reader::asks(&house).await.reads(5).await;
    let (path, conversation) = (reader.path.clone(), reader.conversation().to_owned());
    drop(reader); // The reader closes the page.

    let kept = recorded(&house, &conversation).await["messages"][1].clone();
    assert_eq!(kept["answer"]["finish_reason"], "cancelled");
    assert!(kept["content"].as_str().unwrap().starts_with("The mallet is live"));
    let written = kept["answer"]["usage"]["new_tokens"].as_u64().unwrap();
    assert!((50..300).contains(&written), "the model wrote {written} of 1200 tokens in one second");
    assert!(house.twins.admit().is_ok());
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.contains("twin_answers_total{outcome=\"cancelled\"} 1"), "{metrics}");

    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let gone = follow(&house, &path, None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "it is forgotten: {}", gone.text);
}

#[tokio::test]
async fn a_reader_who_stalls_counts_as_gone() {
    let house = talkative(200, lingering(1)).await;
    let stalled = Reader::asks(&house).await.reads(2).await; // And takes nothing more.
    let kept = recorded(&house, stalled.conversation()).await["messages"][1].clone();
    assert_eq!(kept["answer"]["finish_reason"], "cancelled");
    let stream = stalled.finishes().await;
    assert_eq!(done(&stream)["text"], kept["content"], "what was written is there all the same");
}

#[tokio::test]
async fn stop_stops_the_model_and_who_reads_is_told() {
    let house = talkative(200, lingering(60)).await;
    let reader = Reader::asks(&house).await.reads(5).await;
    let path = reader.path.clone();
    let begun = Instant::now();
    assert_eq!(house.send(Request::delete(&path)).await.status, StatusCode::NO_CONTENT);
    let done = done(&reader.finishes().await);
    assert!(begun.elapsed() < Duration::from_secs(1), "stopping took {:?}", begun.elapsed());
    assert_eq!(done["finish_reason"], "cancelled");
    assert!(done["text"].as_str().unwrap().starts_with("The mallet is live oak"));
    let again = house.send(Request::delete(&path)).await.status;
    assert_eq!(again, StatusCode::NO_CONTENT, "it has stopped, which is what was asked");
}

#[tokio::test]
async fn a_new_question_in_the_conversation_ends_the_answer_before() {
    let house = talkative(200, lingering(60)).await;
    let first = Reader::asks(&house).await.reads(5).await;
    let conversation = first.conversation().to_owned();
    let id = conversation.rsplit('/').next().unwrap();
    let second = Reader::asks_in(&house, json!(id)).await.reads(5).await;
    assert_eq!(done(&first.finishes().await)["finish_reason"], "cancelled");
    let kept = house.get(&conversation).await.json();
    let roles: Vec<&str> =
        kept["messages"].as_array().unwrap().iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(kept["answering"], true);
    house.send(Request::delete(&second.path)).await;
    second.finishes().await;
}

#[tokio::test]
async fn what_is_deleted_is_neither_written_nor_read_any_more() {
    let house = talkative(200, lingering(60)).await;
    let reader = Reader::asks(&house).await.reads(5).await;
    assert_eq!(house.send(Request::delete(reader.conversation())).await.status, StatusCode::NO_CONTENT);
    assert_eq!(follow(&house, &reader.path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.send(Request::delete(&reader.path)).await.status, StatusCode::NOT_FOUND);
    assert!(house.get("/metrics").await.text.contains("twin_answers_total{outcome=\"cancelled\"} 1"));
}

#[tokio::test]
async fn only_ids_of_events_are_places_to_go_on_from() {
    let house = House::answering(&["Œuf, œuf, œuf."]).await;
    let reader = Reader::asks(&house).await;
    let path = reader.path.clone();
    reader.finishes().await;
    for bad in ["1", "9999999", "-1", "x", "99999999999999999999999"] {
        let reply = follow(&house, &path, Some(bad)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("Last-Event-ID"));
    }
    assert!(text(&follow(&house, &path, Some("2")).await.text).starts_with("uf, œuf"));
    assert_eq!(follow(&house, "/api/conversations/nowhere/answer", None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_gives_way_to_who_waits() {
    let config = InferenceConfig { together: 1, queue: 0, ..lingering(60) };
    let house = talkative(200, config).await;
    drop(Reader::asks(&house).await.reads(5).await);
    let completion = json!({ "model": "ada", "messages": [{ "role": "user", "content": QUESTION }], "max_tokens": 3 });
    let ask = async || house.post("/v1/chat/completions", &completion).await.status;
    assert_eq!(ask().await, StatusCode::TOO_MANY_REQUESTS, "the reader may be back in a moment");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(ask().await, StatusCode::TOO_MANY_REQUESTS, "which makes room");
    let begun = Instant::now();
    while ask().await != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(2), "12 s are left of the answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
