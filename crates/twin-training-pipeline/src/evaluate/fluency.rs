//! How predictable texts are to the base model, in bits per byte. Garbled text is hard to predict; text that goes on as
//! models do is far too easy. What the author wrote in the same places says what is usual.

use serde::{Deserialize, Serialize};
use twin_models::language::{LanguageModel, TrainingExample};
use twin_style::stats::{mean, quantile};

use super::{Arm, ArmReport, EvaluateError, Evaluation};
use crate::dataset::WritingTask;

/// The share of an arm's texts that have to lie in the author's range.
pub(super) const MIN_USUAL: f64 = 0.5;

/// How predictable the texts of an arm are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictability {
    /// The mean over texts, in bits per byte of the base model.
    pub bits_per_byte: f64,
    /// What 95% of the author's texts in the same places get.
    pub author_range: (f64, f64),
    /// The share of texts that lie in that range; an empty one does not.
    pub usual_share: f64,
}

impl Predictability {
    /// Whether half of the texts or more are as predictable as the author's.
    pub fn is_usual(&self) -> bool {
        self.usual_share >= MIN_USUAL
    }
}

/// Adds its predictability to each arm that wrote for the tasks. Nothing without the author's own texts.
pub(super) fn measure(
    evaluation: &Evaluation<'_>,
    tasks: &[WritingTask],
    arms: &mut [ArmReport],
) -> Result<(), EvaluateError> {
    let Some(real) = arms.iter().find(|report| report.arm == Arm::Author) else { return Ok(()) };
    let real: Vec<f64> = bits_per_byte(evaluation, tasks, real)?.into_iter().flatten().collect();
    if real.is_empty() {
        return Ok(());
    }
    let range = (quantile(&real, 0.025), quantile(&real, 0.975));
    for report in arms.iter_mut().filter(|report| report.arm != Arm::Others) {
        let bits = bits_per_byte(evaluation, tasks, report)?;
        let usual = bits.iter().flatten().filter(|bits| (range.0..=range.1).contains(*bits)).count();
        let finite: Vec<f64> = bits.iter().copied().flatten().collect();
        report.predictability = (!finite.is_empty()).then(|| Predictability {
            bits_per_byte: mean(finite.iter().copied()),
            author_range: range,
            usual_share: usual as f64 / bits.len() as f64,
        });
    }
    Ok(())
}

/// The bits per byte of every sample under the request alone, without passages and examples, whichever the arm had. `None` of
/// an empty text, and of one that is longer than the model's context.
fn bits_per_byte(
    evaluation: &Evaluation<'_>,
    tasks: &[WritingTask],
    report: &ArmReport,
) -> Result<Vec<Option<f64>>, EvaluateError> {
    let Evaluation { model, author, prompts, .. } = evaluation;
    let mut measured = Vec::new();
    let mut examples: Vec<TrainingExample> = Vec::new();
    for (task, sample) in tasks.iter().zip(&report.samples) {
        let prompt = prompts.render(author, &task.request, &[], &[])?;
        let example = model.tokenizer().encode_example(&prompt, &sample.text, false, &[])?;
        let fits = !sample.text.is_empty() && example.token_ids.len() <= model.info().context_length;
        measured.push(fits.then_some(sample.text.len()));
        examples.extend(fits.then_some(example));
    }
    let mut nlls = model.nll_batch(None, &examples)?.into_iter();
    let mut bits = |bytes: usize| Some(nlls.next()?.nats / std::f64::consts::LN_2 / bytes as f64);
    Ok(measured.into_iter().map(|bytes| bytes.and_then(&mut bits)).collect())
}
