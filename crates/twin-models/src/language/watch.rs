//! A watch on an answer's tokens: what each of them says and how likely it was, for who reads along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenNote {
    /// What it says, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability, as the model itself sees it: at temperature 1, before penalties and forms.
    pub likelihood: f32,
    /// The likeliest tokens in its place, best first, in the same form.
    pub top: Vec<(Vec<u8>, f32)>,
    /// How many bytes of text came with it.
    pub shown: usize,
}

/// Where notes of tokens are put while an answer is written, and taken from by who passes its text on. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct TokenWatch {
    top: usize,
    noted: Arc<Mutex<VecDeque<TokenNote>>>,
}

impl PartialEq for TokenWatch {
    /// Two are alike that note the same.
    fn eq(&self, other: &Self) -> bool {
        self.top == other.top
    }
}

impl TokenWatch {
    /// Notes each token beside so many of the likeliest in its place.
    pub fn new(top: usize) -> Self {
        Self { top, noted: Arc::default() }
    }

    /// How many of the likeliest tokens are noted.
    pub fn top(&self) -> usize {
        self.top
    }

    pub(crate) fn note(&self, note: TokenNote) {
        self.lock().push_back(note);
    }

    /// Takes the notes that the next `bytes` of the answer's text came with. A token of which only a part was shown stays
    /// until the rest is.
    pub fn take(&self, bytes: usize) -> Vec<TokenNote> {
        let mut noted = self.lock();
        let mut left = bytes;
        let mut taken = Vec::new();
        while let Some(note) = noted.front_mut() {
            if note.shown > left {
                note.shown -= left;
                break;
            }
            left -= note.shown;
            taken.extend(noted.pop_front());
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<TokenNote>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_with_the_text_that_they_end_in() {
        let watch = TokenWatch::new(0);
        for shown in [3, 0, 4, 2] {
            watch.note(TokenNote { bytes: vec![b'x'; 3], likelihood: 0.0, top: vec![], shown });
        }
        assert_eq!(watch.take(2).len(), 0, "the first token's text is not complete");
        assert_eq!(watch.take(1).len(), 2, "a token without text comes with the one before");
        assert_eq!(watch.take(5).len(), 1);
        assert_eq!(watch.take(9).len(), 1);
        assert!(watch.take(9).is_empty());
    }
}
