use axum::http::StatusCode;
use serde_json::{Value, json};
use twin_models::embedding::{Embedder, ScriptedEmbedder};
use twin_models::language::{Input, ScriptedModel};

use crate::fixture::House;

const QUESTION: &str = "What is the mallet made of, live oak?";
const ANSWER: &str = "The mallet is live oak with slots cut through the head.";

fn chat(extra: Value) -> Value {
    let mut body = json!({ "model": "ada", "messages": [{ "role": "user", "content": QUESTION }] });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_completion_has_the_form_that_clients_know() {
    let house = House::answering(&[ANSWER]).await;
    house.registry.serve("ada@v1");
    let reply = house.post("/v1/chat/completions", &chat(json!({}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let body = reply.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "ada");
    assert_eq!(body["system_fingerprint"], "release-1");
    assert_eq!(body["choices"][0]["message"], json!({ "role": "assistant", "content": ANSWER, "refusal": null }));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let usage = &body["usage"];
    let tokens = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(tokens("total_tokens"), tokens("prompt_tokens") + tokens("completion_tokens"));
    assert_eq!(body["x_twin"]["sentences"][0]["citations"], json!([1]));
    assert_eq!(body["x_twin"]["passages"][0]["url"], "https://ada.example/mallet");
    assert_eq!(house.get("/api/conversations").await.json(), json!([]), "clients keep their own conversations");
}

#[tokio::test]
async fn a_stream_has_the_form_that_clients_know() {
    let house = House::answering(&[ANSWER]).await;
    let body = chat(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let reply = house.post("/v1/chat/completions", &body).await;
    let events = reply.events();
    assert_eq!(events.last().unwrap().1, "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, ANSWER);
    let finish = &chunks[chunks.len() - 2];
    assert_eq!((&finish["choices"][0]["delta"], &finish["choices"][0]["finish_reason"]), (&json!({}), &json!("stop")));
    assert_eq!(finish["usage"], Value::Null);
    assert_eq!(finish["x_twin"]["abstained"], false);
    let usage = &chunks[chunks.len() - 1];
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 5);
}

#[tokio::test]
async fn without_include_usage_no_chunk_speaks_of_it() {
    let house = House::answering(&[ANSWER]).await;
    let reply = house.post("/v1/chat/completions", &chat(json!({ "stream": true }))).await;
    assert!(reply.events().iter().filter(|(_, data)| data != "[DONE]").all(|(_, data)| {
        let chunk: Value = serde_json::from_str(data).unwrap();
        chunk.get("usage").is_none() && chunk["choices"].as_array().unwrap().len() == 1
    }));
}

#[tokio::test]
async fn lengths_stops_and_system_messages_reach_the_model() {
    let house = House::answering(&["one two three four five six"]).await;
    let body = json!({
        "model": "ada", "max_tokens": 3, "stop": ["five"], "seed": 11, "temperature": 0,
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": "Good day." },
            { "role": "user", "content": [{ "type": "text", "text": QUESTION }] },
        ],
    });
    let reply = house.post("/v1/chat/completions", &body).await.json();
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    let request = house.model.requests().remove(0);
    assert_eq!(request.sampling.stop, ["five"]);
    assert_eq!((request.sampling.seed, request.sampling.temperature), (11, 0.0));
    let Input::Messages(messages) = request.input else { panic!("messages are sent") };
    assert!(
        messages[0].content.starts_with("You are the AI twin of Ada Quill.")
            && messages[0].content.ends_with("Be brief.")
    );
    assert_eq!(messages.len(), 4);
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_by_name() {
    let house = House::answering(&[ANSWER]).await;
    for (extra, status, param) in [
        (json!({ "model": "nobody" }), 404, "model"),
        (json!({ "model": "ada@v3" }), 404, "model"),
        (json!({ "n": 2 }), 400, "n"),
        (json!({ "tools": [{}] }), 400, "tools"),
        (json!({ "logprobs": true }), 400, "logprobs"),
        (json!({ "response_format": { "type": "json_object" } }), 400, "response_format"),
        (json!({ "temperature": 2.5 }), 400, "temperature"),
        (json!({ "top_p": 0 }), 400, "top_p"),
        (json!({ "max_tokens": 0 }), 400, "max_tokens"),
        (json!({ "stop": ["a", "b", "c", "d", "e"] }), 400, "stop"),
        (json!({ "frequency_penalty": 1.0 }), 400, "frequency_penalty"),
        (json!({ "messages": [] }), 400, "messages"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), 400, "messages"),
    ] {
        let reply = house.post("/v1/chat/completions", &chat(extra.clone())).await;
        assert_eq!(reply.status.as_u16(), status, "{extra}: {}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!((&error["param"], &error["type"]), (&json!(param), &json!("invalid_request_error")), "{extra}");
    }
    let reply = house.post("/v1/chat/completions", &json!({ "messages": [] })).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "a body without a model");
    let nobody = house.post("/v1/chat/completions", &chat(json!({ "model": "nobody" }))).await.json();
    assert_eq!(nobody["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_question_that_is_longer_than_the_context_is_an_error_with_both_numbers() {
    let house = House::with(ScriptedModel::new(vec![ANSWER.to_owned()]).with_context_length(90)).await;
    let question = format!("{QUESTION} {}", "mallet ".repeat(200));
    let body = chat(json!({ "messages": [{ "role": "user", "content": question }] }));
    let reply = house.post("/v1/chat/completions", &body).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let error = &reply.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains("90"), "{error}");
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = house.post("/v1/chat/completions", &streamed).await.events();
    assert!(events.last().unwrap().1.contains("context_length_exceeded"), "a broken stream has no [DONE]");
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let house = House::answering(&[ANSWER]).await;
    let list = house.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["ada", "ben"]);
    assert_eq!(house.get("/v1/models/ada").await.json()["owned_by"], "Ada Quill");
    assert_eq!(house.get("/v1/models/nobody").await.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_packed() {
    let house = House::answering(&[ANSWER]).await;
    let expected = ScriptedEmbedder::default().embed_one("live oak").unwrap();
    let reply =
        house.post("/v1/embeddings", &json!({ "input": ["live oak", "putty"], "model": "scripted" })).await.json();
    assert_eq!(reply["data"].as_array().unwrap().len(), 2);
    let values: Vec<f32> = serde_json::from_value(reply["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(values, expected.values());
    assert_eq!(reply["usage"]["total_tokens"], 3);
    let packed = json!({ "input": "live oak", "encoding_format": "base64" });
    let packed = house.post("/v1/embeddings", &packed).await.json();
    let bytes =
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, packed["data"][0]["embedding"].as_str().unwrap());
    let values: Vec<f32> =
        bytes.unwrap().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(values, expected.values());
    for bad in [json!({ "input": [] }), json!({ "input": "x", "encoding_format": "hex" }), json!({ "input": " " })] {
        assert_eq!(house.post("/v1/embeddings", &bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}
