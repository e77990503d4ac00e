//! Questions by rule, which one sentence of the author answers: so that a twin learns to find, among the passages that it is
//! given, the words that answer, and to say them and no more.
//!
//! No model takes part. A sentence that has something to tell (a figure, rare words) becomes the answer, and what is asked is
//! made of its rare words, as a reader does who looks for something half remembered. The answer stands in one of the passages,
//! beside one that was found for the same words and does not have it (Zhang et al., "RAFT: Adapting Language Model to Domain
//! Specific RAG", 2024).

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use twin_style::function_words;

use super::outline::{passages, sentence_ends};

/// Answers are sentences of this many bytes; a short one takes the sentence after it along.
const SENTENCE: Range<usize> = 40..240;
const SHORT: usize = 90;
/// What a figure adds to a sentence's score: as much as a word that stands in one document of twenty.
const FIGURE: f64 = 3.0;
/// The rare words that count.
const WORDS: usize = 4;

/// A question with the sentences that answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleQuestion {
    pub question: String,
    /// Where the answer stands in the document.
    pub answer: Range<usize>,
    /// The passage that has it.
    pub passage: Range<usize>,
}

/// In how many of an author's documents each word occurs.
#[derive(Debug, Default)]
pub(super) struct Rarity {
    documents_with: HashMap<String, usize>,
    documents: usize,
}

impl Rarity {
    pub(super) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut rarity = Self::default();
        for text in texts {
            rarity.documents += 1;
            let words: HashSet<String> = telling_words(text).map(str::to_lowercase).collect();
            words.into_iter().for_each(|word| *rarity.documents_with.entry(word).or_default() += 1);
        }
        rarity
    }

    /// The inverse document frequency, `ln((documents + 1) / (documents with the word + 0.5))`; at least 0.
    pub(super) fn of_word(&self, word: &str) -> f64 {
        let with = self.documents_with.get(&word.to_lowercase()).copied().unwrap_or_default() as f64;
        ((self.documents as f64 + 1.0) / (with + 0.5)).ln().max(0.0)
    }
}

/// The words of a text that say something of its subject, as they are written.
pub(super) fn telling_words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '-'));
    let words = words.map(|word| word.trim_matches(['\'', '’', '-']));
    words.filter(|word| {
        word.chars().count() > 2
            && word.chars().all(|c| !c.is_numeric())
            && !function_words::contains(&word.to_lowercase())
    })
}

/// The questions that a document's best sentences answer, at most `count`, in the document's order and from different blocks.
pub(super) fn of_document(
    text: &str,
    blocks: &[Range<usize>],
    not_voice: &[Range<usize>],
    rarity: &Rarity,
    passage_tokens: usize,
    count: usize,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Vec<RuleQuestion> {
    let own = |range: &Range<usize>| not_voice.iter().all(|other| other.end <= range.start || range.end <= other.start);
    let prose: Vec<Range<usize>> =
        blocks.iter().filter(|block| own(block) && is_paragraph(&text[block.start..block.end])).cloned().collect();
    let passages = passages(text, &prose, passage_tokens, count_tokens);
    let mut found: Vec<(f64, RuleQuestion)> = Vec::new();
    for block in &prose {
        let best = answers(text, block).filter_map(|answer| {
            let passage = passages.iter().find(|passage| passage.start <= answer.start && answer.end <= passage.end)?;
            let (score, question) = question(&text[answer.clone()], rarity, answer.start)?;
            Some((score, RuleQuestion { question, answer, passage: passage.clone() }))
        });
        found.extend(best.max_by(|a, b| a.0.total_cmp(&b.0)));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(count);
    let mut questions: Vec<RuleQuestion> = found.into_iter().map(|(_, question)| question).collect();
    questions.sort_by_key(|question| question.answer.start);
    questions
}

/// Whether a block is running text: neither list, table, quotation, code nor image.
fn is_paragraph(block: &str) -> bool {
    let first = block.trim_start();
    !first.starts_with(['#', '>', '|', '-', '+', '`', '<', '!', '[', '~'])
        && !first.starts_with("* ")
        && !list_item(first)
}

fn list_item(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < text.len() && rest.starts_with(['.', ')'])
}

/// The sentences of a block that can answer something, a short one together with the one after it.
fn answers(text: &str, block: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let slice = &text[block.clone()];
    let mut ends: Vec<usize> = sentence_ends(slice).collect();
    ends.push(slice.trim_end().len());
    ends.dedup();
    let starts: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).collect();
    let count = ends.len();
    let range = move |index: usize| {
        let end = ends[index];
        let whole = &slice[starts[index].min(end)..end];
        let start = end - whole.trim_start().len();
        let long = if end - start < SHORT { ends.get(index + 1).copied().unwrap_or(end) } else { end };
        let answer = &slice[start..long];
        // Markup would be quoted half, and a question answers nothing.
        let plain = !answer.contains(['`', '[', '|', '<', '\n']) && !answer.contains("://") && !answer.ends_with('?');
        (SENTENCE.contains(&answer.len()) && plain).then(|| block.start + start..block.start + long)
    };
    (0..count).filter_map(range)
}

/// What is asked so that `answer` answers it, and how much that answer has to tell. `variant` chooses the wording.
fn question(answer: &str, rarity: &Rarity, variant: usize) -> Option<(f64, String)> {
    let mut words: Vec<(f64, usize, &str)> = Vec::new();
    for (place, word) in telling_words(answer).enumerate() {
        if !words.iter().any(|(_, _, known)| known.eq_ignore_ascii_case(word)) {
            words.push((rarity.of_word(word), place, word));
        }
    }
    words.sort_by(|a, b| b.0.total_cmp(&a.0));
    words.truncate(WORDS);
    let score: f64 = words.iter().map(|(rarity, _, _)| rarity).sum();
    words.truncate(3);
    words.sort_by_key(|(_, place, _)| *place);
    let [a, b, c] = words.iter().map(|(_, _, word)| *word).collect::<Vec<_>>().try_into().ok()?;
    let unit = counted(answer).filter(|unit| ![a, b, c].contains(unit));
    let text = match (unit, variant % 3) {
        (Some(unit), 0 | 1) => format!("How many {unit} was it with {a}, {b} and {c}?"),
        (_, 0) => format!("What did you write about {a} and {b}?"),
        (_, 1) => format!("What do you say about {a}, {b} and {c}?"),
        _ => format!("Tell me about {a}, {b} and {c}."),
    };
    let figure = if answer.contains(|c: char| c.is_ascii_digit()) { FIGURE } else { 0.0 };
    Some((score + figure, text))
}

/// The word after a figure that says what is counted, as in `94 days`.
fn counted(answer: &str) -> Option<&str> {
    let mut words = answer.split_whitespace().skip_while(|word| !word.chars().all(|c| c.is_ascii_digit()));
    let unit = words.nth(1)?.trim_matches(|c: char| !c.is_alphanumeric());
    (unit.chars().count() > 1 && unit.chars().all(char::is_lowercase) && !function_words::contains(unit))
        .then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::super::outline::Outline;
    use super::*;

    const POST: &str = "We sent out the bills in March, as we do. Since 2014 we've sent Dr Pym 33 invoices, and the average \
                        time to pay is 94 days. He was surprised.\n\n\
                        > Somebody else said that the invoices of Dr Pym were 12 times too high for a man like him.\n\n\
                        - A list of 14 items that nobody would ever want to be asked about at all.\n\n\
                        The mallet is live oak with slots through the head, which make it ring. It's quiet in the shed \
                        without it. Do you know what a ringing mallet tells you about the seam?";

    fn questions(count: usize) -> Vec<RuleQuestion> {
        let others = ["The shed is cold. We sent the bills.", "A man was in the shed with a list."];
        let rarity = Rarity::of(others.into_iter().chain([POST]));
        let words = |text: &str| text.split_whitespace().count();
        of_document(POST, &Outline::of(POST).blocks, &[], &rarity, 60, count, &words)
    }

    #[test]
    fn sentences_that_have_something_to_tell_become_answers() {
        let found = questions(5);
        let answers: Vec<&str> = found.iter().map(|found| &POST[found.answer.clone()]).collect();
        assert_eq!(
            answers,
            [
                "Since 2014 we've sent Dr Pym 33 invoices, and the average time to pay is 94 days. \
                 He was surprised.",
                "The mallet is live oak with slots through the head, which make it ring. It's quiet in the shed without it.",
            ]
        );
        for found in &found {
            assert!(found.passage.start <= found.answer.start && found.answer.end <= found.passage.end);
        }
    }

    #[test]
    fn a_question_has_the_rare_words_of_its_answer_and_not_its_figures() {
        for RuleQuestion { question, answer, .. } in questions(5) {
            let answer = &POST[answer];
            let common = telling_words(&question).filter(|word| answer.contains(word)).count();
            assert!(common >= 2, "{question} / {answer}");
            assert!(!question.contains(|c: char| c.is_ascii_digit()), "{question}");
        }
    }

    #[test]
    fn the_best_are_kept() {
        assert_eq!(questions(1).len(), 1);
        assert!(POST[questions(1)[0].answer.clone()].contains("94 days"));
    }

    #[test]
    fn what_is_counted_follows_the_figure() {
        assert_eq!(counted("the average is 94 days."), Some("days"));
        assert_eq!(counted("in 2014 we did"), None);
        assert_eq!(counted("nothing"), None);
    }
}
