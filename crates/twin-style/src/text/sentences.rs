//! Where sentences end. Rules rather than a model: the cases below decide nearly all English prose, and what remains (a
//! sentence that ends in an initial) errs on the side of not cutting.

use std::ops::Range;

use crate::function_words;

/// Abbreviations after which a sentence goes on, whatever follows.
const NEVER_LAST: &[&str] = &[
    "mr", "mrs", "ms", "mx", "dr", "prof", "rev", "hon", "st", "messrs", "gen", "col", "capt", "lt", "sgt", "gov",
    "sen", "rep", "vs", "cf", "e.g", "i.e", "eg", "ie", "viz", "approx", "ca", "al", "ed", "eds", "trans", "vol", "pp",
    "fig", "figs", "sec", "ch", "eq",
];

/// Abbreviations that go before a number: `No. 5`, but `No. That is all.`
const BEFORE_NUMBER: &[&str] =
    &["no", "nos", "p", "art", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"];

/// Abbreviations that may also end a sentence, which then begins anew with a common word.
const SOMETIMES_LAST: &[&str] =
    &["etc", "inc", "ltd", "co", "corp", "jr", "sr", "bros", "dept", "est", "ft", "oz", "lb", "lbs", "ave", "rd", "mt"];

/// The byte ranges of the sentences of prose, in order, without the white space around them. An empty line always ends a
/// sentence, a single line break never does by itself.
pub fn sentences(prose: &str) -> Vec<Range<usize>> {
    let characters: Vec<(usize, char)> = prose.char_indices().collect();
    let mut ends = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < characters.len() {
        let (end, may_end) = match characters[at].1 {
            '\n' => (at + 1, true),
            mark if is_terminator(mark) => (after_closing_marks(&characters, at), true),
            _ => (at + 1, false),
        };
        let ended = may_end
            && match characters[at].1 {
                '\n' => is_empty_line(&characters, at),
                _ => ends_sentence(prose, &characters, start, at, end),
            };
        if ended {
            ends.push(characters.get(end).map_or(prose.len(), |(byte, _)| *byte));
            start = end;
        }
        at = end;
    }
    ends.push(prose.len());
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| trimmed(prose, start..*end)).filter(|range| !range.is_empty()).collect()
}

fn is_terminator(character: char) -> bool {
    matches!(character, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}

/// The end of a run of terminators and of the quotes and brackets that close after it.
fn after_closing_marks(characters: &[(usize, char)], at: usize) -> usize {
    let closes = |c: char| is_terminator(c) || matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '*' | '_');
    at + characters[at..].iter().take_while(|(_, c)| closes(*c)).count()
}

fn is_empty_line(characters: &[(usize, char)], at: usize) -> bool {
    characters[at + 1..].iter().map(|(_, c)| *c).take_while(|c| c.is_whitespace()).any(|c| c == '\n')
}

fn ends_sentence(prose: &str, characters: &[(usize, char)], start: usize, at: usize, end: usize) -> bool {
    let mark = characters[at].1;
    if matches!(mark, '。' | '！' | '？') || end == characters.len() {
        return true;
    }
    let after = &prose[characters[end].0..];
    if !after.starts_with(char::is_whitespace) {
        return false; // A decimal, an address, a mark inside a word.
    }
    let next = after.trim_start().trim_start_matches(['"', '\'', '“', '‘', '«', '(', '[', '*', '_', '-', ' ']);
    if next.starts_with(char::is_lowercase) {
        return false; // `"Really?" she asked`, `etc. and so on`.
    }
    let first = characters[start..at].iter().find(|(_, c)| !c.is_whitespace()).map_or(0, |(byte, _)| *byte);
    mark != '.'
        || characters.get(at + 1).is_some_and(|(_, c)| *c == '.')
        || full_stop_ends(prose, first, characters[at].0, next)
}

/// Whether a single full stop at byte `stop` ends the sentence that began at byte `first`, with `next` after it.
fn full_stop_ends(prose: &str, first: usize, stop: usize, next: &str) -> bool {
    if first >= stop {
        return true;
    }
    let before = &prose[first..stop];
    let token = before.rsplit(char::is_whitespace).next().unwrap_or(before);
    let is_first = token.len() == before.len();
    let token = token.trim_start_matches(['"', '\'', '“', '‘', '«', '(', '[', '*', '_', '-']);
    let lower = token.to_lowercase();
    let listed = |list: &[&str]| list.contains(&lower.as_str());
    let begins_anew = || {
        let word: String = next.chars().take_while(|c| c.is_alphanumeric() || *c == '\'').collect();
        function_words::contains(&word.to_lowercase())
    };
    let mut letters = token.chars();
    let single = letters.next().filter(|letter| letter.is_uppercase() && letters.next().is_none());
    if is_first && !token.is_empty() && token.chars().all(char::is_numeric) {
        return false; // The number of a list item.
    }
    if let Some(letter) = single {
        return letter == 'I'; // Initials.
    }
    if listed(NEVER_LAST) {
        return false;
    }
    if listed(BEFORE_NUMBER) {
        return !next.starts_with(char::is_numeric);
    }
    // `U.S.`, `a.m.`, `Ph.D.`: parts of one or two letters with full stops in between.
    let dotted = token.contains('.')
        && token
            .split('.')
            .all(|part| (1..=2).contains(&part.chars().count()) && part.chars().all(char::is_alphabetic));
    if dotted || listed(SOMETIMES_LAST) { begins_anew() } else { true }
}

fn trimmed(prose: &str, range: Range<usize>) -> Range<usize> {
    let text = &prose[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    start..(range.start + text.trim_end().len()).max(start)
}
