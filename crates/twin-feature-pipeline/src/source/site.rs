//! A site: what its pages and sitemaps say about where the posts are. Pure functions over what was fetched.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use scraper::Html;
use url::Url;

use super::export::records::each_record;
use crate::clean::{Rejection, encoding, html};

/// What a sitemap may become when it is unpacked; the protocol has 50 MB.
const MAX_SITEMAP_BYTES: u64 = 64 * 1024 * 1024;
/// The most addresses of a sitemap, by its protocol.
const MAX_SITEMAP_ADDRESSES: usize = 50_000;
/// The most links that are followed from one page.
const MAX_LINKS: usize = 2_000;

/// What a page says about its site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Landing {
    /// The feeds that it announces.
    pub(crate) feeds: Vec<Url>,
    /// The pages of the same site that it links to, in its order, without fragments.
    pub(crate) links: Vec<Url>,
    /// Whether it says that it is one post.
    pub(crate) is_post: bool,
    /// Whether it lists posts.
    pub(crate) is_listing: bool,
}

/// Looks at a page of a site. Belongs on a guarded thread.
pub(crate) fn landing(body: &str, url: &Url) -> Result<Landing, Rejection> {
    let page = html::parse(body)?;
    let base = html::select(&page, "base[href]").next().and_then(|base| url.join(base.attr("href")?).ok());
    let base = base.unwrap_or_else(|| url.clone());
    let feeds = html::announced_feeds(&page, &base);
    let is_listing = html::is_listing(&page);
    Ok(Landing { feeds, links: links(&page, url, &base), is_post: !is_listing && states_article(&page), is_listing })
}

fn links(page: &Html, url: &Url, base: &Url) -> Vec<Url> {
    let mut seen = std::collections::HashSet::new();
    let followed = html::select(page, "a[href], link[rel~=next][href]").filter(|link| {
        // Links of readers' comments and those a site disowns are not its own.
        !link.attr("rel").is_some_and(|rel| rel.contains("nofollow") || rel.contains("ugc"))
    });
    let addresses = followed.filter_map(|link| {
        let mut address = base.join(link.attr("href")?.trim()).ok()?;
        address.set_fragment(None);
        Some(address)
    });
    addresses.filter(|address| is_same_site(address, url) && seen.insert(address.to_string())).take(MAX_LINKS).collect()
}

/// Scheme changes and a leading `www.` do not make another site.
fn is_same_site(a: &Url, b: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_start_matches("www.").to_owned());
    let web = |url: &Url| matches!(url.scheme(), "http" | "https");
    web(a) && web(b) && host(a).is_some() && host(a) == host(b) && a.port() == b.port()
}

/// Whether a page says that it is one article.
fn states_article(page: &Html) -> bool {
    let stated = html::select(page, "meta[property='og:type']").any(|meta| meta.attr("content") == Some("article"));
    let typed = html::select(page, "script[type='application/ld+json']").any(|script| {
        let text: String = script.text().collect();
        ["\"BlogPosting\"", "\"Article\"", "\"NewsArticle\"", "\"TechArticle\""].iter().any(|kind| text.contains(kind))
            && !text.contains("\"Blog\"")
    });
    stated || typed
}

/// Whether the address is under the one that was given: a blog at `/blog/` does not take the shop along.
pub(crate) fn is_within(address: &Url, start: &Url) -> bool {
    let folder = match start.path().rsplit_once('/') {
        Some((folder, last)) if last.contains('.') => folder.to_owned(),
        _ => start.path().trim_end_matches('/').to_owned(),
    };
    let path = address.path();
    is_same_site(address, start)
        && path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the address may be that of a post. Lists by tag, date or page lead to posts and are none.
pub(crate) fn may_be_post(address: &Url) -> bool {
    const LISTS: [&str; 16] = [
        "tag",
        "tags",
        "category",
        "categories",
        "topic",
        "topics",
        "author",
        "authors",
        "page",
        "search",
        "archive",
        "archives",
        "feed",
        "feeds",
        "label",
        "series",
    ];
    const OTHERS: [&str; 12] = [
        "login",
        "signin",
        "signup",
        "register",
        "cart",
        "checkout",
        "privacy",
        "terms",
        "impressum",
        "datenschutz",
        "wp-json",
        "wp-admin",
    ];
    let segments: Vec<String> = segments(address);
    let Some(first) = segments.first() else { return false };
    let is_list = segments.len() > 1
        && segments[..segments.len() - 1].iter().any(|part| LISTS.contains(&part.as_str()))
        || LISTS.contains(&segments[segments.len() - 1].as_str());
    let is_index = segments.len() == 1 && matches!(first.as_str(), "index.html" | "index.htm" | "index.php");
    // `/2020/05/` is a list, `/2020/05/title` a post.
    let is_date = segments.iter().all(|part| part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit()));
    let is_paged = address.query().is_some_and(|query| query.contains("page"));
    !(is_list || is_index || is_date || is_paged || OTHERS.contains(&first.as_str()))
}

/// Whether following the address is worth a request: not a picture, not a calendar without end, not a list in yet another
/// order.
pub(crate) fn may_be_followed(address: &Url) -> bool {
    const MAX_LENGTH: usize = 512;
    const MAX_SEGMENTS: usize = 10;
    let segments = segments(address);
    let ending = segments.last().and_then(|last| last.rsplit_once('.')).map(|(_, ending)| ending).unwrap_or_default();
    let is_page = ending.len() > 5
        || ending.is_empty()
        || ending.contains(' ')
        || matches!(ending, "html" | "htm" | "php" | "xhtml" | "asp" | "aspx" | "md" | "txt")
        || ending.bytes().all(|byte| byte.is_ascii_digit());
    let repeats = segments.iter().any(|part| segments.iter().filter(|other| *other == part).count() > 2);
    let query: Vec<(String, String)> = address.query_pairs().into_owned().collect();
    let plain_query = query.len() <= 1
        && query.iter().all(|(key, value)| {
            matches!(key.as_str(), "page" | "paged" | "p" | "id" | "offset" | "start") && value.len() < 12
        });
    address.as_str().len() <= MAX_LENGTH
        && segments.len() <= MAX_SEGMENTS
        && is_page
        && !repeats
        && plain_query
        && !segments.iter().any(|part| is_far_year(part))
}

/// Calendars go on for ever; blogs began in the nineties and end about now.
fn is_far_year(part: &str) -> bool {
    let year = (part.len() == 4).then(|| part.parse::<i16>().ok()).flatten();
    year.is_some_and(|year| (1000..1990).contains(&year) || year > this_year() + 1)
}

fn this_year() -> i16 {
    jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).year()
}

fn segments(address: &Url) -> Vec<String> {
    address.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}

/// What a sitemap lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sitemap {
    pub(crate) pages: Vec<Url>,
    /// Further sitemaps.
    pub(crate) sitemaps: Vec<Url>,
}

/// Reads a sitemap: XML or plain text, packed or not. What is no sitemap lists nothing.
pub(crate) fn sitemap(bytes: &[u8]) -> Sitemap {
    let mut unpacked = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        // What was read until an error, or the limit, is still worth following.
        let _ = MultiGzDecoder::new(bytes).take(MAX_SITEMAP_BYTES).read_to_end(&mut unpacked);
        unpacked.as_slice()
    } else {
        bytes
    };
    let text = encoding::decode_lossy(bytes);
    if !text.trim_start().starts_with('<') {
        let pages = text.lines().filter_map(web_address).take(MAX_SITEMAP_ADDRESSES).collect();
        return Sitemap { pages, sitemaps: Vec::new() };
    }
    Sitemap { pages: locations(&text, "url"), sitemaps: locations(&text, "sitemap") }
}

fn locations(xml: &str, element: &str) -> Vec<Url> {
    let mut found = Vec::new();
    // A sitemap that breaks off gives what stands before.
    let _ = each_record(xml, &|name| name == element, &mut |record| {
        found.extend(record.text("loc").and_then(web_address));
        found.len() < MAX_SITEMAP_ADDRESSES
    });
    found
}

fn web_address(text: &str) -> Option<Url> {
    Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_page_tells_feeds_and_links() {
        let page = "<html><head><base href=\"/blog/\"><link rel=alternate type=application/atom+xml href=feed.xml></head>
            <body><a href=one#top>1</a><a href=/two>2</a><a href=one>1</a><a href=https://other.org/>x</a>
            <a href=mailto:a@b.c>m</a><a rel=nofollow href=/spam>s</a><a href='https://www.a.org/three'>3</a></body></html>";
        let landing = landing(page, &url("https://a.org/x")).unwrap();
        assert_eq!(landing.feeds, [url("https://a.org/blog/feed.xml")]);
        let links: Vec<&str> = landing.links.iter().map(Url::as_str).collect();
        assert_eq!(links, ["https://a.org/blog/one", "https://a.org/two", "https://www.a.org/three"]);
        assert!(!landing.is_post);
    }

    #[test]
    fn posts_say_that_they_are() {
        let check = |html: &str, expected: bool| {
            assert_eq!(landing(html, &url("https://a.org/x")).unwrap().is_post, expected, "{html}")
        };
        check("<meta property='og:type' content='article'>", true);
        check("<script type='application/ld+json'>{\"@type\": \"BlogPosting\"}</script>", true);
        check("<meta property='og:type' content='website'>", false);
        let article = |words: usize| format!("<article>{}</article>", "word ".repeat(words));
        check(&format!("<meta property='og:type' content='article'>{}", article(50).repeat(4)), false);
        check(&format!("<meta property='og:type' content='article'>{}{}", article(500), article(20).repeat(3)), true);
    }

    #[test]
    fn a_blog_within_a_site_is_kept_to() {
        assert!(is_within(&url("https://a.org/blog/x"), &url("https://a.org/blog/")));
        assert!(is_within(&url("http://www.a.org/blog/x"), &url("https://a.org/blog")));
        assert!(is_within(&url("https://a.org/blog/x"), &url("https://a.org/blog/index.html")));
        assert!(is_within(&url("https://a.org/anything"), &url("https://a.org/")));
        assert!(!is_within(&url("https://a.org/blogroll"), &url("https://a.org/blog")));
        assert!(!is_within(&url("https://b.org/blog/x"), &url("https://a.org/blog")));
    }

    #[test]
    fn lists_are_no_posts_and_traps_are_not_followed() {
        for path in ["/2020/05/02/title", "/posts/title.html", "/p/123", "/blog/tagged-unions", "/title"] {
            let url = url(&format!("https://a.org{path}"));
            assert!(may_be_post(&url) && may_be_followed(&url), "{path}");
        }
        for path in
            ["/", "/tag/rust", "/2020/05/", "/page/2", "/blog/page/2", "/?page=2", "/archive", "/index.html", "/login"]
        {
            assert!(!may_be_post(&url(&format!("https://a.org{path}"))), "{path}");
        }
        for path in ["/a.png", "/calendar/2099/05", "/list?sort=a&order=b", "/?color=red", "/a/b/a/b/a/b", "/x.pdf"] {
            assert!(!may_be_followed(&url(&format!("https://a.org{path}"))), "{path}");
        }
        assert!(may_be_followed(&url("https://a.org/?page=2")) && may_be_followed(&url("https://a.org/2020/05/")));
    }

    #[test]
    fn sitemaps_are_read_in_every_form() {
        let xml = "<?xml version='1.0'?><urlset><url><loc> https://a.org/1?a=1&amp;b=2 </loc><lastmod>2020-01-01</lastmod></url><url><loc>nonsense</loc></url></urlset>";
        let expected = Sitemap { pages: vec![url("https://a.org/1?a=1&b=2")], sitemaps: Vec::new() };
        assert_eq!(sitemap(xml.as_bytes()), expected);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(xml.as_bytes()).unwrap();
        assert_eq!(sitemap(&packed.finish().unwrap()), expected);
        let index = b"<sitemapindex><sitemap><loc>https://a.org/s.xml.gz</loc></sitemap></sitemapindex>";
        assert_eq!(sitemap(index).sitemaps, [url("https://a.org/s.xml.gz")]);
        assert_eq!(sitemap(b"https://a.org/1\nhttps://a.org/2\n").pages.len(), 2);
        assert_eq!(sitemap(b"<html><body>Not found</body></html>"), Sitemap::default());
        assert_eq!(sitemap(&[0x1f, 0x8b, 1, 2, 3]), Sitemap::default());
    }
}
