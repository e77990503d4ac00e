//! When to stop a model that has lost touch with the passages. A small model that has made two unsupported statements goes on
//! to make ten, and one that has said a sentence twice says it a third time; the reader is better served by the author's own
//! words, which follow as the anchor quote.

use std::ops::ControlFlow;
use std::sync::Arc;

use twin_models::embedding::Embedder;

use super::{Evidence, Support};
use crate::sentences::sentences;

/// Follows an answer as it is written and breaks it off after so many unsupported statements in a row, and where it begins
/// to repeat itself.
pub struct Patience {
    evidence: Arc<Evidence>,
    embedder: Arc<dyn Embedder>,
    /// How many in a row are too many.
    limit: usize,
    in_a_row: usize,
    /// The sentences so far.
    said: Vec<String>,
    /// The sentence that is being written.
    pending: String,
    /// The end of it that is not shown yet, because so far the sentence is the beginning of one that was said before.
    held: String,
}

impl Patience {
    /// Patience for `limit` unsupported statements in a row, of which the last one ends the answer.
    pub fn new(evidence: Arc<Evidence>, embedder: Arc<dyn Embedder>, limit: usize) -> Self {
        let (pending, held) = (String::new(), String::new());
        Self { evidence, embedder, limit, in_a_row: 0, said: Vec::new(), pending, held }
    }

    /// Takes the next piece of text and gives what may be shown of the answer now. `Break` once patience is over: the answer
    /// is what was shown until then. What is held back when the model ends repeats an earlier sentence, and is left out.
    pub fn follow(&mut self, text: &str) -> ControlFlow<(), String> {
        self.pending.push_str(text);
        self.held.push_str(text);
        // A sentence is known to be over when the next one has begun.
        let complete: usize = match sentences(&self.pending).as_slice() {
            [complete @ .., _] => complete.iter().map(|sentence| sentence.len()).sum(),
            [] => 0,
        };
        if complete > 0 {
            let rest = self.pending.split_off(complete);
            let complete = std::mem::replace(&mut self.pending, rest);
            self.judge(&complete)?;
        }
        let begun = self.pending.trim();
        if !begun.is_empty() && self.said.iter().any(|sentence| sentence.starts_with(begun)) {
            return ControlFlow::Continue(String::new());
        }
        ControlFlow::Continue(std::mem::take(&mut self.held))
    }

    /// Whether the answer goes on after these sentences.
    fn judge(&mut self, complete: &str) -> ControlFlow<()> {
        for sentence in sentences(complete) {
            let sentence = sentence.trim().to_owned();
            if self.said.contains(&sentence) {
                return ControlFlow::Break(());
            }
            self.said.push(sentence);
        }
        // An embedder that fails here fails again when the answer is cited, and is reported there.
        for piece in self.evidence.align(complete, self.embedder.as_ref()).unwrap_or_default() {
            match piece.support {
                Support::Unsupported => self.in_a_row += 1,
                Support::Supported | Support::Quotation => self.in_a_row = 0,
                Support::NoClaim => {}
            }
            if self.in_a_row >= self.limit {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use twin_models::embedding::ScriptedEmbedder;

    use super::super::tests::passage;
    use super::*;

    /// What is shown of an answer, of which a word comes at a time.
    fn written(answer: &str, limit: usize) -> String {
        let embedder: Arc<dyn Embedder> = Arc::new(ScriptedEmbedder::default());
        let passages = vec![passage(1, "The mallet is live oak with slots through the head.")];
        let evidence = Arc::new(Evidence::new(passages, embedder.as_ref()).unwrap());
        let mut patience = Patience::new(evidence, embedder, limit);
        let mut text = String::new();
        for word in answer.split_inclusive(' ') {
            match patience.follow(word) {
                ControlFlow::Continue(shown) => text.push_str(&shown),
                ControlFlow::Break(()) => break,
            }
        }
        text
    }

    const SAID: &str = "The mallet is live oak with slots. ";
    const INVENTED: &str = "Parliament dissolved several committees yesterday. ";
    const MORE: &str = "Parliament will dissolve some others tomorrow. ";

    #[test]
    fn it_ends_with_the_last_sentence_that_was_one_too_many() {
        assert_eq!(written(&format!("{SAID}{INVENTED}{MORE}The end."), 2), format!("{SAID}{INVENTED}{MORE}"));
        assert_eq!(written(&format!("{INVENTED}{MORE}"), 1), INVENTED);
    }

    #[test]
    fn it_ends_before_the_first_sentence_that_was_said_before() {
        assert_eq!(written(&format!("{SAID}{MORE}{SAID}The end."), 2), format!("{SAID}{MORE}"));
        let cut_off = &SAID[..20];
        assert_eq!(written(&format!("{SAID}{MORE}{cut_off}"), 2), format!("{SAID}{MORE}"));
    }

    #[test]
    fn a_sentence_that_begins_like_another_is_shown_whole() {
        let answer = format!("{SAID}The mallet is live oak, and heavy. The mallet was dear.");
        assert_eq!(written(&answer, 9), answer);
    }

    #[test]
    fn support_renews_it_and_small_talk_does_not_matter() {
        let answer = format!("{INVENTED}Well then. {SAID}{MORE}Quite so. The live oak mallet has slots. The end.");
        assert_eq!(written(&answer, 2), answer);
    }
}
