use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::chat_client::ChatError;
use twin_models::language::{
    FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel, OutputFormat, RemoteModel,
    Sampling, TokenWatch,
};
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::closed_port;

/// A stream of an answer in these pieces.
fn stream(pieces: &[&str], finish_reason: &str) -> ResponseTemplate {
    let chunk = |content: &str| {
        let logprobs = json!({ "content": [{ "token": content, "logprob": -0.5, "bytes": null, "top_logprobs": [] }] });
        json!({ "choices": [{ "index": 0, "delta": { "content": content }, "logprobs": logprobs }] })
    };
    let mut events: Vec<Value> = pieces.iter().map(|piece| chunk(piece)).collect();
    events.push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": finish_reason }] }));
    events.push(json!({ "choices": [], "usage": { "prompt_tokens": 31, "completion_tokens": 7 } }));
    let mut text: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
    text.push_str(": a remark\n\ndata: [DONE]\n\n");
    ResponseTemplate::new(200).set_body_raw(text, "text/event-stream")
}

fn request(sampling: Sampling) -> GenerateRequest {
    GenerateRequest { input: Input::Messages(vec![ChatMessage::user("Hm?")]), adapter: None, sampling }
}

/// Asks on a thread of its own and hands text on through a channel that may block, as the server does.
async fn ask(url: &str, sampling: Sampling, cancel: CancelFlag) -> Result<(Generation, Vec<String>), GenerateError> {
    let model = RemoteModel::new(url, "m", Some("secret".to_owned()), 4096, Handle::current()).unwrap();
    let answer = move || {
        let (sender, mut pieces) = tokio::sync::mpsc::channel(100);
        let mut collect = |piece: &str| {
            sender.blocking_send(piece.to_owned()).unwrap();
            ControlFlow::Continue(())
        };
        let generation = model.generate(&request(sampling), &cancel, &mut collect)?;
        let pieces = std::iter::from_fn(|| pieces.try_recv().ok()).collect();
        Ok((generation, pieces))
    };
    tokio::task::spawn_blocking(answer).await.unwrap()
}

#[tokio::test]
async fn an_answer_comes_as_it_is_written() {
    let server = MockServer::start().await;
    let expected = json!({
        "model": "m", "stream": true, "messages": [{ "role": "user", "content": "Hm?" }], "max_tokens": 9, "seed": -1,
        "presence_penalty": 0.5, "stop": ["END"], "logprobs": true,
        "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "string" } } },
    });
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer secret"))
        .and(body_partial_json(expected))
        .respond_with(stream(&["Live ", "oak", "."], "length"))
        .expect(1)
        .mount(&server)
        .await;
    let watch = TokenWatch::new(0);
    let sampling = Sampling {
        max_new_tokens: 9,
        seed: u64::MAX,
        presence_penalty: 0.5,
        stop: vec!["END".to_owned()],
        format: Some(OutputFormat::JsonSchema(json!({ "type": "string" }))),
        watch: Some(watch.clone()),
        ..Sampling::default()
    };
    let (generation, pieces) = ask(&format!("{}/v1", server.uri()), sampling, CancelFlag::new()).await.unwrap();
    assert_eq!((generation.text.as_str(), generation.finish_reason), ("Live oak.", FinishReason::Length));
    assert_eq!(pieces, ["Live ", "oak", "."]);
    assert_eq!((generation.usage.prompt_tokens, generation.usage.new_tokens), (31, 7));
    assert_eq!(watch.take(9).len(), 3);
}

#[tokio::test]
async fn a_stop_text_ends_an_answer_whatever_the_server_makes_of_it() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(stream(&["Live oak", "\n", "[2] More"], "stop")).mount(&server).await;
    let sampling = Sampling { stop: vec!["\n[".to_owned()], ..Sampling::default() };
    let (generation, _) = ask(&server.uri(), sampling, CancelFlag::new()).await.unwrap();
    assert_eq!((generation.text.as_str(), generation.finish_reason), ("Live oak", FinishReason::Stop));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_other_failures_are_told() {
    let server = MockServer::start().await;
    let asked = AtomicUsize::new(0);
    let answer = move |_: &Request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => ResponseTemplate::new(503).insert_header("retry-after", "0"),
        1 => stream(&["At last."], "stop"),
        2 => ResponseTemplate::new(400).set_body_string("too long"),
        3 => ResponseTemplate::new(200).set_body_string("data: {\"choices\":[]}\n\n"),
        4 => ResponseTemplate::new(200).set_body_string("data: {\"error\":{\"message\":\"out of memory\"}}\n\n"),
        _ => ResponseTemplate::new(200).set_body_string("data: <html>\n\n"),
    };
    Mock::given(method("POST")).respond_with(answer).expect(6).mount(&server).await;
    let ask = async || ask(&server.uri(), Sampling::default(), CancelFlag::new()).await;
    assert_eq!(ask().await.unwrap().0.text, "At last.");
    let refused = ask().await.unwrap_err();
    assert!(matches!(refused, GenerateError::Remote(ChatError::Refused { status: 400, .. })), "{refused:?}");
    for _ in 0..3 {
        let broken = ask().await.unwrap_err();
        assert!(matches!(broken, GenerateError::Remote(ChatError::Malformed { .. })), "{broken:?}");
    }
    let gone = self::ask(&closed_port().0, Sampling::default(), CancelFlag::new()).await.unwrap_err();
    assert!(matches!(gone, GenerateError::Remote(ChatError::Unreachable { .. })), "{gone:?}");
}

#[tokio::test]
async fn cancelling_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let cancel = CancelFlag::new();
    let answer = tokio::spawn({
        let cancel = cancel.clone();
        async move { ask(&url, Sampling::default(), cancel).await }
    });
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 4096];
    assert!(socket.read(&mut buffer).await.unwrap() > 0);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Live\"}}]}\n\n";
    socket.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    cancel.cancel();
    let (generation, _) = answer.await.unwrap().unwrap();
    assert_eq!((generation.text.as_str(), generation.finish_reason), ("Live", FinishReason::Cancelled));
    while socket.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    assert!(begun.elapsed() < Duration::from_secs(5), "the server writes on for {:?}", begun.elapsed());
}

#[tokio::test]
async fn tokens_are_estimated_and_read_back() {
    let model = RemoteModel::new("http://127.0.0.1:1/v1", "m", None, 4096, Handle::current()).unwrap();
    for text in ["", "a", "live oak", "café ☕ 漢字", "\0\u{1}"] {
        let tokens = model.encode(text).unwrap();
        assert_eq!(model.decode(&tokens).unwrap(), text);
        assert_eq!(tokens.len(), text.len().div_ceil(3));
    }
    assert!(!model.takes_adapters());
}
