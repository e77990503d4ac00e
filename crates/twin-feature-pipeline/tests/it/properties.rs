//! What holds for every input: nothing panics, doing it twice changes nothing, and nothing comes out that was not in.
//! `PROPTEST_CASES` says how many inputs are tried.

use proptest::prelude::*;
use serde_json::Value;
use twin_domain::{AuthorId, Digest, Document, DocumentId, DocumentInfo, FeatureViewId};
use twin_feature_pipeline::chunk;
use twin_feature_pipeline::clean::{self, CleanOptions, CleanedDocument, Rejection};
use twin_feature_pipeline::fetch::robots::Robots;
use twin_feature_pipeline::{Hints, Media, Page, exercise};
use twin_models::embedding::ScriptedEmbedder;

/// Text with the marks of markup in unlucky places.
fn markup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z]{1,8}",
        4 => Just(" ".to_owned()),
        3 => Just("\n".to_owned()),
        2 => Just("\n\n".to_owned()),
        1 => "[#>*_`~\\-+=\\[\\]()!|:.\\\\{}<]{1,4}",
        1 => Just("```\n".to_owned()),
        1 => Just("<!-- ".to_owned()),
        1 => Just(" -->".to_owned()),
        1 => Just("---\n".to_owned()),
        1 => Just("title: x\n".to_owned()),
        1 => "[éßñ日本語“”’—…]{1,4}",
        1 => "\\PC{1,4}",
    ];
    proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// HTML, more or less.
fn html() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        5 => "[a-z]{2,8} ",
        1 => Just("<p>".to_owned()),
        1 => Just("</p>".to_owned()),
        1 => Just("<ul><li>".to_owned()),
        1 => Just("<h2>".to_owned()),
        1 => Just("</h2>".to_owned()),
        1 => Just("<blockquote>".to_owned()),
        1 => Just("<pre><code>".to_owned()),
        1 => Just("</code></pre>".to_owned()),
        1 => Just("<table><tr><td>".to_owned()),
        1 => Just("<a href='/x'>".to_owned()),
        1 => Just("</a>".to_owned()),
        1 => Just("<script>var a;</script>".to_owned()),
        1 => Just("<div hidden>".to_owned()),
        1 => Just("</div>".to_owned()),
        1 => Just("<!-- ".to_owned()),
        1 => "[<>/;=\"'*_#`\\[\\]-]{1,3}",
    ];
    proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// JSON in the shapes that services answer in, with what does not belong.
fn answer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
        Just(Value::from("2022-09-07T14:00:00Z")),
        Just(Value::from("https://a.example/x")),
        Just(Value::from("<p>text</p>")),
    ];
    let key = prop_oneof![
        Just("id"),
        Just("url"),
        Just("title"),
        Just("data"),
        Just("feed"),
        Just("post"),
        Just("record"),
        Just("text"),
        Just("hits"),
        Just("nbPages"),
        Just("created_at"),
        Just("content"),
        Just("cursor"),
        Just("user"),
        Just("posts"),
        Just("edges"),
        Just("node"),
        Just("pageInfo"),
        Just("body_markdown"),
        Just("full_name"),
        Just("fork"),
        Just("uri"),
        Just("author"),
        Just("did"),
        Just("reblog"),
        Just("acct"),
        Just("embed"),
        Just("facets"),
        Just("reason"),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn cleaned(media: Media, body: &str) -> Result<CleanedDocument, Rejection> {
    let url = "file:x/post.md".to_owned();
    let page = Page { key: "post.md".to_owned(), url, media, body: body.to_owned(), hints: Hints::default() };
    clean::page(&page, &CleanOptions::default())
}

/// The words of a text, by letters and digits alone.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// The letters of `part` stand in `whole` in the same order.
fn is_within(part: &str, whole: &str) -> bool {
    let mut letters = whole.chars();
    part.chars().filter(|c| c.is_alphanumeric()).all(|wanted| letters.any(|letter| letter == wanted))
}

fn document(text: String) -> Document {
    let author = AuthorId::parse("ada").unwrap();
    let content_hash = Digest::of(&text);
    let id = DocumentId::new(&author, "https://a.example/");
    let (title, url) = ("A title".to_owned(), "https://a.example/".to_owned());
    Document {
        info: DocumentInfo { id, author, url, title, date: None, language: None, tags: Vec::new(), content_hash },
        text,
    }
}

proptest! {
    #[test]
    fn cleaning_markdown_twice_changes_nothing_and_adds_nothing(text in markup()) {
        if let Ok(first) = cleaned(Media::Markdown, &text) {
            prop_assert!(is_within(&first.text, &text), "{:?} from {text:?}", first.text);
            // The title was taken off the top, and what stands there now must not be taken for another.
            let again = exercise::clean_markdown(&first.text);
            prop_assert_eq!(&again, &first.text);
        }
    }

    #[test]
    fn no_markup_is_a_reason_to_panic_or_to_make_words_up(text in markup()) {
        for media in [Media::Text, Media::Mdx, Media::Djot, Media::AsciiDoc, Media::Rst] {
            if let Ok(document) = cleaned(media, &text) {
                let known = words(&text).concat();
                // Numbers of lists and footnotes are the markup's own.
                for word in words(&document.text).iter().filter(|word| !word.chars().all(|c| c.is_ascii_digit())) {
                    prop_assert!(is_within(word, &known), "{word:?} of {media:?} is not in {text:?}");
                }
            }
        }
    }

    #[test]
    fn what_html_becomes_was_in_it(text in html()) {
        for media in [Media::Html, Media::Fragment] {
            if let Ok(document) = cleaned(media, &text) {
                let known = text.to_lowercase();
                for word in words(&document.text).iter().filter(|word| word.len() > 1) {
                    prop_assert!(known.contains(&word.to_lowercase()), "{word:?} of {media:?} is not in {text:?}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_the_text_however_it_is_cut(text in markup(), most in 12_usize..200) {
        let (embedder, document) = (ScriptedEmbedder::default(), document(text));
        let view = FeatureViewId::parse("features-0123456789ab").unwrap();
        let chunks = chunk::split(&document, &view, most, &embedder);
        let joined: String = chunks.iter().map(|prepared| prepared.chunk.text.as_str()).collect();
        prop_assert_eq!(&joined, &document.text);
        let again = chunk::split(&document, &view, most, &embedder);
        let ids = |chunks: &[chunk::PreparedChunk]| chunks.iter().map(|prepared| prepared.chunk.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&chunks), ids(&again));
        for prepared in &chunks {
            prop_assert!(prepared.chunk.not_voice.iter().all(|range| prepared.chunk.text.get(range.clone()).is_some()));
        }
    }

    #[test]
    fn front_matter_is_taken_off_once(text in markup()) {
        let body = exercise::without_front_matter(&text);
        prop_assert!(text.ends_with(body));
    }

    #[test]
    fn no_feed_is_a_reason_to_panic(text in "(<rss version='2\\.0'>|<channel>|<item>|</item>|<title>|</title>|<link>|http://a\\.b/|<feed xmlns='http://www\\.w3\\.org/2005/Atom'>|<entry>|<content type='html'>|&lt;|&amp;|\\]\\]>|<!\\[CDATA\\[|[a-z ]{1,5}|\\PC){0,40}") {
        // Elements that are not closed run into one another.
        for word in exercise::feed(text.as_bytes()).iter().flat_map(|found| words(found)) {
            prop_assert!(is_within(&word, &text), "{word:?} is not in {text:?}");
        }
    }

    #[test]
    fn no_file_is_a_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_usize..6) {
        let start: &[u8] = [&b"%PDF-1.4\n"[..], b"PK\x03\x04", b"{\"db\":[", b"<?xml version='1.0'?><rss>wordpress.org/export/", b"From a@b Thu\n", b""][kind];
        let name = ["a.pdf", "a.docx", "a.json", "a.xml", "a.mbox", "a.epub"][kind];
        exercise::file(name, [start, &bytes].concat());
    }

    #[test]
    fn no_robots_txt_is_a_reason_to_panic_and_a_ban_holds(text in "(User-agent: \\*|User-agent: llm-twin|Disallow: |Allow: |Crawl-delay: |Sitemap: |/[a-z*$%]{0,6}|\\PC{0,4}|[0-9.]{1,4}|\n|#){0,40}", path in "/[a-z/%*]{0,12}") {
        let url = url::Url::parse(&format!("https://a.example{path}")).unwrap();
        let _ = Robots::parse(&text).allows(&url);
        // A group of its own that forbids everything is stronger than what stands before it, unless a rule is longer.
        let banned = Robots::parse(&format!("{}\nUser-agent: llm-twin\nDisallow: /\n", text.replace("low", "")));
        prop_assert!(!banned.allows(&url));
    }

    #[test]
    fn no_page_leads_a_crawler_off_its_site(text in html(), path in "(//|/|\\.\\./|https?:|http://b\\.example|\\\\|@|[a-z?#&=]{1,4}|\\PC){0,8}") {
        let page = format!("{text}<a href=\"{path}\">x</a><base href=\"{path}\">");
        for link in exercise::links(&page) {
            prop_assert_eq!(link.host_str().map(|host| host.trim_start_matches("www.").to_owned()), Some("a.example".to_owned()));
        }
    }

    #[test]
    fn masking_twice_changes_nothing(text in "(a@b\\.example|\\+49 30 1234567|\\(030\\)|sk-[A-Za-z0-9]{20,40}|ghp_[A-Za-z0-9]{36}|AKIA[A-Z0-9]{16}|[`\\[\\]() .,@+-]{1,3}|[a-z0-9]{1,6}|\n|\\PC){0,30}") {
        let masked = exercise::masked(&text);
        prop_assert_eq!(&exercise::masked(&masked), &masked);
    }

    #[test]
    fn a_day_that_is_found_is_a_day(text in "([0-9]{1,4}|[-/., ]|Jan|September|Sept\\.|mon|T00:00:00Z|\\PC){0,10}") {
        for date in exercise::dates(&text) {
            prop_assert!(date.parse::<jiff::civil::Date>().is_ok(), "{date} in {text:?}");
        }
    }

    #[test]
    fn links_between_notes_become_words_that_were_there(text in "(\\[\\[|\\]\\]|!|\\||#|`|/|\\^|[a-z]{1,5}| |\n|\\PC){0,40}") {
        let resolved = exercise::with_links_resolved(&text);
        prop_assert!(is_within(&resolved, &text), "{resolved:?} from {text:?}");
    }

    #[test]
    fn no_answer_of_a_service_is_a_reason_to_panic(service in 0_u8..6, answers in proptest::collection::vec(answer(), 0..6)) {
        let lines: Vec<String> = answers.iter().map(ToString::to_string).collect();
        exercise::fuzz_account(&[&[service], lines.join("\n").as_bytes()].concat());
    }

    #[test]
    fn no_bytes_are_a_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise::TARGETS.iter().for_each(|(_, target)| target(&bytes));
    }
}
