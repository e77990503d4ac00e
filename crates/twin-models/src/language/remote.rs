//! A language model behind an OpenAI-compatible address: vLLM, llama.cpp's server, Ollama, or a service. Prompts, citations and
//! everything else stay here; only the finished prompt is sent, and only to the address that was configured.
//!
//! Adapters stay here as well, so such a model answers from the author's passages and not in the author's voice.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use twin_domain::{CancelFlag, ChatMessage, Digest};

use super::answer_text::StopFilter;
use super::sampling::{OutputFormat, Sampling};
use super::watch::TokenNote;
use super::{
    Adapter, AdapterError, Batch, FinishReason, GenerateError, GenerateRequest, Generation, Input, LanguageModel,
    Listener, ModelInfo, Timings, TokenizerError, Usage,
};
use crate::chat_client::{ChatClient, ChatError};

/// How often the cancel flag is looked at while the server says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How soon it is looked again for what answers have said.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How many bytes of English text a token has at least, for estimates: the server alone can count.
const BYTES_PER_TOKEN: usize = 3;
/// The longest line of a stream, and so the most that a server can make this one hold.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A model that another server runs.
#[derive(Clone)]
pub struct RemoteModel {
    info: ModelInfo,
    client: ChatClient,
    runtime: Handle,
}

impl RemoteModel {
    /// A model of this name at `base`, the address up to `/v1`, with a context of so many tokens. Its work is done on
    /// `runtime`, and waited for on the thread that asks for an answer, which must not be one of the runtime's.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(
        base: &str,
        model: &str,
        key: Option<String>,
        context_length: usize,
        runtime: Handle,
    ) -> Result<Self, ChatError> {
        let info = ModelInfo {
            name: model.to_owned(),
            digest: Digest::of_parts([base.as_bytes(), model.as_bytes()]),
            context_length,
            vocab_size: 0,
            parameters: 0,
        };
        Ok(Self { info, client: ChatClient::new(base, model, key)?, runtime })
    }
}

impl LanguageModel for RemoteModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// An estimate, as the server's tokenizer is not known here: the bytes, a few to a token.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let token = |bytes: &[u8]| bytes.iter().fold(1, |token, byte| token << 8 | u32::from(*byte));
        Ok(text.as_bytes().chunks(BYTES_PER_TOKEN).map(token).collect())
    }

    fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError> {
        let bytes = |token: &u32| {
            let length = (31 - token.max(&1).leading_zeros() as usize) / 8;
            token.to_be_bytes()[4 - length..].to_vec()
        };
        Ok(String::from_utf8_lossy(&token_ids.iter().flat_map(bytes).collect::<Vec<u8>>()).into_owned())
    }

    fn render_chat(&self, messages: &[ChatMessage], _: bool) -> Result<String, TokenizerError> {
        Ok(messages.iter().map(|message| format!("{}: {}\n\n", message.role.as_str(), message.content)).collect())
    }

    fn encode_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<Vec<u32>, TokenizerError> {
        self.encode(&self.render_chat(messages, add_generation_prompt)?)
    }

    fn takes_adapters(&self) -> bool {
        false
    }

    fn load_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError> {
        let feature = "an adapter beside a model that another server runs".to_owned();
        Err(AdapterError::Feature { path: directory.to_owned(), feature })
    }

    fn batch<'a>(&'a self) -> Box<dyn Batch<'a> + 'a> {
        Box::new(RemoteBatch { model: self, answers: Vec::new() })
    }
}

impl RemoteModel {
    /// Asks the server for an answer and waits for it.
    fn answer(
        &self,
        request: &GenerateRequest,
        cancel: &CancelFlag,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        request.sampling.validate()?;
        let messages = match &request.input {
            Input::Messages(messages) => messages.clone(),
            Input::Tokens(tokens) => vec![ChatMessage::user(self.decode(tokens)?)],
        };
        let mut answer = RemoteAnswer::new(&request.sampling, on_text);
        let body = body(&messages, &request.sampling);
        let ended = self.read(&body, cancel, &mut answer)?;
        answer.finish(ended)
    }

    /// Reads the stream to its end, or until somebody does not want more. Text is handed on between the waits, not during one:
    /// who takes it may block.
    fn read(
        &self,
        body: &Value,
        cancel: &CancelFlag,
        answer: &mut RemoteAnswer<'_>,
    ) -> Result<Option<FinishReason>, GenerateError> {
        // What is dropped here closes its connection, by which the server learns that nobody wants more.
        let Some(response) = self.wait(self.client.open(body), cancel) else {
            return Ok(Some(FinishReason::Cancelled));
        };
        let mut bytes = response?.bytes_stream();
        let mut line = Vec::new();
        loop {
            let Some(piece) = self.wait(bytes.next(), cancel) else { return Ok(Some(FinishReason::Cancelled)) };
            let Some(piece) = piece else {
                return Err(self.client.malformed("the stream ended before the answer").into());
            };
            for byte in piece.map_err(|source| self.client.unreachable(source))? {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > MAX_LINE_BYTES {
                        return Err(self.client.malformed("a line of the stream has no end").into());
                    }
                    continue;
                }
                let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                let Some(data) = text.trim_end().strip_prefix("data:").map(str::trim) else { continue };
                if data == "[DONE]" {
                    return Ok(answer.finish_reason);
                }
                let chunk: Chunk =
                    serde_json::from_str(data).map_err(|error| self.client.malformed(&error.to_string()))?;
                if let Some(error) = chunk.error {
                    return Err(self.client.malformed(&error.to_string()).into());
                }
                if answer.take(chunk).is_break() {
                    return Ok(Some(answer.ended));
                }
            }
        }
    }

    /// Waits for what the runtime does; `None` when it is cancelled meanwhile.
    fn wait<T>(&self, work: impl Future<Output = T>, cancel: &CancelFlag) -> Option<T> {
        let cancelled = async {
            while !cancel.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = cancelled => None,
            }
        })
    }
}

/// Answers that the server writes together, each waited for on a thread of its own.
struct RemoteBatch<'a> {
    model: &'a RemoteModel,
    answers: Vec<Waiting<'a>>,
}

/// An answer that is waited for.
struct Waiting<'a> {
    listener: Box<dyn Listener + 'a>,
    /// The caller's.
    cancel: CancelFlag,
    /// What the thread listens to.
    unwanted: CancelFlag,
    said: mpsc::Receiver<Said>,
}

/// What came of an answer.
enum Said {
    Text(String),
    End(Result<Generation, GenerateError>),
}

impl Waiting<'_> {
    /// Hands on what has come; says what it came to if it is over, and whether anything had come.
    fn hand_on(&mut self, model: &RemoteModel) -> (bool, Option<Result<Generation, GenerateError>>) {
        if self.cancel.is_cancelled() {
            self.unwanted.cancel();
        }
        let mut any = false;
        loop {
            match self.said.try_recv() {
                Ok(Said::Text(piece)) => {
                    any = true;
                    if self.listener.text(&piece).is_break() {
                        self.unwanted.cancel();
                    }
                }
                Ok(Said::End(result)) => return (true, Some(result)),
                Err(mpsc::TryRecvError::Empty) => return (any, None),
                // The thread panicked, which it has reported.
                Err(mpsc::TryRecvError::Disconnected) => {
                    let lost = model.client.malformed("the answer broke off");
                    return (true, Some(Err(lost.into())));
                }
            }
        }
    }
}

impl<'a> Batch<'a> for RemoteBatch<'a> {
    fn add(&mut self, request: GenerateRequest, cancel: CancelFlag, listener: Box<dyn Listener + 'a>) {
        let (sender, said) = mpsc::channel();
        let (model, unwanted) = (self.model.clone(), CancelFlag::new());
        let flag = unwanted.clone();
        std::thread::spawn(move || {
            let result = model.answer(&request, &flag, &mut |piece| match sender.send(Said::Text(piece.to_owned())) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            // Nobody may be left to hear it.
            let _ = sender.send(Said::End(result));
        });
        self.answers.push(Waiting { listener, cancel, unwanted, said });
    }

    fn step(&mut self) {
        let mut any = false;
        for index in (0..self.answers.len()).rev() {
            let (came, ended) = self.answers[index].hand_on(self.model);
            any |= came;
            if let Some(result) = ended {
                self.answers.remove(index).listener.end(result);
            }
        }
        if !any {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn len(&self) -> usize {
        self.answers.len()
    }
}

impl Drop for RemoteBatch<'_> {
    fn drop(&mut self) {
        self.answers.iter().for_each(|answer| answer.unwanted.cancel());
    }
}

/// What every OpenAI-compatible server understands; other settings of sampling are this program's own decoder's.
fn body(messages: &[ChatMessage], sampling: &Sampling) -> Value {
    let mut body = json!({
        "messages": messages, "stream": true, "stream_options": { "include_usage": true },
        "temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens,
        // Signed there.
        "seed": sampling.seed.cast_signed(),
    });
    for (name, penalty) in
        [("presence_penalty", sampling.presence_penalty), ("frequency_penalty", sampling.frequency_penalty)]
    {
        if penalty != 0.0 {
            body[name] = json!(penalty);
        }
    }
    if !sampling.stop.is_empty() {
        body["stop"] = json!(sampling.stop.iter().take(4).collect::<Vec<_>>());
    }
    match &sampling.format {
        None => {}
        Some(OutputFormat::JsonObject) => body["response_format"] = json!({ "type": "json_object" }),
        Some(OutputFormat::JsonSchema(schema)) => {
            let named = json!({ "name": "answer", "schema": schema, "strict": true });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": named });
        }
    }
    if let Some(watch) = &sampling.watch {
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(watch.top());
    }
    body
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counted>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
    logprobs: Option<Likelihoods>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Likelihoods {
    content: Option<Vec<Likelihood>>,
}

#[derive(Deserialize)]
struct Likelihood {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Likelihood>,
}

impl Likelihood {
    fn bytes(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| self.token.clone().into_bytes())
    }
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: usize,
    #[serde(default)]
    completion_tokens: usize,
    prompt_tokens_details: Option<Cached>,
}

#[derive(Deserialize)]
struct Cached {
    cached_tokens: Option<usize>,
}

/// An answer that comes in.
struct RemoteAnswer<'a> {
    sampling: &'a Sampling,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    filter: StopFilter,
    begun: Instant,
    first: Option<Duration>,
    text: String,
    usage: Usage,
    /// What the server said.
    finish_reason: Option<FinishReason>,
    /// Why this side wants no more.
    ended: FinishReason,
}

impl<'a> RemoteAnswer<'a> {
    fn new(sampling: &'a Sampling, on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>) -> Self {
        Self {
            sampling,
            on_text,
            filter: StopFilter::new(sampling.stop.clone()),
            begun: Instant::now(),
            first: None,
            text: String::new(),
            usage: Usage::default(),
            finish_reason: None,
            ended: FinishReason::Cancelled,
        }
    }

    fn take(&mut self, chunk: Chunk) -> ControlFlow<()> {
        if let Some(counted) = chunk.usage {
            self.usage.prompt_tokens = counted.prompt_tokens;
            self.usage.new_tokens = counted.completion_tokens;
            self.usage.cached_tokens =
                counted.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        }
        let Some(choice) = chunk.choices.into_iter().next() else { return ControlFlow::Continue(()) };
        if let Some(reason) = choice.finish_reason {
            self.finish_reason = Some(if reason == "length" { FinishReason::Length } else { FinishReason::Stop });
        }
        for likelihood in choice.logprobs.and_then(|logprobs| logprobs.content).into_iter().flatten() {
            if let Some(watch) = &self.sampling.watch {
                let top = likelihood.top_logprobs.iter().map(|one| (one.bytes(), one.logprob)).collect();
                let bytes = likelihood.bytes();
                watch.note(TokenNote { shown: bytes.len(), bytes, likelihood: likelihood.logprob, top });
            }
        }
        let said = choice.delta.and_then(|delta| delta.content.or(delta.refusal)).unwrap_or_default();
        if said.is_empty() {
            return ControlFlow::Continue(());
        }
        self.first.get_or_insert_with(|| self.begun.elapsed());
        // Counted anew by the server at the end, where it does that.
        self.usage.new_tokens += 1;
        let shown = self.filter.push(&said);
        self.show(&shown)?;
        if self.filter.stopped() {
            self.ended = FinishReason::Stop;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn show(&mut self, text: &str) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(text);
        (self.on_text)(text)
    }

    fn finish(mut self, ended: Option<FinishReason>) -> Result<Generation, GenerateError> {
        let mut finish_reason = ended.unwrap_or(FinishReason::Stop);
        if finish_reason != FinishReason::Cancelled {
            let held = self.filter.finish();
            if self.show(&held).is_break() {
                finish_reason = FinishReason::Cancelled;
            }
        }
        let total = self.begun.elapsed();
        let first = self.first.unwrap_or(total);
        let decoding = total.saturating_sub(first).as_secs_f64().max(1e-9);
        let rate = if self.usage.new_tokens > 1 { (self.usage.new_tokens - 1) as f64 / decoding } else { 0.0 };
        let timings =
            Timings { time_to_first_token: first, total, decode_tokens_per_second: rate, ..Timings::default() };
        Ok(Generation { text: self.text, finish_reason, usage: self.usage, timings })
    }
}
