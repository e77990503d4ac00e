//! One answer: retrieve, prompt, generate, cite, remember.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::embedding::EmbedError;
use twin_models::language::{FinishReason, GenerateError, GenerateRequest, Generation, Input, Sampling};
use twin_models::prompt::{PromptError, Request};

use super::prepare::{Prepared, spoken};
use super::{Trace, TwinError, Twins};
use crate::cite::{Patience, Piece};
use crate::conversations::{ConversationError, Outcome, OutcomeKind};
use crate::generator::{Permit, SubmitError, nothing};
use crate::retrieve::{FoundPassage, RetrieveError};

/// What is asked of a twin.
#[derive(Debug, Clone)]
pub struct AnswerRequest {
    /// A model name, as [`Twins::twin`] takes it.
    pub model: String,
    /// The release that answers, where it is not the one that serves: a conversation stays with its release.
    pub release: Option<u32>,
    pub request: Request,
    /// The conversation so far, oldest first.
    pub history: Vec<ChatMessage>,
    /// What a client adds to the system message.
    pub instructions: Option<String>,
    /// Replaces the configured sampling.
    pub sampling: Option<Sampling>,
    /// The conversation to add this to; `None` keeps nothing.
    pub conversation: Option<String>,
}

impl AnswerRequest {
    /// A first request, answered as configured and kept nowhere.
    pub fn new(model: impl Into<String>, request: Request) -> Self {
        Self {
            model: model.into(),
            release: None,
            request,
            history: Vec::new(),
            instructions: None,
            sampling: None,
            conversation: None,
        }
    }
}

/// What happens while an answer is written, in this order.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The passages that the model is given. Sent once.
    Retrieval { passages: Vec<FoundPassage>, relevant: bool },
    /// The next piece of text.
    Token { text: String },
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// All tokens, joined.
    pub text: String,
    pub trace: Trace,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Twin(#[from] TwinError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("the prompt could not be made")]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Retrieve(#[from] RetrieveError),
    #[error("the citations could not be made")]
    Cite(#[from] EmbedError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("the answer could not be recorded")]
    Record(#[from] ConversationError),
    #[error("the model failed while it wrote the answer")]
    ModelFailed,
    #[error("a worker thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Twins {
    /// Answers, telling `on_event` as it goes; for callers in the same process, such as a terminal. `Break` stops the model
    /// as `cancel` does, and what was written until then is the answer.
    ///
    /// # Errors
    /// [`AnswerError`]; [`SubmitError::Full`] in it when too many wait for the model.
    pub async fn answer_with(
        self: &Arc<Self>,
        request: AnswerRequest,
        mut on_event: impl FnMut(Event) -> ControlFlow<()>,
        cancel: CancelFlag,
    ) -> Result<Answer, AnswerError> {
        let permit = self.admit()?;
        let (sender, mut events) = mpsc::channel(1);
        let stop = cancel.clone();
        let listen = async move {
            while let Some(event) = events.recv().await {
                if on_event(event).is_break() {
                    stop.cancel();
                    break;
                }
            }
        };
        let (answer, ()) = tokio::join!(self.answer(permit, request, sender, cancel), listen);
        answer
    }

    /// Answers. Events are sent as they happen; when their receiver is gone, the model stops, and what was written until then
    /// is recorded all the same.
    ///
    /// # Errors
    /// [`AnswerError`]; with a conversation, the request is recorded even then.
    pub async fn answer(
        self: &Arc<Self>,
        permit: Permit,
        request: AnswerRequest,
        events: mpsc::Sender<Event>,
        cancel: CancelFlag,
    ) -> Result<Answer, AnswerError> {
        let begun = Instant::now();
        if let Some(conversation) = &request.conversation {
            let message = ChatMessage::user(spoken(&request.request));
            self.parts.conversations.add(conversation, &message, None).await?;
        }
        let (this, asked) = (Arc::clone(self), request.clone());
        let prepared = tokio::task::spawn_blocking(move || this.prepare(&asked)).await??;
        let (passages, relevant) = (prepared.retrieval.passages.clone(), prepared.retrieval.trace.relevant);
        // A reader that is gone is noticed at the first token.
        let _ = events.send(Event::Retrieval { passages, relevant }).await;
        let written = match prepared.abstention {
            Some(text) => abstention(text, begun, &events).await,
            None => {
                let patience = self.patience(&prepared, &request.request);
                self.generate(permit, &prepared, patience, &events, cancel, begun).await?
            }
        };
        let quotes = matches!(request.request, Request::Ask { .. });
        let answer = self.cite(prepared, written, quotes, begun, &events).await?;
        match &request.conversation {
            Some(conversation) if !answer.text.is_empty() => {
                let message = ChatMessage::assistant(&answer.text);
                self.parts.conversations.add(conversation, &message, Some(&answer.trace)).await?;
                self.count(conversation, &answer.trace).await?;
            }
            _ => {}
        }
        Ok(answer)
    }

    /// Counts an answer for its release: how long it took, and that it was neither copied nor asked for again so far.
    async fn count(&self, conversation: &str, trace: &Trace) -> Result<(), ConversationError> {
        let Some(release) = trace.release.filter(|_| trace.finish_reason != "cancelled") else { return Ok(()) };
        for (kind, value) in
            [(OutcomeKind::Seconds, trace.total_seconds), (OutcomeKind::Copied, 0.0), (OutcomeKind::Regenerated, 0.0)]
        {
            let outcome = Outcome { release, conversation: conversation.to_owned(), kind, value };
            self.parts.conversations.record(&trace.author, &outcome).await?;
        }
        Ok(())
    }

    /// Lets the model write and passes on what it writes, until patience is over.
    async fn generate(
        &self,
        permit: Permit,
        prepared: &Prepared,
        patience: Option<Patience>,
        events: &mpsc::Sender<Event>,
        cancel: CancelFlag,
        begun: Instant,
    ) -> Result<Written, AnswerError> {
        let input = Input::Messages(prepared.messages.clone());
        let adapter = prepared.twin.adapter.clone();
        let job = GenerateRequest { input, adapter, sampling: prepared.sampling.clone() };
        let mut running = self.generator.submit(&permit, job, patience, cancel.clone())?;
        let mut first_token_seconds = None;
        loop {
            let text = tokio::select! {
                text = running.text.recv() => text,
                // Also while the model is still reading the prompt, or waiting for its turn.
                () = events.closed() => break,
            };
            let Some(text) = text else { break };
            first_token_seconds.get_or_insert_with(|| begun.elapsed().as_secs_f64());
            if events.send(Event::Token { text }).await.is_err() {
                break;
            }
        }
        if events.is_closed() {
            cancel.cancel();
            if first_token_seconds.is_none() {
                // It may still wait for its turn; its place is given back at once.
                return Ok(Written { generation: nothing(), first_token_seconds: 0.0 });
            }
            running.text.close(); // Wakes a model that waits for its reader.
        }
        let generation = running.done.await.map_err(|_| AnswerError::ModelFailed)??;
        let first_token_seconds = first_token_seconds.unwrap_or_else(|| begun.elapsed().as_secs_f64());
        Ok(Written { generation, first_token_seconds })
    }

    /// Aligns what was written to the passages, adds the anchor quote where it is needed, and sums up.
    async fn cite(
        self: &Arc<Self>,
        prepared: Prepared,
        written: Written,
        quotes: bool,
        begun: Instant,
        events: &mpsc::Sender<Event>,
    ) -> Result<Answer, AnswerError> {
        let Written { generation, first_token_seconds } = written;
        let this = Arc::clone(self);
        let quotes = quotes && generation.finish_reason != FinishReason::Cancelled;
        let (generated, evidence) = (generation.text.clone(), prepared.evidence.clone());
        let question = prepared.retrieval.trace.query.clone();
        let align = move || {
            let embedder = this.parts.embedder.as_ref();
            // A draft is aligned too, but nothing is quoted into it.
            match evidence {
                None => Ok(vec![Piece::without_claim(generated)]),
                Some(evidence) if quotes => evidence.cite(&generated, &question, embedder),
                Some(evidence) => evidence.align(&generated, embedder),
            }
        };
        let pieces = tokio::task::spawn_blocking(align).await??;
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        // What citing added is part of the answer for whoever reads along.
        if let Some(added) = text.strip_prefix(&generation.text).filter(|added| !added.is_empty()) {
            let _ = events.send(Event::Token { text: added.to_owned() }).await;
        }
        let total_seconds = begun.elapsed().as_secs_f64();
        let trace = self.trace(prepared, pieces, &generation);
        Ok(Answer { text, trace: Trace { first_token_seconds, total_seconds, ..trace } })
    }

    fn trace(&self, prepared: Prepared, pieces: Vec<Piece>, generation: &Generation) -> Trace {
        let Prepared { twin, retrieval, sampling, abstention, .. } = prepared;
        let finish_reason = match generation.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        };
        Trace {
            author: twin.author.id,
            release: twin.release.as_ref().map(|release| release.number),
            model: twin.model,
            base: self.parts.model.info().name.clone(),
            feature_view: twin.view,
            prompt: self.parts.prompts.version().clone(),
            sampling,
            retrieval: retrieval.trace,
            passages: retrieval.passages,
            pieces,
            abstained: abstention.is_some(),
            finish_reason: finish_reason.to_owned(),
            prompt_tokens: generation.usage.prompt_tokens,
            new_tokens: generation.usage.new_tokens,
            first_token_seconds: 0.0,
            total_seconds: 0.0,
            tokens_per_second: generation.timings.decode_tokens_per_second,
        }
    }
}

struct Written {
    generation: Generation,
    first_token_seconds: f64,
}

/// Says that there is nothing, without asking the model.
async fn abstention(text: &str, begun: Instant, events: &mpsc::Sender<Event>) -> Written {
    let _ = events.send(Event::Token { text: text.to_owned() }).await; // Recorded even if nobody reads it.
    let generation = Generation { text: text.to_owned(), finish_reason: FinishReason::Stop, ..nothing() };
    Written { generation, first_token_seconds: begun.elapsed().as_secs_f64() }
}
