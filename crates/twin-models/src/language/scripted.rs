//! A model without weights for tests of whatever needs a [`LanguageModel`]: it says what it was told to say.
//!
//! Its tokens are words with the space before them. Streaming, stop texts, limits, cancelling and the context's length
//! behave as with a real model, so a server can be tested without one.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use twin_domain::{CancelFlag, ChatMessage, Digest};

use super::answer_text::StopFilter;
use super::architecture::{Architecture, Variant};
use super::lora::{Adapter, LoraConfig, Projection};
use super::watch::{TokenNote, TokenWatch};
use super::{
    AdapterError, Batch, FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel, Listener,
    ModelInfo, Timings, TokenizerError, Usage,
};

/// How likely it says that each of its words was.
const LIKELIHOOD: f32 = -0.25;

type Script = Box<dyn Fn(&GenerateRequest, usize) -> String + Send + Sync>;

/// A model that follows a script; for tests.
pub struct ScriptedModel {
    info: ModelInfo,
    script: Script,
    delay: Duration,
    requests: Mutex<Vec<GenerateRequest>>,
    words: Mutex<Words>,
}

/// Every word that was seen; its number is its token.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl ScriptedModel {
    /// Gives these answers in turn, and the last one again and again.
    pub fn new(answers: Vec<String>) -> Self {
        Self::with_script(Box::new(move |_, count| answers.get(count).or(answers.last()).cloned().unwrap_or_default()))
    }

    /// Answers each request as `answer` says.
    pub fn answering(answer: impl Fn(&GenerateRequest) -> String + Send + Sync + 'static) -> Self {
        Self::with_script(Box::new(move |request, _| answer(request)))
    }

    fn with_script(script: Script) -> Self {
        let info = ModelInfo {
            name: "scripted".to_owned(),
            digest: Digest::of("scripted"),
            context_length: 2048,
            vocab_size: 1 << 20,
            parameters: 0,
        };
        Self { info, script, delay: Duration::ZERO, requests: Mutex::default(), words: Mutex::default() }
    }

    /// Waits this long before every token.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Takes at most this many tokens, prompt and answer together.
    #[must_use]
    pub fn with_context_length(mut self, context_length: usize) -> Self {
        self.info.context_length = context_length;
        self
    }

    /// Goes by this name.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.info.name = name.to_owned();
        self
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        locked(&self.requests).clone()
    }

    fn script_for(&self, request: &GenerateRequest) -> String {
        let mut requests = locked(&self.requests);
        let count = requests.len();
        requests.push(request.clone());
        drop(requests);
        (self.script)(request, count)
    }
}

impl LanguageModel for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut known = locked(&self.words);
        Ok(words(text).map(|word| known.number(word)).collect())
    }

    fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError> {
        let known = locked(&self.words);
        Ok(token_ids.iter().filter_map(|token| known.words.get(*token as usize)).map(String::as_str).collect())
    }

    fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TokenizerError> {
        let mut text = String::new();
        for message in messages {
            text.push_str(&format!("{}: {}\n", message.role.as_str(), message.content));
        }
        if add_generation_prompt {
            text.push_str("assistant:");
        }
        Ok(text)
    }

    fn encode_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<Vec<u32>, TokenizerError> {
        self.encode(&self.render_chat(messages, add_generation_prompt)?)
    }

    /// Any folder holds an adapter, a tiny one of zeros. Its alpha is the `lora_alpha` of the folder's `adapter_config.json`,
    /// where there is one, so that a script can tell one adapter from another.
    fn load_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError> {
        std::fs::read_dir(directory).map_err(|source| AdapterError::Read { path: directory.to_owned(), source })?;
        let sizes = Architecture {
            vocab_size: 8,
            hidden_size: 8,
            intermediate_size: 8,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            rms_epsilon: 1e-5,
            rope_theta: 10_000.0,
            context_length: 8,
            variant: Variant::default(),
        };
        let text = std::fs::read_to_string(directory.join("adapter_config.json")).unwrap_or_default();
        let stated = serde_json::from_str::<serde_json::Value>(&text).ok();
        let alpha = stated.and_then(|config| config["lora_alpha"].as_f64()).map(|alpha| alpha as f32);
        let default = LoraConfig::default();
        let alpha = alpha.unwrap_or(default.alpha);
        let config = LoraConfig { rank: 1, alpha, target_modules: vec![Projection::Query], ..default };
        Ok(Adapter::zero(config, &sizes)?)
    }

    fn batch<'a>(&'a self) -> Box<dyn Batch<'a> + 'a> {
        Box::new(ScriptedBatch { model: self, saying: Vec::new() })
    }
}

/// Answers that are said together, a word of each in turn.
struct ScriptedBatch<'a> {
    model: &'a ScriptedModel,
    saying: Vec<Saying<'a>>,
}

struct Saying<'a> {
    listener: Box<dyn Listener + 'a>,
    cancel: CancelFlag,
    filter: StopFilter,
    watch: Option<TokenWatch>,
    /// What is still to be said.
    words: VecDeque<String>,
    limit: usize,
    usage: Usage,
    text: String,
    began: Instant,
    first: Option<Duration>,
}

impl<'a> ScriptedBatch<'a> {
    fn end(&mut self, index: usize, finish_reason: FinishReason) {
        let Saying { listener, usage, text, began, first, .. } = self.saying.remove(index);
        let total = began.elapsed();
        let timings = Timings { time_to_first_token: first.unwrap_or(total), total, ..Timings::default() };
        listener.end(Ok(Generation { text, finish_reason, usage, timings }));
    }
}

impl ScriptedModel {
    /// The length of a prompt, which leaves room for an answer.
    fn prompt_tokens(&self, request: &GenerateRequest) -> Result<usize, GenerateError> {
        request.sampling.validate()?;
        let prompt_tokens = match &request.input {
            Input::Messages(messages) => self.encode_chat(messages, true)?.len(),
            Input::Tokens(token_ids) => token_ids.len(),
        };
        let context_length = self.info.context_length;
        if prompt_tokens == 0 {
            return Err(GenerateError::EmptyPrompt);
        }
        if prompt_tokens >= context_length {
            return Err(GenerateError::PromptTooLong { prompt_tokens, context_length });
        }
        Ok(prompt_tokens)
    }
}

impl<'a> Batch<'a> for ScriptedBatch<'a> {
    fn add(&mut self, request: GenerateRequest, cancel: CancelFlag, listener: Box<dyn Listener + 'a>) {
        let began = Instant::now();
        let prompt_tokens = match self.model.prompt_tokens(&request) {
            Ok(prompt_tokens) => prompt_tokens,
            Err(error) => return listener.end(Err(error)),
        };
        let script = self.model.script_for(&request);
        let limit = request.sampling.max_new_tokens.min(self.model.info.context_length - prompt_tokens);
        self.saying.push(Saying {
            listener,
            cancel,
            filter: StopFilter::new(request.sampling.stop),
            watch: request.sampling.watch,
            words: words(&script).map(str::to_owned).collect(),
            limit,
            usage: Usage { prompt_tokens, ..Usage::default() },
            text: String::new(),
            began,
            first: None,
        });
    }

    fn step(&mut self) {
        std::thread::sleep(self.model.delay);
        for index in (0..self.saying.len()).rev() {
            if let Some(finish_reason) = self.saying[index].say() {
                self.end(index, finish_reason);
            }
        }
    }

    fn len(&self) -> usize {
        self.saying.len()
    }
}

impl Saying<'_> {
    /// Says the next word, and why there is none after it.
    fn say(&mut self) -> Option<FinishReason> {
        if let Some(word) = self.words.pop_front_if(|_| self.usage.new_tokens < self.limit) {
            self.first.get_or_insert_with(|| self.began.elapsed());
            self.usage.new_tokens += 1;
            if let Some(watch) = &self.watch {
                let bytes = word.as_bytes().to_vec();
                let top = std::iter::repeat_n((bytes.clone(), LIKELIHOOD), watch.top()).collect();
                watch.note(TokenNote { bytes, likelihood: LIKELIHOOD, top, shown: word.len() });
            }
            let shown = self.filter.push(&word);
            if self.give_out(shown).is_break() || self.cancel.is_cancelled() {
                return Some(FinishReason::Cancelled);
            }
            if self.filter.stopped() {
                return Some(FinishReason::Stop);
            }
            if !self.words.is_empty() {
                return None;
            }
        }
        let finish_reason = if self.words.is_empty() { FinishReason::Stop } else { FinishReason::Length };
        let held = self.filter.finish();
        Some(if self.give_out(held).is_break() { FinishReason::Cancelled } else { finish_reason })
    }

    fn give_out(&mut self, shown: String) -> ControlFlow<()> {
        self.text.push_str(&shown);
        if shown.is_empty() { ControlFlow::Continue(()) } else { self.listener.text(&shown) }
    }
}

impl Words {
    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words of a text, each with the space before it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace).map_or(rest.len(), |length| word + length);
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}
