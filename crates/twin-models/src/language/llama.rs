//! The language model that runs in this process: a Llama decoder with its tokenizer, its threads and what it remembers of
//! the last request.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest as _, Sha256};
use twin_domain::{CancelFlag, ChatMessage, Digest};

use super::answer::Answer;
use super::architecture::Architecture;
use super::decoder::{Decoder, LayerTape, Ropes, Rows, Scratch};
use super::gguf::GgufFile;
use super::lora::Adapter;
use super::loss::{LossScratch, Target};
use super::matmul::measured_rate;
use super::session::{QuantizedWeights, Session};
use super::tokenizer::{Tokenizer, TokenizerError};
use super::training::{TrainError, TrainingExample, packs};
use super::weights::{LoadModelError, Weights};
use super::{
    AdapterError, FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel, ModelInfo, Nll,
    Timings, Usage,
};

/// The form of the weights when tokens are decoded one by one. Prompts, evaluation and training use f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DecodePrecision {
    /// Eight bits with a scale per 32 weights: a quarter of the bytes to read per token.
    #[default]
    Q8,
    /// As in training, for comparisons.
    F32,
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The name that the model goes by.
    pub name: String,
    /// The digest of the weights if it is known already; otherwise it is computed.
    pub digest: Option<Digest>,
    /// Threads to compute with; all cores when `None`.
    pub threads: Option<usize>,
    pub decode: DecodePrecision,
    /// Decode one token at a time, without guessing ahead. Answers are the same; for comparisons.
    pub plain: bool,
}

/// A Llama model in memory. Sharing it is cheap and safe; one request at a time is fastest.
pub struct Llama {
    info: ModelInfo,
    weights: Weights,
    ropes: Ropes,
    tokenizer: Tokenizer,
    pool: ThreadPool,
    decode: DecodePrecision,
    guess: bool,
    quantized: OnceLock<Option<QuantizedWeights>>,
    /// The last request's sequence, whose beginning the next one often shares.
    last: Mutex<Option<Remembered>>,
}

/// A sequence and the adapter (0 for none) that it was computed with.
struct Remembered {
    adapter: u64,
    session: Session,
}

// Angles are tabled per position, and attention over more would take minutes on a CPU.
const LONGEST_CONTEXT: usize = 32_768;
/// Evaluation packs examples up to this many tokens.
const EVALUATION_TOKENS: usize = 1024;
/// A rest of a prompt this short is cheaper token by token.
const STEPS_INSTEAD_OF_PREFILL: usize = 3;

impl Llama {
    /// Loads a `.gguf` file, or a folder with `config.json`, `.safetensors` files and `tokenizer.json`.
    ///
    /// # Errors
    /// [`LoadModelError`] for whatever is wrong with the files; damaged ones never panic.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self, LoadModelError> {
        let tokenizer_failed = |source| LoadModelError::Tokenizer { path: path.to_owned(), source };
        let (weights, tokenizer) = if path.is_dir() {
            (Weights::from_folder(path)?, Tokenizer::from_folder(path).map_err(tokenizer_failed)?)
        } else {
            let mut file =
                GgufFile::open(path).map_err(|source| LoadModelError::Gguf { path: path.to_owned(), source })?;
            let tokenizer = Tokenizer::from_gguf(&file).map_err(tokenizer_failed)?;
            (Weights::from_gguf(&mut file, path)?, tokenizer)
        };
        let digest = match &options.digest {
            Some(digest) => digest.clone(),
            None => model_digest(path).map_err(|source| LoadModelError::Io { path: path.to_owned(), source })?,
        };
        if tokenizer.vocab_size() > weights.architecture.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), weights.architecture.vocab_size);
            let reason = format!("the tokenizer has {tokens} tokens, the embedding {rows}");
            return Err(LoadModelError::Tensors { path: path.to_owned(), reason });
        }
        Self::from_parts(weights, tokenizer, digest, options)
    }

    pub(crate) fn from_parts(
        mut weights: Weights,
        tokenizer: Tokenizer,
        digest: Digest,
        options: LoadOptions,
    ) -> Result<Self, LoadModelError> {
        let sizes = &mut weights.architecture;
        sizes.context_length = sizes.context_length.min(LONGEST_CONTEXT);
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("llama-{index}"))
            .build()
            .map_err(|source| LoadModelError::Threads { threads, source })?;
        let info = ModelInfo {
            name: options.name,
            digest,
            context_length: sizes.context_length,
            vocab_size: sizes.vocab_size,
            parameters: sizes.parameters(),
        };
        let ropes = Ropes::new(sizes);
        let (quantized, last) = (OnceLock::new(), Mutex::new(None));
        let (decode, guess) = (options.decode, !options.plain);
        Ok(Self { info, weights, ropes, tokenizer, pool, decode, guess, quantized, last })
    }

    /// The tokenizer with the chat template.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's sizes.
    pub fn sizes(&self) -> &Architecture {
        &self.weights.architecture
    }

    /// The longest sequence in tokens.
    pub fn context_length(&self) -> usize {
        self.info.context_length
    }

    /// How many threads the model computes with.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// How many floating-point operations a second the model's threads reach at the best, in a product of f32 matrices that
    /// is large enough for it: what training can be measured by.
    pub fn matmul_rate(&self) -> f64 {
        self.install(measured_rate)
    }

    /// Makes the weights for decoding, which the first answer would otherwise wait for. Training needs none.
    pub fn prepare_decoding(&self) {
        self.quantized();
    }

    /// The negative log-likelihood of the masked tokens, each given those before it.
    ///
    /// # Errors
    /// When mask and tokens do not fit each other or the model.
    pub fn nll(&self, adapter: Option<&Adapter>, token_ids: &[u32], loss_mask: &[bool]) -> Result<Nll, TrainError> {
        let example = TrainingExample::new(token_ids.to_vec(), loss_mask.to_vec());
        Ok(self.nll_batch(adapter, &[example])?.into_iter().next().unwrap_or_default())
    }

    /// [`Self::nll`] of many sequences; short ones are computed together. Weights of examples do not count.
    ///
    /// # Errors
    /// When an example is malformed or the adapter is of another model.
    pub fn nll_batch(&self, adapter: Option<&Adapter>, examples: &[TrainingExample]) -> Result<Vec<Nll>, TrainError> {
        examples.iter().try_for_each(|example| example.validate(self))?;
        if adapter.is_some_and(|adapter| !adapter.fits(self.sizes())) {
            return Err(TrainError::AdapterMismatch);
        }
        let decoder = Decoder { adapter, ..self.decoder() };
        let mut results = vec![Nll::default(); examples.len()];
        let mut room = EvaluationRoom::default();
        for pack in packs(examples, EVALUATION_TOKENS) {
            let picked: Vec<&TrainingExample> = pack.iter().map(|index| &examples[*index]).collect();
            let losses = self.install(|| room.losses(&decoder, &picked));
            let mut losses = losses.into_iter();
            for index in pack {
                let tokens = examples[index].target_tokens();
                let nats = losses.by_ref().take(tokens).map(f64::from).sum();
                results[index] = Nll { nats, tokens };
            }
        }
        Ok(results)
    }

    /// The logits after each of the last `count` tokens, `[count, vocab]`, for comparisons with other implementations.
    ///
    /// # Errors
    /// When there are fewer tokens, one of them is not in the vocabulary, or the adapter is of another model.
    pub fn logits(&self, adapter: Option<&Adapter>, token_ids: &[u32], count: usize) -> Result<Vec<f32>, TrainError> {
        TrainingExample::new(token_ids.to_vec(), vec![false; token_ids.len()]).validate(self)?;
        if count == 0 || count > token_ids.len() {
            return Err(TrainError::NoTargets);
        }
        if adapter.is_some_and(|adapter| !adapter.fits(self.sizes())) {
            return Err(TrainError::AdapterMismatch);
        }
        let decoder = Decoder { adapter, ..self.decoder() };
        Ok(self.install(|| EvaluationRoom::default().logits(&decoder, token_ids, count)))
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The base model, ready to compute.
    pub(crate) fn decoder(&self) -> Decoder<'_> {
        Decoder { weights: &self.weights, ropes: &self.ropes, adapter: None, dropout: None }
    }

    /// Runs `work` on the model's threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    fn quantized(&self) -> Option<&QuantizedWeights> {
        match self.decode {
            DecodePrecision::F32 => None,
            DecodePrecision::Q8 => {
                self.quantized.get_or_init(|| self.install(|| QuantizedWeights::new(&self.weights))).as_ref()
            }
        }
    }

    fn prompt(&self, input: &Input) -> Result<Vec<u32>, GenerateError> {
        let prompt = match input {
            Input::Messages(messages) => self.tokenizer.encode_chat(messages, true)?,
            Input::Tokens(token_ids) => token_ids.clone(),
        };
        let (vocab_size, context_length) = (self.info.vocab_size, self.info.context_length);
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if prompt.len() >= context_length {
            return Err(GenerateError::PromptTooLong { prompt_tokens: prompt.len(), context_length });
        }
        match prompt.iter().find(|token| **token as usize >= vocab_size) {
            Some(&token) => Err(GenerateError::UnknownToken { token, vocab_size }),
            None => Ok(prompt),
        }
    }

    /// The remembered sequence cut to what it shares with `prompt`, of which the last token is left to compute.
    fn recall(&self, adapter: u64, prompt: &[u32]) -> Session {
        let remembered = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Remembered { mut session, .. }) = remembered.filter(|last| last.adapter == adapter) else {
            return Session::default();
        };
        let shared = session.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        session.truncate(shared.min(prompt.len() - 1), self.sizes());
        session
    }

    /// Computes the part of the prompt that the session does not have. Says whether it came to the end.
    fn read_prompt(&self, decoder: &Decoder<'_>, session: &mut Session, rest: &[u32], cancel: &CancelFlag) -> bool {
        let quantized = self.quantized();
        self.install(|| {
            if rest.len() > STEPS_INSTEAD_OF_PREFILL {
                return session.prefill(decoder, quantized, rest, cancel);
            }
            rest.iter().for_each(|&token| session.step(decoder, quantized, &[token]));
            true
        })
    }
}

impl LanguageModel for Llama {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.tokenizer.encode(text)
    }

    fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError> {
        self.tokenizer.decode(token_ids)
    }

    fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TokenizerError> {
        self.tokenizer.render_chat(messages, add_generation_prompt)
    }

    fn encode_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<Vec<u32>, TokenizerError> {
        self.tokenizer.encode_chat(messages, add_generation_prompt)
    }

    fn load_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError> {
        Adapter::load(directory, self)
    }

    fn generate(
        &self,
        request: &GenerateRequest,
        cancel: &CancelFlag,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        let start = Instant::now();
        request.sampling.validate()?;
        let prompt = self.prompt(&request.input)?;
        let adapter = request.adapter.as_deref();
        if adapter.is_some_and(|adapter| !adapter.fits(self.sizes())) {
            return Err(GenerateError::AdapterMismatch);
        }
        let identity = adapter.map_or(0, Adapter::identity);
        let decoder = Decoder { adapter, ..self.decoder() };
        let mut session = self.recall(identity, &prompt);
        let cached_tokens = session.tokens().len();
        let complete = self.read_prompt(&decoder, &mut session, &prompt[cached_tokens..], cancel);
        let read = start.elapsed();
        let room = self.info.context_length - prompt.len();
        let mut answer = Answer::new(&self.tokenizer, &request.sampling, &prompt, room, self.guess, on_text);
        let finish_reason = if complete {
            let quantized = self.quantized();
            answer.write(&mut session, cancel, |session, wrong, tokens| {
                session.truncate(session.tokens().len() - wrong, self.sizes());
                self.install(|| session.step(&decoder, quantized, tokens));
            })?
        } else {
            FinishReason::Cancelled
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Remembered { adapter: identity, session });
        let (guessed_tokens, right_guesses) = answer.guessed;
        let new_tokens = answer.tokens.len();
        let usage = Usage { prompt_tokens: prompt.len(), cached_tokens, new_tokens, guessed_tokens, right_guesses };
        let timings = timings(start, read, &answer, usage);
        Ok(Generation { text: answer.text, finish_reason, usage, timings })
    }
}

fn timings(start: Instant, read: Duration, answer: &Answer<'_>, usage: Usage) -> Timings {
    let rate =
        |count: usize, time: Duration| if count == 0 { 0.0 } else { count as f64 / time.as_secs_f64().max(1e-9) };
    let total = start.elapsed();
    Timings {
        time_to_first_token: answer.first_token.map_or(total, |at| at - start),
        total,
        prefill_tokens_per_second: rate(usage.prompt_tokens - usage.cached_tokens, read),
        decode_tokens_per_second: rate(usage.new_tokens.saturating_sub(1), total.saturating_sub(read)),
    }
}

/// Room for evaluation.
#[derive(Default)]
struct EvaluationRoom {
    tape: LayerTape,
    scratch: Scratch,
    loss: LossScratch,
    x: Vec<f32>,
}

impl EvaluationRoom {
    /// The losses of all targets of a pack, in order.
    fn losses(&mut self, decoder: &Decoder<'_>, pack: &[&TrainingExample]) -> Vec<f32> {
        let rows = Rows::packed(pack.iter().map(|example| example.token_ids.len()));
        let tokens: Vec<u32> = pack.iter().flat_map(|example| example.token_ids.iter().copied()).collect();
        self.forward(decoder, &rows, &tokens);
        let targets: Vec<Target> =
            pack.iter().zip(&rows.segments).flat_map(|(example, segment)| example.targets(segment.start)).collect();
        decoder.cross_entropy(&self.x, &targets, None, &mut self.loss)
    }

    /// The logits after each of the last `count` tokens.
    fn logits(&mut self, decoder: &Decoder<'_>, tokens: &[u32], count: usize) -> Vec<f32> {
        self.forward(decoder, &Rows::packed([tokens.len()]), tokens);
        let width = decoder.sizes().hidden_size;
        let last = &self.x[(tokens.len() - count) * width..];
        let rows = last.chunks_exact(width);
        rows.flat_map(|row| decoder.logits_of_row(row, &mut self.scratch.normed)).collect()
    }

    fn forward(&mut self, decoder: &Decoder<'_>, rows: &Rows, tokens: &[u32]) {
        decoder.embed(tokens, &mut self.x);
        for layer in 0..decoder.sizes().layers {
            decoder.forward_layer(layer, rows, None, &mut self.x, &mut self.tape, &mut self.scratch);
        }
    }
}

/// The digest of a file, or of the files of a folder that make the model.
///
/// # Errors
/// When a file cannot be read.
pub fn model_digest(path: &Path) -> io::Result<Digest> {
    if !path.is_dir() {
        return digest_of_file(path);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let wanted = file.extension().is_some_and(|extension| extension == "safetensors" || extension == "json");
        if wanted && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    let mut parts = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parts.extend([name, digest_of_file(&file)?.to_string()]);
    }
    Ok(Digest::of_parts(parts.iter().map(String::as_bytes)))
}

fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Digest::parse(&hex::encode(hasher.finalize())).map_err(io::Error::other)
}
