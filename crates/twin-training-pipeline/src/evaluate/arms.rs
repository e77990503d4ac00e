//! Ways of writing, side by side on the same prompts: the base model alone, with examples, with examples and retrieval, with
//! the adapter, with the adapter and retrieval. The author's own test posts are the ceiling, other authors' the floor.
//!
//! Few-shot prompting with retrieval is the baseline that an adapter has to beat.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{CancelFlag, ChatMessage, Filter, HybridQuery, Progress, Searches};
use twin_models::language::{GenerateRequest, Input, LanguageModel, Sampling};
use twin_models::prompt::{Passage, Request};
use twin_style::assessment::Assessment;

use super::style::{Ruler, StyleFigures};
use super::{Corpus, EvaluateError, Evaluation, tell};

/// A way of writing, or one of the two yardsticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Base,
    /// The base with the author's examples before it, as anybody would prompt a model.
    Prompted,
    FewShotRag,
    Lora,
    LoraRag,
    /// What the author wrote under the same titles.
    Author,
    /// What other authors wrote.
    Others,
}

impl Arm {
    /// The ways of writing, without the yardsticks.
    pub const WRITING: [Self; 5] = [Self::Base, Self::Prompted, Self::FewShotRag, Self::Lora, Self::LoraRag];

    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Prompted => "base + prompt",
            Self::FewShotRag => "base + few-shot + RAG",
            Self::Lora => "LoRA",
            Self::LoraRag => "LoRA + RAG",
            Self::Author => "the author (ceiling)",
            Self::Others => "others (floor)",
        }
    }

    fn has_adapter(self) -> bool {
        matches!(self, Self::Lora | Self::LoraRag)
    }

    fn has_examples(self) -> bool {
        matches!(self, Self::Prompted | Self::FewShotRag)
    }

    fn has_retrieval(self) -> bool {
        matches!(self, Self::FewShotRag | Self::LoraRag)
    }
}

/// A text that was written, or read, for a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The title that was to be written under.
    pub title: String,
    pub text: String,
}

/// What one arm wrote and how it measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    pub arm: Arm,
    pub style: StyleFigures,
    /// The likeness and the gates, where they were measured.
    #[serde(default)]
    pub assessment: Option<Assessment>,
    /// How easily a classifier tells the samples from the author's texts under the same titles: .5 not at all, 1 always.
    #[serde(default)]
    pub told_apart: Option<f64>,
    /// How long it took to write all samples, passages included. Zero of what people wrote.
    #[serde(default)]
    pub seconds: f64,
    pub samples: Vec<Sample>,
}

pub(super) fn compare(
    evaluation: &Evaluation<'_>,
    corpus: &Corpus,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<Vec<ArmReport>, EvaluateError> {
    let ruler = Ruler::new(&corpus.train, &corpus.test, &corpus.others);
    let prompted = &corpus.test[..corpus.test.len().min(evaluation.config.prompts)];
    let arms: Vec<Arm> = Arm::WRITING.into_iter().filter(|arm| evaluation.config.arms.contains(arm)).collect();
    let total = arms.len() * prompted.len();
    let mut reports = Vec::new();
    let mut done = 0;
    for arm in arms {
        let mut samples = Vec::new();
        let begun = Instant::now();
        for (index, document) in prompted.iter().enumerate() {
            tell(progress, arm.label(), done, total);
            let title = document.document.info.title.clone();
            let text = write(evaluation, corpus, arm, document, index, cancel)?;
            samples.push(Sample { title, text });
            done += 1;
        }
        let seconds = begun.elapsed().as_secs_f64();
        reports.push(ArmReport {
            arm,
            style: ruler.measure(&texts(&samples)),
            assessment: None,
            told_apart: None,
            seconds,
            samples,
        });
    }
    tell(progress, "writing", total, total);

    // As many words as an arm writes, so that length makes no difference.
    let openings = |documents: &[StoredDocument]| -> Vec<Sample> {
        let opening = |stored: &StoredDocument| {
            let limit = evaluation.config.max_new_tokens;
            let text = crate::dataset::opening(stored, limit, &|text| evaluation.model.count_tokens(text));
            Sample { title: stored.document.info.title.clone(), text }
        };
        documents.iter().take(prompted.len()).map(opening).collect()
    };
    for (arm, samples) in [(Arm::Author, openings(prompted)), (Arm::Others, openings(&corpus.others))] {
        if !samples.is_empty() {
            let style = ruler.measure(&texts(&samples));
            reports.push(ArmReport { arm, style, assessment: None, told_apart: None, seconds: 0.0, samples });
        }
    }
    Ok(reports)
}

pub(super) fn texts(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.text.as_str()).collect()
}

/// Lets an arm write under the title of a test document.
fn write(
    evaluation: &Evaluation<'_>,
    corpus: &Corpus,
    arm: Arm,
    document: &StoredDocument,
    index: usize,
    cancel: &CancelFlag,
) -> Result<String, EvaluateError> {
    let Evaluation { model, author, prompts, config, .. } = evaluation;
    let title = document.document.info.title.clone();
    let passages = if arm.has_retrieval() { retrieve(evaluation, corpus, &title)? } else { Vec::new() };
    let history = if arm.has_examples() { examples(evaluation, corpus)? } else { Vec::new() };
    let messages = prompts.render(author, &Request::WritePost { title }, &passages, &history)?;
    // As drafts are served.
    let sampling = Sampling { seed: config.seed + index as u64, ..Sampling::draft(config.max_new_tokens) };
    let adapter = arm.has_adapter().then(|| Arc::clone(&evaluation.adapter));
    let request = GenerateRequest { input: Input::Messages(messages), adapter, sampling };
    let generation = model.generate(&request, cancel, &mut |_| ControlFlow::Continue(()))?;
    if cancel.is_cancelled() { Err(EvaluateError::Cancelled) } else { Ok(generation.text) }
}

/// The passages nearest to a title. None of a test document: its own text would give the answer away.
fn retrieve(evaluation: &Evaluation<'_>, corpus: &Corpus, title: &str) -> Result<Vec<Passage>, EvaluateError> {
    let limit = evaluation.config.retrieved;
    let query = HybridQuery {
        author: evaluation.author.id.clone(),
        text: title.to_owned(),
        embedding: evaluation.embedder.embed_one(title)?,
        filter: Filter {
            without: corpus.test.iter().map(|stored| stored.document.info.id).collect(),
            ..Filter::default()
        },
        searches: Searches::Both,
        candidates: limit * 8,
        limit,
    };
    let found = evaluation.store.query(evaluation.view, &query)?;
    let passage = |(index, scored): (usize, twin_domain::ScoredChunk)| {
        Passage::new(index + 1, scored.document.title, &scored.chunk.text)
    };
    Ok(found.into_iter().enumerate().map(passage).collect())
}

/// Titles and openings of training posts, as turns of a conversation.
fn examples(evaluation: &Evaluation<'_>, corpus: &Corpus) -> Result<Vec<ChatMessage>, EvaluateError> {
    let mut messages = Vec::new();
    let newest = corpus.train.iter().rev().take(evaluation.config.few_shot);
    for stored in newest {
        let request = Request::WritePost { title: stored.document.info.title.clone() };
        let asked = evaluation.prompts.render(evaluation.author, &request, &[], &[])?;
        // Without the system message, which the conversation has already.
        messages.extend(asked.into_iter().filter(|message| message.role == twin_domain::Role::User));
        let limit = evaluation.config.max_new_tokens;
        let text = crate::dataset::opening(stored, limit, &|text| evaluation.model.count_tokens(text));
        messages.push(ChatMessage::assistant(text));
    }
    Ok(messages)
}
