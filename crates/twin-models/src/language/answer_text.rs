//! Turning tokens into text as they come: whole characters only, and no part of a stop text ever.

use super::tokenizer::{Tokenizer, TokenizerError};

/// The replacement character, which a decoder writes for bytes that are no text (yet).
const REPLACEMENT: char = '\u{FFFD}';

/// Decodes tokens one by one. Text is decoded together with the tokens before it, because what a token reads depends on
/// them in some tokenizers.
pub(crate) struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    token_ids: Vec<u32>,
    /// From where tokens are decoded.
    start: usize,
    /// Up to where their text has been given out.
    read: usize,
}

impl<'a> Detokenizer<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, token_ids: Vec::new(), start: 0, read: 0 }
    }

    /// The text that `token` completes; empty in the middle of a character.
    pub(crate) fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.token_ids.push(token);
        let text = self.new_text()?;
        // A character has at most four bytes: what is not text after that many tokens will never be.
        if text.ends_with(REPLACEMENT) && self.token_ids.len() - self.read < 4 {
            return Ok(String::new());
        }
        self.start = self.read;
        self.read = self.token_ids.len();
        Ok(text)
    }

    /// What is left at the end: an incomplete character, shown as a replacement.
    pub(crate) fn finish(&mut self) -> Result<String, TokenizerError> {
        let text = self.new_text()?;
        self.read = self.token_ids.len();
        Ok(text)
    }

    fn new_text(&self) -> Result<String, TokenizerError> {
        let given = self.tokenizer.decode(&self.token_ids[self.start..self.read])?;
        let mut text = self.tokenizer.decode(&self.token_ids[self.start..])?;
        let at = given.len().min(text.len());
        Ok(if text.is_char_boundary(at) { text.split_off(at) } else { text })
    }
}

/// Holds text back while it may be the beginning of a stop text.
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopFilter {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes text in and gives out what is certainly not part of a stop text.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop text came.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// The text that was held back, once nothing more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How many bytes at the end of `text` are a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(at, _)| at).rev();
    beginnings.into_iter().find(|length| text.ends_with(&stop[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stops: &[&str], pieces: &[&str], expected: &[&str], stopped: bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut filter = StopFilter::new(stops);
        let mut shown: Vec<String> = pieces.iter().map(|piece| filter.push(piece)).collect();
        assert_eq!(filter.stopped(), stopped);
        shown.push(filter.finish());
        assert_eq!(shown, expected);
    }

    #[test]
    fn nothing_is_held_without_stops() {
        check(&[], &["a", "b"], &["a", "b", ""], false);
    }

    #[test]
    fn a_stop_across_pieces_never_shows() {
        check(&["\nUser:"], &["Hi\n", "Us", "er: x", "more"], &["Hi", "", "", "", ""], true);
    }

    #[test]
    fn a_false_beginning_is_given_out() {
        check(&["END"], &["aE", "N", "x"], &["a", "", "ENx", ""], false);
        check(&["END"], &["aEN"], &["a", "EN"], false);
        check(&["EEND"], &["EEE", "ND"], &["E", "", ""], true);
    }

    #[test]
    fn the_earliest_of_several_stops_counts() {
        check(&["world", "lo"], &["hello world"], &["hel", ""], true);
        check(&["é!"], &["caf", "é", "!"], &["caf", "", "", ""], true);
    }
}
