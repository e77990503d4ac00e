//! Where sentences begin and end. Every byte of a text belongs to exactly one sentence, white space to the one before it.

use unicode_segmentation::UnicodeSegmentation;

/// Words before a full stop that do not end a sentence.
const ABBREVIATIONS: [&str; 22] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "cf", "fig", "vol", "pp", "ca", "approx", "jr",
    "sr", "inc", "ltd", "co", "rev",
];

/// The sentences of a text, in order; joined they are the text.
///
/// The boundaries are Unicode's (UAX #29), less those after abbreviations, list markers and mere line wraps, and those
/// inside fenced code, which is one piece however long it is.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, _) in text.split_sentence_bound_indices() {
        if index > start && ends(&text[start..index], &text[index..]) {
            found.push(&text[start..index]);
            start = index;
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

/// Whether a sentence is over where Unicode says that it may be.
fn ends(text: &str, rest: &str) -> bool {
    let belongs_to_it = rest.starts_with(char::is_whitespace);
    !belongs_to_it
        && !in_fence(text)
        && !is_marker(text)
        && !ends_with_abbreviation(text, rest)
        && !is_wrapped(text, rest)
        && !goes_on_after_quotation(text, rest)
}

fn in_fence(text: &str) -> bool {
    text.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 == 1
}

/// `"Why?" he asked.` is one sentence.
fn goes_on_after_quotation(text: &str, rest: &str) -> bool {
    let quotation = text.trim_end_matches(' ').strip_suffix(['"', '”', '’', '\'', '»']);
    quotation.is_some_and(|text| text.ends_with(['!', '?'])) && rest.starts_with(char::is_lowercase)
}

/// The number or the bullet of a list item, on its own.
fn is_marker(text: &str) -> bool {
    let text = text.trim();
    let number = text.strip_suffix(['.', ')']).is_some_and(|number| {
        !number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    number || matches!(text, "" | "-" | "*" | "+" | ">")
}

fn ends_with_abbreviation(text: &str, rest: &str) -> bool {
    let Some(before) = text.trim_end().strip_suffix('.') else { return false };
    // A line break in the white space says that something else ends here.
    if text[before.len()..].contains('\n') {
        return false;
    }
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    let numero = word.eq_ignore_ascii_case("no") && rest.starts_with(|c: char| c.is_ascii_digit());
    initial || numero || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// A single line break in running prose, where the next line goes on with the sentence.
fn is_wrapped(text: &str, rest: &str) -> bool {
    let Some(line) = text.strip_suffix('\n') else { return false };
    let last_line = line.rsplit('\n').next().unwrap_or_default().trim();
    let breaks_off = last_line.is_empty()
        || last_line.starts_with('#')
        || last_line.starts_with("```")
        || line.ends_with("  ") // Markdown's hard break.
        || last_line.ends_with(['.', '!', '?', ':', '…', '"', '”']);
    !breaks_off && !begins_block(rest.lines().next().unwrap_or_default())
}

/// Whether a line is the first of a heading, a list item, a quotation, a fence or a row of a table.
pub(crate) fn begins_block(line: &str) -> bool {
    let line = line.trim_start();
    let numbered = line.split_once(['.', ')']).is_some_and(|(number, after)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && after.starts_with(' ')
    });
    numbered || ["# ", "## ", "### ", "- ", "* ", "+ ", "> ", "```", "|"].iter().any(|start| line.starts_with(start))
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
    fn what_follows_a_quotation_in_small_letters_belongs_to_its_sentence() {
        check("\"Why?\" he asked. Nobody knew.", &["\"Why?\" he asked.", "Nobody knew."]);
        check("“Stop!” and it stopped.", &["“Stop!” and it stopped."]);
        check("He asked \"Why?\" Nobody knew.", &["He asked \"Why?\"", "Nobody knew."]);
    }

    #[test]
    fn abbreviations_and_numbers_do_not_end_sentences() {
        check("Dr. Pym paid £3.50 to J. Smith. He was late!", &["Dr. Pym paid £3.50 to J. Smith.", "He was late!"]);
        check(
            "It is no. 5 of them. She said no. Then he left.",
            &["It is no. 5 of them.", "She said no.", "Then he left."],
        );
    }

    #[test]
    fn paragraphs_end_sentences() {
        check("No full stop\n\nNext one. So.", &["No full stop", "Next one.", "So."]);
        check("", &[]);
    }

    #[test]
    fn wrapped_lines_go_on() {
        check("The keel is oak\nand the ribs\nare larch. Yes.", &["The keel is oak\nand the ribs\nare larch.", "Yes."]);
        check("## Heading\nIt begins here.", &["## Heading", "It begins here."]);
    }

    #[test]
    fn list_items_keep_their_markers() {
        check(
            "Take these:\n1. An iron\n2. A mallet. Heavy.\n- Cotton",
            &["Take these:", "1. An iron", "2. A mallet.", "Heavy.", "- Cotton"],
        );
    }

    #[test]
    fn fenced_code_is_one_piece() {
        let code = "```\nlet a = 1. B\n\nfoo! Bar\n```";
        check(&format!("Look.\n\n{code}\n\nDone."), &["Look.", code, "Done."]);
    }
}
