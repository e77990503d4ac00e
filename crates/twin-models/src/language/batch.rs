//! Several answers at once: a step reads the weights once for all of them.
//!
//! Prompts are read one after another, a part between two steps, so that a long one holds nobody up for long; answers that
//! are being written each get a token, or more where guesses come true, in every step. What an answer says does not depend on
//! who else is there, to the last bit.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use twin_domain::CancelFlag;

use super::answer::Answer;
use super::decoder::Decoder;
use super::llama::Llama;
use super::lora::Adapter;
use super::session::{PREFILL_CHUNK, Sequence, Turn, Workspace};
use super::steering::Steering;
use super::{Batch, FinishReason, GenerateError, GenerateRequest, Generation, Listener, Timings, Usage};

/// Tokens that a step should compute at the most, guesses included: from there on more of them take longer.
const STEP_TOKENS: usize = 16;
/// Tokens that an answer has room for from the beginning.
const USUAL_ANSWER: usize = 512;

/// Answers that a [`Llama`] writes together.
pub(crate) struct LlamaBatch<'a> {
    model: &'a Llama,
    workspace: Workspace,
    /// In the order in which they came.
    writing: Vec<Writing<'a>>,
}

/// One answer, from its prompt on.
struct Writing<'a> {
    answer: Answer<'a>,
    cancel: CancelFlag,
    adapter: Option<Arc<Adapter>>,
    prompt: Vec<u32>,
    sequence: Sequence,
    /// How many of the prompt's tokens were known; unknown until it is looked up, when its turn to be read comes.
    cached_tokens: Option<usize>,
    began: Instant,
    /// When the prompt was begun, and how long it took to read.
    reading: Option<Instant>,
    read: Option<Duration>,
    steps: usize,
    /// The answers in all those steps.
    together: usize,
}

impl<'a> LlamaBatch<'a> {
    pub(crate) fn new(model: &'a Llama) -> Self {
        let kept = model.workspace.lock().unwrap_or_else(PoisonError::into_inner).take();
        Self { model, workspace: kept.unwrap_or_default(), writing: Vec::new() }
    }

    fn begin(
        &self,
        request: GenerateRequest,
        cancel: CancelFlag,
        listener: Box<dyn Listener + 'a>,
    ) -> Result<Writing<'a>, (Box<dyn Listener + 'a>, GenerateError)> {
        let began = Instant::now();
        let GenerateRequest { input, adapter, sampling } = request;
        let prompt = match sampling.validate().and_then(|()| self.model.prompt(&input)) {
            Ok(prompt) => prompt,
            Err(error) => return Err((listener, error)),
        };
        if adapter.as_ref().is_some_and(|adapter| !adapter.fits(self.model.sizes())) {
            return Err((listener, GenerateError::AdapterMismatch));
        }
        let (tokenizer, room) = (self.model.tokenizer(), self.model.context_length() - prompt.len());
        let steering = match Steering::new(tokenizer, &sampling) {
            Ok(steering) => steering,
            Err(error) => return Err((listener, error)),
        };
        let guess = self.model.guesses();
        let answer = Answer::new(tokenizer, (sampling, steering), &prompt, room, guess, listener);
        Ok(Writing {
            answer,
            cancel,
            adapter,
            prompt,
            sequence: Sequence::default(),
            cached_tokens: None,
            began,
            reading: None,
            read: None,
            steps: 0,
            together: 0,
        })
    }

    /// Ends an answer.
    fn end(&mut self, index: usize, result: Result<FinishReason, GenerateError>) {
        let writing = self.writing.remove(index);
        let identity = writing.identity();
        let result = result.map(|finish_reason| writing.generation(finish_reason));
        let Writing { answer, sequence, .. } = writing;
        self.model.prefixes().keep(identity, sequence);
        answer.listener.end(result);
    }

    /// Ends what nobody wants any more.
    fn end_cancelled(&mut self) {
        while let Some(index) = self.writing.iter().position(|writing| writing.cancel.is_cancelled()) {
            self.end(index, Ok(FinishReason::Cancelled));
        }
    }

    /// Reads a part of the first prompt that is not read yet.
    fn read_on(&mut self) {
        let Some(index) = self.writing.iter().position(|writing| writing.read.is_none()) else { return };
        let read = self.writing.iter().filter(|writing| writing.read.is_some()).count();
        if self.writing[index].cached_tokens.is_none() {
            self.recall(index);
        }
        let writing = &mut self.writing[index];
        let rest = &writing.prompt[writing.sequence.tokens().len()..];
        let part = &rest[..rest.len().min(PREFILL_CHUNK)];
        let last = part.len() == rest.len();
        let decoder = Decoder { adapter: writing.adapter.as_deref(), ..self.model.decoder_for_serving() };
        let (workspace, sequence) = (&mut self.workspace, &mut writing.sequence);
        self.model.install(|| workspace.prefill(&decoder, sequence, part, last));
        if last {
            let began = writing.reading.unwrap_or(writing.began);
            writing.read = Some(began.elapsed());
            let logits = workspace.logits();
            let logits = &logits[logits.len() - self.model.sizes().vocab_size..];
            let drawn = writing.answer.draw(logits, most_guesses(read + 1), &writing.cancel);
            if let Some(result) = drawn.transpose() {
                self.end(index, result);
            }
        }
    }

    /// Finds what is known of a prompt.
    fn recall(&mut self, index: usize) {
        let writing = &self.writing[index];
        let (identity, reading) = (writing.identity(), Instant::now());
        // An answer that becomes longer grows by itself.
        let capacity = writing.prompt.len() + writing.answer.limit().min(USUAL_ANSWER) + STEP_TOKENS;
        let running = self.writing.iter().map(|writing| (writing.identity(), &writing.sequence));
        let sequence = self.model.prefixes().recall(identity, &writing.prompt, capacity, running, self.model.sizes());
        let writing = &mut self.writing[index];
        writing.cached_tokens = Some(sequence.tokens().len());
        writing.sequence = sequence;
        writing.reading = Some(reading);
    }

    /// A step of all answers whose prompts are read.
    fn write_on(&mut self) {
        let mut written: Vec<usize> = (0..self.writing.len()).filter(|i| self.writing[*i].read.is_some()).collect();
        if written.is_empty() {
            return;
        }
        // Those of one adapter side by side.
        written.sort_by_key(|index| self.writing[*index].identity());
        let decoder = self.model.decoder_for_serving();
        let mut places: Vec<Option<&mut Writing<'a>>> = self.writing.iter_mut().map(Some).collect();
        let mut turns: Vec<Turn<'_>> = Vec::new();
        for index in &written {
            let Some(writing) = places[*index].take() else { continue };
            let known = writing.sequence.tokens().len() - writing.answer.wrong;
            writing.sequence.truncate(known, self.model.sizes());
            (writing.steps, writing.together) = (writing.steps + 1, writing.together + written.len());
            turns.push(Turn {
                sequence: &mut writing.sequence,
                adapter: writing.adapter.as_deref(),
                tokens: writing.answer.ahead(),
            });
        }
        let workspace = &mut self.workspace;
        self.model.install(|| workspace.step(&decoder, &mut turns));
        drop(turns);
        drop(places);
        let mut logits = self.workspace.logits();
        let vocabulary = self.model.sizes().vocab_size;
        let most = most_guesses(written.len());
        let mut ended = Vec::new();
        for index in written {
            let writing = &mut self.writing[index];
            let (own, rest) = logits.split_at(writing.answer.ahead().len() * vocabulary);
            logits = rest;
            let drawn = writing.answer.draw(own, most, &writing.cancel);
            ended.extend(drawn.transpose().map(|result| (index, result)));
        }
        // From the last, so that the places of the others stay.
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, result) in ended {
            self.end(index, result);
        }
    }
}

/// How many tokens each of so many answers may guess.
fn most_guesses(answers: usize) -> usize {
    (STEP_TOKENS / answers.max(1)).saturating_sub(1)
}

impl<'a> Batch<'a> for LlamaBatch<'a> {
    fn add(&mut self, request: GenerateRequest, cancel: CancelFlag, listener: Box<dyn Listener + 'a>) {
        match self.begin(request, cancel, listener) {
            Ok(writing) => self.writing.push(writing),
            Err((listener, error)) => listener.end(Err(error)),
        }
    }

    fn step(&mut self) {
        self.end_cancelled();
        self.read_on();
        self.write_on();
    }

    fn len(&self) -> usize {
        self.writing.len()
    }
}

impl Drop for LlamaBatch<'_> {
    fn drop(&mut self) {
        let workspace = std::mem::take(&mut self.workspace);
        *self.model.workspace.lock().unwrap_or_else(PoisonError::into_inner) = Some(workspace);
    }
}

impl Writing<'_> {
    /// Whose voice it is; 0 for none.
    fn identity(&self) -> u64 {
        self.adapter.as_deref().map_or(0, Adapter::identity)
    }

    fn generation(&self, finish_reason: FinishReason) -> Generation {
        let answer = &self.answer;
        let usage = Usage {
            prompt_tokens: self.prompt.len(),
            cached_tokens: self.cached_tokens.unwrap_or(0),
            new_tokens: answer.tokens.len(),
            guessed_tokens: answer.guessed.0,
            right_guesses: answer.guessed.1,
        };
        Generation { text: answer.text.clone(), finish_reason, usage, timings: self.timings(usage) }
    }

    fn timings(&self, usage: Usage) -> Timings {
        let rate =
            |count: usize, time: Duration| if count == 0 { 0.0 } else { count as f64 / time.as_secs_f64().max(1e-9) };
        let total = self.began.elapsed();
        let read = self.read.unwrap_or(total);
        let writing = self.answer.first_token.map_or(Duration::ZERO, |first| first.elapsed());
        Timings {
            time_to_first_token: self.answer.first_token.map_or(total, |at| at - self.began),
            total,
            prefill_tokens_per_second: rate(usage.prompt_tokens - usage.cached_tokens, read),
            decode_tokens_per_second: rate(usage.new_tokens.saturating_sub(1), writing),
            mean_batch: if self.steps == 0 { 0.0 } else { self.together as f64 / self.steps as f64 },
        }
    }
}
