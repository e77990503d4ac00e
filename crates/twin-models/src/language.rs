//! Language models: weights, tokenizer, chat template, decoder, LoRA, training steps and generation.
//!
//! Training, evaluation and serving use one decoder (in dense f32; in eight bits where answers are written). Schedules, data sets and servers are elsewhere: this module knows tokens and messages.

mod answer;
mod answer_text;
mod architecture;
mod attention;
mod backward;
mod batch;
mod chat_template;
mod checkpoint;
mod decoder;
mod durable;
mod export;
mod gguf;
mod gguf_config;
mod gguf_metadata;
mod gguf_tokenizer;
mod hub_config;
#[expect(clippy::result_large_err, reason = "a model is loaded once; its error may be large")]
mod llama;
mod lookup;
mod lora;
mod loss;
mod matmul;
mod matvec;
mod ops;
mod optimizer;
mod peft;
mod preference;
mod prefixes;
mod quantized;
mod remote;
pub mod sampling;
mod scripted;
mod session;
mod simd;
mod steering;
#[cfg(test)]
mod tests;
mod tokenizer;
mod training;
mod vocabulary;
mod watch;
#[expect(clippy::result_large_err, reason = "a model is loaded once; its error may be large")]
mod weights;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twin_domain::{CancelFlag, ChatMessage, Digest};

use crate::chat_client::ChatError;

pub use architecture::{Architecture, ArchitectureError, Sliding, Variant};
pub use checkpoint::CheckpointError;
pub use export::{ExportError, ExportFormat};
pub use gguf::GgufError;
pub use llama::{DecodePrecision, Llama, LoadOptions, model_digest};
pub use lora::{Adapter, LoraConfig, LoraConfigError, Projection};
pub use optimizer::AdamWConfig;
pub use peft::AdapterError;
pub use preference::{PairStanding, PreferenceLoss, PreferencePair};
pub use remote::RemoteModel;
pub use sampling::{OutputFormat, Sampling};
pub use scripted::ScriptedModel;
pub use tokenizer::{Tokenizer, TokenizerError};
pub use training::{StepLoss, StepReport, TrainError, Trainer, TrainerConfig, TrainingExample, training_memory};
pub use watch::{TokenNote, TokenWatch};
pub use weights::LoadModelError;

/// A model that answers. Work is synchronous and long; a server gives it a thread of its own.
pub trait LanguageModel: Send + Sync {
    /// Which model this is.
    fn info(&self) -> &ModelInfo;

    /// The tokens of a text, in which nothing is special.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError>;

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError>;

    /// How many tokens a text has; 0 when the tokenizer fails.
    fn count_tokens(&self, text: &str) -> usize {
        self.encode(text).map_or(0, |tokens| tokens.len())
    }

    /// A conversation as the model sees it, for people to read.
    ///
    /// # Errors
    /// When the model has no chat template or it fails.
    fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TokenizerError>;

    /// The tokens of a conversation. Messages cannot contain special tokens, whatever they say.
    ///
    /// # Errors
    /// As [`Self::render_chat`].
    fn encode_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<Vec<u32>, TokenizerError>;

    /// Whether voices can be added to it; without them it answers plainly.
    fn takes_adapters(&self) -> bool {
        true
    }

    /// Loads a PEFT adapter for this model.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the model.
    fn load_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError>;

    /// Begins to write answers together.
    fn batch<'a>(&'a self) -> Box<dyn Batch<'a> + 'a>;

    /// Answers. Text is handed to `on_text` as it comes, in whole characters and never with a part of a stop text;
    /// [`ControlFlow::Break`] ends the answer like `cancel` does, after the token or part of the prompt at hand.
    ///
    /// # Errors
    /// When the request makes no sense or the prompt is longer than the model's context. Being cancelled is no error.
    fn generate(
        &self,
        request: &GenerateRequest,
        cancel: &CancelFlag,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        let mut result = None;
        let mut batch = self.batch();
        batch.add(request.clone(), cancel.clone(), Box::new(Caller { on_text, result: &mut result }));
        while !batch.is_empty() {
            batch.step();
        }
        drop(batch);
        result.expect("a batch ends every answer that it was given")
    }
}

/// Answers that a model writes together: it reads its weights once for all of them. What an answer says does not depend on
/// who else is there.
pub trait Batch<'a> {
    /// Takes a request in. A listener of one that makes no sense hears so at once.
    fn add(&mut self, request: GenerateRequest, cancel: CancelFlag, listener: Box<dyn Listener + 'a>);

    /// Reads a part of one prompt and writes the next token, or a few, of every answer whose prompt is read. Answers that
    /// are over, or that nobody wants any more, are not in the batch after it.
    fn step(&mut self);

    /// How many answers are being written or waited for.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who an answer is written for. The others of a batch wait while it listens.
pub trait Listener {
    /// The next piece of text: whole characters, and never a part of a stop text. `Break` ends the answer.
    fn text(&mut self, piece: &str) -> ControlFlow<()>;

    /// The answer is over, or there is none. Being cancelled is no error.
    fn end(self: Box<Self>, result: Result<Generation, GenerateError>);
}

/// The caller of [`LanguageModel::generate`].
struct Caller<'a> {
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    result: &'a mut Option<Result<Generation, GenerateError>>,
}

impl Listener for Caller<'_> {
    fn text(&mut self, piece: &str) -> ControlFlow<()> {
        (self.on_text)(piece)
    }

    fn end(self: Box<Self>, result: Result<Generation, GenerateError>) {
        *self.result = Some(result);
    }
}

/// Which model it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The catalogue name.
    pub name: String,
    /// Of the weights file.
    pub digest: Digest,
    /// The longest sequence, prompt and answer together, in tokens.
    pub context_length: usize,
    pub vocab_size: usize,
    /// Without norms; tied embeddings count once.
    pub parameters: usize,
}

/// What an answer follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A conversation; the model takes the next turn.
    Messages(Vec<ChatMessage>),
    /// Tokens to be continued.
    Tokens(Vec<u32>),
}

/// A request for an answer.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    pub input: Input,
    /// The voice; the plain base without one.
    pub adapter: Option<Arc<Adapter>>,
    pub sampling: Sampling,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop text came.
    Stop,
    /// `max_new_tokens` or the context's end was reached.
    Length,
    /// Somebody did not want more.
    Cancelled,
}

/// Tokens that went in and came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    /// How many of the prompt's tokens were still known from requests before.
    pub cached_tokens: usize,
    pub new_tokens: usize,
    /// How many tokens were guessed ahead by looking them up in the prompt, and how many of them came true.
    pub guessed_tokens: usize,
    pub right_guesses: usize,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// From the call to the first token.
    pub time_to_first_token: Duration,
    pub total: Duration,
    /// Prompt tokens computed per second; 0 when there were none.
    pub prefill_tokens_per_second: f64,
    /// Tokens per second after the first; 0 when there was only one.
    pub decode_tokens_per_second: f64,
    /// How many answers were written together, on average over this one's steps; 0 when there was no step.
    pub mean_batch: f64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Everything that `on_text` was given.
    pub text: String,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: Timings,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("the prompt has {prompt_tokens} tokens, the model's context {context_length}: shorten the prompt")]
    PromptTooLong { prompt_tokens: usize, context_length: usize },
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("token {token} is not in the model's vocabulary of {vocab_size}")]
    UnknownToken { token: u32, vocab_size: usize },
    #[error("`{parameter}` {reason}")]
    InvalidSampling { parameter: &'static str, reason: &'static str },
    #[error("the answer cannot be held to its form: {reason}")]
    Format { reason: String },
    #[error("the adapter was made for another base model")]
    AdapterMismatch,
    #[error("the prompt could not be encoded")]
    Tokenizer(#[from] TokenizerError),
    #[error("the server that runs the language model gave no answer")]
    Remote(#[from] ChatError),
}

/// A sum of negative log-likelihoods.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Nll {
    /// The sum in nats.
    pub nats: f64,
    /// Over how many tokens.
    pub tokens: usize,
}

impl Nll {
    /// Bits per byte of the text that the tokens stand for, by which models with different tokenizers compare.
    pub fn bits_per_byte(&self, bytes: usize) -> f64 {
        if bytes == 0 { 0.0 } else { self.nats / std::f64::consts::LN_2 / bytes as f64 }
    }
}
