//! The language model that runs in this process: a Llama decoder with its tokenizer, its threads and what it remembers of
//! requests before.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest as _, Sha256};
use twin_domain::{ChatMessage, Digest};

use super::architecture::Architecture;
use super::batch::LlamaBatch;
use super::decoder::{Decoder, LayerTape, Ropes, Rows, Scratch};
use super::gguf::GgufFile;
use super::lora::{Adapter, Group, LoraConfig, LoraConfigError};
use super::loss::{LossScratch, Target};
use super::matmul::measured_rate;
use super::prefixes::Prefixes;
use super::quantized::measured_reading;
use super::session::{QuantizedWeights, Workspace};
use super::tokenizer::{Tokenizer, TokenizerError};
use super::training::{TrainError, TrainingExample, packs};
use super::weights::{LayerWeights, LoadModelError, Weights};
use super::{AdapterError, Batch, GenerateError, Input, LanguageModel, ModelInfo, Nll};

/// The form of the weights when answers are written. Evaluation and training use f32, unless [`LoadOptions::answers_only`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DecodePrecision {
    /// Eight bits with a scale per 32 weights, and activations likewise: a quarter of the bytes to read per token. Prompts are
    /// read with activations in sixteen bits.
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
    /// Keep matrices in eight bits only, a quarter of the memory: such a model answers and is asked how likely a text is, with
    /// rounded weights, but it cannot be trained or exported.
    pub answers_only: bool,
    /// How many bytes of keys and values of earlier sequences may be kept; 512 MiB when `None`.
    pub kept_bytes: Option<usize>,
}

/// A Llama model in memory. Sharing it is cheap and safe; requests at the same time are quickest in one batch.
pub struct Llama {
    info: ModelInfo,
    weights: Weights,
    ropes: Ropes,
    tokenizer: Tokenizer,
    pool: ThreadPool,
    decode: DecodePrecision,
    guess: AtomicBool,
    quantized: OnceLock<Option<QuantizedWeights>>,
    /// Whether the matrices are there in f32.
    is_dense: bool,
    /// Sequences that are over, whose beginnings others share.
    prefixes: Mutex<Prefixes>,
    /// The room of the last batch, for the next one.
    pub(crate) workspace: Mutex<Option<Workspace>>,
}

// Angles are tabled per position, and attention over more would take minutes on a CPU.
const LONGEST_CONTEXT: usize = 32_768;
/// Evaluation packs examples up to this many tokens.
const EVALUATION_TOKENS: usize = 1024;
const KEPT_BYTES: usize = 512 << 20;

impl Llama {
    /// Loads a `.gguf` file, or a folder with `config.json`, `.safetensors` files and `tokenizer.json`.
    ///
    /// # Errors
    /// [`LoadModelError`] for whatever is wrong with the files; damaged ones never panic.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self, LoadModelError> {
        let tokenizer_failed = |source| LoadModelError::Tokenizer { path: path.to_owned(), source };
        let mut rounded = Vec::new();
        let mut each = |sizes: &Architecture, layer: &mut LayerWeights| {
            let wanted = options.answers_only && options.decode == DecodePrecision::Q8;
            // All layers have the same sizes, so either each can be rounded or none.
            if let Some(matrices) = wanted.then(|| QuantizedWeights::layer(sizes, layer)).flatten() {
                rounded.push(matrices);
                layer.drop_matrices();
            }
        };
        let (weights, tokenizer) = if path.is_dir() {
            (Weights::from_folder(path, &mut each)?, Tokenizer::from_folder(path).map_err(tokenizer_failed)?)
        } else {
            let mut file =
                GgufFile::open(path).map_err(|source| LoadModelError::Gguf { path: path.to_owned(), source })?;
            let tokenizer = Tokenizer::from_gguf(&file).map_err(tokenizer_failed)?;
            (Weights::from_gguf(&mut file, path, &mut each)?, tokenizer)
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
        let quantized = if rounded.is_empty() { None } else { QuantizedWeights::of_layers(rounded, &weights) };
        let mut model = Self::from_parts(weights, tokenizer, digest, options)?;
        if quantized.is_some() {
            (model.is_dense, model.quantized) = (false, OnceLock::from(quantized));
        }
        Ok(model)
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
        let (decode, guess) = (options.decode, AtomicBool::new(!options.plain));
        let prefixes = Mutex::new(Prefixes::new(options.kept_bytes.unwrap_or(KEPT_BYTES)));
        let (quantized, workspace) = (OnceLock::new(), Mutex::default());
        let is_dense = true;
        Ok(Self { info, weights, ropes, tokenizer, pool, decode, guess, quantized, is_dense, prefixes, workspace })
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
    /// is large enough for it: what training and reading prompts can be measured by.
    pub fn matmul_rate(&self) -> f64 {
        self.install(measured_rate)
    }

    /// How many bytes a second the model's threads read from memory: what writing an answer alone can be measured by.
    pub fn memory_rate(&self) -> f64 {
        self.install(measured_reading)
    }

    /// How many bytes of weights a token that is written alone has to read.
    pub fn bytes_per_token(&self) -> usize {
        match self.quantized() {
            Some(quantized) => quantized.bytes(),
            None => (self.parameters_per_prompt_token() + self.weights.head().len()) * size_of::<f32>(),
        }
    }

    /// How many weights each token of a prompt is multiplied with.
    pub fn parameters_per_prompt_token(&self) -> usize {
        let sizes = self.sizes();
        let groups = Group::ALL.map(|group| group.input_width(sizes) * group.output_width(sizes));
        sizes.layers * groups.iter().sum::<usize>()
    }

    /// Whether answers guess tokens ahead, which changes only how soon they come; for comparisons.
    pub fn guess_ahead(&self, guess: bool) {
        self.guess.store(guess, Ordering::Relaxed);
    }

    /// Makes the weights for decoding, which the first answer would otherwise wait for. Training needs none.
    pub fn prepare_decoding(&self) {
        self.quantized();
    }

    /// An adapter before its training, which changes nothing.
    ///
    /// # Errors
    /// When the configuration makes no sense for the model.
    pub fn untrained_adapter(&self, config: LoraConfig, seed: u64) -> Result<Adapter, LoraConfigError> {
        Adapter::fresh(config, self.sizes(), seed)
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

    /// The weights in f32; `None` of a model that was loaded for answers only.
    pub(crate) fn dense_weights(&self) -> Option<&Weights> {
        self.is_dense.then_some(&self.weights)
    }

    /// The base model, ready to compute as exactly as it can.
    pub(crate) fn decoder(&self) -> Decoder<'_> {
        let quantized = if self.is_dense { None } else { self.quantized() };
        let (weights, ropes) = (&self.weights, &self.ropes);
        Decoder { weights, ropes, adapter: None, quantized, dropout: None }
    }

    /// Runs `work` on the model's threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// The base model in the form in which answers are written.
    pub(crate) fn decoder_for_serving(&self) -> Decoder<'_> {
        Decoder { quantized: self.quantized(), ..self.decoder() }
    }

    /// Whether answers guess ahead.
    pub(crate) fn guesses(&self) -> bool {
        self.guess.load(Ordering::Relaxed)
    }

    pub(crate) fn prefixes(&self) -> MutexGuard<'_, Prefixes> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quantized(&self) -> Option<&QuantizedWeights> {
        match self.decode {
            DecodePrecision::F32 => None,
            DecodePrecision::Q8 => {
                self.quantized.get_or_init(|| self.install(|| QuantizedWeights::new(&self.weights))).as_ref()
            }
        }
    }

    /// The tokens of a prompt, which leave room for an answer.
    pub(crate) fn prompt(&self, input: &Input) -> Result<Vec<u32>, GenerateError> {
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

    fn batch<'a>(&'a self) -> Box<dyn Batch<'a> + 'a> {
        Box::new(LlamaBatch::new(self))
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
