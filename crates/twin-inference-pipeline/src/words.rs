//! Content words: what a question or a sentence is about, for comparing texts by their words.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

/// Words that say nothing of the subject. Names of people are no part of it: the caller takes those out where they do not count.
const STOP_WORDS: &str = "a about after again all also am an and any are as at be because been before being between both but by can \
could did do does doing don't down during each ever every few for from further get give go goes going got had has have having he her \
here hers him his how i if in into is it its it's just know let like made make makes many may me might mine more most much must my no \
nor not now of off on once one only or other our ours out over own people really said same say says she should so some something \
such take tell than that that's the their theirs them then there these they thing things think this those through to too under until \
up upon us use used very want was way we well were what what's when where which while who whom whose why will with would write written \
wrote yes yet you your yours";

/// The content words of a text in lower case, plurals and possessives cut, each once.
pub fn content_words(text: &str) -> BTreeSet<String> {
    let stop = |word: &str| STOP_WORDS.split_whitespace().any(|stop| stop == word);
    let words = text.unicode_words().map(|word| word.to_lowercase().replace('’', "'"));
    words.filter(|word| !stop(word)).map(|word| stem(&word)).filter(|word| !word.is_empty()).collect()
}

/// A word without the endings that change most: enough to meet its other forms, no more.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let endings = ["ies", "ing", "ed", "es", "s", "e", "y"];
    let cut = endings.into_iter().filter_map(|ending| word.strip_suffix(ending)).find(|stem| stem.chars().count() >= 3);
    cut.unwrap_or(word).to_owned()
}

/// The numbers of a text as written, without the separators in them: `1,400` and `1400` are one.
pub fn numbers(text: &str) -> BTreeSet<String> {
    let candidates = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')));
    let plain = candidates.map(|number| number.trim_matches(['.', ',']).replace(',', ""));
    plain.filter(|number| !number.is_empty()).collect()
}

/// The share of `asked` that is in `given`, 0 when nothing is asked.
pub fn share(asked: &BTreeSet<String>, given: &BTreeSet<String>) -> f32 {
    if asked.is_empty() { 0.0 } else { asked.intersection(given).count() as f32 / asked.len() as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_forms_of_a_word_meet() {
        let set = content_words;
        assert_eq!(set("caulked seams"), set("The caulking of a seam"));
        assert_eq!(set("What did you write about it?"), BTreeSet::new());
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(numbers("£1,400 and 3.5 kg."), BTreeSet::from(["1400".to_owned(), "3.5".to_owned()]));
    }
}
