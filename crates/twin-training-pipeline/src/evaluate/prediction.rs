//! Bits per byte: how well the model with and without the adapter predicts documents it has not seen.
//!
//! Bytes rather than tokens, so that models with different tokenizers compare. The base and the adapter see the same
//! prompts and the same text, document by document, so the gain is paired.

use serde::{Deserialize, Serialize};
use twin_domain::Example;
use twin_domain::feature_store::StoredDocument;
use twin_models::language::{LanguageModel, Nll, TrainingExample};

use twin_style::stats::{bootstrap_interval, mean};

use super::{Course, EvaluateError, Evaluation};
use crate::dataset::{DatasetConfig, measured_passages};

/// The figures of one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentBits {
    pub url: String,
    pub bytes: usize,
    /// Bits per byte of the base and of the base with the adapter.
    pub base: f64,
    pub twin: f64,
}

/// Bits per byte over several documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// All bits over all bytes, under the base model.
    pub base: f64,
    /// The same with the adapter.
    pub twin: f64,
    /// A 95% interval of `base - twin`, from 2,000 bootstrap samples of documents.
    pub gain_interval: (f64, f64),
    pub documents: Vec<DocumentBits>,
}

impl Prediction {
    /// How many bits per byte the adapter saves; negative when it costs some.
    pub fn gain(&self) -> f64 {
        self.base - self.twin
    }
}

/// Measures documents of whichever author under the prompts of this author's twin.
pub(super) fn measure(
    evaluation: &Evaluation<'_>,
    documents: &[StoredDocument],
    whose: &str,
    course: &Course<'_>,
) -> Result<Prediction, EvaluateError> {
    let mut measured = Vec::new();
    for (index, stored) in documents.iter().enumerate() {
        course.tell(&format!("bits per byte, {whose}"), index, documents.len());
        let info = &stored.document.info;
        let bits = course.part(&format!("bits {} {}", info.url, info.content_hash), || {
            course.check()?;
            document_bits(evaluation, stored)
        })?;
        measured.extend(bits);
    }
    course.tell(&format!("bits per byte, {whose}"), documents.len(), documents.len());
    let total = |bits: fn(&DocumentBits) -> f64| {
        let sum: f64 = measured.iter().map(|document| bits(document) * document.bytes as f64).sum();
        sum / measured.iter().map(|document| document.bytes as f64).sum::<f64>().max(1.0)
    };
    Ok(Prediction {
        base: total(|document| document.base),
        twin: total(|document| document.twin),
        gain_interval: gain_interval(&measured, evaluation.config.seed),
        documents: measured,
    })
}

/// At most so many tokens of passages, but one passage in any case, evenly spread over their document.
fn spread(passages: Vec<Example>, tokens: usize, count_tokens: &dyn Fn(&str) -> usize) -> Vec<Example> {
    let all: usize = passages.iter().map(|passage| count_tokens(&passage.target)).sum();
    let count = passages.len();
    let kept = if all <= tokens { count } else { (count * tokens / all).max(1) };
    // The first of each of `kept` equal parts.
    let chosen = |(index, passage)| (index * kept % count < kept).then_some(passage);
    passages.into_iter().enumerate().filter_map(chosen).collect()
}

/// `None` for a document without prose of its author's own.
fn document_bits(evaluation: &Evaluation<'_>, stored: &StoredDocument) -> Result<Option<DocumentBits>, EvaluateError> {
    let model = evaluation.model;
    let count = |text: &str| model.count_tokens(text);
    let config = DatasetConfig::default();
    let mut examples: Vec<TrainingExample> = Vec::new();
    let mut bytes = 0;
    let passages = measured_passages(stored, evaluation.author, evaluation.prompts, &config, &count)?;
    for passage in spread(passages, evaluation.config.document_tokens, &count) {
        // The end of the turn has no bytes, so it has no part in this.
        let example = model.tokenizer().encode_example(&passage.prompt, &passage.target, false, &passage.not_voice)?;
        if example.token_ids.len() <= model.info().context_length {
            bytes += passage.target.len() - passage.not_voice.iter().map(ExactSizeIterator::len).sum::<usize>();
            examples.push(example);
        }
    }
    if bytes == 0 {
        return Ok(None);
    }
    let bits = |nlls: Vec<Nll>| nlls.iter().map(|nll| nll.nats).sum::<f64>() / std::f64::consts::LN_2 / bytes as f64;
    let base = bits(model.nll_batch(None, &examples)?);
    let twin = bits(model.nll_batch(Some(&evaluation.adapter), &examples)?);
    Ok(Some(DocumentBits { url: stored.document.info.url.clone(), bytes, base, twin }))
}

/// The gain over all bytes, resampled by document.
fn gain_interval(documents: &[DocumentBits], seed: u64) -> (f64, f64) {
    bootstrap_interval(documents, seed, |drawn| {
        let weight = mean(drawn.iter().map(|document| document.bytes as f64));
        mean(drawn.iter().map(|document| (document.base - document.twin) * document.bytes as f64)) / weight
    })
}

#[cfg(test)]
mod tests {
    use twin_domain::{DocumentId, Split, Task};

    use super::*;

    #[test]
    fn of_a_long_document_passages_from_all_over_it_are_measured() {
        let passage = |index: usize| Example {
            split: Split::Test,
            task: Task::Continue,
            document: DocumentId::new(&"someone".parse().unwrap(), "https://example.org/"),
            prompt: Vec::new(),
            target: index.to_string(),
            complete: false,
            not_voice: Vec::new(),
        };
        // Every passage has 100 tokens.
        let chosen = |passages: usize, tokens: usize| -> Vec<String> {
            let all = (0..passages).map(passage).collect();
            spread(all, tokens, &|_| 100).into_iter().map(|passage| passage.target).collect()
        };
        assert_eq!(chosen(4, 400), ["0", "1", "2", "3"]);
        assert_eq!(chosen(10, 300), ["0", "4", "7"]);
        assert_eq!(chosen(10, 1), ["0"], "never nothing");
        assert_eq!(chosen(0, 1), Vec::<String>::new());
        for passages in 1..40 {
            for tokens in (0..4000).step_by(50) {
                assert_eq!(chosen(passages, tokens).len(), (tokens / 100).clamp(1, passages));
            }
        }
    }

    #[test]
    fn a_gain_on_every_document_is_beyond_chance() {
        let bits = |index: usize, gain: f64| DocumentBits {
            url: index.to_string(),
            bytes: 1000 + index,
            base: 1.0,
            twin: 1.0 - gain,
        };
        let good: Vec<_> = (0..6).map(|index| bits(index, 0.02 + 0.01 * index as f64)).collect();
        assert!(gain_interval(&good, 1).0 > 0.0);
        let mixed: Vec<_> = (0..6).map(|index| bits(index, if index % 2 == 0 { 0.05 } else { -0.05 })).collect();
        let (low, high) = gain_interval(&mixed, 1);
        assert!(low < 0.0 && high > 0.0);
    }
}
