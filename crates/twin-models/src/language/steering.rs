//! What a request asks of an answer's tokens beyond chance: penalties for what was said, a form that must be kept, and a
//! watch on how likely each token was.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::Matcher;

use super::GenerateError;
use super::sampling::Sampling;
use super::tokenizer::Tokenizer;
use super::vocabulary::Vocabulary;
use super::watch::{TokenNote, TokenWatch};

/// Changes logits as a request asks. Of a request that asks for nothing, they stay where they are.
pub(crate) struct Steering<'a> {
    sampling: Sampling,
    /// Only there where something needs it.
    vocabulary: Option<&'a Arc<Vocabulary>>,
    matcher: Option<Matcher>,
    /// How often each token was used.
    counts: HashMap<u32, u16>,
    room: Vec<f32>,
}

impl<'a> Steering<'a> {
    /// # Errors
    /// [`GenerateError::Format`] when answers cannot be held to the form.
    pub(crate) fn new(tokenizer: &'a Tokenizer, sampling: &Sampling) -> Result<Self, GenerateError> {
        let needed = sampling.format.is_some() || sampling.watch.is_some();
        let vocabulary = needed.then(|| tokenizer.vocabulary());
        let matcher = match (&sampling.format, vocabulary) {
            (Some(format), Some(vocabulary)) => {
                Some(vocabulary.matcher(format).map_err(|reason| GenerateError::Format { reason })?)
            }
            _ => None,
        };
        Ok(Self { sampling: sampling.clone(), vocabulary, matcher, counts: HashMap::new(), room: Vec::new() })
    }

    /// The logits to draw from.
    pub(crate) fn apply<'l>(&'l mut self, logits: &'l [f32]) -> Result<&'l [f32], GenerateError> {
        let penalised = self.has_penalties() && !self.counts.is_empty();
        if !penalised && self.matcher.is_none() {
            return Ok(logits);
        }
        self.room.clear();
        self.room.extend_from_slice(logits);
        if penalised {
            for (token, count) in &self.counts {
                if let Some(logit) = self.room.get_mut(*token as usize) {
                    *logit -= self.sampling.frequency_penalty * f32::from(*count) + self.sampling.presence_penalty;
                }
            }
        }
        if let Some(matcher) = &mut self.matcher {
            let allowed = matcher.compute_mask_or_eos().map_err(failed)?;
            for (token, logit) in self.room.iter_mut().enumerate() {
                if token >= allowed.len() || !allowed.get(token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(&self.room)
    }

    /// Learns of a token that was taken, from these logits of the model, and shows so many bytes of text. Says whether the
    /// form is complete with it.
    pub(crate) fn took(&mut self, token: u32, logits: &[f32], shown: usize) -> Result<bool, GenerateError> {
        if self.has_penalties() {
            let count = self.counts.entry(token).or_default();
            *count = count.saturating_add(1);
        }
        if let (Some(watch), Some(vocabulary)) = (&self.sampling.watch, self.vocabulary) {
            watch.note(note(token, logits, shown, watch, vocabulary));
        }
        match &mut self.matcher {
            Some(matcher) => {
                matcher.consume_token(token).map_err(failed)?;
                Ok(matcher.is_stopped())
            }
            None => Ok(false),
        }
    }

    fn has_penalties(&self) -> bool {
        self.sampling.frequency_penalty != 0.0 || self.sampling.presence_penalty != 0.0
    }
}

fn failed(error: impl std::fmt::Display) -> GenerateError {
    GenerateError::Format { reason: error.to_string().lines().next().unwrap_or_default().to_owned() }
}

/// How likely the model itself holds a token and the likeliest ones, at temperature 1 and before anything is cut off.
fn note(token: u32, logits: &[f32], shown: usize, watch: &TokenWatch, vocabulary: &Vocabulary) -> TokenNote {
    let largest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().filter(|logit| !logit.is_nan()).map(|logit| f64::from(logit - largest).exp()).sum();
    let all = f64::from(largest) + sum.ln();
    let likelihood =
        |token: u32| logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| (f64::from(*logit) - all) as f32);
    let mut best: Vec<u32> = Vec::new();
    let most = watch.top().min(logits.len());
    if most > 0 {
        best = (0..logits.len() as u32).filter(|token| !logits[*token as usize].is_nan()).collect();
        let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if most < best.len() {
            best.select_nth_unstable_by(most - 1, order);
            best.truncate(most);
        }
        best.sort_unstable_by(order);
    }
    let entry = |token: u32| (vocabulary.bytes(token).to_vec(), likelihood(token));
    let (bytes, likelihood) = entry(token);
    TokenNote { bytes, likelihood, top: best.into_iter().map(entry).collect(), shown }
}
