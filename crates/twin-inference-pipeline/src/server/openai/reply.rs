//! A reply, whole or in parts as it is written: the forms that the two kinds of completions have.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use twin_models::language::TokenWatch;

use super::{ApiError, likelihoods};
use crate::generator::Permit;
use crate::server::view::AnswerView;
use crate::server::{Caller, ServerState};
use crate::twins::{Answer, AnswerRequest, Event};

/// What a reply is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A conversation.
    Chat,
    /// A text that goes on.
    Text,
}

/// What all parts of one reply have in common.
#[derive(Clone)]
pub(super) struct Reply {
    kind: Kind,
    id: String,
    created: i64,
    model: String,
    watch: Option<TokenWatch>,
    /// Whether the content must have a form, which a sentence that says that there is nothing does not have.
    formed: bool,
    include_usage: bool,
}

impl Reply {
    pub(super) fn new(kind: Kind, model: String, request: &AnswerRequest, include_usage: bool) -> Self {
        let id = uuid::Uuid::new_v4().simple();
        let sampling = request.sampling.as_ref();
        Self {
            kind,
            id: if kind == Kind::Chat { format!("chatcmpl-{id}") } else { format!("cmpl-{id}") },
            created: jiff::Timestamp::now().as_second(),
            model,
            watch: sampling.and_then(|sampling| sampling.watch.clone()),
            formed: sampling.is_some_and(|sampling| sampling.format.is_some()),
            include_usage,
        }
    }

    /// Answers with the whole once it is there. A client that leaves drops this future and so stops the model.
    pub(super) async fn whole(
        self,
        state: &ServerState,
        permit: Permit,
        request: AnswerRequest,
        caller: Caller,
    ) -> Result<Response, ApiError> {
        let (mut receiver, answer) = state.answer(permit, request, caller);
        while receiver.recv().await.is_some() {}
        let answer = answer.await.map_err(ApiError::internal)??;
        let notes = self.likelihoods(&answer.text, 0);
        let mut body = self.envelope(if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" });
        let finish = finish_reason(&answer);
        let choice = match self.kind {
            Kind::Text => json!({ "index": 0, "text": answer.text, "logprobs": notes, "finish_reason": finish }),
            Kind::Chat => {
                let refuses = self.formed && answer.trace.abstained;
                let (content, refusal) = if refuses { (None, Some(&answer.text)) } else { (Some(&answer.text), None) };
                let message = json!({ "role": "assistant", "content": content, "refusal": refusal });
                json!({ "index": 0, "message": message, "logprobs": notes, "finish_reason": finish })
            }
        };
        body["choices"] = json!([choice]);
        body["usage"] = usage(&answer);
        body["system_fingerprint"] = json!(fingerprint(&answer));
        body["x_twin"] = json!(AnswerView::new(&answer.trace));
        Ok(Json(body).into_response())
    }

    /// Answers with each part as it comes.
    pub(super) fn stream(
        self,
        state: &ServerState,
        permit: Permit,
        request: AnswerRequest,
        caller: Caller,
    ) -> Response {
        let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
        axum::response::Sse::new(self.parts(state, permit, request, caller)).keep_alive(keep_alive).into_response()
    }

    fn parts(
        self,
        state: &ServerState,
        permit: Permit,
        request: AnswerRequest,
        caller: Caller,
    ) -> impl Stream<Item = Result<Sse, Infallible>> + use<> {
        let (receiver, answer) = state.answer(permit, request, caller);
        let first =
            (self.kind == Kind::Chat).then(|| self.chunk(json!({ "role": "assistant", "content": "" }), Value::Null));
        let (reply, mut shown, mut relevant) = (self.clone(), 0, true);
        let tokens = ReceiverStream::new(receiver).filter_map(move |event| {
            let chunk = match event {
                Event::Token { text } => {
                    let notes = reply.likelihoods(&text, shown);
                    shown += text.chars().count();
                    // What comes without anything found is that there is nothing.
                    let field = if reply.formed && !relevant { "refusal" } else { "content" };
                    Some(reply.chunk(json!({ field: text }), notes).to_string())
                }
                Event::Retrieval { relevant: found, .. } => {
                    relevant = found;
                    None
                }
            };
            std::future::ready(chunk)
        });
        let last = futures::stream::once(async move {
            futures::stream::iter(match answer.await {
                Ok(Ok(answer)) => self.last(&answer),
                // A stream that failed has no `[DONE]`.
                Ok(Err(error)) => vec![ApiError::from(error).body().to_string()],
                Err(error) => vec![ApiError::internal(error).body().to_string()],
            })
        });
        let first = futures::stream::iter(first.map(|chunk| chunk.to_string()));
        first.chain(tokens).chain(last.flatten()).map(|data| Ok(Sse::default().data(data)))
    }

    fn last(&self, answer: &Answer) -> Vec<String> {
        let mut finish =
            self.chunk(if self.kind == Kind::Chat { json!({}) } else { json!({ "content": "" }) }, Value::Null);
        finish["choices"][0]["finish_reason"] = json!(finish_reason(answer));
        finish["x_twin"] = json!(AnswerView::new(&answer.trace));
        finish["system_fingerprint"] = json!(fingerprint(answer));
        let mut chunks = vec![finish.to_string()];
        if self.include_usage {
            let mut last = self.envelope(self.part());
            last["choices"] = json!([]);
            last["usage"] = usage(answer);
            chunks.push(last.to_string());
        }
        chunks.push("[DONE]".to_owned());
        chunks
    }

    /// A part of the reply. Of a completion, `delta` is its content.
    fn chunk(&self, delta: Value, likelihoods: Value) -> Value {
        let mut chunk = self.envelope(self.part());
        let choice = match self.kind {
            Kind::Chat => json!({ "index": 0, "delta": delta, "logprobs": likelihoods, "finish_reason": null }),
            Kind::Text => {
                json!({ "index": 0, "text": delta["content"], "logprobs": likelihoods, "finish_reason": null })
            }
        };
        chunk["choices"] = json!([choice]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn part(&self) -> &'static str {
        if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn envelope(&self, object: &str) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model })
    }

    /// How likely the tokens of the next text were, which begins after so many characters; null where nobody asked.
    fn likelihoods(&self, text: &str, begin: usize) -> Value {
        let Some(watch) = &self.watch else { return Value::Null };
        let notes = watch.take(text.len());
        if self.kind == Kind::Chat { likelihoods::of_chat(&notes) } else { likelihoods::of_text(&notes, begin) }
    }
}

fn fingerprint(answer: &Answer) -> String {
    match answer.trace.release {
        Some(release) => format!("release-{release}"),
        None => answer.trace.base.clone(),
    }
}

fn usage(answer: &Answer) -> Value {
    let (prompt, new) = (answer.trace.prompt_tokens, answer.trace.new_tokens);
    json!({
        "prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new,
        "prompt_tokens_details": { "cached_tokens": answer.trace.cached_tokens },
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    if matches!(answer.trace.finish_reason.as_str(), "length" | "deadline") { "length" } else { "stop" }
}
