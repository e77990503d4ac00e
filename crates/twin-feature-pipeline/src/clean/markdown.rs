//! Markdown as the author wrote it. Only what no reader sees is taken away: byte order mark, carriage returns, spaces at
//! line ends, comments. Nothing is reflowed, unescaped or straightened: line breaks and punctuation are style.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::Rejection;

/// The Markdown that blogs are written in: CommonMark with tables, footnotes, strikethrough and task lists.
pub(crate) fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// No author nests quotations and lists deeper on one line; the parser takes quadratic time for it.
const MAX_NESTING: usize = 64;

/// Refuses a text of which a line opens too many quotations and lists.
pub(crate) fn check_nesting(text: &str) -> Result<(), Rejection> {
    let too_deep = text.lines().any(|line| {
        let mut rest = line.trim_start_matches([' ', '\t']);
        let mut depth = 0;
        while depth <= MAX_NESTING {
            let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let after = match &rest.as_bytes()[number..] {
                [b'>', ..] if number == 0 => &rest[1..],
                [b'-' | b'*' | b'+', b' ' | b'\t', ..] if number == 0 => &rest[2..],
                [b'.' | b')', b' ' | b'\t', ..] if (1..10).contains(&number) => &rest[number + 2..],
                _ => return false,
            };
            rest = after.trim_start_matches([' ', '\t']);
            depth += 1;
        }
        true
    });
    if too_deep { Err(Rejection::TooDeep { most: MAX_NESTING }) } else { Ok(()) }
}

/// Cleans the body of a Markdown post.
pub(crate) fn clean(body: &str) -> String {
    let text = body.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let text = without_comments(text);
    let text = without_trailing_spaces(text);
    let start = text.find(|c| c != '\n').unwrap_or(text.len());
    // The first line may be indented code, so only whole empty lines go.
    format!("{}\n", text[start..].trim_end())
}

/// The title in a leading first-level heading and the text after it. The title is kept as a field of the document, so
/// that the text is the author's prose from its first byte.
pub(crate) fn leading_title(text: &str) -> Option<(String, &str)> {
    // Most texts have no such line anywhere and need not be parsed.
    let mut lines = text.lines().map(|line| line.trim_start());
    lines.find(|line| (line.starts_with('#') && !line.starts_with("##")) || line.starts_with('='))?;
    let mut events = Parser::new_ext(text, options()).into_offset_iter();
    let (Event::Start(Tag::Heading { level: pulldown_cmark::HeadingLevel::H1, .. }), range) = events.next()? else {
        return None;
    };
    let mut title = String::new();
    for (event, _) in events {
        match event {
            Event::End(TagEnd::Heading(_)) => break,
            Event::Text(text) | Event::Code(text) => title.push_str(&text),
            Event::SoftBreak | Event::HardBreak => title.push(' '),
            _ => {}
        }
    }
    let title = title.trim().to_owned();
    (!title.is_empty()).then(|| (title, text[range.end..].trim_start_matches('\n')))
}

/// The text of the first heading of any level.
pub(crate) fn first_heading(text: &str) -> Option<String> {
    let mut title: Option<String> = None;
    for event in Parser::new_ext(text, options()) {
        match (&mut title, event) {
            (None, Event::Start(Tag::Heading { .. })) => title = Some(String::new()),
            (Some(_), Event::End(TagEnd::Heading(_))) => break,
            (Some(title), Event::Text(text) | Event::Code(text)) => title.push_str(&text),
            _ => {}
        }
    }
    title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty())
}

/// The text without its marks.
pub(crate) fn visible(markdown: &str) -> String {
    let mut text = String::with_capacity(markdown.len());
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Text(piece) | Event::Code(piece) => text.push_str(&piece),
            Event::SoftBreak | Event::HardBreak | Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item) => {
                text.push('\n');
            }
            Event::End(TagEnd::TableCell) => text.push(' '),
            Event::End(TagEnd::CodeBlock | TagEnd::TableRow | TagEnd::TableHead) => text.push('\n'),
            _ => {}
        }
    }
    text
}

/// Byte ranges of code, blocks and spans, in order.
pub(crate) fn code_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        if matches!(event, Event::Start(Tag::CodeBlock(_)) | Event::Code(_)) {
            ranges.push(range);
        }
    }
    ranges
}

/// Takes comments out, again and again: without one, what stands behind it may become the fence of a block of code, and
/// another comment is no longer in code.
fn without_comments(mut text: String) -> String {
    while text.contains("<!--") {
        let less = with_fewer_comments(&text);
        if less.len() == text.len() {
            break;
        }
        text = less;
    }
    text
}

fn with_fewer_comments(text: &str) -> String {
    let code = code_ranges(text);
    // A comment that runs into code is none: code ends what stands before it.
    let touches_code = |start: usize, end: usize| {
        let after = code.partition_point(|range| range.end <= start);
        code.get(after).is_some_and(|range| range.start < end)
    };
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find("<!--").map(|offset| from + offset) {
        let end = text[found..].find("-->").map(|offset| found + offset + "-->".len());
        match end.filter(|end| !touches_code(found, *end)) {
            Some(end) => {
                kept.push_str(&text[at..found]);
                // A comment on lines of its own takes its line break along.
                let alone = kept.is_empty() || kept.ends_with('\n');
                at = if alone && text[end..].starts_with('\n') { end + 1 } else { end };
                from = at;
            }
            None => from = found + "<!--".len(),
        }
    }
    kept.push_str(&text[at..]);
    kept
}

/// Takes spaces off line ends outside code. Two or more before a line of text are a hard line break and stay as two.
fn without_trailing_spaces(text: String) -> String {
    if !text.contains(" \n") && !text.contains("\t\n") && !text.ends_with([' ', '\t']) {
        return text;
    }
    let code: Vec<Range<usize>> = code_ranges(&text);
    let mut code = code.iter().peekable();
    let mut cleaned = String::with_capacity(text.len());
    let mut at = 0;
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let end = at + line.len();
        while code.next_if(|range| range.end < end).is_some() {}
        let in_code = code.peek().is_some_and(|range| range.start < end);
        let trimmed = line.trim_end_matches([' ', '\t']);
        let goes_on = lines.peek().is_some_and(|next| !next.trim().is_empty());
        cleaned.push_str(if in_code { line } else { trimmed });
        if !in_code && !trimmed.is_empty() && goes_on && line.ends_with("  ") {
            cleaned.push_str("  ");
        }
        if lines.peek().is_some() {
            cleaned.push('\n');
        }
        at = end + 1;
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        assert_eq!(clean(body), expected);
    }

    #[test]
    fn the_authors_bytes_stay() {
        let text = "It's \"so\" — isn't it?\nA line  broken by hand…\n\n\n* a\n*  b\n\n{{< shortcode x=\"y\" >}} \\_as is\\_\n";
        check(text, text);
    }

    #[test]
    fn what_no_reader_sees_goes() {
        check("\u{feff}a \t\r\nb<!-- hidden -->c\r\n<!-- more\nlines -->\nd\n\n\n", "a\nbc\nd\n");
    }

    #[test]
    fn hard_line_breaks_stay() {
        check("one   \ntwo  \n\nthree  ", "one  \ntwo\n\nthree\n");
    }

    #[test]
    fn code_stays_as_it_is() {
        let text = "x\n\n```html\n<!-- kept -->   \nlast   \n```\n\n`<!-- kept -->`\n";
        check(text, text);
    }

    #[test]
    fn nesting_that_nobody_writes_is_refused() {
        for unit in [">", "> ", "> - * ", "- ", "1. ", "12) ", "* "] {
            assert!(check_nesting(&format!("Text\n{}x\n", unit.repeat(100))).is_err(), "{unit}");
            assert!(check_nesting(&format!("Text\n{}x\n", unit.repeat(20))).is_ok(), "{unit}");
        }
        assert!(check_nesting(&"-".repeat(1000)).is_ok(), "a rule");
    }

    #[test]
    fn a_comment_that_runs_into_code_is_text() {
        let text = " --><!--\n```\na --><!--  -->\n";
        check(text, text);
    }

    #[test]
    fn an_unclosed_comment_is_text() {
        check("a <!-- b\nc\n", "a <!-- b\nc\n");
    }

    #[test]
    fn the_title_is_taken_off_the_top() {
        assert_eq!(leading_title("# A `b` c\n\nText\n"), Some(("A b c".to_owned(), "Text\n")));
        assert_eq!(leading_title("## Second level\n"), None);
        assert_eq!(leading_title("Text\n\n# Late\n"), None);
        assert_eq!(first_heading("Text\n\n## Late\n").as_deref(), Some("Late"));
    }
}
