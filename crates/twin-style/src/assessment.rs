//! What may be said of texts: the likeness and every gate it has to pass. None of the measures is enough by itself, so "like
//! the author" is said only where all of them agree; `docs/style.md` has the table of what stops which trick.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::copying::CopyIndex;
use crate::fluency::{FluencyGate, MIN_DISTINCT_4, TrigramPool};
use crate::likeness::{AuthorTexts, Likeness, Others, Refusal, Ruler, RulerConfig};
use crate::stats::mean;
use crate::text::{prose, units, word_count};

/// The share of units that may fail a gate by chance: one in a hundred real ones does.
const MAX_FAILING_UNITS: f64 = 0.1;

/// The share of a unit that may be quoted. What is in quotation marks counts neither as copied nor as written.
const MAX_QUOTED: f64 = 0.5;

/// The share of units that have to pass for the author's.
const MIN_ACCEPTED: f64 = 0.5;

/// The least likeness: three quarters of the way from other people to the author. The threshold of acceptance alone is not
/// enough: where all others write of something else, somebody of the author's own kind passes it half of the time.
const MIN_LIKENESS: f64 = 0.75;

/// What can stand between a text and "like the author".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Too few words to tell.
    Length,
    /// The likeness is below .75, or fewer than half of the units pass for the author's where one impostor's unit in twenty
    /// does.
    Likeness,
    /// More like the author than the author is: a sign of copying or garbling.
    OverImitation,
    /// Words in a row that stand in a known post, or more quotation than text.
    Copying,
    /// Nearly every pair of words stands in a known post.
    Stitching,
    /// The same words again and again.
    Repetition,
    /// Words in an order that nobody uses, or in another language.
    Fluency,
}

impl Gate {
    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Likeness => "likeness",
            Self::OverImitation => "over-imitation",
            Self::Copying => "copying",
            Self::Stitching => "stitching",
            Self::Repetition => "repetition",
            Self::Fluency => "fluency",
        }
    }
}

impl Gate {
    /// Whether it stops texts for what they are, and not for how little they are like somebody.
    pub fn is_of_text(self) -> bool {
        matches!(self, Self::Copying | Self::Stitching | Self::Repetition | Self::Fluency)
    }
}

/// All that was measured of some texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// `None` where the texts are too short.
    pub likeness: Option<Likeness>,
    pub words: usize,
    /// The figures below are means over units of about 500 words; the longest run is the longest of all.
    pub units: usize,
    pub copied_share: f64,
    pub longest_run: usize,
    pub pairs_share: f64,
    pub distinct_4: f64,
    pub attested_trigrams: f64,
    /// What stops the texts from being called like the author.
    pub stopped_by: Vec<Gate>,
}

impl Assessment {
    /// Whether nothing stands against it.
    pub fn is_like_the_author(&self) -> bool {
        self.stopped_by.is_empty()
    }

    /// Lets a gate stop the texts that was measured elsewhere, such as by a model.
    pub fn stop(&mut self, gate: Gate) {
        if !self.stopped_by.contains(&gate) {
            self.stopped_by.push(gate);
        }
    }

    /// The gates that stop the texts whoever they are to be like: copies, repetition, what is no language.
    pub fn gates_of_text(&self) -> impl Iterator<Item = Gate> + '_ {
        self.stopped_by.iter().copied().filter(|gate| gate.is_of_text())
    }

    /// The verdict in words.
    pub fn verdict(&self) -> String {
        match self.stopped_by.as_slice() {
            [] => "like the author".to_owned(),
            [Gate::Length, ..] => "too short to tell".to_owned(),
            gates => format!("stopped by {}", gates.iter().map(|gate| gate.label()).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// What can be said of one passage at once, as while somebody is writing it: no interval, and no more than a sign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    pub words: usize,
    /// `None` where the passage is shorter than half a unit.
    pub likeness: Option<f64>,
    pub stopped_by: Vec<Gate>,
}

/// A ruler with the gates beside it.
#[derive(Debug)]
pub struct Assessor {
    ruler: Ruler,
    copies: CopyIndex,
    pool: TrigramPool,
    fluency: FluencyGate,
}

/// One unit's figures beside its likeness.
struct Gated {
    copied_share: f64,
    longest_run: usize,
    pairs_share: f64,
    distinct_4: f64,
    attested_trigrams: f64,
    failing: Vec<Gate>,
}

impl Assessor {
    /// From an author's and other people's posts. Copies are looked for in the known posts.
    ///
    /// # Errors
    /// A [`Refusal`] where no ruler can be made.
    pub fn fit(author: &AuthorTexts<'_>, others: &Others<'_>, config: RulerConfig) -> Result<Self, Refusal> {
        let ruler = Ruler::fit_among(author, others, config)?;
        let unit_words = ruler.config().unit_words;
        let mut pool = others.population.as_ref().map(|population| population.triples()).unwrap_or_default();
        for text in others.texts.iter().flat_map(|one| &one.known) {
            pool.add(&prose(text));
        }
        let held_out: Vec<String> = author.held_out.iter().map(|text| prose(text)).collect();
        let held_out: Vec<String> = units(&held_out, unit_words)
            .into_iter()
            .filter(|unit| unit.words * 2 >= unit_words)
            .map(|unit| unit.text)
            .collect();
        let fluency = FluencyGate::of(&pool, &held_out);
        Ok(Self { ruler, copies: CopyIndex::new(&author.known), pool, fluency })
    }

    /// The ruler.
    pub fn ruler(&self) -> &Ruler {
        &self.ruler
    }

    /// Measures Markdown texts together.
    pub fn assess(&self, texts: &[&str]) -> Assessment {
        let proses: Vec<String> = texts.iter().map(|text| prose(text)).collect();
        let units = units(&proses, self.ruler.config().unit_words);
        let gated: Vec<Gated> = units.par_iter().map(|unit| self.gate(&unit.text)).collect();
        let likeness = self.ruler.likeness(texts).ok();
        let mut stopped_by = Vec::new();
        match &likeness {
            None => stopped_by.push(Gate::Length),
            Some(likeness) => {
                let is_unlike = likeness.value < MIN_LIKENESS || likeness.accepted_share < MIN_ACCEPTED;
                stopped_by.extend(is_unlike.then_some(Gate::Likeness));
                stopped_by.extend(likeness.is_over_imitation().then_some(Gate::OverImitation));
                let fails = |gate: Gate| gated.iter().filter(|unit| unit.failing.contains(&gate)).count() as f64;
                let gates = [Gate::Copying, Gate::Stitching, Gate::Repetition, Gate::Fluency];
                stopped_by
                    .extend(gates.into_iter().filter(|gate| fails(*gate) > MAX_FAILING_UNITS * gated.len() as f64));
            }
        }
        let average = |value: fn(&Gated) -> f64| if gated.is_empty() { 0.0 } else { mean(gated.iter().map(value)) };
        Assessment {
            likeness,
            words: units.iter().map(|unit| unit.words).sum(),
            units: units.len(),
            copied_share: average(|unit| unit.copied_share),
            longest_run: gated.iter().map(|unit| unit.longest_run).max().unwrap_or(0),
            pairs_share: average(|unit| unit.pairs_share),
            distinct_4: average(|unit| unit.distinct_4),
            attested_trigrams: average(|unit| unit.attested_trigrams),
            stopped_by,
        }
    }

    /// Measures one passage of Markdown of about a unit's length.
    pub fn passage(&self, text: &str) -> Passage {
        let prose = prose(text);
        let words = word_count(&prose);
        if words * 2 < self.ruler.config().unit_words {
            return Passage { words, likeness: None, stopped_by: vec![Gate::Length] };
        }
        let (likeness, is_accepted) = self.ruler.likeness_of_unit(&prose);
        let mut stopped_by = self.gate(&prose).failing;
        stopped_by.extend((!is_accepted || likeness < MIN_LIKENESS).then_some(Gate::Likeness));
        Passage { words, likeness: Some(likeness), stopped_by }
    }

    fn gate(&self, unit: &str) -> Gated {
        let report = self.copies.report_prose(unit);
        let fluency = self.pool.fluency(unit);
        let unattested = fluency.attested_trigrams < self.fluency.min_attested_trigrams;
        let failing = [
            (report.is_copied() || report.quoted_share > MAX_QUOTED, Gate::Copying),
            (report.is_stitched() && word_count(unit) >= 100, Gate::Stitching),
            (fluency.distinct_4 < MIN_DISTINCT_4, Gate::Repetition),
            (unattested, Gate::Fluency),
        ];
        Gated {
            copied_share: report.share,
            longest_run: report.longest_run,
            pairs_share: report.pairs_share,
            distinct_4: fluency.distinct_4,
            attested_trigrams: fluency.attested_trigrams,
            failing: failing.into_iter().filter(|(fails, _)| *fails).map(|(_, gate)| gate).collect(),
        }
    }
}
