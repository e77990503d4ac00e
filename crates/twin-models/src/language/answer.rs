//! Writing an answer: token after token is drawn, made into text and given out, until something ends it.

use std::ops::ControlFlow;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twin_domain::CancelFlag;

use super::answer_text::{Detokenizer, StopFilter};
use super::sampling::{Copies, sample};
use super::session::Session;
use super::tokenizer::Tokenizer;
use super::{FinishReason, GenerateError, Sampling};

/// An answer that is being written.
pub(crate) struct Answer<'a> {
    tokenizer: &'a Tokenizer,
    sampling: &'a Sampling,
    limit: usize,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    detokenizer: Detokenizer<'a>,
    filter: StopFilter<'a>,
    copies: Copies,
    pub(crate) tokens: Vec<u32>,
    pub(crate) text: String,
    pub(crate) first_token: Option<Instant>,
}

impl<'a> Answer<'a> {
    /// An answer of at most `room` tokens to a prompt.
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        sampling: &'a Sampling,
        prompt: &[u32],
        room: usize,
        on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Self {
        Self {
            tokenizer,
            sampling,
            limit: sampling.max_new_tokens.min(room),
            on_text,
            detokenizer: Detokenizer::new(tokenizer),
            filter: StopFilter::new(&sampling.stop),
            copies: Copies::new(prompt, sampling.no_copy_tokens),
            tokens: Vec::new(),
            text: String::new(),
            first_token: None,
        }
    }

    /// Draws token after token until something ends the answer; `step` computes what comes after a token.
    pub(crate) fn write(
        &mut self,
        session: &mut Session,
        cancel: &CancelFlag,
        step: impl Fn(&mut Session, u32),
    ) -> Result<FinishReason, GenerateError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.sampling.seed);
        let reason = loop {
            let recent = &self.tokens[self.tokens.len().saturating_sub(self.sampling.repetition_window)..];
            let forbidden = self.copies.completed_by(&self.tokens);
            let token = sample(session.logits(), recent, forbidden, self.sampling, &mut random);
            self.first_token.get_or_insert_with(Instant::now);
            if self.tokenizer.is_end(token) {
                break FinishReason::Stop;
            }
            self.tokens.push(token);
            let text = self.detokenizer.push(token)?;
            if self.show(&text).is_break() || cancel.is_cancelled() {
                return Ok(FinishReason::Cancelled);
            }
            if self.filter.stopped() {
                return Ok(FinishReason::Stop);
            }
            if self.tokens.len() >= self.limit {
                break FinishReason::Length;
            }
            step(session, token);
        };
        let rest = self.detokenizer.finish()?;
        if self.show(&rest).is_break() {
            return Ok(FinishReason::Cancelled);
        }
        let held = self.filter.finish();
        Ok(if self.give_out(held).is_break() { FinishReason::Cancelled } else { reason })
    }

    fn show(&mut self, text: &str) -> ControlFlow<()> {
        let text = self.filter.push(text);
        self.give_out(text)
    }

    fn give_out(&mut self, text: String) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(&text);
        (self.on_text)(&text)
    }
}
