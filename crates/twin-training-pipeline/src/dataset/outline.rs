//! The structure of a Markdown document as byte ranges: sections under headings, and blocks such as paragraphs and lists.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A heading and what stands under it, up to the next heading of any level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// The heading's text without markup; empty for what stands before the first heading.
    pub heading: String,
    pub blocks: Vec<Range<usize>>,
}

/// The outline of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    /// The outermost blocks without the headings.
    pub blocks: Vec<Range<usize>>,
    pub sections: Vec<Section>,
}

impl Outline {
    pub(super) fn of(text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut sections = vec![Section { heading: String::new(), blocks: Vec::new() }];
        let mut heading: Option<String> = None;
        let mut depth = 0_usize;
        for (event, range) in
            Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES).into_offset_iter()
        {
            match event {
                Event::Start(Tag::Heading { .. }) if depth == 0 => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) if depth == 0 => {
                    let title = heading.take().unwrap_or_default().trim().to_owned();
                    sections.push(Section { heading: title, blocks: Vec::new() });
                }
                Event::Text(part) | Event::Code(part) if heading.is_some() => {
                    if let Some(title) = &mut heading {
                        title.push_str(&part);
                    }
                }
                Event::Start(_) if heading.is_none() => {
                    if depth == 0 {
                        blocks.push(range.clone());
                        if let Some(section) = sections.last_mut() {
                            section.blocks.push(range);
                        }
                    }
                    depth += 1;
                }
                Event::End(_) if heading.is_none() => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Self { blocks, sections }
    }
}

/// Joins blocks that follow each other into passages of at most `limit` tokens. A block that is longer than that is cut
/// at the end of a sentence, or of a word, and its rest makes passages of its own. Passages are trimmed and never empty.
pub(super) fn passages(
    text: &str,
    blocks: &[Range<usize>],
    limit: usize,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Vec<Range<usize>> {
    let mut passages: Vec<Range<usize>> = Vec::new();
    let mut open: Option<Range<usize>> = None;
    for block in blocks {
        if let Some(current) = &mut open {
            if count_tokens(&text[current.start..block.end]) <= limit {
                current.end = block.end;
                continue;
            }
            passages.push(current.clone());
        }
        let mut rest = block.clone();
        while count_tokens(&text[rest.clone()]) > limit {
            let end = rest.start + fitting_prefix(&text[rest.clone()], limit, count_tokens);
            passages.push(rest.start..end);
            rest.start = end;
        }
        open = Some(rest);
    }
    passages.extend(open);
    passages.iter().filter_map(|passage| trimmed(text, passage)).collect()
}

/// The end of `text`: at most `limit` tokens, beginning with a sentence where there is one.
pub(super) fn tail<'a>(text: &'a str, limit: usize, count_tokens: &dyn Fn(&str) -> usize) -> &'a str {
    let mut starts: Vec<usize> = sentence_ends(text).collect();
    starts.insert(0, 0);
    let fitting = starts.into_iter().find(|start| {
        let rest = text[*start..].trim();
        !rest.is_empty() && count_tokens(rest) <= limit
    });
    let start = fitting.unwrap_or_else(|| {
        let words: Vec<usize> = word_ends(text).collect();
        let longest = words.into_iter().find(|start| count_tokens(&text[*start..]) <= limit);
        longest.unwrap_or(0)
    });
    text[start..].trim()
}

/// The length of the longest beginning of `text` that has at most `limit` tokens and ends with a sentence, or else with a
/// word, or else with a character. At least one character, so that cutting comes to an end.
fn fitting_prefix(text: &str, limit: usize, count_tokens: &dyn Fn(&str) -> usize) -> usize {
    let longest = |ends: Vec<usize>| {
        let fitting = ends.partition_point(|end| count_tokens(&text[..*end]) <= limit);
        fitting.checked_sub(1).map(|index| ends[index])
    };
    let characters = || text.char_indices().skip(1).map(|(index, _)| index).collect();
    longest(sentence_ends(text).collect())
        .or_else(|| longest(word_ends(text).collect()))
        .or_else(|| longest(characters()))
        .unwrap_or_else(|| text.chars().next().map_or(text.len(), char::len_utf8))
}

/// The offsets after a full stop, question mark or exclamation mark that is followed by white space.
pub(super) fn sentence_ends(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    (1..bytes.len())
        .filter(|&index| bytes[index].is_ascii_whitespace() && matches!(bytes[index - 1], b'.' | b'?' | b'!' | b'"'))
}

/// The offsets of white space.
fn word_ends(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().skip(1).filter(|(_, character)| character.is_whitespace()).map(|(index, _)| index)
}

fn trimmed(text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let slice = &text[range.clone()];
    let start = range.start + (slice.len() - slice.trim_start().len());
    let end = start + slice.trim().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn sections_have_their_blocks_and_headings_no_place_in_them() {
        let text = "Intro.\n\n## Why *so*?\n\nBecause.\n\n- a\n- b\n\n```\n# no heading\n```\n\nLast\n----\n\nEnd.\n";
        let outline = Outline::of(text);
        let seen: Vec<(&str, Vec<&str>)> = outline
            .sections
            .iter()
            .map(|s| (s.heading.as_str(), s.blocks.iter().map(|b| text[b.clone()].trim()).collect()))
            .collect();
        assert_eq!(
            seen,
            [
                ("", vec!["Intro."]),
                ("Why so?", vec!["Because.", "- a\n- b", "```\n# no heading\n```"]),
                ("Last", vec!["End."])
            ]
        );
        assert_eq!(outline.blocks.len(), 5);
    }

    #[test]
    fn passages_hold_as_many_blocks_as_fit() {
        let text = "one two\n\nthree four\n\nfive six seven. eight nine";
        let blocks = Outline::of(text).blocks;
        let cut: Vec<&str> = passages(text, &blocks, 4, &words).into_iter().map(|range| &text[range]).collect();
        assert_eq!(cut, ["one two\n\nthree four", "five six seven.", "eight nine"]);
    }

    #[test]
    fn a_word_longer_than_the_limit_is_cut_and_comes_to_an_end() {
        let text = "äöü".repeat(50);
        let bytes = |text: &str| text.len();
        let blocks = Outline::of(&text).blocks;
        let cut: Vec<Range<usize>> = passages(&text, &blocks, 7, &bytes);
        assert_eq!(cut.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
        assert!(cut.iter().all(|range| range.len() <= 7));
    }

    #[test]
    fn the_tail_begins_with_a_sentence() {
        assert_eq!(tail("One is long. Two is. Three is here.", 5, &words), "Two is. Three is here.");
        assert_eq!(tail("no sentence ends in here at all", 3, &words), "here at all");
    }
}
