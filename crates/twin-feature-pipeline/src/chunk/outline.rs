//! The structure of a Markdown text, as byte offsets into it.

use std::ops::Range;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::clean::markdown;

/// Where the parts of a text are.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The sections, in order: the text before the first heading, then one for each heading. They cover the text.
    pub(super) sections: Vec<Section>,
    /// Where blocks start that stand in no other block, in order.
    pub(super) blocks: Vec<usize>,
    /// Where the parts of blocks start: list items, quoted paragraphs, table rows. In order.
    pub(super) parts: Vec<usize>,
    /// Code blocks: never split. In order and disjoint.
    pub(super) code: Vec<Range<usize>>,
    /// Block quotes.
    pub(super) quotations: Vec<Range<usize>>,
    /// Code blocks, block quotes and raw HTML, merged.
    pub(super) not_voice: Vec<Range<usize>>,
}

/// A heading with what stands under it, up to the next heading of any level.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) start: usize,
    /// Where the heading itself ends; `start` for the text before the first heading.
    pub(super) heading_end: usize,
    /// The headings above the text, the section's own included, outermost first.
    pub(super) path: Vec<String>,
}

impl Outline {
    /// Reads the structure of `text`.
    pub(super) fn of(text: &str) -> Self {
        let mut outline = Self { sections: vec![Section::default()], ..Self::default() };
        let mut above: Vec<(u8, String)> = Vec::new();
        let mut depth = 0_usize;
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, markdown::options()).into_offset_iter() {
            let starts_block = matches!(event, Event::Start(_) | Event::Rule | Event::Html(_));
            if starts_block && depth == 0 {
                outline.blocks.push(line_start(text, range.start));
            }
            match event {
                Event::Start(tag) => {
                    outline.open(&tag, text, &range);
                    if depth == 0 && matches!(tag, Tag::Heading { .. }) {
                        heading = Some(String::new());
                    }
                    depth += 1;
                }
                Event::End(tag) => {
                    depth = depth.saturating_sub(1);
                    if let (TagEnd::Heading(level), 0, Some(title)) = (tag, depth, heading.take_if(|_| depth == 0)) {
                        above.retain(|(outer, _)| *outer < level as u8);
                        above.push((level as u8, title.split_whitespace().collect::<Vec<_>>().join(" ")));
                        let path =
                            above.iter().map(|(_, title)| title.clone()).filter(|title| !title.is_empty()).collect();
                        let start = line_start(text, range.start);
                        outline.sections.push(Section { start, heading_end: range.end, path });
                    }
                }
                Event::Text(part) | Event::Code(part) => heading.iter_mut().for_each(|title| title.push_str(&part)),
                Event::SoftBreak | Event::HardBreak => heading.iter_mut().for_each(|title| title.push(' ')),
                _ => {}
            }
        }
        outline.tidy(text);
        outline
    }

    fn open(&mut self, tag: &Tag<'_>, text: &str, range: &Range<usize>) {
        match tag {
            Tag::CodeBlock(_) => {
                let range = line_start(text, range.start)..range.end;
                // What follows a code block within an item or a quotation may be split off.
                self.parts.extend([range.start, next_text(text, range.end)]);
                self.not_voice.push(range.clone());
                self.code.push(range);
            }
            Tag::BlockQuote(_) => {
                self.parts.push(line_start(text, range.start));
                self.not_voice.push(range.clone());
                self.quotations.push(range.clone());
            }
            Tag::HtmlBlock => self.not_voice.push(range.clone()),
            Tag::Item | Tag::Paragraph | Tag::TableRow | Tag::List(_) | Tag::Heading { .. } => {
                self.parts.push(line_start(text, range.start));
            }
            _ => {}
        }
    }

    fn tidy(&mut self, text: &str) {
        for boundaries in [&mut self.blocks, &mut self.parts] {
            boundaries.retain(|at| *at > 0 && *at < text.len());
            boundaries.sort_unstable();
            boundaries.dedup();
        }
        for ranges in [&mut self.code, &mut self.quotations, &mut self.not_voice] {
            *ranges = merged(std::mem::take(ranges));
        }
        // A text that begins with a heading has nothing before it.
        if self.sections.get(1).is_some_and(|section| section.start == 0) {
            self.sections.remove(0);
        }
    }

    /// Whether a cut at `at` would go through a code block.
    pub(super) fn is_in_code(&self, at: usize) -> bool {
        let after = self.code.partition_point(|range| range.end <= at);
        self.code.get(after).is_some_and(|range| range.start < at)
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// The start of the next line with anything on it, after the line that `at` is on.
fn next_text(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let line = if text[..at].ends_with('\n') { 0 } else { rest.find('\n').map_or(rest.len(), |end| end + 1) };
    let blank = rest[line..].len() - rest[line..].trim_start_matches('\n').len();
    at + line + blank
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
