use axum::http::StatusCode;
use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use serde_json::{Value, json};
use twin_inference_pipeline::server::serve_streams;

use crate::fixture::{House, post};

const QUESTION: &str = "What is the mallet made of, live oak?";
const ANSWER: &str = "The mallet is live oak with slots cut through the head.";

/// A client of a house over two streams, as of `twin mcp`.
async fn client(house: &House) -> RunningService<RoleClient, ()> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    tokio::spawn(serve_streams(house.state.clone(), input, output));
    ().serve(ours).await.unwrap()
}

async fn call(client: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> CallToolResult {
    let mut params = CallToolRequestParams::new(tool);
    params.arguments = arguments.as_object().cloned();
    client.call_tool(params).await.unwrap()
}

fn text(result: &CallToolResult) -> String {
    serde_json::to_value(&result.content).unwrap()[0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tools_search_answer_and_draft() {
    let house = House::answering(&[ANSWER]).await;
    let client = client(&house).await;
    let tools = client.list_all_tools().await.unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ask", "draft", "search"]);
    assert!(tools.iter().all(|tool| tool.description.is_some() && tool.input_schema.contains_key("properties")));

    let found = call(&client, "search", json!({ "author": "ada", "query": QUESTION, "limit": 1 })).await;
    let passages = found.structured_content.clone().unwrap()["passages"].clone();
    assert_eq!(passages.as_array().unwrap().len(), 1);
    assert_eq!(passages[0]["url"], "https://ada.example/mallet");
    assert!(text(&found).contains("live oak"));

    let answer = call(&client, "ask", json!({ "author": "ada", "question": QUESTION })).await;
    assert!(text(&answer).starts_with(ANSWER) && text(&answer).contains("https://ada.example/mallet"), "{answer:?}");
    assert_eq!(answer.structured_content.unwrap()["answer"]["sentences"][0]["citations"], json!([1]));

    let draft = call(&client, "draft", json!({ "author": "ada", "title": "On the mallet" })).await;
    assert!(text(&draft).ends_with("Written by an AI twin, not by the person."));
    assert_eq!(house.get("/api/traces").await.json().as_array().unwrap().len(), 2, "they leave traces, too");
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn what_a_tool_cannot_do_is_told() {
    let house = House::answering(&[ANSWER]).await;
    let client = client(&house).await;
    let which = call(&client, "ask", json!({ "question": QUESTION })).await;
    assert_eq!(which.is_error, Some(true));
    assert!(text(&which).contains("ada, ben"), "{which:?}");
    let nobody = call(&client, "search", json!({ "author": "nobody", "query": "x" })).await;
    assert_eq!(nobody.is_error, Some(true));
    assert!(text(&nobody).contains("nobody"));
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn the_same_tools_are_there_over_http() {
    let house = House::answering(&[ANSWER]).await;
    let send = async |body: Value| {
        let mut request = post("/mcp", &body);
        request.headers_mut().insert("accept", "application/json, text/event-stream".parse().unwrap());
        house.request(request).await
    };
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    let reply = send(hello).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.json()["result"]["instructions"].as_str().unwrap().contains("`search`"));
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "ask", "arguments": { "author": "ada", "question": QUESTION } } });
    let reply = send(call).await.json();
    assert!(reply["result"]["content"][0]["text"].as_str().unwrap().starts_with(ANSWER), "{reply}");
    let broken = send(json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": 7 })).await;
    assert!(!broken.status.is_server_error(), "{}", broken.text);
}
