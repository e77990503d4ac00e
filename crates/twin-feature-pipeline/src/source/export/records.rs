//! Exports that are one XML document with many items: WordPress (RSS with `wp:` elements) and Blogger (Atom). They are
//! often not well-formed (ampersands in addresses, control characters), so they are read leniently, item by item.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::clean::html;

/// Items do not nest deeper.
const MAX_DEPTH: usize = 64;

/// An element directly within an item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Field {
    /// The name with its prefix, as written: `content:encoded`.
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    /// All text within, entities resolved, with that of elements inside it.
    pub(crate) text: String,
    /// The text of elements inside it, by name.
    pub(crate) inner: Vec<(String, String)>,
    /// The elements inside it as HTML, without their attributes but addresses.
    pub(crate) markup: String,
}

impl Field {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One item: its elements, in order.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) fields: Vec<Field>,
}

impl Record {
    /// The text of the first element with this name that has any.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let mut texts = self.fields.iter().filter(|field| field.name == name).map(|field| field.text.trim());
        texts.find(|text| !text.is_empty())
    }

    /// All elements with this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| field.name == name)
    }
}

/// Hands every element whose name is one of an item to `each`, until it says `false`.
///
/// # Errors
/// In a sentence, where the document cannot be read on; the items before that were handed over.
pub(crate) fn each_record(
    xml: &str,
    is_item: &dyn Fn(&str) -> bool,
    each: &mut dyn FnMut(Record) -> bool,
) -> Result<(), String> {
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    (config.check_end_names, config.allow_unmatched_ends, config.allow_dangling_amp) = (false, true, true);
    let mut record: Option<Record> = None;
    let mut path: Vec<String> = Vec::new();
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(format!("it breaks off at byte {}: {error}", reader.error_position())),
        };
        match (event, &mut record) {
            (Event::Eof, _) => return Ok(()),
            (Event::Start(start), None) if is_item(start.name().0) => record = Some(Record::default()),
            (Event::Start(start), Some(record)) => {
                if path.len() >= MAX_DEPTH {
                    return Err(format!("its elements are nested more than {MAX_DEPTH} deep"));
                }
                open(record, &path, &start);
                path.push(start.name().0.to_owned());
            }
            (Event::Empty(start), Some(record)) => {
                open(record, &path, &start);
                close(record, &path, start.name().0);
            }
            (Event::End(end), Some(open)) if path.is_empty() && is_item(end.name().0) => {
                if !each(std::mem::take(open)) {
                    return Ok(());
                }
                record = None;
            }
            (Event::End(end), Some(record)) => {
                // An end without its beginning ends nothing; one that was left out is made up for.
                if let Some(at) = path.iter().rposition(|open| open == end.name().0) {
                    path.truncate(at);
                    close(record, &path, end.name().0);
                } else if is_item(end.name().0) {
                    path.clear();
                    if !each(std::mem::take(record)) {
                        return Ok(());
                    }
                }
            }
            (Event::Text(text), Some(record)) => append(record, &path, &text.xml10_content()),
            (Event::CData(text), Some(record)) => append(record, &path, &text.xml10_content()),
            (Event::GeneralRef(reference), Some(record)) => append(record, &path, &reference_text(&reference)),
            _ => {}
        }
    }
}

fn open(record: &mut Record, path: &[String], start: &BytesStart<'_>) {
    let name = start.name().0.to_owned();
    if path.is_empty() {
        let mut attributes = start.attributes();
        let attributes = attributes.with_checks(false).flatten().map(|attribute| {
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .unwrap_or_else(|_| attribute.value.clone());
            (attribute.key.0.to_owned(), value.into_owned())
        });
        record.fields.push(Field { name, attributes: attributes.collect(), ..Field::default() });
    } else if let Some(field) = record.fields.last_mut() {
        let address =
            start.attributes().with_checks(false).flatten().find(|found| matches!(found.key.0, "href" | "src"));
        let address = address.map(|found| format!(" {}=\"{}\"", found.key.0, found.value.replace('"', "&quot;")));
        field.markup.push_str(&format!("<{name}{}>", address.unwrap_or_default()));
        field.inner.push((name, String::new()));
    }
}

fn close(record: &mut Record, path: &[String], name: &str) {
    if let Some(field) = record.fields.last_mut().filter(|_| !path.is_empty()) {
        field.markup.push_str(&format!("</{name}>"));
    }
}

fn append(record: &mut Record, path: &[String], text: &str) {
    let Some(field) = record.fields.last_mut().filter(|_| !path.is_empty()) else { return };
    field.text.push_str(text);
    field.markup.push_str(&text.replace('&', "&amp;").replace('<', "&lt;"));
    if path.len() > 1
        && let Some((_, inner)) = field.inner.last_mut()
    {
        inner.push_str(text);
    }
}

/// The entities of XML and HTML and characters by number; others stay as they are written.
pub(crate) fn reference_text(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = reference.xml10_content();
    resolve_xml_entity(&name).map_or_else(|| html::text_of(&format!("&{name};")), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(xml: &str) -> (Vec<Record>, Result<(), String>) {
        let mut records = Vec::new();
        let outcome = each_record(xml, &|name| name == "item", &mut |record| {
            records.push(record);
            true
        });
        (records, outcome)
    }

    #[test]
    fn items_are_read_as_they_come() {
        let xml = "<rss><item><title>A &amp; B &#8212; &copy; &x;</title><link>https://a.org/?x=1&y=2</link><c:e><![CDATA[<p>x</p>]]></c:e><cat domain='tag' nicename=\"n\">T</cat><meta><k>one</k><v>1</v></meta><e/></item><item><title>Second</item></rss>";
        let (records, outcome) = records(xml);
        let first = &records[0];
        assert_eq!(first.text("title"), Some("A & B — © &x;"));
        assert_eq!(first.text("link"), Some("https://a.org/?x=1&y=2"));
        assert_eq!(first.text("c:e"), Some("<p>x</p>"));
        assert_eq!(first.all("cat").next().unwrap().attribute("nicename"), Some("n"));
        assert_eq!(first.all("meta").next().unwrap().inner, [("k".into(), "one".into()), ("v".into(), "1".into())]);
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    #[test]
    fn what_breaks_off_gives_what_was_before() {
        let (records, outcome) = records("<rss><item><title>A</title></item><item><title><![CDATA[B");
        assert_eq!((records.len(), outcome.is_err()), (1, true));
        let deep = format!("<item>{}", "<a>".repeat(100));
        assert!(self::records(&deep).1.unwrap_err().contains("nested"));
    }

    proptest::proptest! {
        #[test]
        fn no_document_is_a_reason_to_panic(text in "(<|</|>|/>|item|a|b|&|;|#|x|\"|=| |\\[CDATA\\[|!|--|\\]\\]>|é|\\PC){0,80}") {
            let _ = each_record(&text, &|name| name == "item", &mut |_| true);
        }
    }
}
