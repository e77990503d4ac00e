//! Ways of writing, side by side on the same requests: the base model alone, with examples, with examples and retrieval, with
//! the adapter, with the adapter and retrieval. What the author wrote in the same places is the ceiling, other authors' posts
//! the floor.
//!
//! Few-shot prompting with retrieval is the baseline that an adapter has to beat.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_domain::{ChatMessage, Digest, Filter, Fusion, HybridQuery, Searches};
use twin_models::language::{GenerateRequest, Generation, Input, LanguageModel};
use twin_models::prompt::{Passage, Request};
use twin_style::assessment::Assessment;
use twin_style::copying::CopyIndex;
use twin_style::grounding::{Grounding, Statement};
use twin_style::text::{prose, sentences, word_count};

use super::fluency::Predictability;
use super::style::{Ruler, StyleFigures};
use super::{Corpus, Course, EvaluateError, Evaluation};
use crate::dataset::{Form, WritingTask};

/// What the seeds of two tries for one request lie apart: more than any suite has requests.
const TRY_STRIDE: usize = 10_000;

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
    /// What the author wrote in the same places.
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

    pub(super) fn has_adapter(self) -> bool {
        matches!(self, Self::Lora | Self::LoraRag)
    }

    fn has_examples(self) -> bool {
        matches!(self, Self::Prompted | Self::FewShotRag)
    }

    fn has_retrieval(self) -> bool {
        matches!(self, Self::FewShotRag | Self::LoraRag)
    }
}

/// A text that was written, or read, for a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was asked for, as a reader sees it.
    pub title: String,
    /// `None` of other authors' texts, which nobody asked for.
    #[serde(default)]
    pub form: Option<Form>,
    pub text: String,
    /// The runs of eight words and more that stand in a training post, in lower case and without punctuation.
    #[serde(default)]
    pub copied: Vec<String>,
    /// Whether the figures, names and quotations of what was written with retrieval stand in the request or the passages.
    #[serde(default)]
    pub grounding: Option<Grounding>,
}

/// What it took to write all samples of an arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From the request to the last token, retrieval included.
    pub seconds: f64,
    /// The mean time to the first token.
    pub first_token_seconds: f64,
    /// Tokens of all prompts, and those of them that were still known from the request before.
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub new_tokens: usize,
}

/// What one arm wrote and how it measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    pub arm: Arm,
    pub style: StyleFigures,
    /// The likeness and the gates, where they were measured.
    #[serde(default)]
    pub assessment: Option<Assessment>,
    /// How easily a classifier tells the samples from what the author wrote in the same places: .5 not at all, 1 always.
    #[serde(default)]
    pub told_apart: Option<f64>,
    /// How predictable the samples are to the base model, where that was measured.
    #[serde(default)]
    pub predictability: Option<Predictability>,
    /// Nothing of what people wrote.
    #[serde(default)]
    pub cost: Cost,
    pub samples: Vec<Sample>,
}

impl ArmReport {
    /// The texts of the samples.
    pub fn texts(&self) -> Vec<&str> {
        self.samples.iter().map(|sample| sample.text.as_str()).collect()
    }

    fn new(arm: Arm, samples: Vec<Sample>, cost: Cost, ruler: &Ruler) -> Self {
        let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
        let style = ruler.measure(&texts);
        Self { arm, style, assessment: None, told_apart: None, predictability: None, cost, samples }
    }
}

pub(super) fn compare(
    evaluation: &Evaluation<'_>,
    corpus: &Corpus,
    tasks: &[WritingTask],
    written: &[ArmReport],
    course: &Course<'_>,
) -> Result<Vec<ArmReport>, EvaluateError> {
    let ruler = Ruler::new(&corpus.train, corpus.measured(&corpus.test, evaluation), &corpus.others);
    let arms: Vec<Arm> = Arm::WRITING.into_iter().filter(|arm| evaluation.config.arms.contains(arm)).collect();
    let total = arms.len() * tasks.len();
    let mut reports = Vec::new();
    let mut done = 0;
    for arm in arms {
        if let Some(known) = written.iter().find(|known| known.arm == arm && !arm.has_adapter()) {
            let again = |(task, known): (&WritingTask, &Sample)| {
                let grounding = known.grounding.clone();
                Sample { grounding, ..sample(task, known.text.clone(), ruler.copies()) }
            };
            let samples = tasks.iter().zip(&known.samples).map(again).collect();
            reports.push(ArmReport::new(arm, samples, known.cost, &ruler));
            done += tasks.len();
            continue;
        }
        let examples = if arm.has_examples() { examples(evaluation, corpus)? } else { Vec::new() };
        let (mut samples, mut costs) = (Vec::new(), Vec::new());
        for (index, task) in tasks.iter().enumerate() {
            course.tell(arm.label(), done, total);
            let Written { text, grounding, cost } = write(evaluation, corpus, arm, &examples, (index, task), course)?;
            samples.push(Sample { grounding, ..sample(task, text, ruler.copies()) });
            costs.push(cost);
            done += 1;
        }
        reports.push(ArmReport::new(arm, samples, total_cost(&costs), &ruler));
    }
    course.tell("writing", total, total);

    let real: Vec<Sample> = tasks.iter().map(|task| sample(task, task.real.clone(), ruler.copies())).collect();
    let floor = floor(evaluation, corpus, tasks.len());
    for (arm, samples) in [(Arm::Author, real), (Arm::Others, floor)] {
        if !samples.is_empty() {
            reports.push(ArmReport::new(arm, samples, Cost::default(), &ruler));
        }
    }
    Ok(reports)
}

fn sample(task: &WritingTask, text: String, copies: &CopyIndex) -> Sample {
    let (title, copied) = (task.title.clone(), copies.copied_runs(&text));
    Sample { title, form: Some(task.form), copied, text, grounding: None }
}

/// Openings of other authors' posts, as many words as an arm writes, so that length makes no difference; in turn, so that
/// each author has a say, newest first.
fn floor(evaluation: &Evaluation<'_>, corpus: &Corpus, count: usize) -> Vec<Sample> {
    let limit = evaluation.config.max_new_tokens;
    let mut authors: Vec<_> = corpus.strangers.iter().map(|(_, documents)| documents.iter().rev()).collect();
    let mut samples = Vec::new();
    while samples.len() < count {
        let round: Vec<&StoredDocument> = authors.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            break;
        }
        samples.extend(round.into_iter().map(|stored| {
            let text = crate::dataset::opening(stored, limit, &|text| evaluation.model.count_tokens(text));
            let title = stored.document.info.title.clone();
            Sample { title, form: None, text, copied: Vec::new(), grounding: None }
        }));
    }
    samples.truncate(count);
    samples
}

fn total_cost(costs: &[Cost]) -> Cost {
    let sum = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>();
    let count = |part: fn(&Cost) -> usize| costs.iter().map(part).sum::<usize>();
    Cost {
        seconds: sum(|cost| cost.seconds),
        first_token_seconds: sum(|cost| cost.first_token_seconds) / costs.len().max(1) as f64,
        prompt_tokens: count(|cost| cost.prompt_tokens),
        cached_tokens: count(|cost| cost.cached_tokens),
        new_tokens: count(|cost| cost.new_tokens),
    }
}

/// What an arm wrote for a request.
#[derive(Serialize, Deserialize)]
struct Written {
    text: String,
    grounding: Option<Grounding>,
    cost: Cost,
}

/// Lets an arm write.
fn write(
    evaluation: &Evaluation<'_>,
    corpus: &Corpus,
    arm: Arm,
    examples: &[ChatMessage],
    (index, task): (usize, &WritingTask),
    course: &Course<'_>,
) -> Result<Written, EvaluateError> {
    let begun = Instant::now();
    let passages = if arm.has_retrieval() { retrieve(evaluation, corpus, &task.request)? } else { Vec::new() };
    let retrieved = begun.elapsed().as_secs_f64();
    let messages = evaluation.prompts.render(evaluation.author, &task.request, &passages, examples)?;
    let part = format!("written {arm:?} {index} {}", Digest::of_json(&messages));
    course.part(&part, || write_long_enough(evaluation, arm, &messages, index, retrieved, course))
}

/// Lets an arm write, again if it is too short.
fn write_long_enough(
    evaluation: &Evaluation<'_>,
    arm: Arm,
    messages: &[ChatMessage],
    index: usize,
    retrieved: f64,
    course: &Course<'_>,
) -> Result<Written, EvaluateError> {
    let Evaluation { model, config, .. } = evaluation;
    let (mut best, mut costs) = ((0, String::new()), Vec::new());
    for attempt in 0..config.tries.max(1) {
        let seed = config.seed + (index + attempt * TRY_STRIDE) as u64;
        let sampling = config.sampling.of(config.max_new_tokens, seed);
        let adapter = arm.has_adapter().then(|| Arc::clone(&evaluation.adapter));
        let request = GenerateRequest { input: Input::Messages(messages.to_vec()), adapter, sampling };
        let Generation { text, usage, timings, .. } =
            model.generate(&request, course.cancel(), &mut |_| ControlFlow::Continue(()))?;
        course.check()?;
        costs.push(Cost {
            seconds: timings.total.as_secs_f64(),
            first_token_seconds: retrieved + timings.time_to_first_token.as_secs_f64(),
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            new_tokens: usage.new_tokens,
        });
        let words = word_count(&prose(&text));
        if attempt == 0 || words > best.0 {
            best = (words, text);
        }
        if best.0 >= config.min_words {
            break;
        }
    }
    let (text, cost) = (best.1, total_cost(&costs));
    let grounding = arm.has_retrieval().then(|| grounding(&text, messages));
    Ok(Written { text, grounding, cost: Cost { seconds: cost.seconds + retrieved, ..cost } })
}

/// Each sentence of a text, as if it cited all that the model was given.
fn grounding(text: &str, given: &[ChatMessage]) -> Grounding {
    let text = prose(text);
    let given: Vec<&str> = given.iter().map(|message| message.content.as_str()).collect();
    let statement = |range| Statement { text: &text[range], cited: given.clone() };
    Grounding::of(&sentences(&text).into_iter().map(statement).collect::<Vec<_>>())
}

/// The passages nearest to what is asked for. None of a test document: its own text would give the answer away.
fn retrieve(evaluation: &Evaluation<'_>, corpus: &Corpus, request: &Request) -> Result<Vec<Passage>, EvaluateError> {
    let text = match request {
        Request::Ask { question } => question.clone(),
        Request::WritePost { title } | Request::WriteThread { title } | Request::WriteAbstract { title } => {
            title.clone()
        }
        Request::WriteSection { title, heading } => format!("{title} {heading}"),
        Request::Continue { opening } => opening.clone(),
    };
    let limit = evaluation.config.retrieved;
    let query = HybridQuery {
        author: evaluation.author.id.clone(),
        embedding: evaluation.embedder.embed_one(&text)?,
        text,
        filter: Filter {
            without: corpus.test.iter().map(|stored| stored.document.info.id).collect(),
            ..Filter::default()
        },
        searches: Searches::Both,
        fusion: Fusion::default(),
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
