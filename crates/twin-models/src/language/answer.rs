//! Writing an answer: token after token is drawn, made into text and given out, until something ends it.

use std::ops::ControlFlow;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twin_domain::CancelFlag;

use super::answer_text::{Detokenizer, StopFilter};
use super::lookup::Lookup;
use super::sampling::{Copies, sample};
use super::session::Session;
use super::steering::Steering;
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
    /// None where the prompt is not to be copied: there it would only guess what must not be.
    lookup: Option<Lookup>,
    pub(crate) tokens: Vec<u32>,
    /// Tokens that were guessed, and those among them that came true.
    pub(crate) guessed: (usize, usize),
    pub(crate) text: String,
    pub(crate) first_token: Option<Instant>,
}

impl<'a> Answer<'a> {
    /// An answer of at most `room` tokens to a prompt. Whether it is to `guess` ahead does not change what it says.
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        sampling: &'a Sampling,
        prompt: &[u32],
        room: usize,
        guess: bool,
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
            lookup: (guess && sampling.no_copy_tokens == 0).then(|| Lookup::new(prompt)),
            tokens: Vec::new(),
            guessed: (0, 0),
            text: String::new(),
            first_token: None,
        }
    }

    /// Draws token after token until something ends the answer. `step` takes back so many tokens, appends others, and
    /// computes what comes after each of these.
    ///
    /// Every token is drawn from the logits after exactly the tokens before it, in the same order of random numbers, so the
    /// answer is the same with guesses as without.
    pub(crate) fn write(
        &mut self,
        session: &mut Session,
        cancel: &CancelFlag,
        step: impl Fn(&mut Session, usize, &[u32]),
    ) -> Result<FinishReason, GenerateError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.sampling.seed);
        let mut steering = Steering::new(self.tokenizer, self.sampling)?;
        // The tokens of the last step: one that was drawn, then guesses, of which so many have come true.
        let mut ahead: Vec<u32> = Vec::new();
        let mut right = 0;
        let reason = loop {
            let recent = &self.tokens[self.tokens.len().saturating_sub(self.sampling.repetition_window)..];
            let forbidden = self.copies.completed_by(&self.tokens);
            let vocabulary = session.logits().len() / ahead.len().max(1);
            let logits = &session.logits()[right * vocabulary..][..vocabulary];
            let token = sample(steering.apply(logits)?, recent, forbidden, self.sampling, &mut random);
            self.first_token.get_or_insert_with(Instant::now);
            if self.tokenizer.is_end(token) {
                break FinishReason::Stop;
            }
            self.tokens.push(token);
            let text = self.detokenizer.push(token)?;
            let is_complete = steering.took(token, logits, text.len())?;
            if self.show(&text).is_break() || cancel.is_cancelled() {
                return Ok(FinishReason::Cancelled);
            }
            if self.filter.stopped() {
                return Ok(FinishReason::Stop);
            }
            if is_complete {
                break FinishReason::Stop;
            }
            if self.tokens.len() >= self.limit {
                break FinishReason::Length;
            }
            if let Some(lookup) = &mut self.lookup {
                lookup.push(token);
            }
            if ahead.get(right + 1) == Some(&token) {
                right += 1;
                self.guessed.1 += 1;
                continue;
            }
            let wrong = ahead.len().saturating_sub(right + 1);
            if let Some(lookup) = &mut self.lookup {
                lookup.judge(ahead.len().saturating_sub(1), right);
            }
            ahead.clear();
            ahead.push(token);
            // One is drawn after the last guess in any case.
            let room = self.limit - self.tokens.len() - 1;
            ahead.extend_from_slice(self.lookup.as_ref().map_or(&[], |lookup| lookup.guess(room)));
            self.guessed.0 += ahead.len() - 1;
            right = 0;
            step(session, wrong, &ahead);
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
