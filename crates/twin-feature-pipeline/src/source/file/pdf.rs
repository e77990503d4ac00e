//! PDF: where its text stands on the pages decides what is a line, a paragraph and a heading, for a PDF says none of it.
//! Pages of scanned pictures have no text.

use std::collections::{BTreeMap, HashMap};

use lopdf::content::Content;
use lopdf::{Document, Encoding, LoadOptions, Object, ObjectId};

use super::{Part, escaped};
use crate::clean::{Rejection, guarded};
use crate::date;
use crate::page::Hints;

/// No stream of text becomes larger; pictures are not unpacked.
const MAX_STREAM_BYTES: usize = 32 * 1024 * 1024;
const MAX_PAGES: usize = 3000;
/// A line that stands at the edge of more pages is their header or footer.
const MOST_EQUAL_EDGES: usize = 2;

pub(super) fn read(bytes: Vec<u8>, most: u64) -> Result<Part, String> {
    // The parser is bounded in memory but not in time, and has had panics.
    let work = move || text(&bytes, most).map_err(|problem| Rejection::NoMainText { problem });
    guarded(work).map_err(|rejection| match rejection {
        Rejection::NoMainText { problem } => problem,
        other => other.to_string(),
    })
}

fn text(bytes: &[u8], most: u64) -> Result<Part, String> {
    let options = LoadOptions::with_max_decompressed_size(MAX_STREAM_BYTES);
    let document = Document::load_mem_with_options(bytes, options).map_err(|error| format!("it is no PDF: {error}"))?;
    if document.is_encrypted() {
        return Err("it is encrypted: take its password off and try again".to_owned());
    }
    let (mut pages, mut size) = (Vec::new(), 0);
    for page in document.page_iter().take(MAX_PAGES) {
        // A page that cannot be read costs itself only.
        let lines = lines(&document, page).unwrap_or_default();
        size += lines.iter().map(|line| line.text.len()).sum::<usize>();
        if size as u64 > most {
            return Err(format!("more than {most} bytes of text, the most that is read of a post"));
        }
        pages.push(lines);
    }
    remove_edges(&mut pages);
    if pages.iter().all(Vec::is_empty) {
        return Err("its pages have no text: they may be pictures of text".to_owned());
    }
    Ok(Part { name: String::new(), html: html(&pages), hints: hints(&document) })
}

fn hints(document: &Document) -> Hints {
    let info = document.trailer.get(b"Info").and_then(Object::as_reference).and_then(|id| document.get_dictionary(id));
    let field = |name: &[u8]| {
        let value = info.as_ref().ok()?.get(name).ok()?;
        let text = lopdf::decode_text_string(value).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    // `D:20200102…`
    let created = field(b"CreationDate").and_then(|text| {
        let digits: String = text.trim_start_matches("D:").chars().take_while(char::is_ascii_digit).collect();
        (digits.len() >= 8).then(|| date::parse(&format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..8])))?
    });
    // Programs put the name of the file there.
    let title = field(b"Title").filter(|title| !title.contains(".doc") && !title.contains(".tex"));
    Hints { title, byline: field(b"Author"), date: created, ..Hints::default() }
}

/// A line of a page.
#[derive(Debug, Clone, Default, PartialEq)]
struct Line {
    text: String,
    /// The size of its letters.
    size: f32,
    /// How far under the line before it stands; large where that is not known.
    gap: f32,
}

/// Where the next letters come to stand (ISO 32000-1, 9.4).
struct Cursor {
    line_start: (f32, f32),
    at: (f32, f32),
    scale: f32,
    font_size: f32,
    leading: f32,
}

fn lines(document: &Document, page: ObjectId) -> Result<Vec<Line>, lopdf::Error> {
    let fonts = document.get_page_fonts(page)?;
    let encodings: BTreeMap<Vec<u8>, Encoding<'_>> = fonts
        .into_iter()
        .filter_map(|(name, font)| Some((name, font.get_font_encoding_with_limit(document, MAX_STREAM_BYTES).ok()?)))
        .collect();
    let content = Content::decode(&document.get_page_content_with_limit(page, MAX_STREAM_BYTES)?)?;
    let mut cursor = Cursor { line_start: (0.0, 0.0), at: (0.0, 0.0), scale: 1.0, font_size: 1.0, leading: 0.0 };
    let mut page = PageText::default();
    let mut encoding = None;
    for operation in &content.operations {
        let operands = &operation.operands;
        let number = |index: usize| operands.get(index).and_then(|operand| operand.as_float().ok()).unwrap_or(0.0);
        match operation.operator.as_str() {
            "BT" => cursor.move_to(0.0, 0.0, 1.0),
            "Tf" => {
                encoding = operands.first().and_then(|name| name.as_name().ok()).and_then(|name| encodings.get(name));
                cursor.font_size = number(1).abs();
            }
            "TL" => cursor.leading = number(0),
            "Tm" => cursor.move_to(number(4), number(5), number(3).abs().max(number(1).abs())),
            "Td" => cursor.next_line(number(0), number(1)),
            "TD" => {
                cursor.leading = -number(1);
                cursor.next_line(number(0), number(1));
            }
            "T*" => cursor.next_line(0.0, -cursor.leading),
            "Tj" => page.show(&mut cursor, encoding, operands),
            "TJ" => {
                if let Some(Object::Array(pieces)) = operands.first() {
                    page.show(&mut cursor, encoding, pieces);
                }
            }
            "'" | "\"" => {
                cursor.next_line(0.0, -cursor.leading);
                page.show(&mut cursor, encoding, &operands[operands.len().saturating_sub(1)..]);
            }
            _ => {}
        }
    }
    Ok(page.finish())
}

impl Cursor {
    fn move_to(&mut self, x: f32, y: f32, scale: f32) {
        (self.line_start, self.at, self.scale) = ((x, y), (x, y), if scale > 0.0 { scale } else { 1.0 });
    }

    fn next_line(&mut self, x: f32, y: f32) {
        self.line_start = (self.line_start.0 + x * self.scale, self.line_start.1 + y * self.scale);
        self.at = self.line_start;
    }

    fn size(&self) -> f32 {
        self.font_size * self.scale
    }
}

#[derive(Default)]
struct PageText {
    lines: Vec<Line>,
    /// Where the letters shown last end, and whether any were.
    end: Option<(f32, f32)>,
}

impl PageText {
    /// Takes in strings, and numbers between them, which move to the left in thousandths of the font's size.
    fn show(&mut self, cursor: &mut Cursor, encoding: Option<&Encoding<'_>>, pieces: &[Object]) {
        /// How wide a letter is on average, where no font is looked at.
        const LETTER: f32 = 0.5;
        /// Words are at least so far apart, in the font's size.
        const SPACE: f32 = 0.16;
        let Some(encoding) = encoding else { return };
        for piece in pieces {
            match piece {
                Object::String(bytes, _) => {
                    let Ok(text) = Document::decode_text(encoding, bytes) else { continue };
                    self.place(cursor, &text, SPACE);
                    cursor.at.0 += text.chars().count() as f32 * LETTER * cursor.size();
                    self.end = Some(cursor.at);
                }
                number => {
                    let moved = number.as_float().unwrap_or(0.0) / 1000.0;
                    let line = self.lines.last_mut().filter(|line| moved < -SPACE && !line.text.ends_with(' '));
                    if let Some(line) = line {
                        line.text.push(' ');
                    }
                }
            }
        }
    }

    fn place(&mut self, cursor: &Cursor, text: &str, space: f32) {
        let size = cursor.size();
        let drop = self.end.map(|end| end.1 - cursor.at.1);
        let is_new = drop.is_none_or(|drop| drop.abs() > size * 0.6);
        match self.lines.last_mut().filter(|_| !is_new) {
            Some(line) => {
                let apart = self.end.map_or(0.0, |end| cursor.at.0 - end.0);
                // Average letters err, so only a wide gap is sure; and pieces of a word follow each other at once.
                if apart > size * (space + 0.1) && !line.text.ends_with(' ') && !text.starts_with(' ') {
                    line.text.push(' ');
                }
                line.text.push_str(text);
                line.size = line.size.max(size);
            }
            None => {
                let gap = drop.filter(|drop| *drop > 0.0).unwrap_or(f32::MAX);
                self.lines.push(Line { text: text.to_owned(), size, gap });
            }
        }
    }

    fn finish(self) -> Vec<Line> {
        let squeezed = |line: Line| Line { text: line.text.split_whitespace().collect::<Vec<_>>().join(" "), ..line };
        self.lines.into_iter().map(squeezed).filter(|line| !line.text.is_empty()).collect()
    }
}

/// Takes out what stands first or last on many pages but for its digits: headers, footers, page numbers.
fn remove_edges(pages: &mut [Vec<Line>]) {
    let bare = |line: &Line| line.text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>().trim().to_owned();
    for at_start in [true, false] {
        let edge = |page: &Vec<Line>| if at_start { page.first().map(bare) } else { page.last().map(bare) };
        let mut counts: HashMap<String, usize> = HashMap::new();
        pages.iter().filter_map(edge).for_each(|text| *counts.entry(text).or_default() += 1);
        for page in pages.iter_mut() {
            let recurs = edge(page).is_some_and(|text| text.is_empty() || counts[&text] > MOST_EQUAL_EDGES);
            if recurs && at_start {
                page.remove(0);
            } else if recurs {
                page.pop();
            }
        }
    }
}

fn html(pages: &[Vec<Line>]) -> String {
    let all: Vec<&Line> = pages.iter().flatten().collect();
    let usual = usual_size(&all);
    let (mut html, mut paragraph, mut last): (String, String, Option<&Line>) = (String::new(), String::new(), None);
    for line in all {
        let is_heading = line.size > usual * 1.15 && line.text.chars().count() < 120;
        let was_heading = last.is_some_and(|last| last.size > usual * 1.15);
        // Over the end of a page a sentence goes on.
        let is_apart = line.gap > line.size * 1.7 && (line.gap < f32::MAX || ends_sentence(&paragraph));
        if is_apart || is_heading != was_heading {
            close(&mut html, &mut paragraph, was_heading);
        }
        join(&mut paragraph, &line.text);
        last = Some(line);
    }
    close(&mut html, &mut paragraph, last.is_some_and(|last| last.size > usual * 1.15));
    html
}

/// The size in which most letters are set.
fn usual_size(lines: &[&Line]) -> f32 {
    let mut letters: HashMap<u32, usize> = HashMap::new();
    lines.iter().for_each(|line| *letters.entry((line.size * 2.0) as u32).or_default() += line.text.len());
    letters.into_iter().max_by_key(|(size, count)| (*count, *size)).map_or(1.0, |(size, _)| size as f32 / 2.0)
}

fn ends_sentence(text: &str) -> bool {
    text.trim_end().ends_with(['.', '!', '?', ':', '”', '"', ')'])
}

/// A word that was broken at the end of a line is one word again.
fn join(paragraph: &mut String, line: &str) {
    let broken = paragraph.ends_with(['-', '\u{2010}', '\u{ad}']) && line.starts_with(char::is_lowercase);
    let before = paragraph.trim_end_matches(['-', '\u{2010}', '\u{ad}']);
    if broken && before.ends_with(char::is_lowercase) {
        paragraph.truncate(before.len());
    } else if !paragraph.is_empty() {
        paragraph.push(' ');
    }
    paragraph.push_str(line);
}

fn close(html: &mut String, paragraph: &mut String, is_heading: bool) {
    let text = escaped(&std::mem::take(paragraph));
    if text.is_empty() {
        return;
    }
    let tag = if is_heading { "h2" } else { "p" };
    html.push_str(&format!("<{tag}>{text}</{tag}>\n"));
}
