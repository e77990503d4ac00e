//! Training sets from the feature store: the author's own passages as targets, with instructions made by rules.
//!
//! No model takes part. A title asks for the opening of its post, a heading for its section, a passage for the passage after
//! it; a heading that is a question is asked, and so is what a telling sentence answers ([`questions`]). The target is always
//! a verbatim slice of a document and the loss is on the author's words only: quotations and code stand in the input and are
//! masked.
//!
//! Some prompts come with passages, as they do in use. What is asked is answered by one of them; what is to be written is in
//! none, so that a twin quotes when it is asked and does not copy when it writes.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use twin_domain::feature_store::StoredDocument;
use twin_domain::training_set::TrainingDocument;
use twin_domain::{
    Author, Example, FeatureStore, FeatureViewId, Split, StoreError, Task, TrainingSet, TrainingSetId, TrainingSetStore,
};
use twin_models::prompt::{Passage, PromptError, PromptSet, Request};

pub use self::gates::{GateError, check};
use self::library::{Library, numbered};
use self::outline::{Outline, Section};
use self::questions::RuleQuestion;
pub use self::writing::Form;
pub(crate) use self::writing::{TaskMaker, WritingTask};

mod gates;
mod library;
mod outline;
mod questions;
mod split;
mod writing;

/// The version of the rules in this module. It is part of a training set's content, so changing a rule makes new sets.
const RECIPE: &str = "sft-2";

/// How a training set is made.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetConfig {
    /// The most tokens, of the base model's tokenizer, that a target may have.
    pub max_target_tokens: usize,
    /// How many tokens of the passage before a target are shown when the task is to continue.
    pub opening_tokens: usize,
    /// The most tokens of a passage that a prompt comes with.
    pub passage_tokens: usize,
    /// How many questions are made by rule from a document.
    pub questions: usize,
    /// The share of the documents, newest first, that are test.
    pub test_share: f64,
    /// The share of the documents, those before the test documents, that are calibration.
    pub calibration_share: f64,
}

impl Default for DatasetConfig {
    fn default() -> Self {
        // 400 tokens of target leave room for the prompt in a sequence of 512, the length that training is fastest at.
        Self {
            max_target_tokens: 400,
            opening_tokens: 80,
            passage_tokens: 100,
            questions: 3,
            test_share: 0.15,
            calibration_share: 0.10,
        }
    }
}

/// Why a training set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// There is not enough to split and to learn from.
    #[error(
        "`{author}` has {documents} documents in the feature store, and a voice needs at least {needed}: ingest more posts"
    )]
    TooFewDocuments { author: String, documents: usize, needed: usize },
    /// The rules found nothing to ask for.
    #[error("the documents of `{author}` gave no {split} examples: they hold no prose in the author's own words")]
    NoExamples { author: String, split: &'static str },
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("a prompt for a training example could not be made")]
    Prompt(#[from] PromptError),
    #[error("the feature store failed while a training set was made")]
    Store(#[from] StoreError),
}

/// Makes the training set of everything `author` has in `view`, checks it, and stores it. The same documents and rules
/// give the same set.
///
/// `count_tokens` counts with the base model's tokenizer.
///
/// # Errors
/// When there are too few documents, a data gate refuses the set, or the store fails.
pub fn build<S: FeatureStore + TrainingSetStore + ?Sized>(
    store: &S,
    view: &FeatureViewId,
    author: &Author,
    prompts: &PromptSet,
    config: &DatasetConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<(TrainingSet, Vec<Example>), DatasetError> {
    let stored = store.documents(view, &author.id)?;
    let splits = split::by_date(&stored, config);
    if stored.len() < split::MIN_DOCUMENTS {
        return Err(DatasetError::TooFewDocuments {
            author: author.id.to_string(),
            documents: stored.len(),
            needed: split::MIN_DOCUMENTS,
        });
    }

    let train: Vec<_> =
        stored.iter().zip(&splits).filter(|(_, split)| **split == Split::Train).map(|(s, _)| s).collect();
    let library = Library::of(&train, config.passage_tokens, count_tokens);
    let mut maker = ExampleMaker { author, prompts, config, count_tokens, examples: Vec::new() };
    for (document, split) in stored.iter().zip(&splits) {
        maker.add_document(document, *split, &library)?;
    }
    let mut examples = maker.examples;
    // The order in which the store keeps them; within a split, the order of the documents.
    examples.sort_by_key(|example| example.split as u8);

    for needed in [Split::Train, Split::Calibration] {
        if !examples.iter().any(|example| example.split == needed) {
            return Err(DatasetError::NoExamples { author: author.id.to_string(), split: needed.as_str() });
        }
    }
    let documents: Vec<TrainingDocument> = stored.iter().zip(&splits).map(training_document).collect();
    check(&examples, &documents, &stored)?;

    let version = prompts.version();
    let content = TrainingSet::content_digest(&author.id, view, version, RECIPE, &documents, &examples);
    let set = TrainingSet {
        id: TrainingSetId::new(&content),
        content,
        author: author.id.clone(),
        feature_view: view.clone(),
        prompt: version.clone(),
        recipe: RECIPE.to_owned(),
        documents,
        counts: counts(&examples),
        created_at: Timestamp::now(),
    };
    store.put_training_set(&set, &examples)?;
    Ok((set, examples))
}

/// The examples by which a document is measured: its whole text in passages, each prompted as in [`build`], without
/// the overlapping tasks. Bits per byte are taken over these.
///
/// # Errors
/// When a prompt cannot be made.
pub fn measured_passages(
    document: &StoredDocument,
    author: &Author,
    prompts: &PromptSet,
    config: &DatasetConfig,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<Vec<Example>, DatasetError> {
    let mut maker = ExampleMaker { author, prompts, config, count_tokens, examples: Vec::new() };
    maker.add_running_text(document, Split::Test, None)?;
    Ok(maker.examples)
}

/// The beginning of a document: whole blocks, or as much of the first as fits.
pub(crate) fn opening(stored: &StoredDocument, max_tokens: usize, count_tokens: &dyn Fn(&str) -> usize) -> String {
    let text = &stored.document.text;
    let passages = outline::passages(text, &Outline::of(text).blocks, max_tokens, count_tokens);
    passages.first().map_or_else(String::new, |range| text[range.clone()].to_owned())
}

fn training_document((stored, split): (&StoredDocument, &Split)) -> TrainingDocument {
    let info = &stored.document.info;
    TrainingDocument { id: info.id, url: info.url.clone(), content_hash: info.content_hash.clone(), split: *split }
}

fn counts(examples: &[Example]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for example in examples {
        *counts.entry(format!("{}/{}", example.split.as_str(), example.task.as_str())).or_default() += 1;
    }
    counts
}

/// The slice of a document that an example asks for.
struct Target {
    range: Range<usize>,
    complete: bool,
}

struct ExampleMaker<'a> {
    author: &'a Author,
    prompts: &'a PromptSet,
    config: &'a DatasetConfig,
    count_tokens: &'a dyn Fn(&str) -> usize,
    examples: Vec<Example>,
}

impl ExampleMaker<'_> {
    fn add_document(&mut self, stored: &StoredDocument, split: Split, library: &Library) -> Result<(), DatasetError> {
        self.add_running_text(stored, split, Some(library))?;
        let outline = Outline::of(&stored.document.text);
        for (index, section) in outline.sections.iter().enumerate().filter(|(_, section)| !section.heading.is_empty()) {
            self.add_section(stored, split, index, section, library)?;
        }
        self.add_questions(stored, split, &outline, library)
    }

    /// The title asks for the first passage, and each passage for the next.
    fn add_running_text(
        &mut self,
        stored: &StoredDocument,
        split: Split,
        library: Option<&Library>,
    ) -> Result<(), DatasetError> {
        let text = &stored.document.text;
        let title = &stored.document.info.title;
        let blocks = Outline::of(text).blocks;
        let limit = self.config.max_target_tokens;
        let passages = outline::passages(text, &blocks, limit, self.count_tokens);
        for (index, passage) in passages.iter().enumerate() {
            let target = Target { range: passage.clone(), complete: index + 1 == passages.len() };
            if index == 0 {
                let request = Request::WritePost { title: title.clone() };
                let context = library.map_or_else(Vec::new, |library| related(library, stored, text.len(), title));
                self.push(stored, split, Task::WritePost, &request, &context, &target)?;
            } else {
                let before = &text[passages[index - 1].clone()];
                let opening = outline::tail(before, self.config.opening_tokens, self.count_tokens);
                let request = Request::Continue { opening: opening.to_owned() };
                self.push(stored, split, Task::Continue, &request, &[], &target)?;
            }
        }
        Ok(())
    }

    fn add_section(
        &mut self,
        stored: &StoredDocument,
        split: Split,
        index: usize,
        section: &Section,
        library: &Library,
    ) -> Result<(), DatasetError> {
        let text = &stored.document.text;
        let title = &stored.document.info.title;
        // A section is the beginning of a text of its own: its first passage is enough; of an answer, its beginning.
        let asks = section.heading.ends_with('?');
        let limit = if asks { self.config.passage_tokens } else { self.config.max_target_tokens / 2 };
        let passages = outline::passages(text, &section.blocks, limit, self.count_tokens);
        let Some(passage) = passages.first() else { return Ok(()) };
        let target = Target { range: passage.clone(), complete: asks || passages.len() == 1 };
        if asks {
            let request = Request::Ask { question: section.heading.clone() };
            let right = (format!("{title} › {}", section.heading), text[passage.clone()].to_owned());
            let context =
                beside_another(right, passage.start, library.related(&section.heading, stored.document.info.id));
            self.push(stored, split, Task::AnswerQuestion, &request, &context, &target)
        } else {
            let request = Request::WriteSection { title: title.clone(), heading: section.heading.clone() };
            let context = related(library, stored, index, &format!("{title} {}", section.heading));
            self.push(stored, split, Task::WriteSection, &request, &context, &target)
        }
    }

    /// What the document's most telling sentences answer.
    fn add_questions(
        &mut self,
        stored: &StoredDocument,
        split: Split,
        outline: &Outline,
        library: &Library,
    ) -> Result<(), DatasetError> {
        let (text, info) = (&stored.document.text, &stored.document.info);
        let DatasetConfig { passage_tokens, questions, .. } = *self.config;
        let (blocks, rarity) = (&outline.blocks, &library.rarity);
        let made = questions::of_document(
            text,
            blocks,
            &stored.not_voice,
            rarity,
            passage_tokens,
            questions,
            self.count_tokens,
        );
        for RuleQuestion { question, answer, passage } in made {
            let right = (info.title.clone(), text[passage.clone()].to_owned());
            let context = beside_another(right, answer.start, library.related(&question, info.id));
            let target = Target { range: answer, complete: true };
            self.push(stored, split, Task::AnswerQuestion, &Request::Ask { question }, &context, &target)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        stored: &StoredDocument,
        split: Split,
        task: Task,
        request: &Request,
        context: &[Passage],
        Target { range, complete }: &Target,
    ) -> Result<(), DatasetError> {
        let target = &stored.document.text[range.clone()];
        let not_voice: Vec<Range<usize>> =
            stored.not_voice.iter().filter_map(|quoted| overlap(quoted, range)).collect();
        let quoted: usize = not_voice.iter().map(Range::len).sum();
        // Mostly other people's words, or hardly any words: nothing to learn a voice from.
        if quoted * 2 > target.len() || target.split_whitespace().count() < 12 {
            return Ok(());
        }
        let prompt = self.prompts.render(self.author, request, context, &[])?;
        let document = stored.document.info.id;
        self.examples.push(Example {
            split,
            task,
            document,
            prompt,
            target: target.to_owned(),
            complete: *complete,
            not_voice,
        });
        Ok(())
    }
}

/// The passage that answers and one that does not. Which comes first depends on the place of the answer, so that no place in
/// the prompt is favoured.
fn beside_another(right: (String, String), place: usize, wrong: Option<(String, String)>) -> Vec<Passage> {
    let mut pair: Vec<_> = [Some(right), wrong].into_iter().flatten().collect();
    if place % 2 == 1 {
        pair.reverse();
    }
    numbered(pair)
}

/// For every other text that is to be written, a passage of another document on the same subject.
fn related(library: &Library, stored: &StoredDocument, place: usize, subject: &str) -> Vec<Passage> {
    let with = place % 2 == 1;
    numbered(with.then(|| library.related(subject, stored.document.info.id)).flatten())
}

/// The part of `quoted` that lies in `range`, counted from the start of `range`.
fn overlap(quoted: &Range<usize>, range: &Range<usize>) -> Option<Range<usize>> {
    let start = quoted.start.max(range.start);
    let end = quoted.end.min(range.end);
    (start < end).then(|| start - range.start..end - range.start)
}

#[cfg(test)]
mod tests;
