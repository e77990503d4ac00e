//! When to stop a model that has lost touch with the passages. A small model that has made two unsupported statements goes on
//! to make ten; the reader is better served by the author's own words, which follow as the anchor quote.

use std::ops::ControlFlow;
use std::sync::Arc;

use twin_models::embedding::Embedder;

use super::{Evidence, Support};
use crate::sentences::sentences;

/// Follows an answer as it is written and breaks it off after so many unsupported statements in a row.
pub struct Patience {
    evidence: Arc<Evidence>,
    embedder: Arc<dyn Embedder>,
    /// How many in a row are too many.
    limit: usize,
    in_a_row: usize,
    /// What was written and not yet judged.
    pending: String,
}

impl Patience {
    /// Patience for `limit` unsupported statements in a row, of which the last one ends the answer.
    pub fn new(evidence: Arc<Evidence>, embedder: Arc<dyn Embedder>, limit: usize) -> Self {
        Self { evidence, embedder, limit, in_a_row: 0, pending: String::new() }
    }

    /// Takes the next piece of text. `Break` once patience is over: the answer ends before this piece, which has begun
    /// another sentence.
    pub fn follow(&mut self, text: &str) -> ControlFlow<()> {
        self.pending.push_str(text);
        // A sentence is known to be over when the next one has begun.
        let complete: usize = match sentences(&self.pending).as_slice() {
            [complete @ .., _] => complete.iter().map(|sentence| sentence.len()).sum(),
            [] => 0,
        };
        if complete == 0 {
            return ControlFlow::Continue(());
        }
        let rest = self.pending.split_off(complete);
        let judged = std::mem::replace(&mut self.pending, rest);
        // An embedder that fails here fails again when the answer is cited, and is reported there.
        for piece in self.evidence.align(&judged, self.embedder.as_ref()).unwrap_or_default() {
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
            if patience.follow(word).is_break() {
                break;
            }
            text.push_str(word);
        }
        text
    }

    const SAID: &str = "The mallet is live oak with slots. ";
    const INVENTED: &str = "Parliament dissolved several committees yesterday. ";

    #[test]
    fn it_ends_with_the_last_sentence_that_was_one_too_many() {
        assert_eq!(written(&format!("{SAID}{INVENTED}{INVENTED}{INVENTED}"), 2), format!("{SAID}{INVENTED}{INVENTED}"));
        assert_eq!(written(&format!("{INVENTED}{INVENTED}"), 1), INVENTED);
    }

    #[test]
    fn support_renews_it_and_small_talk_does_not_matter() {
        let answer = format!("{INVENTED}Well then. {SAID}{INVENTED}Quite so. {SAID}The end.");
        assert_eq!(written(&answer, 2), answer);
    }
}
