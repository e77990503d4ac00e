//! What is not the text, by how it is marked and by how it begins. The words are those of publishing systems and of the languages
//! that most blogs are written in; none is of a single site.

use scraper::ElementRef;

use super::pieces::Piece;

/// A longer piece is prose, however it begins.
const MOST_WORDS: usize = 30;
/// A longer piece is more than a day or a time.
const MOST_DAY_WORDS: usize = 8;

/// Pointers to other pages, calls to subscribe, credits, and lines that say when or under what something was published.
const BEGINNINGS: &[&str] = &[
    "(c) ",
    "additional reporting by",
    "aktualisiert am",
    "all rights reserved",
    "alle rechte vorbehalten",
    "article continues below",
    "autorin:",
    "baca juga",
    "bild:",
    "bildquelle",
    "das könnte dich",
    "das könnte euch",
    "das könnte ihnen",
    "das könnte sie",
    "erstellt am",
    "estimated reading time",
    "filed under",
    "follow me on",
    "foto:",
    "fotos:",
    "if you enjoyed",
    "if you liked this",
    "image copyright",
    "image credit",
    "image source",
    "image:",
    "kategorie:",
    "kategorien:",
    "kommentar schreiben",
    "kommentare schreiben",
    "labels:",
    "last modified",
    "lea además",
    "lea también",
    "leave a comment",
    "leave a reply",
    "lees ook",
    "leggi anche",
    "leia mais",
    "leia também",
    "lesezeit",
    "letzte aktualisierung",
    "letzte änderung",
    "lire aussi",
    "mehr zum thema",
    "minuten lesezeit",
    "photo by",
    "photo credit",
    "photo:",
    "photos:",
    "posted by",
    "posted on",
    "published on",
    "related articles",
    "related content",
    "related coverage",
    "related links",
    "related posts",
    "related stories",
    "related:",
    "schlagworte:",
    "schlagwörter:",
    "share this",
    "story continues below",
    "subscribe to my",
    "subscribe to our",
    "tag:",
    "tags:",
    "te puede interesar",
    "tempo de leitura",
    "this document is subject to copyright",
    "this slideshow requires",
    "veja também",
    "veröffentlicht am",
    "von:",
    "weitere aktuelle",
    "weitere artikel",
    "weitere beiträge",
    "write a comment",
    "you may also be interested",
    "you may also like",
    "you might also like",
    "zuletzt aktualisiert",
    "©",
    "à lire aussi",
];
/// Beginnings of the same that may also begin a sentence of the author's: they count where much of the piece is a link, or
/// where it is a few words and no sentence.
const MAYBE: &[&str] = &[
    "also read",
    "also:",
    "auch interessant",
    "author:",
    "autor:",
    "back to",
    "by:",
    "categories:",
    "category:",
    "click here",
    "copyright ",
    "don't miss",
    "don’t miss",
    "enter your email",
    "first published",
    "follow us",
    "get the latest",
    "have a tip",
    "join the conversation",
    "last update",
    "lesen sie auch",
    "lesen sie mehr",
    "more from",
    "more on",
    "originally published",
    "posted in",
    "print this",
    "published:",
    "read also",
    "read more",
    "read next",
    "reading time",
    "see also:",
    "see more:",
    "share on",
    "sign up for",
    "sign up to",
    "subscribe now",
    "subscribe on",
    "subscribe to the",
    "tagged",
    "this article was",
    "this video",
    "updated at",
    "updated on",
    "updated:",
    "voir aussi",
    "weitere themen",
    "zurück zum",
    "zurück zur",
];
/// A label has no more.
const LABEL_WORDS: usize = 6;

/// Parts of class names and ids, in words.
const MARKS: &[&str] = &[
    "addthis",
    "addtoany",
    "adsense",
    "advert",
    "advertisement",
    "author-box",
    "authorbox",
    "bio",
    "breadcrumb",
    "breadcrumbs",
    "byline",
    "comment",
    "comments",
    "cookie",
    "copyright",
    "dateline",
    "disclaimer",
    "disqus",
    "jp-relatedposts",
    "menu",
    "nav",
    "navigation",
    "newsletter",
    "outbrain",
    "pager",
    "pagination",
    "popular",
    "postmeta",
    "printfriendly",
    "promo",
    "promotion",
    "readmore",
    "recommendations",
    "recommended",
    "related",
    "respond",
    "share",
    "sharedaddy",
    "sharing",
    "sidebar",
    "signup",
    "social",
    "sponsor",
    "sponsored",
    "subscribe",
    "subscription",
    "taboola",
    "taglist",
    "tags",
    "timestamp",
    "toolbar",
    "trending",
    "widget",
];
const PAIRS: &[(&str, &str)] = &[
    ("author", "box"),
    ("author", "bio"),
    ("author", "info"),
    ("about", "author"),
    ("post", "meta"),
    ("entry", "meta"),
    ("article", "meta"),
    ("entry", "footer"),
    ("post", "footer"),
    ("article", "footer"),
    ("more", "from"),
    ("read", "more"),
    ("see", "also"),
    ("also", "like"),
    ("post", "date"),
    ("entry", "date"),
    ("photo", "credit"),
    ("image", "credit"),
    ("img", "credit"),
    ("call", "action"),
    ("post", "tags"),
    ("post", "author"),
    ("entry", "author"),
];
/// Names of themes, of states and of what a page is filed under say nothing of a part.
const OTHERS: &[&str] = &["elementor", "has", "no", "with", "tag", "category", "is", "wp", "body", "content"];
const CAPTIONS: &[&str] =
    &["caption", "captions", "imagecaption", "credit", "credits", "bildunterschrift", "photocredit"];
/// How the names of months begin, in several languages.
const MONTHS: &[&str] =
    &["jan", "feb", "mar", "mär", "apr", "may", "mai", "jun", "jul", "aug", "sep", "oct", "okt", "nov", "dec", "dez"];

/// Whether a piece is a pointer, a credit, a call, or a line of little but a day.
pub(super) fn is_out_of_the_text(piece: &Piece) -> bool {
    let text = piece.text.to_lowercase();
    let begins = |with: &[&str]| with.iter().any(|beginning| text.starts_with(beginning));
    let is_label = || piece.words <= LABEL_WORDS && !text.ends_with(['.', '!', '?', ':']);
    let is_pointer = || begins(BEGINNINGS) || (begins(MAYBE) && (piece.is_partly_linked() || is_label()));
    !piece.in_code && ((piece.words <= MOST_WORDS && is_pointer()) || (piece.level == 0 && is_a_day(&text)))
}

/// `Tuesday, 6 May 2014`, `2014-05-06 10:12`, `19:49`, with a few words around them.
fn is_a_day(text: &str) -> bool {
    if text.split(' ').count() > MOST_DAY_WORDS {
        return false;
    }
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let numbers = words.iter().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit())).count();
    let has_year =
        words.iter().any(|word| word.len() == 4 && word.parse().is_ok_and(|year: u32| (1980..2100).contains(&year)));
    let has_month = words.iter().any(|word| MONTHS.iter().any(|month| word.starts_with(month)));
    let is_time = text.len() <= 8 && text.contains(':') && numbers >= 2 && words.len() <= 3;
    let is_day = has_year && ((has_month && numbers >= 2) || numbers >= 3) && words.len() <= numbers + 4;
    is_time || is_day
}

/// Whether classes or id say that a part is something else than the text.
pub(super) fn is_marked(part: &ElementRef<'_>) -> bool {
    let names = ["class", "id"].into_iter().filter_map(|name| part.attr(name));
    names.flat_map(str::split_whitespace).any(|name| {
        let name = in_words(name);
        let words: Vec<&str> = name.split(['-', '_', ':', '.']).filter(|word| !word.is_empty()).collect();
        if words.iter().any(|word| OTHERS.contains(word)) && !words.contains(&"related") {
            return false;
        }
        words.iter().any(|word| MARKS.contains(word)) || words.windows(2).any(|two| PAIRS.contains(&(two[0], two[1])))
    })
}

/// Whether a part is the caption of a picture.
pub(super) fn is_caption(part: &ElementRef<'_>) -> bool {
    let is_caption = |name: &str| {
        let name = name.to_lowercase();
        name.split(|c: char| !c.is_alphanumeric()).any(|word| CAPTIONS.contains(&word))
    };
    part.value().name() == "figcaption"
        || ["class", "id"].into_iter().filter_map(|name| part.attr(name)).any(is_caption)
}

/// `relatedPosts` -> `related-posts`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut is_after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && is_after_lower {
            words.push('-');
        }
        is_after_lower = c.is_lowercase();
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::html::{parse, select};

    #[test]
    fn days_are_told_from_sentences() {
        for day in
            ["dienstag 6. mai 2014", "erstellt am 6. mai 2014", "2014-05-06 10:12", "19:49", "may 6, 2014 by ada"]
        {
            assert!(is_a_day(day), "{day}");
        }
        for text in
            ["in 2014 it rained", "it was in may 2014 that we met at last and spoke", "chapter 19", "ratio 3:1 of all"]
        {
            assert!(!is_a_day(text), "{text}");
        }
    }

    #[test]
    fn classes_are_read_as_words() {
        let check = |html: &str| is_marked(&select(&parse(html).unwrap(), "div").next().unwrap());
        for marked in ["class='post relatedPosts'", "class=share-buttons", "id=comments", "class=author_bio"] {
            assert!(check(&format!("<div {marked}>")), "{marked}");
        }
        for text in ["class='post tag-social'", "class=entry-content", "class='has-sidebar'", "class=shareholder"] {
            assert!(!check(&format!("<div {text}>")), "{text}");
        }
    }
}
