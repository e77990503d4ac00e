use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use twin_domain::ChatMessage;
use twin_models::chat_client::{ChatClient, ChatError};
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::closed_port;

fn completion(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] })
}

#[tokio::test]
async fn a_model_is_asked_as_openai_clients_ask() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer secret"))
        .and(body_partial_json(json!({ "model": "m", "messages": [{ "role": "user", "content": "Hm?" }] })))
        .respond_with(ResponseTemplate::new(200).set_body_json(completion("Aha.")))
        .expect(1)
        .mount(&server)
        .await;
    let client = ChatClient::new(&format!("{}/v1/", server.uri()), "m", Some("secret".to_owned())).unwrap();
    assert_eq!(client.answer(&[ChatMessage::user("Hm?")], 5).await.unwrap(), "Aha.");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
    let server = MockServer::start().await;
    let asked = AtomicUsize::new(0);
    let answer = move |_: &Request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => ResponseTemplate::new(429),
        1 => ResponseTemplate::new(503),
        2 => ResponseTemplate::new(200).set_body_json(completion("At last.")),
        3 => ResponseTemplate::new(404).set_body_string("no such model"),
        _ => ResponseTemplate::new(200).set_body_string("<html>"),
    };
    Mock::given(method("POST")).respond_with(answer).expect(5).mount(&server).await;
    let client = ChatClient::new(&server.uri(), "m", None).unwrap();
    assert_eq!(client.answer(&[], 5).await.unwrap(), "At last.");
    let refused = client.answer(&[], 5).await.unwrap_err();
    assert!(matches!(&refused, ChatError::Refused { status: 404, said, .. } if said == "no such model"), "{refused}");
    assert!(matches!(client.answer(&[], 5).await.unwrap_err(), ChatError::Malformed { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let client = ChatClient::new(&closed_port().0, "m", None).unwrap();
    let error = client.answer(&[], 5).await.unwrap_err();
    assert!(matches!(error, ChatError::Unreachable { .. }) && error.to_string().contains("127.0.0.1"), "{error}");
}
