//! Cleaning: from a page to the author's own text as Markdown.
//!
//! Each page is cleaned by itself here, which is a pure function; what needs all documents of an author to be seen,
//! boilerplate and duplicates, is in the two modules of these names. Cleaning does not correct, translate or shorten: the
//! style of the text is what the product is made of.

use std::sync::mpsc;
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::date;
use crate::page::{Media, Page};

pub(crate) mod boilerplate;
pub(crate) mod duplicates;
pub(crate) mod encoding;
pub(crate) mod front_matter;
pub(crate) mod html;
mod language;
pub(crate) mod markdown;
mod markup;
pub(crate) mod normal;
pub(crate) mod privacy;

pub use self::encoding::decode_page;
pub use self::privacy::Masked;

/// The version of the rules in this module; part of every feature view. Raise it when any of them changes what comes out.
pub const CLEANER: &str = "clean-5";

/// No honest page takes longer.
const DEADLINE: Duration = Duration::from_secs(20);
/// The main-text extraction recurses along the tree, at most 512 deep.
const STACK_BYTES: usize = 32 * 1024 * 1024;
/// More text is a book, or an attack. (An HTML page of a few megabytes can become much more Markdown.)
const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// A page as a document, before boilerplate and duplicates are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedDocument {
    pub url: String,
    pub title: String,
    pub date: Option<Date>,
    pub tags: Vec<String>,
    /// Who is said to have written it.
    pub byline: Option<String>,
    /// ISO 639-1 code, if the page states one or the text leaves no doubt.
    pub language: Option<String>,
    /// The author's own text as Markdown.
    pub text: String,
    /// A remark for the report, such as that the text comes from the feed and not from the page.
    pub note: Option<String>,
    /// A post of a social network, which may be as short as it likes.
    #[serde(default)]
    pub short_form: bool,
    /// What was masked in title and text.
    #[serde(default)]
    pub masked: Masked,
}

impl CleanedDocument {
    /// The least words that it needs, where other documents need `min_words`.
    pub(crate) fn least_words(&self, min_words: usize) -> usize {
        if self.short_form { min_words.min(1) } else { min_words }
    }
}

/// Why a page is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("a draft: its front matter says that it is not published")]
    Draft,
    #[error("only {words} words; a document needs {least}")]
    TooShort { words: usize, least: usize },
    #[error("too large: {bytes} bytes; at most {most} are read")]
    TooLarge { bytes: u64, most: u64 },
    #[error("not a text: {problem}")]
    NotText { problem: String },
    #[error("no main text was found in the page: {problem}")]
    NoMainText { problem: String },
    #[error("the page nests its elements more than {most} deep, as no article does")]
    TooDeep { most: usize },
    #[error("the page has more than {most} elements and pieces of text")]
    TooManyNodes { most: usize },
    #[error("cleaning did not end within {seconds} seconds")]
    TooSlow { seconds: u64 },
    #[error("cleaning failed: the page broke the extraction; please report it with the page")]
    Panicked,
    #[error("a list of posts, not a post")]
    Listing,
    #[error("{problem}; the feed has no full text of the post either")]
    NotFetched { problem: String },
    #[error("by {byline}, not by {wanted}")]
    OtherAuthor { byline: String, wanted: String },
}

/// What cleaning has to know besides the page.
#[derive(Debug, Clone, Default)]
pub struct CleanOptions {
    /// The author's site, against which front matter such as `url: /posts/x` is read.
    pub site: Option<Url>,
    /// Shorter documents are not taken.
    pub min_words: usize,
    /// Whether e-mail addresses, phone numbers and keys are masked.
    pub mask_private: bool,
}

/// Cleans one page.
///
/// # Errors
/// The reason for which the page is not a document.
pub fn page(page: &Page, options: &CleanOptions) -> Result<CleanedDocument, Rejection> {
    let mut document = match page.media {
        Media::Text => from_text(page)?,
        Media::Html => from_html(page)?,
        Media::Fragment => from_fragment(page)?,
        Media::Markdown | Media::Mdx | Media::Djot | Media::AsciiDoc | Media::Rst => from_markup(page, options)?,
    };
    if document.text.len() > MAX_TEXT_BYTES {
        return Err(Rejection::TooLarge { bytes: document.text.len() as u64, most: MAX_TEXT_BYTES as u64 });
    }
    if options.mask_private {
        for text in [&mut document.title, &mut document.text] {
            let masked;
            (*text, masked) = privacy::mask(text);
            document.masked.add(masked);
        }
    }
    let (words, least) = (word_count(&document.text), document.least_words(options.min_words));
    if words < least {
        return Err(Rejection::TooShort { words, least });
    }
    Ok(document)
}

/// What a reader sees of a Markdown text: no marks, a line for each paragraph, item and row.
pub fn visible_text(markdown: &str) -> String {
    markdown::visible(markdown)
}

/// All text of a piece of HTML but that of scripts, styles and pictures; nothing when it cannot be parsed safely.
pub fn html_text(html: &str) -> Option<String> {
    html::all_text(html)
}

/// Runs `work` on a thread of its own, with a deadline and room for deep trees. A thread that overruns is left to end by
/// itself: its result is not wanted any more.
///
/// # Errors
/// [`Rejection::TooSlow`] after the deadline and [`Rejection::Panicked`] when the work panics.
pub(crate) fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("clean".to_owned()).stack_size(STACK_BYTES);
    // Nobody may be listening any more; then there is nothing left to say.
    let spawned = thread.spawn(move || drop(sender.send(work())));
    if spawned.is_err() {
        return Err(Rejection::NotText { problem: "no thread could be started to clean it".to_owned() });
    }
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|problem| match problem {
        mpsc::RecvTimeoutError::Timeout => Err(Rejection::TooSlow { seconds: DEADLINE.as_secs() }),
        mpsc::RecvTimeoutError::Disconnected => Err(Rejection::Panicked),
    })
}

fn from_markup(page: &Page, options: &CleanOptions) -> Result<CleanedDocument, Rejection> {
    let body = page.body.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let (front, body) = front_matter::split(&body);
    markdown::check_nesting(body)?;
    let converted = markup::to_markdown(page.media, body);
    let front = front.or(converted.stated);
    if front.draft {
        return Err(Rejection::Draft);
    }
    markdown::check_nesting(&converted.markdown)?;
    let text = markdown::clean(&converted.markdown);
    let url = front.url.as_deref().and_then(|url| stated_url(url, options.site.as_ref()));
    let path_date = front.url.as_deref().and_then(date::in_path);
    let stated = Stated {
        title: front.title.or_else(|| page.hints.title.clone()),
        date: front.date.or(page.hints.date).or(path_date),
        tags: if front.tags.is_empty() { page.hints.tags.clone() } else { front.tags },
        byline: front.byline.or_else(|| page.hints.byline.clone()),
        language: front.language,
        url,
    };
    Ok(finish(page, stated, text))
}

fn from_text(page: &Page) -> Result<CleanedDocument, Rejection> {
    markdown::check_nesting(&page.body)?;
    let text = page.body.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let text = format!("{}\n", text.trim_matches('\n'));
    Ok(finish(page, Stated::from_hints(page), text))
}

/// All of it is the post.
fn from_fragment(page: &Page) -> Result<CleanedDocument, Rejection> {
    let text = html::convert(&page.body)?;
    markdown::check_nesting(&text)?;
    Ok(finish(page, Stated::from_hints(page), text))
}

/// The page's own main text where there is one; the feed's text where the page could not be had or gave less than half.
fn from_html(page: &Page) -> Result<CleanedDocument, Rejection> {
    let url = Url::parse(&page.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let from_page = if page.body.is_empty() {
        let problem = page.hints.fetch_problem.clone().unwrap_or_else(|| "the page is empty".to_owned());
        Err(Rejection::NotFetched { problem })
    } else {
        html::parse(&page.body).and_then(|parsed| {
            let is_listing = page.hints.crawled && html::is_listing(&parsed);
            if is_listing { Err(Rejection::Listing) } else { Ok(html::extract(parsed, url.as_ref())) }
        })
    };
    if matches!(from_page, Err(Rejection::Listing)) {
        return Err(Rejection::Listing);
    }
    let from_feed =
        page.hints.feed_content.as_deref().map(html::convert).transpose().unwrap_or_default().unwrap_or_default();
    let page_words = from_page.as_ref().map_or(0, |extracted| word_count(&extracted.text));
    let mut extracted = match from_page {
        Err(rejection) if word_count(&from_feed) == 0 => return Err(rejection),
        other => other.unwrap_or_default(),
    };
    let note = (page_words * 2 < word_count(&from_feed)).then(|| {
        let problem = page.hints.fetch_problem.clone();
        extracted.text = from_feed;
        let problem = problem.unwrap_or_else(|| format!("the page yielded only {page_words} words"));
        format!("{}: taken from the feed's own text, as {problem}", page.key)
    });
    let hints = &page.hints;
    let stated = Stated {
        title: hints.title.clone().or(extracted.hints.title),
        date: hints.date.or(extracted.hints.date),
        tags: if hints.tags.is_empty() { extracted.hints.tags } else { hints.tags.clone() },
        byline: hints.byline.clone().or(extracted.hints.byline),
        language: extracted.language,
        url: extracted.canonical.map(|url| canonical_url(&url)),
    };
    Ok(CleanedDocument { note, ..finish(page, stated, extracted.text) })
}

#[derive(Default)]
struct Stated {
    title: Option<String>,
    date: Option<Date>,
    tags: Vec<String>,
    byline: Option<String>,
    language: Option<String>,
    url: Option<String>,
}

impl Stated {
    fn from_hints(page: &Page) -> Self {
        let hints = page.hints.clone();
        Self { title: hints.title, date: hints.date, tags: hints.tags, byline: hints.byline, ..Self::default() }
    }
}

/// A leading heading that is the title is the title's second copy and goes; without a title it becomes it.
fn finish(page: &Page, stated: Stated, text: String) -> CleanedDocument {
    let mut text = text;
    let mut title = stated.title.map(|title| one_line(&title)).filter(|title| !title.is_empty());
    if page.media != Media::Text
        && let Some((heading, rest)) = markdown::leading_title(&text)
        && title.as_ref().is_none_or(|title| is_same_title(page.media, title, &heading))
    {
        title.get_or_insert(one_line(&heading));
        text = rest.to_owned();
    }
    let first_words = || page.hints.short_form.then(|| first_words(&text)).filter(|words| !words.is_empty());
    let title = title.or_else(|| markdown::first_heading(&text)).or_else(first_words);
    let title = title.unwrap_or_else(|| name_of(&page.key));
    let date = stated.date.or_else(|| date::in_path(&page.key));
    let language = stated.language.as_deref().and_then(language::code).or_else(|| language::detect(&text));
    CleanedDocument {
        url: stated.url.unwrap_or_else(|| page.url.clone()),
        title,
        date,
        tags: stated.tags,
        byline: stated.byline,
        language,
        text,
        note: None,
        short_form: page.hints.short_form,
        masked: Masked::default(),
    }
}

/// What a post without a title is called.
fn first_words(text: &str) -> String {
    const MOST: usize = 8;
    let words: Vec<&str> = text.split_whitespace().take(MOST + 1).collect();
    let title: String = words.iter().take(MOST).copied().collect::<Vec<_>>().join(" ").chars().take(80).collect();
    if words.len() > MOST { format!("{title} …") } else { title }
}

/// Feeds and pages give one title with and without the name of the site.
fn is_same_title(media: Media, title: &str, heading: &str) -> bool {
    let (title, heading) = (normal::words(title), normal::words(heading));
    let one_begins = title.starts_with(&heading) || heading.starts_with(&title);
    title == heading || (media == Media::Html && one_begins && !title.is_empty() && !heading.is_empty())
}

/// A URL that front matter states: absolute, or a path on the author's site. A bare slug says where only when the site
/// is known.
fn stated_url(stated: &str, site: Option<&Url>) -> Option<String> {
    let url = match Url::parse(stated) {
        Ok(url) => url,
        Err(_) => site?.join(stated).ok()?,
    };
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| canonical_url(&url))
}

/// A URL without fragment and without the parameters by which visitors are followed.
pub(crate) fn canonical_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| !key.starts_with("utm_") && !matches!(key.as_ref(), "fbclid" | "gclid" | "ref_src"))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    if url.query().is_some() && kept.len() != url.query_pairs().count() {
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    }
    url.to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many words a text has. In scripts without spaces between words, two characters count as one.
pub(crate) fn word_count(text: &str) -> usize {
    let unspaced = |c: &char| matches!(*c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{e00}'..='\u{e7f}');
    text.split_whitespace().count() + text.chars().filter(unspaced).count() / 2
}

/// `content/post/2020-01-02-my-first-post.md` -> `my first post`.
fn name_of(key: &str) -> String {
    let name = key.trim_end_matches('/').rsplit('/').next().unwrap_or(key);
    let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || "-_.".contains(c));
    let name = one_line(&name.replace(['-', '_'], " "));
    if name.is_empty() { one_line(key) } else { name }
}

#[cfg(test)]
mod tests;
