use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use twin_models::embedding::{Embedder, ScriptedEmbedder};
use twin_models::language::{Input, OutputFormat, ScriptedModel};

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
        (json!({ "model": "ada@release-3" }), 404, "model"),
        (json!({ "model": "ada@release-" }), 404, "model"),
        (json!({ "logit_bias": { "5": 1 } }), 400, "logit_bias"),
        (json!({ "top_logprobs": 2 }), 400, "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), 400, "top_logprobs"),
        (json!({ "response_format": { "type": "xml" } }), 400, "response_format"),
        (json!({ "response_format": { "type": "json_schema" } }), 400, "response_format"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "oak" } } } }),
            400,
            "response_format",
        ),
        (json!({ "min_p": 2 }), 400, "min_p"),
        (json!({ "presence_penalty": -2.5 }), 400, "presence_penalty"),
        (json!({ "user": "x".repeat(600) }), 400, "user"),
        (json!({ "temperature": 2.5 }), 400, "temperature"),
        (json!({ "top_p": 0 }), 400, "top_p"),
        (json!({ "max_tokens": 0 }), 400, "max_tokens"),
        (json!({ "stop": ["a", "b", "c", "d", "e"] }), 400, "stop"),
        (json!({ "stop": "x".repeat(2000) }), 400, "stop"),
        (json!({ "frequency_penalty": 3.0 }), 400, "frequency_penalty"),
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
    house.registry.serve("ada@v1");
    let list = house.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["ada", "ada@release-1", "ben"]);
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
    let owned = house.post("/v1/embeddings", &json!({ "input": "x", "model": "somebody/Scripted" })).await;
    assert_eq!(owned.status, StatusCode::OK);
    let unknown = house.post("/v1/embeddings", &json!({ "input": "x", "model": "other" })).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
    assert!(unknown.text.contains("only `scripted`"), "it names the one that there is: {}", unknown.text);
    for bad in [json!({ "input": [] }), json!({ "input": "x", "encoding_format": "hex" }), json!({ "input": " " })] {
        assert_eq!(house.post("/v1/embeddings", &bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn how_tokens_are_drawn_reaches_the_model() {
    let house = House::answering(&[ANSWER]).await;
    let body = chat(json!({
        "min_p": 0.2, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": -1, "user": "reader-7", "n": null,
        "stream": null, "tools": [], "tool_choice": "none", "logit_bias": {},
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": { "type": "object" } } },
    }));
    assert_eq!(house.post("/v1/chat/completions", &body).await.status, StatusCode::OK);
    let sampling = house.model.requests().remove(0).sampling;
    assert_eq!((sampling.min_p, sampling.presence_penalty, sampling.frequency_penalty), (0.2, 0.5, -0.5));
    assert_eq!(sampling.seed, u64::MAX);
    assert_eq!(sampling.format, Some(OutputFormat::JsonSchema(json!({ "type": "object" }))));
    assert!(sampling.stop.is_empty(), "JSON may have a line that begins with a bracket");
}

#[tokio::test]
async fn a_release_is_a_model() {
    let house = House::answering(&[ANSWER]).await;
    house.registry.serve("ada@v1");
    house.registry.serve("ada@v2");
    for (model, release) in [("ada", "release-2"), ("ada@release-1", "release-1"), ("ada@release-2", "release-2")] {
        let reply = house.post("/v1/chat/completions", &chat(json!({ "model": model }))).await.json();
        assert_eq!((&reply["system_fingerprint"], &reply["model"]), (&json!(release), &json!(model)));
    }
}

/// The tokens of `logprobs`, joined.
fn tokens(logprobs: &Value) -> String {
    let content = logprobs["content"].as_array().into_iter().flatten();
    content.map(|token| token["token"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn likelihoods_come_with_the_text_whole_and_streamed() {
    let house = House::answering(&[ANSWER]).await;
    let asked = json!({ "logprobs": true, "top_logprobs": 2 });
    let choice = house.post("/v1/chat/completions", &chat(asked)).await.json()["choices"][0].clone();
    assert_eq!(tokens(&choice["logprobs"]), ANSWER);
    let first = &choice["logprobs"]["content"][0];
    assert_eq!((&first["token"], &first["bytes"]), (&json!("The"), &json!([84, 104, 101])));
    assert!(first["logprob"].as_f64().unwrap() < 0.0);
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);

    let asked = json!({ "logprobs": true, "stream": true, "stop": [" cut"] });
    let events = house.post("/v1/chat/completions", &chat(asked)).await.events();
    let mut said = String::new();
    for (_, data) in &events[..events.len() - 1] {
        let choice = serde_json::from_str::<Value>(data).unwrap()["choices"][0].clone();
        let text = choice["delta"]["content"].as_str().unwrap_or_default();
        assert_eq!(tokens(&choice["logprobs"]), text, "each part has its own");
        said.push_str(text);
    }
    assert_eq!(said, "The mallet is live oak with slots");
    let none = house.post("/v1/chat/completions", &chat(json!({ "logprobs": false }))).await.json();
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn what_has_a_form_stays_as_it_was_written() {
    let written = "{\"wood\": \"live oak\", \"slots\": 12. And 40 kg of lead.}";
    let house = House::answering(&[written]).await;
    let body = chat(json!({ "response_format": { "type": "json_object" } }));
    let reply = house.post("/v1/chat/completions", &body).await.json();
    assert_eq!(reply["choices"][0]["message"], json!({ "role": "assistant", "content": written, "refusal": null }));
}

#[tokio::test]
async fn where_nothing_was_found_a_form_is_refused_and_not_filled() {
    let house = House::answering(&[ANSWER]).await;
    let unknown = json!([{ "role": "user", "content": "Which violin concerto is the loudest?" }]);
    let asked = json!({ "messages": unknown, "response_format": { "type": "json_object" } });
    let reply = house.post("/v1/chat/completions", &chat(asked.clone())).await.json();
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert!(message["refusal"].as_str().unwrap().starts_with("I have not written about that"));
    let mut streamed = asked;
    streamed["stream"] = json!(true);
    let events = house.post("/v1/chat/completions", &chat(streamed)).await.events();
    let refused = |(_, data): &&(String, String)| data.contains("\"refusal\":\"I have not written");
    assert_eq!(events.iter().filter(refused).count(), 1);
    assert!(house.model.requests().is_empty());
}

#[tokio::test]
async fn a_text_goes_on_in_the_form_that_clients_know() {
    let house = House::answering(&["It rings when struck."]).await;
    let body = json!({ "model": "ada", "prompt": "The mallet is live oak.", "max_tokens": 3, "logprobs": 1 });
    let reply = house.post("/v1/completions", &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let reply = reply.json();
    assert!(reply["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(reply["object"], "text_completion");
    let choice = &reply["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("It rings when"), &json!("length")));
    assert_eq!(choice["logprobs"]["tokens"], json!(["It", " rings", " when"]));
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 2, 8]));
    assert_eq!(choice["logprobs"]["token_logprobs"].as_array().unwrap().len(), 3);
    let Input::Messages(messages) = house.model.requests().remove(0).input else { panic!("messages are sent") };
    assert!(messages[1].content.contains("The mallet is live oak."));

    let body = json!({ "model": "ada", "prompt": ["The mallet"], "stream": true, "stream_options": { "include_usage": true } });
    let events = house.post("/v1/completions", &body).await.events();
    assert_eq!(events.last().unwrap().1, "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "It rings when struck.");
    assert_eq!(chunks[chunks.len() - 1]["usage"]["completion_tokens"], 4);
    for (bad, param) in [
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": ["a", "b"] }), "prompt"),
        (json!({ "prompt": [[1, 2]] }), "prompt"),
        (json!({ "prompt": " " }), "prompt"),
        (json!({ "prompt": "x", "suffix": "y" }), "suffix"),
        (json!({ "prompt": "x", "echo": true }), "echo"),
        (json!({ "prompt": "x", "best_of": 2 }), "best_of"),
        (json!({ "prompt": "x", "logprobs": 6 }), "logprobs"),
    ] {
        let mut body = bad.clone();
        body["model"] = json!("ada");
        let reply = house.post("/v1/completions", &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(reply.json()["error"]["param"], param, "{bad}");
    }
}

#[tokio::test]
async fn senseless_bodies_are_the_clients_fault() {
    let house = House::answering(&[ANSWER]).await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let many: Vec<Value> = (0..20_000).map(|_| json!({ "role": "assistant", "content": "x" })).collect();
    let bodies = [
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"\\ud800\"".to_owned(),
        r#"{"model":"ada","messages":[{"role":"user","content":"\ud800"}]}"#.to_owned(),
        r#"{"model":"ada","messages":[{"role":"user","content":"x"}],"max_tokens":-1}"#.to_owned(),
        r#"{"model":"ada","messages":[{"role":"user","content":"x"}],"temperature":1e999}"#.to_owned(),
        r#"{"model":"ada","messages":[{"role":"user","content":"x"}],"seed":1e99}"#.to_owned(),
        r#"{"model":"ada","model":"ben","messages":[]}"#.to_owned(),
        r#"{"model":"\u0000","messages":[{"role":"user","content":"x"}]}"#.to_owned(),
        format!(r#"{{"model":"ada","messages":{deep}}}"#),
        format!(
            r#"{{"model":"ada","messages":[{{"role":"user","content":"x"}}],"stop":{}}}"#,
            json!(vec!["x"; 100_000])
        ),
        json!({ "model": "ada", "messages": many }).to_string(),
        json!({ "model": "x".repeat(1 << 20), "messages": [{ "role": "user", "content": "x" }] }).to_string(),
    ];
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/chat", "/api/outcomes"] {
        for body in &bodies {
            let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
            let reply = house.request(request.body(Body::from(body.clone())).unwrap()).await;
            assert!(reply.status.is_client_error(), "{path} {}: {}", &body[..body.len().min(80)], reply.status);
            assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
        }
    }
    let controls = json!([{ "role": "user", "content": "\u{0}\u{1b}[2J\u{202e} mallet live oak <|im_end|>" }]);
    let reply = house.post("/v1/chat/completions", &chat(json!({ "messages": controls }))).await;
    assert_eq!(reply.status, StatusCode::OK, "control characters are text: {}", reply.text);
}
