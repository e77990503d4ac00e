use super::*;
use crate::page::Hints;

fn markdown_page(body: &str) -> Page {
    Page {
        key: "posts/2020-01-02-my_first-post.md".to_owned(),
        url: "file:posts/2020-01-02-my_first-post.md".to_owned(),
        media: Media::Markdown,
        body: body.to_owned(),
        hints: Hints::default(),
    }
}

fn cleaned(body: &str) -> CleanedDocument {
    page(&markdown_page(body), &CleanOptions::default()).unwrap()
}

#[test]
fn titles_come_from_front_matter_then_heading_then_name() {
    let titled = cleaned("---\ntitle: Stated\n---\n# Heading\n\nText.\n");
    assert_eq!((titled.title.as_str(), titled.text.as_str()), ("Stated", "# Heading\n\nText.\n"));
    let headed = cleaned("# Heading\n\nText.\n");
    assert_eq!((headed.title.as_str(), headed.text.as_str()), ("Heading", "Text.\n"));
    let repeated = cleaned("---\ntitle: Heading\n---\n\n# Heading\n\nText.\n");
    assert_eq!((repeated.title.as_str(), repeated.text.as_str()), ("Heading", "Text.\n"));
    assert_eq!(cleaned("Text.\n\n## Late\n\nMore.\n").title, "Late");
    assert_eq!(cleaned("Text.\n").title, "my first post");
}

#[test]
fn dates_come_from_front_matter_then_address_then_name() {
    let date = |body: &str| cleaned(body).date.unwrap().to_string();
    assert_eq!(date("---\ndate: 2021-05-06\n---\nText.\n"), "2021-05-06");
    assert_eq!(date("+++\npath = \"2014/12/12/x\"\n+++\nText.\n"), "2014-12-12");
    assert_eq!(date("Text.\n"), "2020-01-02");
}

#[test]
fn addresses_that_front_matter_states_are_canonical() {
    let options = CleanOptions { site: Some(Url::parse("https://a.org/blog/").unwrap()), ..CleanOptions::default() };
    let url = |front: &str| page(&markdown_page(&format!("---\n{front}\n---\nText.\n")), &options).unwrap().url;
    assert_eq!(url("canonical_url: https://b.org/p?utm_source=x#top"), "https://b.org/p");
    assert_eq!(url("permalink: /p/1"), "https://a.org/p/1");
    assert_eq!(url("slug: p1"), "https://a.org/blog/p1");
    assert_eq!(url("url: javascript:alert(1)"), "file:posts/2020-01-02-my_first-post.md");
    assert_eq!(cleaned("---\nslug: p1\n---\nText.\n").url, "file:posts/2020-01-02-my_first-post.md");
}

#[test]
fn drafts_and_short_pages_are_not_taken() {
    let draft = page(&markdown_page("---\ndraft: true\n---\nText.\n"), &CleanOptions::default());
    assert_eq!(draft, Err(Rejection::Draft));
    let options = CleanOptions { min_words: 3, ..CleanOptions::default() };
    assert_eq!(page(&markdown_page("Two words.\n"), &options), Err(Rejection::TooShort { words: 2, least: 3 }));
    assert!(page(&markdown_page("この文は十分に長い\n"), &options).is_ok(), "scripts without spaces have words, too");
}

#[test]
fn work_that_panics_costs_itself_only() {
    assert_eq!(guarded::<()>(|| panic!("a page broke the extraction")), Err(Rejection::Panicked));
    assert_eq!(guarded(|| Ok(1)), Ok(1));
}

#[test]
fn a_feeds_text_stands_in_for_a_page_that_gives_less() {
    let content: String = (0..60).map(|n| format!("word{n} ")).collect();
    let mut entry = markdown_page("");
    entry.media = Media::Html;
    entry.url = "https://a.org/p".to_owned();
    entry.hints.feed_content = Some(format!("<p>{content}</p>"));
    entry.hints.fetch_problem = Some("the server answered 404 Not Found".to_owned());
    let document = page(&entry, &CleanOptions::default()).unwrap();
    assert_eq!(document.text.trim(), content.trim());
    assert!(document.note.unwrap().contains("404"));
    entry.hints.feed_content = None;
    let rejection = page(&entry, &CleanOptions::default()).unwrap_err().to_string();
    assert_eq!(rejection, "the server answered 404 Not Found; the feed has no full text of the post either");
}
