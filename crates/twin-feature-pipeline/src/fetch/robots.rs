//! robots.txt (RFC 9309): which paths of a site may be fetched.

use std::time::Duration;

use url::Url;

/// "At least 500 kibibytes" must be read (2.5); nobody needs more.
pub const MAX_BYTES: usize = 512 * 1024;
/// The most sitemaps that are looked at.
const MAX_SITEMAPS: usize = 50;
/// The product token that groups address (2.2.1).
const PRODUCT: &str = "llm-twin";

/// The rules that apply to this program. Without any, everything is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Robots {
    rules: Vec<Rule>,
    /// The pause that the site asks for between two requests; not in the standard, but widely meant.
    pub crawl_delay: Option<Duration>,
    /// Where the site says its sitemaps are.
    pub sitemaps: Vec<String>,
}

/// What one group of agents is told.
#[derive(Debug, Default)]
struct Group {
    rules: Vec<Rule>,
    crawl_delay: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    pattern: String,
}

impl Robots {
    /// Reads a robots.txt: the groups that name us, all of them together, or else those for `*`. What cannot be read is
    /// passed over, line by line.
    pub fn parse(text: &str) -> Self {
        let (mut named, mut general) = (None::<Group>, Group::default());
        let mut sitemaps = Vec::new();
        let (mut agents, mut in_rules): (Vec<String>, bool) = (Vec::new(), false);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "user-agent" => {
                    if std::mem::take(&mut in_rules) {
                        agents.clear();
                    }
                    let token: String =
                        value.chars().take_while(|c| c.is_ascii_alphabetic() || "-_*".contains(*c)).collect();
                    agents.push(token.to_ascii_lowercase());
                    if agents.iter().any(|agent| agent == PRODUCT) {
                        named.get_or_insert_default();
                    }
                }
                key @ ("allow" | "disallow") => {
                    in_rules = true;
                    // An empty rule says nothing; "Disallow:" is the old way to allow all.
                    if value.is_empty() {
                        continue;
                    }
                    let rule = Rule { allow: key == "allow", pattern: normal(value) };
                    if let Some(named) = named.as_mut().filter(|_| agents.iter().any(|agent| agent == PRODUCT)) {
                        named.rules.push(rule.clone());
                    }
                    if agents.iter().any(|agent| agent == "*") {
                        general.rules.push(rule);
                    }
                }
                "crawl-delay" => {
                    in_rules = true;
                    let delay = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    if let Some(named) = named.as_mut().filter(|_| agents.iter().any(|agent| agent == PRODUCT)) {
                        named.crawl_delay = delay;
                    }
                    if agents.iter().any(|agent| agent == "*") {
                        general.crawl_delay = delay;
                    }
                }
                "sitemap" if sitemaps.len() < MAX_SITEMAPS => sitemaps.push(value.to_owned()),
                _ => {}
            }
        }
        let Group { rules, crawl_delay } = named.unwrap_or(general);
        Self { rules, crawl_delay, sitemaps }
    }

    /// Whether an address may be fetched: the longest matching rule decides, and `allow` among equals (2.2.2).
    pub fn allows(&self, url: &Url) -> bool {
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        let path = normal(&path);
        let matching = self.rules.iter().filter(|rule| matches(&rule.pattern, &path));
        matching.max_by_key(|rule| (rule.pattern.len(), rule.allow)).is_none_or(|rule| rule.allow)
    }
}

/// Percent-encoding in one form: unreserved characters bare, hexadecimal digits in upper case, the rest encoded.
fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let encoded = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        let decoded = encoded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let byte = decoded.unwrap_or(bytes[at]);
        at += if decoded.is_some() { 3 } else { 1 };
        let bare = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if bare || (decoded.is_none() && byte.is_ascii_graphic()) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
    }
    normal
}

/// `*` matches any sequence, `$` at the end the end of the path (2.2.3). Greedy with one step back, so never worse than
/// pattern times path.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = pattern.split('*').peekable();
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    if parts.peek().is_none() {
        return !to_end || rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() && to_end {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(robots: &str, allowed: &[&str], forbidden: &[&str]) {
        let robots = Robots::parse(robots);
        let url = |path: &&str| Url::parse(&format!("https://a.org{path}")).unwrap();
        for path in allowed {
            assert!(robots.allows(&url(path)), "{path} should be allowed");
        }
        for path in forbidden {
            assert!(!robots.allows(&url(path)), "{path} should be forbidden");
        }
    }

    #[test]
    fn the_examples_of_the_standard() {
        // RFC 9309, section 5.1, with our token in place of the example's.
        let text = "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\nUser-Agent: foobot\nDisallow:/\nAllow:/example/page.html\n\nUser-Agent: LLM-Twin\nUser-Agent: bazbot\nDisallow: /example/page.html\n";
        check(text, &["/example/", "/x.gif", "/"], &["/example/page.html"]);
        // Section 5.2: the longest match wins.
        let text = "User-Agent: *\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n";
        check(text, &["/example/page/", "/other"], &["/example/page/disallowed.gif"]);
    }

    #[test]
    fn the_general_group_is_for_those_who_are_not_named() {
        check("user-agent: *\ndisallow: /\n", &[], &["/", "/a?b"]);
        check("user-agent: other\ndisallow: /\n", &["/"], &[]);
        check("user-agent: *\ndisallow: /\nuser-agent: llm-twin/0.1\ndisallow:\n", &["/"], &[]);
        check(
            "user-agent: llm-twin\ndisallow: /a\nuser-agent: *\ndisallow: /b\nuser-agent: llm-twin\ndisallow: /c",
            &["/b"],
            &["/a", "/c"],
        );
    }

    #[test]
    fn wildcards_and_encodings() {
        check(
            "User-agent: *\nDisallow: /*/private*.html$\n",
            &["/private.html", "/a/private.htm"],
            &["/a/private-1.html"],
        );
        check(
            "User-agent: *\nDisallow: /caf%c3%a9\nDisallow: /%7Ejoe\n",
            &["/cafe"],
            &["/café", "/caf%C3%A9/x", "/~joe/"],
        );
        check("User-agent: *\nDisallow: /a\nAllow: /a\n", &["/a"], &[]);
    }

    #[test]
    fn delays_and_sitemaps_are_heard() {
        let text = "Sitemap: https://a.org/s.xml\nUser-agent: *\nCrawl-delay: 1.5\nDisallow: /x\nUser-agent: llm-twin\nCrawl-delay: 3\n";
        let robots = Robots::parse(text);
        assert_eq!(
            (robots.crawl_delay, robots.sitemaps.as_slice()),
            (Some(Duration::from_secs(3)), ["https://a.org/s.xml".to_owned()].as_slice())
        );
        let general = Robots::parse("User-agent: *\nCrawl-delay: 1.5\n");
        assert_eq!(general.crawl_delay, Some(Duration::from_millis(1500)));
        assert_eq!(Robots::parse("User-agent: *\nCrawl-delay: -1\n").crawl_delay, None);
    }

    #[test]
    fn nonsense_allows_everything() {
        check("", &["/"], &[]);
        check("<html>not found</html>\n:::\nDisallow: /\n", &["/"], &[]);
        let hostile = format!("User-agent: *\nDisallow: /{}$\n", "*a".repeat(5000));
        check(&hostile, &["/b"], &[]);
    }
}
