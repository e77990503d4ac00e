//! Choosing the next token from the model's logits.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::GenerateError;
use super::vocabulary::check_format;
use super::watch::TokenWatch;

/// How an answer is drawn. The steps come in the order of transformers: repetition penalty, temperature, top-k, top-p,
/// min-p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits: below 1 sharper, above 1 flatter. 0 takes the most likely token always.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the most likely one (Nguyen et al. 2024); 0 for all.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of tokens that the answer used lately (Keskar et al. 2019);
    /// 1 for none. The prompt does not count: its words are what an answer should be about.
    pub repetition_penalty: f32,
    /// How many of the answer's last tokens count as lately.
    pub repetition_window: usize,
    /// Taken off the logit of every token that the answer has used, and this for every time it has (as OpenAI's API has
    /// them); 0 for none, below 0 for the opposite. They come first.
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// No run of so many tokens of the prompt is written again (`encoder_no_repeat_ngram_size` of transformers); 0 for no
    /// such rule. A small model that is given passages copies them when it is to write something new.
    pub no_copy_tokens: usize,
    /// The same seed gives the same answer.
    pub seed: u64,
    pub max_new_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// The form that the answer must have; only tokens that keep it are drawn. An answer that reaches its limit first is cut
    /// off all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
    /// Where notes of the answer's tokens go.
    #[serde(skip)]
    pub watch: Option<TokenWatch>,
}

/// A form that an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// One JSON object.
    JsonObject,
    /// JSON that a JSON Schema allows. Of schemas that say what cannot be held to token by token, requests are refused.
    JsonSchema(serde_json::Value),
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.1,
            repetition_window: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_copy_tokens: 0,
            seed: 0,
            max_new_tokens: 512,
            stop: Vec::new(),
            format: None,
            watch: None,
        }
    }
}

impl Sampling {
    /// The most likely token always.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, repetition_penalty: 1.0, max_new_tokens, ..Self::default() }
    }

    /// How drafts in an author's voice are drawn, when they are served and when they are measured: freely, without falling
    /// into loops, and never more than a phrase of the passages at a time.
    pub fn draft(max_new_tokens: usize) -> Self {
        Self {
            temperature: 0.8,
            repetition_penalty: 1.15,
            repetition_window: 128,
            no_copy_tokens: 6,
            max_new_tokens,
            ..Self::default()
        }
    }

    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// [`GenerateError::InvalidSampling`] with the first that does not, or [`GenerateError::Format`].
    pub fn validate(&self) -> Result<(), GenerateError> {
        let refuse = |parameter, reason| Err(GenerateError::InvalidSampling { parameter, reason });
        if !(0.0..=10.0).contains(&self.temperature) {
            return refuse("temperature", "must be from 0 to 10");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", "must be above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min_p", "must be from 0 to 1");
        }
        if !(0.1..=10.0).contains(&self.repetition_penalty) {
            return refuse("repetition_penalty", "must be from 0.1 to 10");
        }
        for (parameter, penalty) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            if !(-2.0..=2.0).contains(&penalty) {
                return refuse(parameter, "must be from -2 to 2");
            }
        }
        if self.no_copy_tokens == 1 {
            return refuse("no_copy_tokens", "must be 0 or at least 2");
        }
        if self.max_new_tokens == 0 {
            return refuse("max_new_tokens", "must be at least 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return refuse("stop", "must not have an empty text");
        }
        self.format.as_ref().map_or(Ok(()), check_format).map_err(|reason| GenerateError::Format { reason })
    }
}

/// Tokens less likely than this against the best are never drawn, which spares sorting a whole vocabulary.
const NEGLIGIBLE: f32 = 1e-8;

/// The runs of a prompt that an answer must not copy.
#[derive(Debug, Default)]
pub struct Copies {
    /// Tokens of a run before its last.
    before: usize,
    /// What follows such tokens in the prompt.
    following: HashMap<Box<[u32]>, Vec<u32>>,
}

impl Copies {
    /// The runs of `tokens` tokens of a prompt; with 0, none.
    pub fn new(prompt: &[u32], tokens: usize) -> Self {
        let mut following: HashMap<Box<[u32]>, Vec<u32>> = HashMap::new();
        let runs = if tokens < 2 { prompt[..0].windows(1) } else { prompt.windows(tokens) };
        for run in runs {
            let (last, before) = (run[run.len() - 1], &run[..run.len() - 1]);
            following.entry(before.into()).or_default().push(last);
        }
        Self { before: tokens.saturating_sub(1), following }
    }

    /// The tokens that would complete a copied run after this answer.
    pub fn completed_by(&self, answer: &[u32]) -> &[u32] {
        let end = answer.len().checked_sub(self.before).and_then(|start| self.following.get(&answer[start..]));
        end.map_or(&[], Vec::as_slice)
    }
}

/// Draws a token. `recent` are the tokens that the repetition penalty is for, and `forbidden` are never drawn; logits that
/// are not numbers count as impossible.
pub fn sample(logits: &[f32], recent: &[u32], forbidden: &[u32], sampling: &Sampling, random: &mut impl Rng) -> u32 {
    let penalised: HashSet<u32> =
        if sampling.repetition_penalty == 1.0 { HashSet::new() } else { recent.iter().copied().collect() };
    let logit = |(index, &logit): (usize, &f32)| {
        let token = index as u32;
        let logit = if logit.is_nan() || forbidden.contains(&token) { f32::NEG_INFINITY } else { logit };
        let penalty = sampling.repetition_penalty;
        let logit = match penalised.contains(&token) {
            true if logit > 0.0 => logit / penalty,
            true => logit * penalty,
            false => logit,
        };
        (token, logit)
    };
    let all = || logits.iter().enumerate().map(logit);
    let Some((best, largest)) = all().reduce(|a, b| if b.1 > a.1 { b } else { a }) else { return 0 };
    if sampling.temperature == 0.0 || !largest.is_finite() {
        return best;
    }
    let least = largest + NEGLIGIBLE.ln() * sampling.temperature;
    let mut candidates: Vec<(u32, f32)> = all().filter(|(_, logit)| *logit >= least).collect();
    keep_likely(&mut candidates, sampling, largest);
    draw(&candidates, random)
}

/// Makes logits into weights, the best having 1, and drops what top-k, top-p and min-p exclude. The best comes first.
fn keep_likely(candidates: &mut Vec<(u32, f32)>, sampling: &Sampling, largest: f32) {
    // Equal logits in the order of their tokens, so that the result does not depend on how the sort is made.
    let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, order);
        candidates.truncate(sampling.top_k);
    }
    candidates.sort_unstable_by(order);
    for (_, logit) in candidates.iter_mut() {
        *logit = ((*logit - largest) / sampling.temperature).exp();
    }
    if sampling.top_p < 1.0 {
        let total: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut before = 0.0;
        let kept = candidates.iter().take_while(|(_, weight)| {
            let keep = before < sampling.top_p * total;
            before += weight;
            keep
        });
        let kept = kept.count();
        candidates.truncate(kept.max(1));
    }
    candidates.retain(|(_, weight)| *weight >= sampling.min_p);
}

fn draw(candidates: &[(u32, f32)], random: &mut impl Rng) -> u32 {
    let total: f32 = candidates.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f32>() * total;
    for (token, weight) in candidates {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    // Rounding can leave a hair over: then it is the last.
    candidates.last().map_or(0, |(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, ..Sampling::default() }
    }

    /// How often each token is drawn in 4000 draws, as percent.
    fn shares(logits: &[f32], recent: &[u32], sampling: &Sampling) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sample(logits, recent, &[], sampling, &mut random) as usize] += 1;
        }
        counts.into_iter().map(|count: u32| (count + 20) / 40).collect()
    }

    #[track_caller]
    fn check(logits: &[f32], recent: &[u32], sampling: &Sampling, expected: &[u32]) {
        let shares = shares(logits, recent, sampling);
        let close = shares.iter().zip(expected).all(|(share, expected)| share.abs_diff(*expected) <= 2);
        assert!(close, "{shares:?} is not {expected:?}");
    }

    /// The logits of 10, 20, 30 and 40 percent.
    fn tenths() -> Vec<f32> {
        [0.1f32, 0.2, 0.3, 0.4].map(f32::ln).into()
    }

    #[test]
    fn shares_follow_the_probabilities() {
        check(&tenths(), &[], &plain(), &[10, 20, 30, 40]);
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        check(&tenths(), &[], &Sampling { temperature: 0.5, ..plain() }, &[3, 13, 30, 53]);
        check(&tenths(), &[], &Sampling { temperature: 10.0, ..plain() }, &[23, 25, 26, 26]);
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        check(&tenths(), &[], &Sampling { top_k: 2, ..plain() }, &[0, 0, 43, 57]);
        check(&tenths(), &[], &Sampling { top_p: 0.69, ..plain() }, &[0, 0, 43, 57]);
        check(&tenths(), &[], &Sampling { top_p: 0.71, ..plain() }, &[0, 22, 33, 44]);
        check(&tenths(), &[], &Sampling { min_p: 0.6, ..plain() }, &[0, 0, 43, 57]);
        check(&tenths(), &[], &Sampling { top_p: 0.01, min_p: 1.0, ..plain() }, &[0, 0, 0, 100]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let greedy = Sampling::greedy(8);
        assert_eq!(sample(&[1.0, 3.0, f32::NAN, 3.0], &[], &[], &greedy, &mut random), 1);
        assert_eq!(sample(&[], &[], &[], &greedy, &mut random), 0);
        assert_eq!(sample(&[f32::NAN; 3], &[], &[], &plain(), &mut random), 0);
    }

    #[test]
    fn recent_tokens_are_penalised_whatever_their_sign() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let penalty = Sampling { repetition_penalty: 2.0, ..Sampling::greedy(8) };
        assert_eq!(sample(&[2.0, 1.5], &[0, 0], &[], &penalty, &mut random), 1);
        assert_eq!(sample(&[-1.0, -1.5], &[0], &[], &penalty, &mut random), 1);
        assert_eq!(sample(&[-1.0, -1.5], &[], &[], &penalty, &mut random), 0);
    }

    #[test]
    fn what_is_forbidden_is_never_drawn() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(sample(&[3.0, 1.0, 2.0], &[], &[0], &Sampling::greedy(8), &mut random), 2);
        assert!((0..200).all(|_| sample(&[3.0, 1.0], &[], &[0], &plain(), &mut random) == 1));
    }

    #[test]
    fn a_run_of_the_prompt_is_not_completed_again() {
        let copies = Copies::new(&[1, 2, 3, 4, 2, 3, 5], 3);
        assert_eq!(copies.completed_by(&[9, 2, 3]), [4, 5]);
        assert!(copies.completed_by(&[3, 2]).is_empty());
        assert!(copies.completed_by(&[2]).is_empty());
        assert!(Copies::new(&[1, 2, 3], 0).completed_by(&[1, 2]).is_empty());
        assert!(Copies::new(&[1], 3).completed_by(&[1, 1]).is_empty());
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let draws = |seed| -> Vec<u32> {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            (0..20).map(|_| sample(&logits, &[], &[], &Sampling::default(), &mut random)).collect()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let refused = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            sampling.validate().is_err()
        };
        assert!(Sampling::default().validate().is_ok());
        assert!(refused(|s| s.temperature = f32::NAN));
        assert!(refused(|s| s.top_p = 0.0));
        assert!(refused(|s| s.min_p = 1.5));
        assert!(refused(|s| s.repetition_penalty = 0.0));
        assert!(refused(|s| s.presence_penalty = 2.5));
        assert!(refused(|s| s.frequency_penalty = f32::NAN));
        assert!(refused(|s| s.format = Some(OutputFormat::JsonSchema(serde_json::json!({ "type": "oak" })))));
        assert!(refused(|s| s.no_copy_tokens = 1));
        assert!(refused(|s| s.max_new_tokens = 0));
        assert!(refused(|s| s.stop.push(String::new())));
    }
}
