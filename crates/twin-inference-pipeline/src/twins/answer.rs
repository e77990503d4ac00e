//! One answer: retrieve, prompt, generate, cite, remember.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::Instrument as _;
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::embedding::EmbedError;
use twin_models::language::{FinishReason, GenerateError, GenerateRequest, Generation, Input, Sampling};
use twin_models::prompt::{PromptError, Request};

use super::prepare::{Prepared, spoken};
use super::{Trace, TwinError, Twins};
use crate::cite::{Patience, Piece};
use crate::conversations::{ConversationError, Outcome, OutcomeKind};
use crate::generator::{Permit, Running, SubmitError, nothing};
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
    #[error("the model did not come to this answer within {seconds} s: try again when less is asked of it")]
    Late { seconds: u64 },
    #[error("a worker thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl AnswerError {
    /// A word for it that programs can count by.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Twin(_) => "twin",
            Self::Submit(_) => "overload",
            Self::Prompt(_) => "prompt",
            Self::Retrieve(_) => "retrieval",
            Self::Cite(_) => "citation",
            Self::Generate(_) | Self::ModelFailed => "model",
            Self::Late { .. } => "deadline",
            Self::Record(_) => "storage",
            Self::Panicked(_) => "panic",
        }
    }
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
        let span = tracing::info_span!("retrieval", gen_ai.operation.name = "retrieval");
        let prepared = tokio::task::spawn_blocking(move || span.in_scope(|| this.prepare(&asked))).await??;
        let (passages, relevant) = (prepared.retrieval.passages.clone(), prepared.retrieval.trace.relevant);
        // A reader that is gone is noticed at the first token.
        let _ = events.send(Event::Retrieval { passages, relevant }).await;
        let written = match prepared.abstention {
            Some(text) => abstention(text, begun, &events).await,
            None => {
                // What has a form is no prose, in which sentences could be told from each other.
                let is_prose = prepared.sampling.format.is_none();
                let patience = self.patience(&prepared, &request.request).filter(|_| is_prose);
                let span = tracing::info_span!("generate", gen_ai.operation.name = "text_completion");
                self.generate(permit, &prepared, patience, &events, cancel, begun).instrument(span).await?
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

    /// Lets the model write and passes on what it writes, until patience or time is over.
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
        let submitted = Instant::now();
        let mut running = self.generator.submit(&permit, job, patience, cancel.clone())?;
        let seconds = self.config().deadline_seconds;
        let (end, first_token) = self.pass_on(&mut running, events, begun + Duration::from_secs(seconds)).await;
        let first_token_seconds = first_token.map(|at| (at - begun).as_secs_f64());
        if end != End::Written {
            cancel.cancel();
            running.text.close(); // Wakes a model that waits for its reader.
        }
        // It may still wait for its turn; its place is given back at once.
        match (end, first_token) {
            (End::Left, None) => return Ok(Written::nothing()),
            (End::Late, None) => return Err(AnswerError::Late { seconds }),
            _ => {}
        }
        let generation = running.done.await.map_err(|_| AnswerError::ModelFailed)??;
        let waited = first_token.unwrap_or_else(Instant::now) - submitted;
        Ok(Written {
            queue_seconds: waited.saturating_sub(generation.timings.time_to_first_token).as_secs_f64(),
            is_late: end == End::Late && generation.finish_reason == FinishReason::Cancelled,
            generation,
            first_token_seconds: first_token_seconds.unwrap_or_else(|| begun.elapsed().as_secs_f64()),
        })
    }

    /// Passes text on as it comes, and tells when the first came. The model never waits for a slow reader: what has not been
    /// taken is joined, so it is held once and is no longer than the answer; who takes nothing at all counts as gone.
    async fn pass_on(
        &self,
        running: &mut Running,
        events: &mpsc::Sender<Event>,
        deadline: Instant,
    ) -> (End, Option<Instant>) {
        let patience = Duration::from_secs(self.config().reader_seconds);
        let (mut first, mut pending, mut taken) = (None, String::new(), Instant::now());
        let mut is_written = false;
        loop {
            if is_written && pending.is_empty() {
                return (End::Written, first);
            }
            tokio::select! {
                biased;
                room = events.reserve(), if !pending.is_empty() => {
                    let Ok(room) = room else { return (End::Left, first) };
                    room.send(Event::Token { text: std::mem::take(&mut pending) });
                    taken = Instant::now();
                }
                // Also while the model is still reading the prompt, or waiting for its turn.
                () = events.closed() => return (End::Left, first),
                () = sleep_until(deadline.into()), if !is_written => return (End::Late, first),
                () = sleep_until((taken + patience).into()), if !pending.is_empty() => return (End::Left, first),
                text = running.text.recv(), if !is_written => match text {
                    Some(text) => {
                        first.get_or_insert_with(Instant::now);
                        if pending.is_empty() {
                            taken = Instant::now();
                        }
                        pending.push_str(&text);
                    }
                    None => is_written = true,
                },
            }
        }
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
        let Written { generation, first_token_seconds, queue_seconds, is_late } = written;
        let this = Arc::clone(self);
        let quotes = quotes && generation.finish_reason != FinishReason::Cancelled;
        let (generated, evidence) = (generation.text.clone(), prepared.evidence.clone());
        let question = prepared.retrieval.trace.query.clone();
        let is_prose = prepared.sampling.format.is_none();
        let align = move || {
            let embedder = this.parts.embedder.as_ref();
            // A draft is aligned too, but nothing is quoted into it.
            match evidence.filter(|_| is_prose) {
                None => Ok(vec![Piece::without_claim(generated)]),
                Some(evidence) if quotes => evidence.cite(&generated, &question, embedder),
                Some(evidence) => evidence.align(&generated, embedder),
            }
        };
        let pieces = tokio::task::spawn_blocking(align).await??;
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        // What citing added is part of the answer for whoever reads along.
        if let Some(added) = text.strip_prefix(&generation.text).filter(|added| !added.is_empty()) {
            let patience = Duration::from_secs(self.config().reader_seconds);
            let _ = timeout(patience, events.send(Event::Token { text: added.to_owned() })).await; // As above, or gone.
        }
        let total_seconds = begun.elapsed().as_secs_f64();
        let mut trace = self.trace(prepared, pieces, &generation);
        if is_late {
            trace.finish_reason = "deadline".to_owned();
        }
        Ok(Answer { text, trace: Trace { first_token_seconds, total_seconds, queue_seconds, ..trace } })
    }

    fn trace(&self, prepared: Prepared, pieces: Vec<Piece>, generation: &Generation) -> Trace {
        let Prepared { twin, retrieval, sampling, abstention, trimmed, .. } = prepared;
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
            cached_tokens: generation.usage.cached_tokens,
            new_tokens: generation.usage.new_tokens,
            guessed_tokens: generation.usage.guessed_tokens,
            right_guesses: generation.usage.right_guesses,
            trimmed,
            queue_seconds: 0.0,
            first_token_seconds: 0.0,
            total_seconds: 0.0,
            tokens_per_second: generation.timings.decode_tokens_per_second,
        }
    }
}

/// How passing text on ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The model has no more.
    Written,
    /// The reader takes no more.
    Left,
    /// Time was over.
    Late,
}

struct Written {
    generation: Generation,
    first_token_seconds: f64,
    queue_seconds: f64,
    is_late: bool,
}

impl Written {
    fn nothing() -> Self {
        Self { generation: nothing(), first_token_seconds: 0.0, queue_seconds: 0.0, is_late: false }
    }
}

/// Says that there is nothing, without asking the model.
async fn abstention(text: &str, begun: Instant, events: &mpsc::Sender<Event>) -> Written {
    let _ = events.send(Event::Token { text: text.to_owned() }).await; // Recorded even if nobody reads it.
    let generation = Generation { text: text.to_owned(), finish_reason: FinishReason::Stop, ..nothing() };
    Written { generation, first_token_seconds: begun.elapsed().as_secs_f64(), ..Written::nothing() }
}
