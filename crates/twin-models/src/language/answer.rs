//! Writing an answer: token after token is drawn, made into text and given out, until something ends it.

use std::ops::ControlFlow;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twin_domain::CancelFlag;

use super::answer_text::{Detokenizer, StopFilter};
use super::lookup::Lookup;
use super::sampling::{Copies, sample};
use super::steering::Steering;
use super::tokenizer::Tokenizer;
use super::{FinishReason, GenerateError, Listener, Sampling};

/// An answer that is being written.
pub(crate) struct Answer<'a> {
    tokenizer: &'a Tokenizer,
    sampling: Sampling,
    limit: usize,
    pub(crate) listener: Box<dyn Listener + 'a>,
    detokenizer: Detokenizer<'a>,
    filter: StopFilter,
    copies: Copies,
    /// None where the prompt is not to be copied: there it would only guess what must not be.
    lookup: Option<Lookup>,
    steering: Steering<'a>,
    random: ChaCha8Rng,
    /// The tokens of the last step: one that was drawn, then guesses. Empty while the prompt is read.
    ahead: Vec<u32>,
    /// So many of the last step's guesses did not come true.
    pub(crate) wrong: usize,
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
        (sampling, steering): (Sampling, Steering<'a>),
        prompt: &[u32],
        room: usize,
        guess: bool,
        listener: Box<dyn Listener + 'a>,
    ) -> Self {
        Self {
            tokenizer,
            limit: sampling.max_new_tokens.min(room),
            listener,
            detokenizer: Detokenizer::new(tokenizer),
            filter: StopFilter::new(sampling.stop.clone()),
            copies: Copies::new(prompt, sampling.no_copy_tokens),
            lookup: (guess && sampling.no_copy_tokens == 0).then(|| Lookup::new(prompt)),
            random: ChaCha8Rng::seed_from_u64(sampling.seed),
            steering,
            sampling,
            ahead: Vec::new(),
            wrong: 0,
            tokens: Vec::new(),
            guessed: (0, 0),
            text: String::new(),
            first_token: None,
        }
    }

    /// The most tokens that it will have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What the next step computes, after the last `wrong` tokens of the one before are taken back.
    pub(crate) fn ahead(&self) -> &[u32] {
        &self.ahead
    }

    /// Draws from what the last step computed, `[tokens ahead, vocabulary]`, token after token as long as guesses come true,
    /// and says why the answer is over if it is. Otherwise the tokens ahead are the next step's, with at most `guesses`.
    ///
    /// Every token is drawn from the logits after exactly the tokens before it, in the same order of random numbers, so the
    /// answer is the same with guesses as without.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        guesses: usize,
        cancel: &CancelFlag,
    ) -> Result<Option<FinishReason>, GenerateError> {
        let vocabulary = logits.len() / self.ahead.len().max(1);
        let mut right = 0;
        loop {
            let recent = &self.tokens[self.tokens.len().saturating_sub(self.sampling.repetition_window)..];
            let forbidden = self.copies.completed_by(&self.tokens);
            let logits = &logits[right * vocabulary..][..vocabulary];
            let allowed = self.steering.apply(logits)?;
            let token = sample(allowed, recent, forbidden, &self.sampling, &mut self.random);
            self.first_token.get_or_insert_with(Instant::now);
            if self.tokenizer.is_end(token) {
                return self.finish(FinishReason::Stop).map(Some);
            }
            self.tokens.push(token);
            let text = self.detokenizer.push(token)?;
            let is_complete = self.steering.took(token, logits, text.len())?;
            if self.show(&text).is_break() || cancel.is_cancelled() {
                return Ok(Some(FinishReason::Cancelled));
            }
            if self.filter.stopped() {
                return Ok(Some(FinishReason::Stop));
            }
            if is_complete {
                return self.finish(FinishReason::Stop).map(Some);
            }
            if self.tokens.len() >= self.limit {
                return self.finish(FinishReason::Length).map(Some);
            }
            if let Some(lookup) = &mut self.lookup {
                lookup.push(token);
            }
            if self.ahead.get(right + 1) != Some(&token) {
                self.look_ahead(token, right, guesses);
                return Ok(None);
            }
            right += 1;
            self.guessed.1 += 1;
        }
    }

    /// Prepares the next step, which begins with a token that was drawn. So many guesses of the last one came true.
    fn look_ahead(&mut self, token: u32, right: usize, guesses: usize) {
        self.wrong = self.ahead.len().saturating_sub(right + 1);
        if let Some(lookup) = &mut self.lookup {
            lookup.judge(self.ahead.len().saturating_sub(1), right);
        }
        self.ahead.clear();
        self.ahead.push(token);
        // One is drawn after the last guess in any case.
        let most = guesses.min(self.limit - self.tokens.len() - 1);
        self.ahead.extend_from_slice(self.lookup.as_ref().map_or(&[], |lookup| lookup.guess(most)));
        self.guessed.0 += self.ahead.len() - 1;
    }

    /// Gives out what was held back.
    fn finish(&mut self, reason: FinishReason) -> Result<FinishReason, GenerateError> {
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
        self.listener.text(&text)
    }
}
