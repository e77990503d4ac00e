use pulldown_cmark::{Event, Parser, TagEnd};
use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page};

/// How often an author contracts, punctuates and breaks paragraphs.
#[derive(Debug, PartialEq)]
struct Rates {
    words: f64,
    /// Per 1,000 words: `it's`, `don’t`.
    contractions: f64,
    /// Per 1,000 words.
    punctuation: f64,
    paragraphs: f64,
}

impl Rates {
    fn of(paragraphs: &[String]) -> Self {
        let text = paragraphs.join("\n");
        let words = text.split_whitespace().count() as f64;
        let letters: Vec<char> = text.chars().collect();
        let inner = |window: &&[char]| {
            matches!(window[1], '\'' | '’') && window[0].is_alphabetic() && window[2].is_alphabetic()
        };
        let contractions = letters.windows(3).filter(inner).count() as f64;
        let punctuation = letters.iter().filter(|c| ".,;:!?…—–-()\"“”'‘’".contains(**c)).count() as f64;
        Self {
            words,
            contractions: contractions * 1000.0 / words,
            punctuation: punctuation * 1000.0 / words,
            paragraphs: paragraphs.len() as f64,
        }
    }

    fn assert_within_one_percent(&self, source: &Self, name: &str) {
        let pairs = [
            ("words", self.words, source.words),
            ("contractions", self.contractions, source.contractions),
            ("punctuation", self.punctuation, source.punctuation),
            ("paragraphs", self.paragraphs, source.paragraphs),
        ];
        for (what, ours, theirs) in pairs {
            assert!(theirs > 0.0, "{name} has no {what} to lose");
            assert!((ours / theirs - 1.0).abs() <= 0.01, "{name}: {what} {ours:.2}, in the source {theirs:.2}");
        }
    }
}

/// The paragraphs, headings and items that a reader of Markdown sees.
pub(crate) fn visible(markdown: &str) -> Vec<String> {
    let (mut paragraphs, mut current) = (Vec::new(), String::new());
    for event in Parser::new(markdown) {
        match event {
            Event::Text(text) | Event::Code(text) => current.push_str(&text),
            Event::SoftBreak | Event::HardBreak => current.push('\n'),
            Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::CodeBlock) => {
                paragraphs.push(std::mem::take(&mut current));
            }
            _ => {}
        }
    }
    paragraphs.push(current);
    paragraphs.retain(|paragraph| !paragraph.trim().is_empty());
    paragraphs
}

fn cleaned(name: &str, media: Media, body: &str) -> String {
    let page = Page {
        key: name.to_owned(),
        url: format!("file:{name}"),
        media,
        body: body.to_owned(),
        hints: Hints::default(),
    };
    clean::page(&page, &CleanOptions::default()).unwrap().text
}

/// Each `*.html` has beside it what a reader of the page sees of the article, in `*.txt`, a paragraph to a block.
#[test]
fn html_keeps_the_style() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/style");
    let mut tested = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "html") {
            let name = path.display().to_string();
            let source = fs_err::read_to_string(path.with_extension("txt")).unwrap();
            let source: Vec<String> = source.split("\n\n").map(str::to_owned).collect();
            let text = cleaned(&name, Media::Html, &fs_err::read_to_string(&path).unwrap());
            Rates::of(&visible(&text)).assert_within_one_percent(&Rates::of(&source), &name);
            tested += 1;
        }
    }
    assert!(tested >= 2);
}

#[test]
fn markdown_keeps_every_byte_a_reader_sees() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/style");
    let source = fs_err::read_to_string(folder.join("post.md")).unwrap();
    let body = source.splitn(3, "---\n").nth(2).unwrap();
    let text = cleaned("post.md", Media::Markdown, &source.replace('\n', "\r\n"));
    Rates::of(&visible(&text)).assert_within_one_percent(&Rates::of(&visible(body)), "post.md");
    let lines = |text: &str| {
        text.lines().map(str::trim_end).filter(|line| !line.starts_with("<!--")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(lines(&text).trim(), lines(body).trim(), "apart from comments and line ends nothing changes");
}
