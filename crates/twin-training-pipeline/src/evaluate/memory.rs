//! What an adapter has learnt by heart: it is given the first tokens of a training post and goes on, always with the
//! likeliest token (Carlini et al., "Quantifying memorization across neural language models", 2023). The base, which may
//! have read the same posts, is asked the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_models::language::{GenerateRequest, Input, LanguageModel, Sampling};
use twin_models::prompt::Request;
use twin_style::copying::{MAX_RUN, words_in_common};
use twin_style::stats::mean;

use super::{Corpus, Course, EvaluateError, Evaluation};

/// How many tokens of a post are given, and how many are asked for.
const PREFIX: usize = 32;
const CONTINUED: usize = 48;

/// How much of training posts comes back when it is begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memorisation {
    /// How many posts were begun.
    pub probes: usize,
    pub base: Reproduced,
    pub twin: Reproduced,
}

/// Words that agree with the post, from the first that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reproduced {
    pub mean_words: f64,
    pub most_words: usize,
    /// How many posts came back for as many words as count as copied.
    pub by_heart: usize,
}

impl Reproduced {
    fn of(words: &[usize]) -> Self {
        Self {
            mean_words: if words.is_empty() { 0.0 } else { mean(words.iter().map(|words| *words as f64)) },
            most_words: words.iter().copied().max().unwrap_or(0),
            by_heart: words.iter().filter(|words| **words >= MAX_RUN).count(),
        }
    }
}

/// Begins training posts, evenly spread over time. `None` where there are none that are long enough, or none is wanted.
pub(super) fn probe(
    evaluation: &Evaluation<'_>,
    corpus: &Corpus,
    course: &Course<'_>,
) -> Result<Option<Memorisation>, EvaluateError> {
    let wanted = evaluation.config.probes;
    if wanted == 0 {
        return Ok(None);
    }
    let step = corpus.train.len().div_ceil(wanted).max(1);
    let (mut base, mut twin) = (Vec::new(), Vec::new());
    for (index, stored) in corpus.train.iter().step_by(step).enumerate() {
        course.tell("memorisation", index, wanted);
        let Some(Probe { input, expected }) = Probe::of(evaluation, stored)? else { continue };
        let info = &stored.document.info;
        for (words, adapter) in [(&mut base, None), (&mut twin, Some(Arc::clone(&evaluation.adapter)))] {
            let whose = if adapter.is_some() { "twin" } else { "base" };
            words.push(course.part(&format!("memory of {whose} {} {}", info.url, info.content_hash), || {
                let (input, sampling) = (Input::Tokens(input.clone()), Sampling::greedy(CONTINUED));
                let request = GenerateRequest { input, adapter, sampling };
                let generation =
                    evaluation.model.generate(&request, course.cancel(), &mut |_| ControlFlow::Continue(()))?;
                course.check()?;
                Ok(words_in_common(&expected, &generation.text))
            })?);
        }
    }
    course.tell("memorisation", wanted, wanted);
    let found = Memorisation { probes: base.len(), base: Reproduced::of(&base), twin: Reproduced::of(&twin) };
    Ok((found.probes > 0).then_some(found))
}

struct Probe {
    input: Vec<u32>,
    expected: String,
}

impl Probe {
    /// The opening of a post as it was asked for in training, cut after its first tokens.
    fn of(evaluation: &Evaluation<'_>, stored: &StoredDocument) -> Result<Option<Self>, EvaluateError> {
        let Evaluation { model, author, prompts, .. } = evaluation;
        let count = |text: &str| model.count_tokens(text);
        let tokens = model.encode(&crate::dataset::opening(stored, PREFIX + CONTINUED, &count))?;
        if tokens.len() < PREFIX + CONTINUED / 2 {
            return Ok(None);
        }
        let (given, rest) = tokens.split_at(PREFIX);
        let request = Request::WritePost { title: stored.document.info.title.clone() };
        let mut input = model.encode_chat(&prompts.render(author, &request, &[], &[])?, true)?;
        input.extend(given);
        Ok(Some(Self { input, expected: model.decode(rest)? }))
    }
}
