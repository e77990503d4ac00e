//! The anchor quote: those few sentences of the passages that answer a question best, in the author's own words.

use std::collections::BTreeSet;
use std::ops::Range;

use twin_models::embedding::{EmbedError, Embedder};

use super::{Evidence, EvidenceSentence, Piece, Support};
use crate::sentences::begins_block;
use crate::words::{Weights, content_words};

/// A quotation is at most so many sentences and bytes long; one sentence may be longer.
const MAX_SENTENCES: usize = 3;
const MAX_BYTES: usize = 420;

/// How many sentences are tried with the sentences around them.
const TRIED: usize = 8;

/// What the words of the question and the score of the whole passage weigh beside the similarity of the quotation.
/// Chosen on the questions of `eval/questions`: of 40, the best run comes 35 times from the right post, and one of the two
/// quotations 38 times.
const WORDS: f32 = 0.8;
const PASSAGE: f32 = 1.0;

/// A question in a post is seldom its answer.
const ASKS: f32 = 1.0;

/// A run of sentences that follow each other in one paragraph.
struct Run<'a> {
    passage: usize,
    text: &'a str,
    words: BTreeSet<String>,
}

impl Evidence {
    /// The author's own sentences that answer a question best, as quotations with their citations: the best of all, and
    /// the best of the post that search puts first if that is another one. Empty when the passages hold no sentence.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn quotations(&self, question: &str, embedder: &dyn Embedder) -> Result<Vec<Piece>, EmbedError> {
        let asked = embedder.embed_one(question)?;
        let weights = Weights::new(content_words(question), self.sentences.iter().map(|sentence| &sentence.words));
        let score = |passage: usize, text: &str, words: &BTreeSet<String>, similarity: f32| {
            let asks = if text.ends_with('?') { ASKS } else { 0.0 };
            similarity + WORDS * weights.share(words) + PASSAGE * self.passages[passage - 1].score - asks
        };
        let single = |sentence: &EvidenceSentence| {
            score(sentence.passage, &sentence.text, &sentence.words, asked.cosine(&sentence.embedding))
        };
        let mut tried = self.best(TRIED, |_| true, single);
        tried.extend(self.best(TRIED / 2, |sentence| self.is_of_first_post(sentence.passage), single));
        let runs = self.runs_around(&tried);
        // A sentence says `it` of what the title names, so a run is compared together with its title.
        let in_context: Vec<String> = runs.iter().map(|run| self.in_context(run)).collect();
        let embeddings = embedder.embed(&in_context.iter().map(String::as_str).collect::<Vec<_>>())?;
        let scores = runs.iter().zip(&embeddings);
        let scores = scores.map(|(run, embedding)| score(run.passage, run.text, &run.words, asked.cosine(embedding)));
        let mut scored: Vec<(f32, &Run<'_>)> = scores.zip(&runs).collect();
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut best: Vec<&Run<'_>> = scored.first().map(|(_, run)| *run).into_iter().collect();
        if best.iter().any(|run| !self.is_of_first_post(run.passage)) {
            best.extend(scored.iter().map(|(_, run)| *run).find(|run| self.is_of_first_post(run.passage)));
        }
        let quotation = |run: &Run<'_>| Piece {
            text: one_line(run.text),
            support: Support::Quotation,
            citations: vec![run.passage],
            evidence: Some(run.text.to_owned()),
        };
        Ok(best.into_iter().map(quotation).collect())
    }

    /// Whether a passage is of the post that search puts first.
    fn is_of_first_post(&self, passage: usize) -> bool {
        self.passages[passage - 1].document.id == self.passages[0].document.id
    }

    /// The places of the sentences with the highest scores.
    fn best(
        &self,
        count: usize,
        wanted: impl Fn(&EvidenceSentence) -> bool,
        score: impl Fn(&EvidenceSentence) -> f32,
    ) -> Vec<usize> {
        let sentences = self.sentences.iter().enumerate().filter(|(_, sentence)| wanted(sentence));
        let mut scored: Vec<(f32, usize)> = sentences.map(|(index, sentence)| (score(sentence), index)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().take(count).map(|(_, index)| index).collect()
    }

    /// Every run that has one of these sentences in it.
    fn runs_around(&self, sentences: &[usize]) -> Vec<Run<'_>> {
        let mut ranges: BTreeSet<(usize, usize)> = BTreeSet::new();
        for &index in sentences {
            for first in index.saturating_sub(MAX_SENTENCES - 1)..=index {
                ranges.extend((index + 1..=first + MAX_SENTENCES).map(|end| (first, end)));
            }
        }
        ranges.into_iter().filter_map(|(first, end)| self.run(first..end)).collect()
    }

    /// The sentences of a range, if they exist and stand in one paragraph.
    fn run(&self, range: Range<usize>) -> Option<Run<'_>> {
        let sentences = self.sentences.get(range)?;
        let (first, last) = (sentences.first()?, sentences.last()?);
        if first.passage != last.passage {
            return None;
        }
        let text = &self.passages[first.passage - 1].text[first.start..last.start + last.text.len()];
        let one_paragraph = !text.contains("\n\n") && !text.lines().skip(1).any(begins_block);
        let fits = sentences.len() == 1 || (one_paragraph && text.len() <= MAX_BYTES);
        fits.then(|| Run { passage: first.passage, text, words: content_words(text) })
    }

    fn in_context(&self, run: &Run<'_>) -> String {
        format!("{}: {}", self.passages[run.passage - 1].for_prompt().title, run.text)
    }
}

/// A text without its list or quotation marks and line breaks, as it can stand in a quotation.
fn one_line(text: &str) -> String {
    let mut bare = text.trim();
    while let Some(rest) = ["- ", "* ", "+ ", "> ", "| "].iter().find_map(|mark| bare.strip_prefix(mark)) {
        bare = rest.trim_start();
    }
    bare.trim_end_matches(['|', ' ']).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use twin_models::embedding::ScriptedEmbedder;

    use super::super::tests::passage;
    use super::*;

    fn quoted(texts: &[&str], question: &str) -> Option<(String, usize)> {
        let passages: Vec<_> = texts.iter().enumerate().map(|(index, text)| passage(index + 1, text)).collect();
        let embedder = ScriptedEmbedder::default();
        let piece = Evidence::new(passages.clone(), &embedder).unwrap().quotations(question, &embedder).unwrap();
        let piece = piece.into_iter().next()?;
        let evidence = piece.evidence.unwrap();
        assert!(passages[piece.citations[0] - 1].text.contains(&evidence), "evidence is verbatim");
        Some((piece.text, piece.citations[0]))
    }

    #[test]
    fn the_sentences_that_have_the_rare_words_are_quoted() {
        let texts = [
            "The boat is in the shed today. The boat needs some paint on her.",
            "The boat has a bronze anchor from Whitby. It weighs forty pounds.",
        ];
        let (quotation, citation) = quoted(&texts, "What does the boat's anchor weigh?").unwrap();
        assert_eq!(citation, 2);
        assert!(quotation.starts_with("The boat has a bronze anchor from Whitby."), "{quotation}");
    }

    #[test]
    fn a_quotation_never_crosses_paragraphs_or_list_items() {
        let texts = [
            "Anchors are heavy things indeed.\n\nAnchors also rust in time.\n- An anchor of iron\n- An anchor of bronze",
        ];
        for question in ["anchors heavy things rust time", "anchor iron bronze"] {
            let (quotation, _) = quoted(&texts, question).unwrap();
            assert!(!quotation.contains('\n') && quotation.len() < 40, "{quotation}");
        }
    }

    #[test]
    fn the_first_post_is_quoted_too_when_another_answers_better() {
        let texts = ["The boat is in the shed today.", "The boat has a bronze anchor from Whitby."];
        let passages: Vec<_> = texts.iter().enumerate().map(|(index, text)| passage(index + 1, text)).collect();
        let embedder = ScriptedEmbedder::default();
        let quotations =
            Evidence::new(passages, &embedder).unwrap().quotations("bronze anchor from Whitby", &embedder).unwrap();
        let cited: Vec<_> = quotations.iter().map(|piece| piece.citations[0]).collect();
        assert_eq!(cited, [2, 1]);
    }

    #[test]
    fn a_question_is_not_its_own_answer() {
        let texts = ["How heavy is the anchor of the boat?\n\nThe anchor of the boat is very heavy, at forty pounds."];
        assert!(quoted(&texts, "How heavy is the anchor of the boat?").unwrap().0.starts_with("The anchor"));
    }

    #[test]
    fn passages_without_sentences_give_no_quotation() {
        assert_eq!(quoted(&["## A heading only\n\n```\ncode();\n```"], "heading"), None);
        assert_eq!(quoted(&[], "anything"), None);
    }

    #[test]
    fn marks_are_left_out_of_a_quotation() {
        assert_eq!(one_line("- An item\n  of two lines."), "An item of two lines.");
        assert_eq!(one_line("| Haul out | £95 |"), "Haul out | £95");
        assert_eq!(one_line("- **Heavy.** Mine's 8 oz."), "**Heavy.** Mine's 8 oz.");
    }
}
