//! Finding the posts of a site: feeds first, as they say most about each post; then sitemaps, which list all; and where
//! there is no sitemap, the links from page to page.

use std::collections::{HashSet, VecDeque};

use futures::StreamExt;
use url::Url;

use super::{BATCH, Entry, FETCHES, IngestError, SourceError, Web, canonical_url, crawled, fill};
use crate::clean::guarded;
use crate::fetch::Fetched;
use crate::report::IngestReport;
use crate::source::feed::Found;
use crate::source::site::{self, Landing};

/// Where feeds are when no page announces them.
const USUAL_FEEDS: [&str; 5] = ["feed.xml", "index.xml", "atom.xml", "rss.xml", "feed"];
/// The most sitemaps that an index is followed to.
const MAX_SITEMAPS: usize = 500;
/// How far from the front page links are followed. Archives by month or page are a chain of their own.
const MAX_LINK_DEPTH: usize = 50;

impl Web<'_> {
    /// The posts of a site, each with what its feed or only its address says. Where links had to be followed, their pages
    /// are in the warehouse already and are not among them.
    pub(super) async fn discover(
        &self,
        url: &Url,
        landing: Landing,
        report: &mut IngestReport,
    ) -> Result<Vec<Entry>, IngestError> {
        let mut entries = self.feed_of_site(url, &landing, report).await?;
        let mut seen: HashSet<String> = entries.iter().map(|entry| same(&entry.page.url)).collect();
        let listed = self.sitemaps(url, report).await?;
        let posts: Vec<Url> = listed.into_iter().filter(|page| site::is_within(page, url)).collect();
        let posts: Vec<Url> = posts.into_iter().filter(site::may_be_post).collect();
        if posts.is_empty() {
            self.follow_links(url, landing, seen, report).await?;
        } else {
            report.notes.push(format!("the sitemap of {url} lists {} pages that may be posts", posts.len()));
            let posts = posts.into_iter().filter(|post| seen.insert(same(&canonical_url(post))));
            entries.extend(posts.map(|post| Entry { page: crawled(&post), link: Some(post) }));
        }
        Ok(entries)
    }

    /// The entries of the first feed that can be read: of those the page announces, or else at the usual addresses.
    async fn feed_of_site(
        &self,
        url: &Url,
        landing: &Landing,
        report: &mut IngestReport,
    ) -> Result<Vec<Entry>, IngestError> {
        let folder =
            if url.path().ends_with('/') { url.clone() } else { url.join(".").unwrap_or_else(|_| url.clone()) };
        let usual = USUAL_FEEDS.iter().filter_map(|name| folder.join(name).ok());
        let candidates = if landing.feeds.is_empty() { usual.collect() } else { landing.feeds.clone() };
        for feed in candidates {
            match self.look(&feed, true).await {
                Ok(Found::Feed(found)) => {
                    let how = if landing.feeds.is_empty() { "has" } else { "announces" };
                    report.notes.push(format!("{url} {how} the feed {feed}, which was read"));
                    let entries = self.whole_feed(&feed, found, report).await?;
                    // A feed of everything on the site may have more than was asked for.
                    let within = |entry: &Entry| {
                        entry
                            .link
                            .as_ref()
                            .is_none_or(|link| link.host_str() != url.host_str() || site::is_within(link, url))
                    };
                    return Ok(entries.into_iter().filter(within).collect());
                }
                Ok(_) | Err(IngestError::Source(SourceError::EmptyFeed { .. } | SourceError::NotAFeed { .. })) => {}
                Err(IngestError::Source(SourceError::Fetch { source, .. })) if !landing.feeds.is_empty() => {
                    report.notes.push(format!("the feed {feed} was left out: {source}"));
                }
                Err(IngestError::Source(SourceError::Fetch { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// All pages that the site's sitemaps list: those that robots.txt names, else the usual one.
    async fn sitemaps(&self, url: &Url, report: &mut IngestReport) -> Result<Vec<Url>, IngestError> {
        let mut named = self.fetcher.sitemaps(url).await.unwrap_or_default();
        if named.is_empty() {
            named = ["/sitemap.xml", "/sitemap_index.xml"].iter().filter_map(|path| url.join(path).ok()).collect();
        }
        let mut open: VecDeque<Url> = named.into();
        let (mut seen, mut pages) = (HashSet::new(), Vec::new());
        while let Some(sitemap) = open.pop_front() {
            let enough = seen.len() >= MAX_SITEMAPS || pages.len() >= self.run.options.max_pages;
            if enough || self.run.interrupted(report) {
                break;
            }
            if !seen.insert(sitemap.to_string()) {
                continue;
            }
            let Ok(fetched) = self.fetch(&sitemap).await? else { continue };
            let found = tokio::task::spawn_blocking(move || site::sitemap(&fetched.body)).await?;
            pages.extend(found.pages);
            open.extend(found.sitemaps);
        }
        let mut unique = HashSet::new();
        pages.retain(|page| unique.insert(page.to_string()));
        Ok(pages)
    }

    /// Follows links from page to page, nearest to the front page first. Each page is kept as it comes, so that a
    /// large site is never in memory.
    async fn follow_links(
        &self,
        start: &Url,
        landing: Landing,
        mut seen: HashSet<String>,
        report: &mut IngestReport,
    ) -> Result<(), IngestError> {
        // What the feed has is fetched with the feed.
        let posts_of_feed = seen.clone();
        seen.insert(same(start.as_str()));
        let mut open: VecDeque<(Url, usize)> = VecDeque::new();
        self.open_links(start, landing, 1, &mut seen, &mut open);
        let mut batch = Vec::with_capacity(BATCH);
        while !open.is_empty() && !self.run.interrupted(report) && report.found < self.run.options.max_pages {
            let next: Vec<(Url, usize)> = open.drain(..open.len().min(FETCHES * 2)).collect();
            let fetches = next.into_iter().map(|(url, depth)| async move {
                let outcome = self.fetch(&url).await;
                (url, depth, outcome)
            });
            let fetched: Vec<_> = futures::stream::iter(fetches).buffered(FETCHES).collect().await;
            for (url, depth, outcome) in fetched {
                let Ok(answer) = outcome? else { continue };
                let mut page = crawled(&url);
                if fill(&mut page, &answer).is_err() {
                    continue;
                }
                let landing = landing_of(page.body.clone(), &answer).await?;
                let is_known = posts_of_feed.contains(&same(&page.url));
                if site::may_be_post(&url) && !landing.is_listing && !is_known {
                    report.found += 1;
                    batch.push(page);
                }
                self.open_links(start, landing, depth + 1, &mut seen, &mut open);
            }
            if batch.len() >= BATCH {
                self.put(&mut batch).await?;
            }
            self.run.update("following links", report.found, None, "pages", "");
        }
        self.put(&mut batch).await
    }

    fn open_links(
        &self,
        start: &Url,
        landing: Landing,
        depth: usize,
        seen: &mut HashSet<String>,
        open: &mut VecDeque<(Url, usize)>,
    ) {
        let most = self.run.options.max_pages.saturating_mul(2);
        if depth > MAX_LINK_DEPTH {
            return;
        }
        for link in landing.links {
            let wanted = site::is_within(&link, start) && site::may_be_followed(&link);
            if wanted && seen.len() < most && seen.insert(same(&canonical_url(&link))) {
                open.push_back((link, depth));
            }
        }
    }
}

async fn landing_of(body: String, answer: &Fetched) -> Result<Landing, IngestError> {
    let Ok(url) = Url::parse(&answer.final_url) else { return Ok(Landing::default()) };
    let look = move || guarded(move || site::landing(&body, &url));
    // A page that cannot be parsed leads nowhere; cleaning says why it is no post.
    Ok(tokio::task::spawn_blocking(look).await?.unwrap_or_default())
}

/// Addresses that differ only in what makes no other page: scheme, `www.`, a slash at the end.
fn same(address: &str) -> String {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.trim_start_matches("www.").trim_end_matches('/').to_owned()
}
