//! Guessing the next tokens of an answer by looking up what followed the last ones before, in the prompt or in the answer
//! itself (Saxena 2023, *Prompt Lookup Decoding*; Yang et al. 2023, *Inference with Reference*). An answer from passages
//! says much in their words, so guesses cost no second model and are often right; a wrong guess costs a little time and
//! changes nothing.

use std::collections::HashMap;

/// So many tokens must have occurred before.
const KEY: usize = 2;
/// The most tokens that are guessed at once: with the token that is known they make a full group of inputs.
const MOST: usize = 7;
/// A first guess is short; one that came true entirely is followed by a longer one.
const FIRST: usize = 3;

/// What was read and written so far, and where in it.
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// Where what follows each run of [`KEY`] tokens begins, when it occurred last.
    last: HashMap<[u32; KEY], usize>,
    /// How far the next guess reaches.
    reach: usize,
}

impl Lookup {
    /// Reads a prompt.
    pub(crate) fn new(prompt: &[u32]) -> Self {
        let mut lookup = Self { tokens: Vec::with_capacity(prompt.len()), last: HashMap::new(), reach: FIRST };
        prompt.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    /// Adds a token that is certain.
    pub(crate) fn push(&mut self, token: u32) {
        // The run that ends here is entered with the next token, so that it is not found by itself.
        if let Some(run) = self.run() {
            self.last.insert(run, self.tokens.len());
        }
        self.tokens.push(token);
    }

    /// What may come next, at most `most` tokens; often nothing.
    pub(crate) fn guess(&self, most: usize) -> &[u32] {
        let from = self.run().and_then(|run| self.last.get(&run));
        let Some(&from) = from else { return &[] };
        &self.tokens[from..self.tokens.len().min(from + self.reach.min(most))]
    }

    /// Learns how many of `guessed` tokens came true.
    pub(crate) fn judge(&mut self, guessed: usize, right: usize) {
        if guessed > 0 {
            self.reach = match right {
                _ if right == guessed => MOST,
                0 => 1,
                _ => FIRST,
            };
        }
    }

    fn run(&self) -> Option<[u32; KEY]> {
        self.tokens.last_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_last_is_guessed() {
        let mut lookup = Lookup::new(&[1, 2, 3, 4, 1, 2, 5, 6, 7, 8, 9, 1]);
        assert!(lookup.guess(9).is_empty());
        lookup.push(2);
        assert_eq!(lookup.guess(9), [5, 6, 7]);
        assert_eq!(lookup.guess(2), [5, 6]);
        lookup.judge(3, 3);
        assert_eq!(lookup.guess(9), [5, 6, 7, 8, 9, 1, 2]);
        lookup.judge(7, 0);
        assert_eq!(lookup.guess(9), [5]);
    }

    #[test]
    fn a_guess_ends_where_the_text_ends() {
        assert_eq!(Lookup::new(&[4, 4, 4]).guess(9), [4]);
        assert!(Lookup::new(&[4, 4]).guess(9).is_empty());
        assert!(Lookup::new(&[]).guess(9).is_empty());
    }
}
