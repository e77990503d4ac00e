use super::*;

#[test]
fn structure_and_style_survive() {
    let html = "<h2>A &amp; B</h2><p>It's “so” — isn't it? foo_bar, [sic], 2 * 3 &lt; 7 &gt; 5.<br>Next line.</p>\
        <ul><li>one</li><li>two <code>a_b</code></li></ul>\
        <pre><code class=\"language-rust\">let a_b = \"*\";\n\n// x\n</code></pre>\
        <blockquote><p>Their words.</p></blockquote><p><em>1.</em> not a list - nor this</p>";
    let expected = "## A & B\n\nIt's “so” — isn't it? foo_bar, [sic], 2 * 3 < 7 > 5.  \nNext line.\n\n- one\n- two `a_b`\n\n\
        ```rust\nlet a_b = \"*\";\n\n// x\n```\n\n> Their words.\n\n*1.* not a list - nor this\n";
    assert_eq!(convert(html).unwrap(), expected);
}

#[test]
fn emphasis_over_several_paragraphs_leaves_no_marks() {
    let html = "<b><p>One <i>two</i>.</p><p>Three.</p></b><p><strong>Four</strong></p>";
    assert_eq!(convert(html).unwrap(), "One *two*.\n\nThree.\n\n**Four**\n");
}

#[test]
fn markup_in_the_text_stays_text() {
    let html = "<p># not a heading</p><p>1. no list</p><p>*not* _emphasis_ &lt;b&gt; \\* [a](b)</p><p>- no item</p>";
    let markdown = convert(html).unwrap();
    let mut visible = String::new();
    for event in pulldown_cmark::Parser::new(&markdown) {
        match event {
            pulldown_cmark::Event::Text(text) => visible.push_str(&text),
            pulldown_cmark::Event::Start(tag) => assert_eq!(tag, pulldown_cmark::Tag::Paragraph, "{markdown}"),
            pulldown_cmark::Event::End(_) => visible.push('|'),
            other => panic!("{other:?} in {markdown}"),
        }
    }
    assert_eq!(visible, "# not a heading|1. no list|*not* _emphasis_ <b> \\* [a](b)|- no item|");
}

#[test]
fn what_no_reader_sees_is_left_out() {
    let html = "<p>Seen.</p><p style='display : none'>a</p><p hidden>b</p><script>c</script><h2>Head<a href='#h'>#</a></h2>\
        <p>vis\u{200b}ible\u{202e}</p><span aria-hidden=true>d</span><noscript>e</noscript>";
    assert_eq!(convert(html).unwrap(), "Seen.\n\n## Head\n\nvisible\n");
}

#[test]
fn bombs_are_refused_in_time() {
    let begun = std::time::Instant::now();
    for (unit, count) in [
        ("<div>", 200_000),
        ("<ul><li>", 60_000),
        ("<svg><g/><g>", 60_000),
        ("<b a=1>", 100_000),
        ("<table><tr><td>", 30_000),
    ] {
        assert_eq!(parse(&unit.repeat(count)).unwrap_err(), Rejection::TooDeep { most: MAX_DEPTH }, "{unit}");
    }
    assert_eq!(parse(&"<p>x".repeat(300_000)).unwrap_err(), Rejection::TooManyNodes { most: MAX_NODES });
    let formatting: String = (0..400).map(|n| format!("<b id={n}>")).collect::<String>() + &"<p>".repeat(200_000);
    assert!(parse(&formatting).is_err(), "open formatting elements are repeated in each paragraph");
    assert!(begun.elapsed().as_secs() < 120, "took {:?}", begun.elapsed());
}

#[test]
fn pages_say_where_they_belong() {
    let url = Url::parse("https://a.org/x?y").unwrap();
    let at = |html: &str| canonical(&parse(html).unwrap(), &url).map(|url| url.to_string());
    assert_eq!(at("<link rel=canonical href=/p>").as_deref(), Some("https://a.org/p"));
    assert_eq!(at("<link rel=canonical href=https://evil.org/p>"), None);
    let feeds = "<link rel=alternate type=application/rss+xml title='Comments feed' href=/c.xml>\
        <link rel='alternate' type='application/atom+xml' href='feed.xml'><link rel=alternate hreflang=de href=/de>";
    let found = announced_feeds(&parse(feeds).unwrap(), &url);
    assert_eq!(found, [Url::parse("https://a.org/feed.xml").unwrap()]);
}

#[test]
fn every_selector_of_this_file_is_valid() {
    let source = include_str!("../html.rs");
    // `select` takes an invalid selector for one that matches nothing, so validity is held here.
    let page = parse("<html lang=en><link rel=canonical href=x><link rel=alternate href=x><title>t</title>").unwrap();
    for selector in ["html[lang]", "link[rel~=canonical][href]", "link[rel~=alternate][href]", "title"] {
        assert!(source.contains(selector), "{selector}");
        assert_eq!(select(&page, selector).count(), 1, "{selector}");
    }
    let mut page = parse("<p>a</p><p hidden>b</p><p aria-hidden=true>c</p><script>d</script>").unwrap();
    remove_unseen(&mut page);
    assert_eq!(page.root_element().text().collect::<String>(), "a");
}
