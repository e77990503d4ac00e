//! One answer: retrieve, prompt, generate, cite, remember.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;
use twin_domain::{CancelFlag, ChatMessage, Filter, Role};
use twin_models::embedding::EmbedError;
use twin_models::language::{FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel, Sampling};
use twin_models::prompt::{PromptError, Request};

use super::{Trace, Twin, TwinError, Twins};
use crate::cite::{Piece, Support, cite};
use crate::conversations::ConversationError;
use crate::generator::SubmitError;
use crate::retrieve::{FoundPassage, Retrieval, RetrieveError, retrieve};
use crate::words::content_words;

/// What is asked of a twin.
#[derive(Debug, Clone)]
pub struct AnswerRequest {
    /// A model name, as [`Twins::twin`] takes it.
    pub model: String,
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

/// What happens while an answer is written, in this order.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The passages that the answer rests on. Sent once.
    Retrieval { passages: Vec<FoundPassage>, relevant: bool },
    /// The next piece of text.
    Token { text: String },
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
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
    /// Answers. Events are sent as they happen; when their receiver is gone, the model stops and what was written until then
    /// is recorded all the same.
    ///
    /// # Errors
    /// [`AnswerError`]; with a conversation, the request is recorded even then.
    pub async fn answer(
        self: &Arc<Self>,
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
        let retrieval = &prepared.retrieval;
        let (passages, relevant) = (retrieval.passages.clone(), retrieval.relevant);
        // A reader that is gone is noticed at the first token.
        let _ = events.send(Event::Retrieval { passages, relevant }).await;

        let answer = match prepared.abstention.clone() {
            Some(text) => {
                let _ = events.send(Event::Token { text: text.clone() }).await;
                abstained(self, &prepared, text)
            }
            None => self.generate(&request, &prepared, &events, cancel, begun).await?,
        };
        if let Some(conversation) = &request.conversation {
            let message = ChatMessage::assistant(&answer.text);
            self.parts.conversations.add(conversation, &message, Some(&answer.trace)).await?;
        }
        Ok(answer)
    }

    /// Finds the twin and its passages and renders the prompt. Blocking.
    fn prepare(&self, asked: &AnswerRequest) -> Result<Prepared, AnswerError> {
        let parts = &self.parts;
        let twin = self.twin(&asked.model)?;
        let count = |text: &str| parts.model.count_tokens(text);
        let query = query(&asked.request, &asked.history);
        let config = &parts.config.retrieval;
        let (store, embedder) = (parts.store.as_ref(), parts.embedder.as_ref());
        let mut retrieval =
            retrieve(store, embedder, &twin.view, &twin.author.id, &query, &Filter::default(), config, &count)?;
        let asks = matches!(asked.request, Request::Ask { .. });
        let abstention = (asks && !retrieval.relevant)
            .then(|| format!("I haven't written anything about that, as far as {}'s posts go.", twin.author.name));
        if !retrieval.relevant || matches!(asked.request, Request::Continue { .. }) {
            retrieval.passages.clear();
        }
        let passages: Vec<_> = retrieval.passages.iter().map(FoundPassage::for_prompt).collect();
        let history = recent(&asked.history, parts.config.history, parts.config.history_tokens, &count);
        let mut messages = parts.prompts.render(&twin.author, &asked.request, &passages, &history)?;
        if let (Some(extra), Some(system)) = (&asked.instructions, messages.first_mut()) {
            system.content = format!("{}\n{extra}", system.content);
        }
        let sampling = asked
            .sampling
            .clone()
            .unwrap_or_else(|| if asks { parts.config.ask.clone() } else { parts.config.write.clone() });
        Ok(Prepared { twin, retrieval, messages, sampling, abstention })
    }

    async fn generate(
        self: &Arc<Self>,
        request: &AnswerRequest,
        prepared: &Prepared,
        events: &mpsc::Sender<Event>,
        cancel: CancelFlag,
        begun: Instant,
    ) -> Result<Answer, AnswerError> {
        let input = Input::Messages(prepared.messages.clone());
        let adapter = prepared.twin.adapter.clone();
        let job = GenerateRequest { input, adapter, sampling: prepared.sampling.clone() };
        let mut running = self.generator.submit(job, cancel.clone())?;
        let mut written = String::new();
        let mut first_token = None;
        loop {
            let text = tokio::select! {
                text = running.text.recv() => text,
                // Also while the model is still reading the prompt, or waiting for its turn.
                () = events.closed() => { cancel.cancel(); running.text.recv().await }
            };
            let Some(text) = text else { break };
            first_token.get_or_insert_with(|| begun.elapsed().as_secs_f64());
            written.push_str(&text);
            if events.send(Event::Token { text }).await.is_err() {
                cancel.cancel();
            }
        }
        let generation = running.done.await.map_err(|_| AnswerError::ModelFailed)??;
        let (this, question) = (Arc::clone(self), prepared.retrieval.query.clone());
        let passages = prepared.retrieval.passages.clone();
        let asks = matches!(request.request, Request::Ask { .. });
        let finished = generation.finish_reason != FinishReason::Cancelled;
        let text = generation.text.clone();
        let pieces = tokio::task::spawn_blocking(move || this.pieces(&text, &question, &passages, asks && finished));
        let pieces = pieces.await??;
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        // What citing added is part of the answer for whoever reads along.
        if let Some(added) = text.strip_prefix(&generation.text).filter(|added| !added.is_empty()) {
            let _ = events.send(Event::Token { text: added.to_owned() }).await;
        }
        let first_token_seconds = first_token.unwrap_or_default();
        let timing = Timing { first_token_seconds, total_seconds: begun.elapsed().as_secs_f64() };
        Ok(Answer { text, trace: self.trace(prepared, pieces, &generation, timing) })
    }

    /// The sentences of an answer with their citations. A draft is aligned too, but nothing is quoted into it.
    fn pieces(
        &self,
        text: &str,
        question: &str,
        passages: &[FoundPassage],
        quote: bool,
    ) -> Result<Vec<Piece>, EmbedError> {
        let embedder = self.parts.embedder.as_ref();
        if passages.is_empty() {
            return Ok(vec![Piece {
                text: text.to_owned(),
                support: Support::NoClaim,
                citations: vec![],
                evidence: None,
            }]);
        }
        if quote {
            return cite(text, question, passages, embedder);
        }
        crate::cite::Evidence::new(passages, embedder)?.align(text, embedder)
    }

    fn trace(&self, prepared: &Prepared, pieces: Vec<Piece>, generation: &Generation, timing: Timing) -> Trace {
        let Prepared { twin, retrieval, sampling, .. } = prepared;
        Trace {
            release: twin.release.as_ref().map(|release| release.number),
            model: twin.model.clone(),
            base: self.parts.model.info().name.clone(),
            feature_view: twin.view.clone(),
            prompt: self.parts.prompts.version().clone(),
            sampling: sampling.clone(),
            query: retrieval.query.clone(),
            passages: retrieval.passages.clone(),
            pieces,
            abstained: false,
            finish_reason: match generation.finish_reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
                FinishReason::Cancelled => "cancelled",
            }
            .to_owned(),
            prompt_tokens: generation.usage.prompt_tokens,
            new_tokens: generation.usage.new_tokens,
            retrieval_seconds: retrieval.seconds,
            first_token_seconds: timing.first_token_seconds,
            total_seconds: timing.total_seconds,
            tokens_per_second: generation.timings.decode_tokens_per_second,
        }
    }
}

/// All that is known before the model runs.
struct Prepared {
    twin: Twin,
    retrieval: Retrieval,
    messages: Vec<ChatMessage>,
    sampling: Sampling,
    /// What the twin says instead of answering, when nothing relevant was found.
    abstention: Option<String>,
}

struct Timing {
    first_token_seconds: f64,
    total_seconds: f64,
}

fn abstained(twins: &Twins, prepared: &Prepared, text: String) -> Answer {
    let piece = Piece { text: text.clone(), support: Support::NoClaim, citations: vec![], evidence: None };
    let nothing = Generation {
        text: String::new(),
        finish_reason: FinishReason::Stop,
        usage: Default::default(),
        timings: Default::default(),
    };
    let total_seconds = prepared.retrieval.seconds;
    let timing = Timing { first_token_seconds: total_seconds, total_seconds };
    let trace = Trace { abstained: true, ..twins.trace(prepared, vec![piece], &nothing, timing) };
    Answer { text, trace }
}

/// What a request says, for the record and for search.
fn spoken(request: &Request) -> String {
    match request {
        Request::Ask { question } => question.clone(),
        Request::WritePost { title } => title.clone(),
        Request::WriteSection { title, heading } => format!("{title}: {heading}"),
        Request::Continue { opening } => opening.clone(),
    }
}

/// What to search for. A follow-up such as "And why?" says too little by itself: the question before it is added.
fn query(request: &Request, history: &[ChatMessage]) -> String {
    let text = spoken(request);
    let before = history.iter().rev().find(|message| message.role == Role::User);
    match before {
        Some(before) if matches!(request, Request::Ask { .. }) && content_words(&text).len() < 2 => {
            format!("{} {text}", before.content)
        }
        _ => text,
    }
}

/// The last messages that fit, beginning with one of the reader's.
fn recent(history: &[ChatMessage], most: usize, tokens: usize, count: &dyn Fn(&str) -> usize) -> Vec<ChatMessage> {
    let mut room = tokens;
    let mut start = history.len();
    for (index, message) in history.iter().enumerate().rev().take(most) {
        let Some(left) = room.checked_sub(count(&message.content)) else { break };
        room = left;
        start = index;
    }
    let first_of_reader = history[start..].iter().position(|message| message.role == Role::User);
    first_of_reader.map_or_else(Vec::new, |offset| history[start + offset..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: &str) -> Request {
        Request::Ask { question: question.to_owned() }
    }

    #[test]
    fn a_follow_up_is_searched_with_the_question_before() {
        let history = [ChatMessage::user("What is oakum?"), ChatMessage::assistant("Tarred hemp.")];
        assert_eq!(query(&ask("And why?"), &history), "What is oakum? And why?");
        assert_eq!(query(&ask("How long does cotton last?"), &history), "How long does cotton last?");
        assert_eq!(query(&ask("And why?"), &[]), "And why?");
    }

    #[test]
    fn history_is_bounded_and_begins_with_the_reader() {
        let history: Vec<_> = (0..6)
            .flat_map(|n| [ChatMessage::user(format!("q {n}")), ChatMessage::assistant(format!("a {n}"))])
            .collect();
        let count = |text: &str| text.split_whitespace().count();
        assert_eq!(recent(&history, 4, 100, &count).len(), 4);
        let few = recent(&history, 4, 7, &count);
        assert_eq!(few, history[10..], "three fit, and the first of them is the twin's");
        assert!(recent(&history, 4, 1, &count).is_empty());
    }
}
