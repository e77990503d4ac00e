use std::ops::ControlFlow;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use twin_domain::CancelFlag;
use twin_inference_pipeline::server::ServerConfig;
use twin_inference_pipeline::twins::{AnswerRequest, Event, InferenceConfig};
use twin_models::language::{Input, ScriptedModel};
use twin_models::prompt::Request;

use crate::fixture::{House, MALLET, post};

const QUESTION: &str = "What is the mallet made of, live oak?";

fn ask(question: &str) -> Value {
    json!({ "author": "ada", "request": { "task": "ask", "question": question } })
}

#[tokio::test]
async fn events_come_in_order_and_the_tokens_are_the_answer() {
    let model =
        ScriptedModel::new(vec!["The mallet is live oak with slots cut through the head. Nothing else.".to_owned()]);
    // What comes faster than it is read comes together.
    let house = House::with(model.with_delay(Duration::from_millis(5))).await;
    let events = house.post("/api/chat", &ask(QUESTION)).await.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "retrieval");
    assert_eq!(names[names.len() - 1], "done");
    assert!(names.len() > 5 && names[1..names.len() - 1].iter().all(|name| *name == "token"), "{names:?}");

    let data = |index: usize| serde_json::from_str::<Value>(&events[index].1).unwrap();
    let (retrieval, done) = (data(0), data(events.len() - 1));
    assert_eq!(retrieval["passages"][0]["url"], "https://ada.example/mallet");
    assert_eq!(retrieval["passages"][0]["date"], "2023-04-18");
    assert_eq!(retrieval["conversation"], done["conversation"]);
    let tokens: String = (1..events.len() - 1).map(|index| data(index)["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(done["text"], tokens);
    assert_eq!(done["sentences"][0]["support"], "supported");
    assert_eq!(done["sentences"][0]["citations"], json!([1]));
    assert_eq!(done["sentences"][0]["evidence"], "The mallet is live oak with slots cut through the head.");
    assert_eq!(done["release"], Value::Null);
    assert!(done["label"].as_str().unwrap().contains("AI twin"));
    assert!(done["usage"]["prompt_tokens"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn an_answer_without_support_gets_the_anchor_quote() {
    let house = House::answering(&["The treaty of Utrecht ended a long European war."]).await;
    let done = house.ask("ada", QUESTION).await;
    let sentences = done["sentences"].as_array().unwrap();
    assert_eq!(sentences[0]["support"], "unsupported");
    assert_eq!(sentences[1]["support"], "quotation");
    assert_eq!(done["text"], format!("The treaty of Utrecht ended a long European war.\n\n> {MALLET}"));
    assert_eq!(sentences[1]["citations"], json!([1]));
    assert_eq!(done["grounded_share"], 0.5);
}

#[tokio::test]
async fn a_twin_abstains_without_asking_the_model() {
    let house = House::answering(&["Sourdough wants a hot oven."]).await;
    let done = house.ask("ada", "Which neural network recognises galaxies fastest?").await;
    assert_eq!(done["text"], "I have not written about that, as far as my posts go.");
    assert_eq!(done["abstained"], true);
    assert_eq!(done["passages"], json!([]));
    assert!(house.model.requests().is_empty());
}

#[tokio::test]
async fn one_author_never_sees_another_authors_passages() {
    let house = House::answering(&["Yes."]).await;
    let done = house.ask("ada", "Where does Ben keep the mallet, under the third stair?").await;
    assert!(!done.to_string().contains("third stair."), "{done}");
    let done = house.ask("ben", "Where does Ben keep the mallet, under the third stair?").await;
    assert_eq!(done["passages"][0]["url"], "https://ben.example/secret");
}

#[tokio::test]
async fn a_draft_is_sampled_freely_and_nothing_is_quoted_into_it() {
    let house = House::answering(&["A draft on putty.", "and so on."]).await;
    let body = json!({ "author": "ada", "request": { "task": "write_post", "title": "Putty" }, "seed": 7 });
    let done = house.post("/api/chat", &body).await.events().pop().unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(&done).unwrap()["text"], "A draft on putty.");
    let body = json!({ "author": "ada", "request": { "task": "continue", "opening": "Putty is" }, "max_tokens": 9 });
    house.post("/api/chat", &body).await;
    let requests = house.model.requests();
    let config = InferenceConfig::default();
    assert_eq!((requests[0].sampling.temperature, requests[0].sampling.seed), (config.write.temperature, 7));
    assert_eq!(requests[1].sampling.max_new_tokens, 9);
    let Input::Messages(messages) = &requests[1].input else { panic!("messages are sent") };
    assert!(!messages[1].content.contains("Passages from"), "a text goes on by itself");
}

#[tokio::test]
async fn a_follow_up_is_searched_with_the_question_before_and_sees_the_conversation() {
    let house = House::answering(&["It is live oak."]).await;
    let first = house.ask("ada", QUESTION).await;
    let body = json!({
        "author": "ada", "request": { "task": "ask", "question": "And why?" }, "conversation": first["conversation"],
    });
    let events = house.post("/api/chat", &body).await.events();
    let done: Value = serde_json::from_str(&events.last().unwrap().1).unwrap();
    assert_eq!(done["passages"][0]["url"], "https://ada.example/mallet");
    let Input::Messages(messages) = &house.model.requests()[1].input else { panic!("messages are sent") };
    let roles: Vec<&str> = messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(messages[1].content, QUESTION);
}

#[tokio::test]
async fn a_new_release_answers_the_next_request() {
    let house = House::answering(&["Live oak."]).await;
    assert_eq!(house.ask("ada", QUESTION).await["model"], Value::Null);
    assert!(house.model.requests()[0].adapter.is_none());
    house.registry.serve("ada@v1");
    let done = house.ask("ada", QUESTION).await;
    assert_eq!((&done["model"], &done["release"]), (&json!("ada@v1"), &json!(1)));
    assert!(house.model.requests()[1].adapter.is_some());
    house.registry.serve("ada@v2");
    assert_eq!(house.ask("ada", QUESTION).await["model"], "ada@v2");
    let by_name = json!({ "author": "ada@v1", "request": { "task": "ask", "question": QUESTION } });
    let done = house.post("/api/chat", &by_name).await.events().pop().unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(&done).unwrap()["model"], "ada@v1");
}

#[tokio::test]
async fn passages_give_way_when_the_prompt_is_too_long() {
    let model = ScriptedModel::new(vec!["Live oak.".to_owned()]).with_context_length(110);
    let house = House::with(model).await;
    let done = house.ask("ada", QUESTION).await;
    assert!(done["passages"].as_array().unwrap().len() < 2, "{done}");
    let Input::Messages(messages) = &house.model.requests()[0].input else { panic!("messages are sent") };
    assert!(messages[1].content.contains(QUESTION));
}

#[tokio::test]
async fn who_would_wait_too_long_is_told() {
    let model = ScriptedModel::new(vec!["word ".repeat(200)]).with_delay(Duration::from_millis(10));
    let config = InferenceConfig { together: 1, queue: 0, ..InferenceConfig::default() };
    let house = House::configured(model, config, ServerConfig::default()).await;
    let permit = house.twins.admit().unwrap();
    let reply = house.post("/api/chat", &ask(QUESTION)).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(house.get("/api/conversations").await.json(), json!([]), "nothing is left of a refused request");
    assert_eq!(house.get("/readyz").await.status, StatusCode::OK, "a busy server is ready");
    assert!(house.get("/metrics").await.text.contains("twin_answers_total{outcome=\"rejected\"} 1"));
    drop(permit);
    assert_eq!(house.post("/api/chat", &ask(QUESTION)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_leaves_the_queue_gives_the_place_back_at_once() {
    let model = ScriptedModel::new(vec!["word ".repeat(300)]).with_delay(Duration::from_millis(10));
    let config = InferenceConfig { together: 1, queue: 1, ..InferenceConfig::default() };
    let house = House::configured(model, config, ServerConfig::default()).await;
    let first = tokio::spawn(house.app.clone().oneshot(post("/v1/chat/completions", &completion())));
    while house.model.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting = tokio::spawn(house.app.clone().oneshot(post("/v1/chat/completions", &completion())));
    while house.twins.admit().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    let begun = std::time::Instant::now();
    while house.twins.admit().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(1), "the first answer takes 3 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.abort();
}

fn completion() -> Value {
    json!({ "model": "ada", "messages": [{ "role": "user", "content": QUESTION }], "max_tokens": 1000 })
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_before_anything_is_recorded() {
    let house = House::answering(&["Yes."]).await;
    let with = |key: &str, value: Value| {
        let mut body = ask(QUESTION);
        body[key] = value;
        body
    };
    for (body, status) in [
        (with("author", json!("nobody")), 404),
        (with("author", json!("ada@v9")), 404),
        (with("author", json!("../etc")), 404),
        (with("request", json!({ "task": "ask", "question": " " })), 400),
        (with("request", json!({ "task": "dance" })), 400),
        (with("temperature", json!(-1.0)), 400),
        (with("max_tokens", json!(0)), 400),
        (with("conversation", json!("nowhere")), 404),
        (with("surprise", json!(1)), 400),
    ] {
        let reply = house.post("/api/chat", &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
        assert!(!reply.json()["error"]["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(house.get("/api/conversations").await.json(), json!([]));
}

#[tokio::test]
async fn a_terminal_shares_the_way_to_an_answer() {
    let model = ScriptedModel::new(vec!["The mallet is live oak, I think. ".repeat(20)]);
    let house = House::with(model.with_delay(Duration::from_millis(2))).await;
    let request = || AnswerRequest::new("ada", Request::Ask { question: QUESTION.to_owned() });
    let mut seen = String::new();
    let collect = |event: Event| {
        if let Event::Token { text } = event {
            seen.push_str(&text);
        }
        ControlFlow::Continue(())
    };
    let answer = house.twins.answer_with(request(), collect, CancelFlag::new()).await.unwrap();
    assert_eq!(answer.text, seen);
    let stop = |event: Event| match event {
        Event::Token { .. } => ControlFlow::Break(()),
        Event::Retrieval { .. } => ControlFlow::Continue(()),
    };
    let answer = house.twins.answer_with(request(), stop, CancelFlag::new()).await.unwrap();
    assert_eq!(answer.trace.finish_reason, "cancelled");
}
