use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use twin_inference_pipeline::server::{ServerConfig, listen, serve};
use twin_models::language::ScriptedModel;

use crate::fixture::House;

const QUESTION: &str = "What is the mallet made of, live oak?";

/// A house behind a real socket.
async fn started(
    words: usize,
    delay_ms: u64,
) -> (House, std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let model = ScriptedModel::new(vec!["word ".repeat(words)]).with_delay(Duration::from_millis(delay_ms));
    let house = House::with(model).await;
    let listener = listen("127.0.0.1:0", &ServerConfig::default()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let state = house.state.clone();
    let server = tokio::spawn(serve(listener, state, async move { drop(stopped.await) }));
    (house, address, stop, server)
}

/// Asks on the chat page's API and reads until a token came.
async fn asking(address: std::net::SocketAddr) -> TcpStream {
    let body = json!({ "author": "ada", "request": { "task": "ask", "question": QUESTION }, "max_tokens": 2000 });
    let mut socket = posting(address, "/api/chat", &body).await;
    read_until(&mut socket, "event: token").await;
    socket
}

async fn posting(address: std::net::SocketAddr, path: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    socket
}

async fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let length = socket.read(&mut buffer).await.unwrap();
        assert!(length > 0, "the server closed before `{wanted}`: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    seen
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_stops_the_model() {
    let (house, address, _stop, _server) = started(1500, 5).await;
    for (cancelled, stream) in [(1, true), (2, false)] {
        let body = json!({
            "model": "ada", "messages": [{ "role": "user", "content": QUESTION }], "max_tokens": 2000, "stream": stream,
        });
        let mut socket = posting(address, "/v1/chat/completions", &body).await;
        if stream {
            read_until(&mut socket, "word").await;
        }
        eventually("the model did not begin", async || house.model.requests().len() == cancelled).await;
        drop(socket);
        eventually("the model went on", async || {
            house
                .get("/metrics")
                .await
                .text
                .contains(&format!("twin_answers_total{{outcome=\"cancelled\"}} {cancelled}"))
        })
        .await;
    }
}

#[tokio::test]
async fn stopping_waits_for_what_is_nearly_done() {
    let (_house, address, stop, server) = started(60, 10).await;
    let mut socket = asking(address).await;
    stop.send(()).unwrap();
    let rest = read_until(&mut socket, "event: done").await;
    assert!(rest.contains("\"finish_reason\":\"stop\""));
    tokio::time::timeout(Duration::from_secs(2), server).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody new is let in");
}

#[tokio::test]
async fn stopping_ends_what_would_take_too_long_and_keeps_it() {
    let (house, address, stop, server) = started(1500, 10).await;
    let mut socket = asking(address).await;
    let begun = Instant::now();
    stop.send(()).unwrap();
    let rest = read_until(&mut socket, "event: done").await;
    assert!(rest.contains("\"finish_reason\":\"cancelled\""));
    server.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(9), "stopping took {:?}", begun.elapsed());
    let kept = house.twins.conversations().list().await.unwrap();
    let conversation = house.twins.conversations().get(&kept[0].id).await.unwrap();
    assert!(conversation.messages[1].content.starts_with("word word"));
}
