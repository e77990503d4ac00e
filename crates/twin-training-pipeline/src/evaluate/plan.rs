//! What an evaluation will be able to see, told before it begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twin_style::likeness::RulerQuality;
use twin_style::text::UNIT_WORDS;

use super::EvaluationConfig;
use crate::dataset::{Form, WritingTask};

/// English words in a token of a byte-level vocabulary, roughly.
const WORDS_PER_TOKEN: f64 = 0.75;

/// The rule by which it is decided, which was there before any run.
pub const RULE: &str = "training helps if the likeness of LoRA is above that of base + prompt with a 95% interval above 0, \
                        and neither copying, stitching, repetition nor fluency stops it";

/// The size of an evaluation and what it can show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How many texts each arm writes, by form.
    pub tasks: BTreeMap<Form, usize>,
    /// The longest that a text can get, in tokens.
    pub max_new_tokens: usize,
    /// Units of 500 words that an arm comes to if it writes as long as it may.
    pub units: usize,
    pub ruler: Option<RulerQuality>,
    /// Why there is no ruler.
    pub refused: Option<String>,
    /// The least difference in likeness that will be seen four times in five.
    pub detectable_difference: Option<f64>,
    pub rule: String,
}

impl Plan {
    pub(super) fn of(
        config: &EvaluationConfig,
        tasks: &[WritingTask],
        ruler: Option<Result<&twin_style::likeness::Ruler, String>>,
    ) -> Self {
        let mut by_form = BTreeMap::new();
        for task in tasks {
            *by_form.entry(task.form).or_default() += 1;
        }
        let words = (tasks.len() * config.max_new_tokens) as f64 * WORDS_PER_TOKEN;
        let units = (words / UNIT_WORDS as f64).round() as usize;
        let (ruler, refused) = match ruler {
            Some(Ok(ruler)) => (Some(ruler), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        Self {
            tasks: by_form,
            max_new_tokens: config.max_new_tokens,
            units,
            refused,
            detectable_difference: ruler.filter(|_| units > 0).map(|ruler| ruler.detectable_difference(units)),
            ruler: ruler.map(|ruler| ruler.quality().clone()),
            rule: RULE.to_owned(),
        }
    }

    /// The plan in a sentence each.
    pub fn lines(&self) -> Vec<String> {
        let forms: Vec<String> = self.tasks.iter().map(|(form, count)| format!("{count} {}", form.label())).collect();
        let total: usize = self.tasks.values().sum();
        let mut lines = vec![format!(
            "{total} requests ({}) of at most {} tokens: about {} units of {UNIT_WORDS} words for each way of writing",
            forms.join(", "),
            self.max_new_tokens,
            self.units
        )];
        if let Some(RulerQuality { auc, auc_interval: (low, high), impostor_authors, .. }) = &self.ruler {
            lines.push(format!(
                "the ruler tells the author from {impostor_authors} others with an AUC of {auc:.2} [{low:.2}, {high:.2}]"
            ));
        }
        lines.extend(self.refused.iter().map(|why| format!("there will be no likeness: {why}")));
        lines.extend(self.detectable_difference.map(|least| {
            format!("with {total} requests a difference in likeness of {least:.2} will be seen four times in five")
        }));
        lines.push(format!("the rule: {}", self.rule));
        lines
    }
}
