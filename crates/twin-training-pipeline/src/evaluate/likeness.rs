//! Likeness of every arm to the author, what each comparison of arms is worth, and the decision.

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_style::assessment::{Assessor, Gate};
use twin_style::likeness::{AuthorTexts, Others, Refusal, RulerConfig, RulerQuality};
use twin_style::stats::{Difference, holm};
use twin_style::text::{UNIT_WORDS, prose, word_count};
use twin_style::two_sample::told_apart;

use super::map::{self, Point};
use super::{Arm, ArmReport, Corpus, Evaluation};

/// The share of another author's words that is known; the rest is what the ruler is tried on.
const KNOWN_SHARE: f64 = 0.6;

/// What adapters and retrieval are compared with. The first is the question: does training help?
const COMPARED: [(Arm, Arm); 4] =
    [(Arm::Lora, Arm::Prompted), (Arm::LoraRag, Arm::FewShotRag), (Arm::Lora, Arm::Base), (Arm::LoraRag, Arm::Lora)];

/// What likeness was measured with, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikenessReport {
    pub ruler: Option<RulerQuality>,
    /// Why there is no ruler.
    pub refused: Option<String>,
    /// The likeness of the author's held-out units and of other people's, one by one.
    pub author_units: Vec<f64>,
    pub impostor_units: Vec<f64>,
    /// The least difference that texts of this length can show.
    pub detectable_difference: Option<f64>,
    pub comparisons: Vec<Comparison>,
    pub decision: Option<Decision>,
    /// Units of 500 words, near to each other where they use words alike.
    #[serde(default)]
    pub map: Vec<Point>,
}

/// The likeness of one arm less that of another, on the same requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub first: Arm,
    pub second: Arm,
    pub difference: Difference,
    /// The p-value, corrected for the number of comparisons (Holm).
    pub corrected_p_value: f64,
}

/// Whether training helps, by [`super::RULE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub helps: bool,
    pub because: String,
}

/// The ruler and the gates, from text that no arm has written.
pub(super) fn fit(evaluation: &Evaluation<'_>, corpus: &Corpus) -> Result<Assessor, Refusal> {
    let author = AuthorTexts {
        name: evaluation.author.name.clone(),
        known: corpus.train.iter().map(text).collect(),
        held_out: corpus.held_out.iter().map(text).collect(),
    };
    let strangers: Vec<AuthorTexts<'_>> = corpus
        .strangers
        .iter()
        .map(|(name, posts)| AuthorTexts::by_date(name, &posts.iter().map(text).collect::<Vec<_>>(), KNOWN_SHARE))
        .collect();
    // Whoever is there with texts is not there a second time as statistics.
    let mut without: Vec<String> = corpus.strangers.iter().map(|(name, _)| name.clone()).collect();
    without.push(evaluation.author.id.to_string());
    let population = evaluation.population.clone();
    let others = Others { texts: &strangers, population, without: &without, genres: &evaluation.config.genres };
    let config = RulerConfig { seed: evaluation.config.seed, ..RulerConfig::default() };
    Assessor::fit(&author, &others, config)
}

/// Adds its assessment to each arm.
pub(super) fn measure(assessor: &Assessor, corpus: &Corpus, arms: &mut [ArmReport]) -> LikenessReport {
    let own: Vec<String> = arms
        .iter()
        .filter(|report| report.arm == Arm::Author)
        .flat_map(|report| report.samples.iter().map(|sample| sample.text.clone()))
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    for report in arms.iter_mut() {
        if Arm::WRITING.contains(&report.arm) {
            report.told_apart = told_apart(&report.texts(), &own);
        }
        let mut assessment = assessor.assess(&report.texts());
        // The base model's opinion of fluency, where it was asked, beside what can be told without a model.
        if report.predictability.as_ref().is_some_and(|predictability| !predictability.is_usual()) {
            assessment.stop(Gate::Fluency);
        }
        report.assessment = Some(assessment);
    }
    let ruler = assessor.ruler();
    let [author_units, impostor_units] = ruler.scale();
    let words = arms
        .iter()
        .filter(|report| Arm::WRITING.contains(&report.arm))
        .map(|report| report.samples.iter().map(|sample| word_count(&prose(&sample.text))).sum::<usize>());
    let units = words.min().unwrap_or(0) / UNIT_WORDS;
    let comparisons = comparisons(assessor, arms);
    LikenessReport {
        ruler: Some(ruler.quality().clone()),
        refused: None,
        author_units,
        impostor_units,
        detectable_difference: (units > 0).then(|| ruler.detectable_difference(units)),
        decision: decision(&comparisons, arms),
        comparisons,
        map: map::draw(ruler, corpus, arms),
    }
}

pub(super) fn refused(why: String) -> LikenessReport {
    LikenessReport {
        ruler: None,
        refused: Some(why),
        author_units: Vec::new(),
        impostor_units: Vec::new(),
        detectable_difference: None,
        comparisons: Vec::new(),
        decision: None,
        map: Vec::new(),
    }
}

fn comparisons(assessor: &Assessor, arms: &[ArmReport]) -> Vec<Comparison> {
    let of = |arm: Arm| arms.iter().find(|report| report.arm == arm);
    let compared = COMPARED.iter().filter_map(|(first, second)| {
        let difference = assessor.ruler().difference(&of(*first)?.texts(), &of(*second)?.texts()).ok()?;
        Some((*first, *second, difference))
    });
    let compared: Vec<(Arm, Arm, Difference)> = compared.collect();
    let p_values: Vec<f64> = compared.iter().map(|(.., difference)| difference.p_value).collect();
    let corrected = holm(&p_values);
    compared
        .into_iter()
        .zip(corrected)
        .map(|((first, second, difference), corrected_p_value)| Comparison {
            first,
            second,
            difference,
            corrected_p_value,
        })
        .collect()
}

/// `None` where the two arms that decide were not both measured.
fn decision(comparisons: &[Comparison], arms: &[ArmReport]) -> Option<Decision> {
    let question = comparisons.iter().find(|one| (one.first, one.second) == COMPARED[0])?;
    let assessment = arms.iter().find(|report| report.arm == Arm::Lora)?.assessment.as_ref()?;
    let stopped: Vec<&str> = assessment.gates_of_text().map(Gate::label).collect();
    let Difference { mean, interval: (low, high), .. } = question.difference;
    let helps = question.difference.is_above_zero() && stopped.is_empty();
    let gates = if stopped.is_empty() {
        "and no gate stops it".to_owned()
    } else {
        format!("but {} stops it", stopped.join(", "))
    };
    let because = format!(
        "the likeness of {} is {mean:+.2} [{low:+.2}, {high:+.2}] to that of {}, {gates}",
        Arm::Lora.label(),
        Arm::Prompted.label()
    );
    Some(Decision { helps, because })
}

pub(super) fn text(stored: &StoredDocument) -> &str {
    &stored.document.text
}
