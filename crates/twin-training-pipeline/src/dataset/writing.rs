//! What is to be written so that ways of writing can be compared: requests made by rule from a held-out document, each with
//! what the author wrote in that place.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use twin_domain::feature_store::StoredDocument;
use twin_models::prompt::Request;
use twin_style::text::{prose, word_count, words};

use super::outline::{self, Outline};
use super::questions::{self, Rarity};
use super::{DatasetConfig, opening};

/// What the author wrote has to have so many words of prose, or a third as many as tokens are asked for, or there is nothing to
/// compare with.
const MIN_WORDS: usize = 40;

/// Places have words in common when so many in a row stand in both.
const RUN: usize = 8;

/// The share of a place's runs that may stand in places before it: two forms often ask for the same words of a document.
const MAX_SHARED: f64 = 0.1;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The opening of a post, from its title.
    Post,
    /// A section, from its heading.
    Section,
    /// What comes after a passage.
    Continuation,
    /// The answer to a question: a heading that asks, or what a telling sentence answers.
    Answer,
    /// A thread of short posts on the subject of a post.
    Thread,
    /// What a post is about, in a few sentences; half as long as the others.
    Abstract,
}

impl Form {
    /// The name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Section => "section",
            Self::Continuation => "continuation",
            Self::Answer => "answer",
            Self::Thread => "thread",
            Self::Abstract => "abstract",
        }
    }
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WritingTask {
    pub(crate) form: Form,
    /// What a reader sees of it: the title, heading or question, or the first words that are continued.
    pub(crate) title: String,
    pub(crate) request: Request,
    /// What the author wrote there.
    pub(crate) real: String,
}

/// Makes tasks from documents.
pub(crate) struct TaskMaker<'a> {
    rarity: Rarity,
    max_tokens: usize,
    config: DatasetConfig,
    count_tokens: &'a dyn Fn(&str) -> usize,
}

impl<'a> TaskMaker<'a> {
    /// For texts of at most `max_tokens`. Which words are rare is told by the documents that the author's model was trained on.
    pub(crate) fn new(
        train: &[StoredDocument],
        max_tokens: usize,
        count_tokens: &'a dyn Fn(&str) -> usize,
    ) -> TaskMaker<'a> {
        let rarity = Rarity::of(train.iter().map(|stored| stored.document.text.as_str()));
        Self { rarity, max_tokens, config: DatasetConfig::default(), count_tokens }
    }

    /// At most `count` tasks of these forms in turn, each from another document as long as there are any, then a second one
    /// from the first document and so on. What the author wrote for one is not what was written for another: the same words
    /// twice are no second observation, and look like a text that repeats itself. The same documents give the same tasks.
    pub(crate) fn tasks(&self, documents: &[StoredDocument], forms: &[Form], count: usize) -> Vec<WritingTask> {
        let mut queues: Vec<Vec<WritingTask>> = forms
            .iter()
            .map(|form| in_rounds(documents.iter().map(|stored| self.of_document(stored, *form))))
            .collect();
        queues.iter_mut().for_each(|queue| queue.reverse());
        let (mut tasks, mut places) = (Vec::new(), Places::default());
        while tasks.len() < count && queues.iter().any(|queue| !queue.is_empty()) {
            for queue in &mut queues {
                tasks.extend(std::iter::from_fn(|| queue.pop()).find(|task| places.is_new(&task.real)));
            }
        }
        tasks.truncate(count);
        tasks
    }

    fn of_document(&self, stored: &StoredDocument, form: Form) -> Vec<WritingTask> {
        let tasks = match form {
            Form::Post => self.post(stored),
            Form::Section => self.sections(stored),
            Form::Continuation => self.continuations(stored),
            Form::Answer => self.answers(stored),
            Form::Thread => self.about(stored, form),
            Form::Abstract => self.about(stored, form),
        };
        let least = MIN_WORDS.min(self.max_tokens / 3);
        tasks.into_iter().filter(|task| word_count(&prose(&task.real)) >= least).collect()
    }

    fn post(&self, stored: &StoredDocument) -> Vec<WritingTask> {
        let title = stored.document.info.title.clone();
        let real = opening(stored, self.max_tokens, self.count_tokens);
        vec![WritingTask { form: Form::Post, request: Request::WritePost { title: title.clone() }, title, real }]
    }

    /// What is written about a whole post. What the author wrote in that place is its opening, which says what it is about.
    fn about(&self, stored: &StoredDocument, form: Form) -> Vec<WritingTask> {
        let title = stored.document.info.title.clone();
        let (request, length) = match form {
            Form::Abstract => (Request::WriteAbstract { title: title.clone() }, self.max_tokens / 2),
            _ => (Request::WriteThread { title: title.clone() }, self.max_tokens),
        };
        let real = opening(stored, length, self.count_tokens);
        vec![WritingTask { form, title: format!("{title} ({})", form.label()), request, real }]
    }

    fn sections(&self, stored: &StoredDocument) -> Vec<WritingTask> {
        let text = &stored.document.text;
        let title = &stored.document.info.title;
        let mut tasks = Vec::new();
        for section in Outline::of(text).sections {
            if section.heading.is_empty() || section.heading.ends_with('?') {
                continue;
            }
            let passages = outline::passages(text, &section.blocks, self.max_tokens, self.count_tokens);
            let Some(passage) = passages.first() else { continue };
            let request = Request::WriteSection { title: title.clone(), heading: section.heading.clone() };
            let title = format!("{title} › {}", section.heading);
            tasks.push(WritingTask { form: Form::Section, title, request, real: text[passage.clone()].to_owned() });
        }
        tasks
    }

    /// From the middle of the document outwards: its end and its beginning are the least like the rest of it.
    fn continuations(&self, stored: &StoredDocument) -> Vec<WritingTask> {
        let text = &stored.document.text;
        let passages = outline::passages(text, &Outline::of(text).blocks, self.max_tokens, self.count_tokens);
        let middle = passages.len() / 2;
        let mut order: Vec<usize> = (1..passages.len()).collect();
        order.sort_by_key(|index| index.abs_diff(middle));
        let task = |index: usize| {
            let before = &text[passages[index - 1].clone()];
            let opening = outline::tail(before, self.config.opening_tokens, self.count_tokens).to_owned();
            let first: Vec<&str> = opening.split_whitespace().take(8).collect();
            WritingTask {
                form: Form::Continuation,
                title: format!("{} … {} …", stored.document.info.title, first.join(" ")),
                request: Request::Continue { opening },
                real: text[passages[index].clone()].to_owned(),
            }
        };
        order.into_iter().map(task).collect()
    }

    fn answers(&self, stored: &StoredDocument) -> Vec<WritingTask> {
        let text = &stored.document.text;
        let outline = Outline::of(text);
        let task = |question: String, real: String| {
            let request = Request::Ask { question: question.clone() };
            WritingTask { form: Form::Answer, title: question, request, real }
        };
        let mut tasks = Vec::new();
        for section in outline.sections.iter().filter(|section| section.heading.ends_with('?')) {
            let passages = outline::passages(text, &section.blocks, self.max_tokens, self.count_tokens);
            if let Some(passage) = passages.first() {
                tasks.push(task(section.heading.clone(), text[passage.clone()].to_owned()));
            }
        }
        let DatasetConfig { passage_tokens, questions: count, .. } = self.config;
        let made = questions::of_document(
            text,
            &outline.blocks,
            &stored.not_voice,
            &self.rarity,
            passage_tokens,
            count,
            self.count_tokens,
        );
        tasks.extend(made.into_iter().map(|made| task(made.question, text[made.passage].to_owned())));
        tasks
    }
}

/// The words of the places that were taken.
#[derive(Default)]
struct Places(HashSet<Vec<String>>);

impl Places {
    /// Whether hardly any of these words were taken; then they are from now on.
    fn is_new(&mut self, text: &str) -> bool {
        let words: Vec<String> = words(&prose(text)).collect();
        let runs = words.windows(RUN.min(words.len()).max(1));
        let known = runs.clone().filter(|run| self.0.contains(*run)).count();
        let is_new = known as f64 <= MAX_SHARED * runs.len() as f64;
        if is_new {
            self.0.extend(runs.map(<[String]>::to_vec));
        }
        is_new
    }
}

/// The first of each, then the second of each.
fn in_rounds<T>(lists: impl Iterator<Item = Vec<T>>) -> Vec<T> {
    let mut lists: Vec<std::vec::IntoIter<T>> = lists.map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(lists.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}
