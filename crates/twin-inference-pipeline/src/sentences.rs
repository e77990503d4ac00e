//! Where sentences begin and end. Every byte of a text belongs to exactly one sentence, white space to the one before it.

use unicode_segmentation::UnicodeSegmentation;

/// Words before a full stop that do not end a sentence.
const ABBREVIATIONS: [&str; 22] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "cf", "fig", "no", "vol", "pp", "ca", "approx",
    "jr", "sr", "inc", "ltd", "co",
];

/// The sentences of a text, in order; joined they are the text. A line break ends a sentence where a paragraph, a list item or
/// a quotation ends.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, _) in text.split_sentence_bound_indices() {
        // Unicode's rule (UAX #29) breaks after every full stop that a capital follows; abbreviations are joined again.
        if index > start && !ends_with_abbreviation(&text[start..index]) {
            found.push(&text[start..index]);
            start = index;
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

fn ends_with_abbreviation(text: &str) -> bool {
    let Some(before) = text.trim_end().strip_suffix('.') else { return false };
    // A line break in the white space says that something else ends here.
    if text[before.len()..].contains('\n') {
        return false;
    }
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found = sentences(text);
        assert_eq!(found.concat(), text);
        assert_eq!(found.iter().map(|sentence| sentence.trim()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn abbreviations_and_numbers_do_not_end_sentences() {
        check("Dr. Pym paid £3.50 to J. Smith. He was late!", &["Dr. Pym paid £3.50 to J. Smith.", "He was late!"]);
    }

    #[test]
    fn paragraphs_end_sentences() {
        check("No full stop\n\nNext one. So.", &["No full stop", "Next one.", "So."]);
        check("", &[]);
    }
}
