//! Bits per byte: how well the model with and without the adapter predicts documents it has not seen.
//!
//! Bytes rather than tokens, so that models with different tokenizers compare. The base and the adapter see the same
//! prompts and the same text, document by document, so the gain is paired.

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{CancelFlag, Progress};
use twin_models::language::{LanguageModel, Nll, TrainingExample};

use twin_style::stats::{bootstrap_interval, mean};

use super::{EvaluateError, Evaluation, tell};
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
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<Prediction, EvaluateError> {
    let mut measured = Vec::new();
    for (index, stored) in documents.iter().enumerate() {
        if cancel.is_cancelled() {
            return Err(EvaluateError::Cancelled);
        }
        tell(progress, &format!("bits per byte, {whose}"), index, documents.len());
        measured.extend(document_bits(evaluation, stored)?);
    }
    tell(progress, &format!("bits per byte, {whose}"), documents.len(), documents.len());
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

/// `None` for a document without prose of its author's own.
fn document_bits(evaluation: &Evaluation<'_>, stored: &StoredDocument) -> Result<Option<DocumentBits>, EvaluateError> {
    let model = evaluation.model;
    let count = |text: &str| model.count_tokens(text);
    let config = DatasetConfig::default();
    let mut examples: Vec<TrainingExample> = Vec::new();
    let mut bytes = 0;
    for passage in measured_passages(stored, evaluation.author, evaluation.prompts, &config, &count)? {
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
    use super::*;

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
