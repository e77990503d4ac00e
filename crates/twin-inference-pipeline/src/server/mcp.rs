//! The Model Context Protocol: what an author wrote, their twin's answers and drafts as tools of other programs, over HTTP at
//! `/mcp` and over the standard streams of `twin mcp`.
//!
//! Requests over HTTP stand for themselves: no session is kept that somebody could leave behind.

use std::sync::Arc;

use axum::http::request::Parts;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig as Described};
use rmcp::schemars::JsonSchema;
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt as _, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::json;
use twin_models::prompt::Request;

use super::view::{AnswerView, PassageView};
use super::{Caller, MAX_BODY_BYTES, ServerState};
use crate::twins::{Answer, AnswerRequest};

/// The most passages of one search.
const MAX_PASSAGES: usize = 20;

const INSTRUCTIONS: &str = "Posts of authors and their AI twins. `search` finds passages that an author published, `ask` lets \
                            the twin answer from them with sources, `draft` lets it write a post in the author's voice. What \
                            a twin says was written by a model and not by the person.";

/// The tools of one server.
#[derive(Clone)]
pub(super) struct Tools {
    state: ServerState,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Search {
    /// What to look for, as a question or as words.
    query: String,
    /// The author's id; may be left out where there is only one.
    author: Option<String>,
    /// How many passages, at most 20; 5 if nothing is said.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Ask {
    /// The question.
    question: String,
    /// The author's id; may be left out where there is only one.
    author: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Draft {
    /// The title of the post.
    title: String,
    /// The author's id; may be left out where there is only one.
    author: Option<String>,
}

#[tool_router]
impl Tools {
    fn new(state: ServerState) -> Self {
        Self { state }
    }

    #[tool(description = "Find passages that an author published", annotations(read_only_hint = true))]
    async fn search(&self, Parameters(asked): Parameters<Search>) -> Result<CallToolResult, String> {
        let author = self.author(asked.author).await?;
        let limit = asked.limit.unwrap_or(5).clamp(1, MAX_PASSAGES);
        let twins = Arc::clone(&self.state.twins);
        let found = tokio::task::spawn_blocking(move || twins.search(&author, &asked.query, limit));
        let found = found.await.map_err(failed)?.map_err(failed)?;
        let passages = PassageView::all(&found.passages);
        let text = found.passages.iter().map(|found| {
            let passage = found.for_prompt();
            format!("[{}] {} ({})\n{}", passage.number, passage.title, found.document.url, passage.text)
        });
        let text = text.collect::<Vec<_>>().join("\n\n");
        let text = if text.is_empty() { "Nothing was found.".to_owned() } else { text };
        Ok(result(text, json!({ "passages": passages, "relevant": found.trace.relevant })))
    }

    #[tool(description = "Let an author's AI twin answer a question from what the author published")]
    async fn ask(
        &self,
        Parameters(asked): Parameters<Ask>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, String> {
        self.answer(asked.author, Request::Ask { question: asked.question }, context).await
    }

    #[tool(description = "Let an author's AI twin write a post with this title in the author's voice")]
    async fn draft(
        &self,
        Parameters(asked): Parameters<Draft>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, String> {
        self.answer(asked.author, Request::WritePost { title: asked.title }, context).await
    }
}

impl Tools {
    async fn answer(
        &self,
        author: Option<String>,
        request: Request,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, String> {
        let author = self.author(author).await?;
        let permit = self.state.admit().map_err(|error| error.to_string())?;
        // Over HTTP the key has been asked for; over streams there is one client.
        let caller = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Caller>());
        let caller = caller.copied().unwrap_or(Caller(0));
        let (mut events, answer) = self.state.answer(permit, AnswerRequest::new(author, request), caller);
        let ended = tokio::select! {
            () = async { while events.recv().await.is_some() {} } => answer.await,
            // Dropping the events stops the model.
            () = context.ct.cancelled() => return Err("this was cancelled".to_owned()),
        };
        let answer = ended.map_err(failed)?.map_err(failed)?;
        Ok(result(readable(&answer), json!({ "text": answer.text, "answer": AnswerView::new(&answer.trace) })))
    }

    /// The author that is meant.
    async fn author(&self, named: Option<String>) -> Result<String, String> {
        if let Some(named) = named {
            return Ok(named);
        }
        let twins = Arc::clone(&self.state.twins);
        let authors = tokio::task::spawn_blocking(move || twins.authors()).await.map_err(failed)?.map_err(failed)?;
        match authors.as_slice() {
            [only] => Ok(only.id.to_string()),
            [] => Err("there are no authors yet: `twin ingest` an author's posts first".to_owned()),
            several => {
                let ids: Vec<&str> = several.iter().map(|author| author.id.as_str()).collect();
                Err(format!("say which `author` is meant: {}", ids.join(", ")))
            }
        }
    }
}

#[tool_handler(router = Self::tool_router())]
impl ServerHandler for Tools {
    fn get_info(&self) -> Described {
        Described::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("twin", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }
}

fn result(text: String, structured: serde_json::Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(structured);
    result
}

/// An answer with its sources below it.
fn readable(answer: &Answer) -> String {
    let mut text = answer.text.trim().to_owned();
    for passage in &answer.trace.passages {
        text.push_str(&format!("\n[{}] {} ({})", passage.number, passage.document.title, passage.document.url));
    }
    format!("{text}\n{}", crate::twins::LABEL)
}

fn failed(error: impl std::error::Error) -> String {
    tracing::debug!(%error, "a tool failed");
    error.to_string()
}

/// The way over HTTP.
pub(super) fn service(state: &ServerState) -> StreamableHttpService<Tools, LocalSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_BODY_BYTES)
        .with_cancellation_token(state.ending.clone())
        // The server asks for its own names before this is reached.
        .disable_allowed_hosts();
    let state = state.clone();
    StreamableHttpService::new(move || Ok(Tools::new(state.clone())), Arc::default(), config)
}

/// Serves one client over two streams until it leaves.
///
/// # Errors
/// When the client does not speak the protocol.
pub async fn serve_streams(
    state: ServerState,
    input: impl tokio::io::AsyncRead + Send + Unpin + 'static,
    output: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Result<(), McpError> {
    let running = Tools::new(state).serve((input, output)).await.map_err(|error| McpError(error.to_string()))?;
    running.waiting().await.map_err(|error| McpError(error.to_string()))?;
    Ok(())
}

/// Why a client could not be served.
#[derive(Debug, thiserror::Error)]
#[error("the client does not speak the Model Context Protocol: {0}")]
pub struct McpError(String);
