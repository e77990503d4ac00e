use super::*;
use crate::clean::html::{parse, remove_unseen};

/// What is kept of an article with `part` in it, as text.
fn check(part: &str, expected: &str) {
    let prose =
        |n: usize| format!("<p>{}</p>", (0..60).map(|word| format!("word{n}x{word},")).collect::<Vec<_>>().join(" "));
    let url = Url::parse("https://a.example/post").unwrap();
    let html = format!(
        "<html><head><title>T</title></head><body><h1>T</h1><div id=main>{}{part}{}</div></body></html>",
        prose(1),
        prose(2)
    );
    let page = parse(&html).unwrap();
    let found = find(&page, Some(&url));
    let text = found.root_element().text().collect::<Vec<_>>().join(" ");
    let rest: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with("word")).collect();
    assert_eq!(rest.join(" "), expected, "{part}");
    assert!(text.contains("word1x0,") && text.contains("word2x59,"), "{part}: {text}");
}

#[test]
fn what_is_not_the_text_goes() {
    check("<p>A short one.</p>", "A short one.");
    check("<p>Related: <a href=/x>Another post</a></p>", "");
    check("<p>Tagged: <a href=/tags/x>x</a>, <a href=/tags/y>y</a></p><p>Back to the list</p>", "");
    check("<p>Posted on 6 May 2014</p><p>Tuesday, 6 May 2014</p>", "");
    check("<figure><img src=x><figcaption>A picture of a cat</figcaption></figure>", "");
    check("<div class=shareButtons><p>Tell others</p><p>Tell all</p></div>", "");
    check("<ul><li><a href=/x>One</a></li><li><a href=/y>Two</a></li></ul>", "");
}

#[test]
fn what_the_author_wrote_stays() {
    check(
        "<ul><li><a href=https://b.example/x>One</a></li><li>and <a href=/y>two</a> more</li></ul>",
        "One and two more",
    );
    check("<p>Follow the steps: <a href=/x>here</a></p>", "Follow the steps: here");
    check("<p>Tagged unions are great. Back to the story.</p>", "Tagged unions are great. Back to the story.");
    check("<p>Sign up for an account, and you are done.</p>", "Sign up for an account, and you are done.");
    check("<pre>related: x\n2014-05-06 10:12</pre>", "related: x 2014-05-06 10:12");
}

#[test]
fn the_prose_under_the_title_is_put_back() {
    let sentence = "This is what the post says in one sentence of a dozen words or more.";
    let paragraph =
        format!("<p>{}</p>", "A paragraph of the text, with commas, and more than a few words in it. ".repeat(6));
    let html = format!(
        "<html><body><header><h1>T</h1><div class=intro><p>{sentence}</p></div></header><nav><p>{}</p></nav><article>{}</article></body></html>",
        "Not this one, which is for those who look for another page of the site.",
        paragraph.repeat(4)
    );
    let page = parse(&html).unwrap();
    let found = find(&page, None).html();
    assert_eq!(found.matches(sentence).count(), 1, "{found}");
    assert!(!found.contains("Not this one"), "{found}");
}

#[test]
fn a_page_without_a_body_has_no_text() {
    let check = |html: &str, expected: &str| {
        let mut page = parse(html).unwrap();
        remove_unseen(&mut page);
        let found = find(&page, None);
        assert_eq!(found.root_element().text().collect::<String>().trim(), expected, "{html}");
    };
    check("<frameset><frame src=a><frame src=b></frameset>", "");
    check("", "");
}
