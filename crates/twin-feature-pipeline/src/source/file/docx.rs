//! DOCX (ECMA-376): the text of a word processor's document with its headings, lists, tables, links and footnotes. What was
//! deleted under revision, comments and hidden text are not the text.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Part, escaped};
use crate::date;
use crate::page::Hints;
use crate::source::export::archive::Archive;
use crate::source::export::records::{each_record, reference_text};

/// Elements nest no deeper in honest documents.
const MAX_DEPTH: usize = 256;

pub(super) fn read(bytes: Vec<u8>, most: u64) -> Result<Part, String> {
    let mut archive = Archive::of_bytes(bytes)?;
    let mut xml = |name: &str| archive.read(name, most * 16).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let document =
        xml("word/document.xml").map_err(|problem| format!("it is no DOCX: word/document.xml: {problem}"))?;
    let context = Context {
        styles: xml("word/styles.xml").map(|xml| styles(&xml)).unwrap_or_default(),
        links: xml("word/_rels/document.xml.rels").map(|xml| links(&xml)).unwrap_or_default(),
    };
    let mut html = context.html(&document, most)?;
    if let Ok(notes) = xml("word/footnotes.xml") {
        html.push_str(&context.html(&notes, most)?);
    }
    Ok(Part { html, hints: xml("docProps/core.xml").map(|xml| hints(&xml)).unwrap_or_default(), name: String::new() })
}

fn hints(core: &str) -> Hints {
    let mut hints = Hints::default();
    let _ = each_record(core, &|name| name.ends_with("coreProperties"), &mut |record| {
        hints.title = record.text("dc:title").map(str::to_owned);
        hints.byline = record.text("dc:creator").map(str::to_owned);
        hints.date = record.text("dcterms:created").and_then(date::parse);
        let words = record.text("cp:keywords").unwrap_or_default().split([',', ';']).map(str::trim);
        hints.tags = words.filter(|tag| !tag.is_empty()).take(32).map(str::to_owned).collect();
        false
    });
    hints
}

/// The names of styles by their ids, in lower case: ids are translated, names are not.
fn styles(xml: &str) -> HashMap<String, String> {
    let mut styles = HashMap::new();
    let mut id = None;
    let mut reader = Reader::from_str(xml);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Eof => break,
            Event::Start(start) if start.name().0 == "w:style" => id = attribute(&start, "w:styleId"),
            Event::Empty(start) if start.name().0 == "w:name" => {
                if let (Some(id), Some(name)) = (id.take(), attribute(&start, "w:val")) {
                    styles.insert(id, name.to_lowercase());
                }
            }
            _ => {}
        }
    }
    styles
}

fn links(xml: &str) -> HashMap<String, String> {
    let mut links = HashMap::new();
    let mut reader = Reader::from_str(xml);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Eof => break,
            Event::Empty(start) | Event::Start(start) if start.name().0 == "Relationship" => {
                if let (Some(id), Some(target)) = (attribute(&start, "Id"), attribute(&start, "Target"))
                    && target.contains("://")
                {
                    links.insert(id, target);
                }
            }
            _ => {}
        }
    }
    links
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = start.attributes().with_checks(false).flatten().find(|attribute| attribute.key.0 == name)?;
    let value = found.normalized_value(quick_xml::XmlVersion::Implicit1_0).unwrap_or_else(|_| found.value.clone());
    Some(value.into_owned())
}

struct Context {
    styles: HashMap<String, String>,
    links: HashMap<String, String>,
}

/// What is known of the paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    style: String,
    is_item: bool,
    text: String,
    /// What surrounds the run that is being read.
    bold: bool,
    italic: bool,
    hidden: bool,
    in_text: bool,
    /// The number of a footnote that begins here.
    footnote: Option<String>,
}

impl Context {
    fn html(&self, xml: &str, most: u64) -> Result<String, String> {
        let mut reader = Reader::from_str(xml);
        let (mut html, mut paragraph, mut depth, mut deleted) = (String::new(), Paragraph::default(), 0_usize, 0_usize);
        loop {
            let event = reader.read_event().map_err(|error| format!("its XML breaks off: {error}"))?;
            match event {
                Event::Eof => return Ok(html),
                Event::Start(start) => {
                    depth += 1;
                    let name = start.name().0;
                    deleted += usize::from(is_deleted(name));
                    if depth > MAX_DEPTH {
                        return Err(format!("its elements are nested more than {MAX_DEPTH} deep"));
                    }
                    if deleted == 0 {
                        self.open(name, &start, &mut paragraph, &mut html);
                    }
                }
                Event::Empty(start) if deleted == 0 => {
                    let name = start.name().0;
                    self.open(name, &start, &mut paragraph, &mut html);
                    self.close(name, &mut paragraph, &mut html);
                }
                Event::Text(text) if deleted == 0 && paragraph.in_text => {
                    paragraph.text.push_str(&escaped(&text.xml10_content()));
                }
                Event::GeneralRef(name) if deleted == 0 && paragraph.in_text => {
                    paragraph.text.push_str(&escaped(&reference_text(&name)));
                }
                Event::End(end) => {
                    depth = depth.saturating_sub(1);
                    let name = end.name().0;
                    if deleted == 0 {
                        self.close(name, &mut paragraph, &mut html);
                    }
                    deleted = deleted.saturating_sub(usize::from(is_deleted(name)));
                }
                _ => {}
            }
            if (html.len() + paragraph.text.len()) as u64 > most * 4 {
                return Err(format!("more than {most} bytes of text, the most that is read of a post"));
            }
        }
    }

    fn open(&self, name: &str, start: &BytesStart<'_>, paragraph: &mut Paragraph, html: &mut String) {
        let value = || attribute(start, "w:val");
        let is_on = || !matches!(value().as_deref(), Some("0" | "false" | "none"));
        match name {
            "w:p" => {
                let footnote = paragraph.footnote.take();
                *paragraph = Paragraph::default();
                paragraph.text = footnote.map(|id| format!("({id}) ")).unwrap_or_default();
            }
            "w:pStyle" => paragraph.style = self.styles.get(&value().unwrap_or_default()).cloned().unwrap_or_default(),
            "w:numPr" => paragraph.is_item = true,
            "w:r" => (paragraph.bold, paragraph.italic, paragraph.hidden) = (false, false, false),
            "w:b" => paragraph.bold = is_on(),
            "w:i" => paragraph.italic = is_on(),
            "w:vanish" => paragraph.hidden = is_on(),
            "w:t" if !paragraph.hidden => {
                paragraph.in_text = true;
                paragraph.text.push_str(marks(paragraph, false));
            }
            "w:tab" => paragraph.text.push(' '),
            "w:br" | "w:cr" => paragraph.text.push_str("<br>"),
            "w:noBreakHyphen" => paragraph.text.push('\u{2011}'),
            "w:footnoteReference" => {
                paragraph.text.push_str(&format!("({})", escaped(&attribute(start, "w:id").unwrap_or_default())));
            }
            // Those of other types are the lines over the notes.
            "w:footnote" if attribute(start, "w:type").is_none() => paragraph.footnote = attribute(start, "w:id"),
            "w:hyperlink" => {
                let target = attribute(start, "r:id").and_then(|id| self.links.get(&id));
                let target = target.map(|target| escaped(target).replace('"', "&quot;"));
                paragraph.text.push_str(&target.map_or_else(|| "<a>".to_owned(), |to| format!("<a href=\"{to}\">")));
            }
            "w:tbl" => html.push_str("<table>"),
            "w:tr" => html.push_str("<tr>"),
            "w:tc" => html.push_str("<td>"),
            _ => {}
        }
    }

    fn close(&self, name: &str, paragraph: &mut Paragraph, html: &mut String) {
        match name {
            "w:t" if paragraph.in_text => {
                paragraph.text.push_str(marks(paragraph, true));
                paragraph.in_text = false;
            }
            "w:hyperlink" => paragraph.text.push_str("</a>"),
            "w:p" => html.push_str(&block(&std::mem::take(paragraph))),
            "w:tbl" => html.push_str("</table>"),
            "w:tr" => html.push_str("</tr>"),
            "w:tc" => html.push_str("</td>"),
            _ => {}
        }
    }
}

fn is_deleted(name: &str) -> bool {
    matches!(name, "w:del" | "w:moveFrom" | "mc:Fallback")
}

fn marks(paragraph: &Paragraph, closing: bool) -> &'static str {
    // A heading is bold anyway.
    match (paragraph.bold && !is_heading(&paragraph.style), paragraph.italic, closing) {
        (true, true, false) => "<b><i>",
        (true, true, true) => "</i></b>",
        (true, false, false) => "<b>",
        (true, false, true) => "</b>",
        (false, true, false) => "<i>",
        (false, true, true) => "</i>",
        (false, false, _) => "",
    }
}

fn is_heading(style: &str) -> bool {
    style == "title" || style.starts_with("heading ")
}

fn block(paragraph: &Paragraph) -> String {
    let (style, text) = (paragraph.style.as_str(), paragraph.text.trim());
    if text.is_empty() {
        return String::new();
    }
    let level =
        style.strip_prefix("heading ").and_then(|level| level.parse::<u8>().ok()).filter(|n| (1..=6).contains(n));
    match (level, style) {
        (Some(level), _) => format!("<h{level}>{text}</h{level}>\n"),
        (None, "title") => format!("<h1>{text}</h1>\n"),
        (None, "quote" | "intense quote" | "block text") => format!("<blockquote><p>{text}</p></blockquote>\n"),
        (None, "html preformatted" | "plain text" | "source code" | "code") => format!("<pre>{text}</pre>\n"),
        (None, "caption") => String::new(),
        (None, style) if style.starts_with("toc ") => String::new(),
        (None, _) if paragraph.is_item || style.starts_with("list ") => format!("<ul><li>{text}</li></ul>\n"),
        (None, _) => format!("<p>{text}</p>\n"),
    }
}
