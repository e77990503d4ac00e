//! Prose for measuring: without markup and code, and with one kind of apostrophe, quote and dash, so that typography does
//! not become the signal.

use unicode_segmentation::UnicodeSegmentation;

/// The prose of a Markdown text: no code, headings, link targets, images, HTML or quote and list marks.
pub fn prose(markdown: &str) -> String {
    let mut prose = String::with_capacity(markdown.len());
    let mut fence: Option<&str> = None;
    for line in markdown.lines() {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) if trimmed.starts_with('#') || trimmed.starts_with('|') => {}
            (None, None) => {
                prose.push_str(&inline(trimmed.trim_start_matches(['>', '*', '-', '+', ' '])));
                prose.push('\n');
            }
        }
    }
    prose
}

/// A line without inline code, link targets and emphasis marks, with plain apostrophes, quotes and dashes.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '`' => while characters.next().is_some_and(|next| next != '`') {},
            ']' if characters.peek() == Some(&'(') => while characters.next().is_some_and(|next| next != ')') {},
            '<' if characters.peek().is_some_and(|next| next.is_ascii_alphabetic() || *next == '/') => {
                while characters.next().is_some_and(|next| next != '>') {}
            }
            '*' | '_' | '[' | ']' | '\\' => {}
            '’' | '‘' | '′' => out.push('\''),
            '“' | '”' | '«' | '»' => out.push('"'),
            '–' | '—' | '―' => out.push_str(" - "),
            '…' => out.push_str("..."),
            '-' if characters.peek() == Some(&'-') => {
                while characters.next_if_eq(&'-').is_some() {}
                out.push_str(" - ");
            }
            other => out.push(other),
        }
    }
    out
}

/// The words of a text in lower case, contractions whole (UAX #29), numbers left out.
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.unicode_words().filter(|word| !word.chars().any(char::is_numeric)).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prose_is_left() {
        let markdown =
            "# Title\n\nSee [this](https://x.example/a_b) *now* — it’s `let x` good.\n\n```\ncode\n```\n> Said.\n";
        assert_eq!(prose(markdown), "\nSee this now  -  it's  good.\n\nSaid.\n");
    }

    #[test]
    fn words_keep_contractions() {
        assert_eq!(words("It's 3 o'clock, DON'T").collect::<Vec<_>>(), ["it's", "o'clock", "don't"]);
    }
}
