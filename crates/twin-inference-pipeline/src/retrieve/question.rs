//! What a question itself says about where to look: "What did you write about testing in 2021?" asks for posts of that year.

use std::sync::LazyLock;

use jiff::civil::{Date, date};
use regex::Regex;
use twin_domain::Filter;

/// A question with what it says of the posts that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The question without the words that became the filter.
    pub text: String,
    /// Days and tags that the question names; empty when it names none.
    pub filter: Filter,
}

/// A year alone may be what a post is about ("the storm in 1987"): it is a filter only where writing is asked for.
static WRITING: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\b(write|writes|writing|wrote|written|post|posts|posted|blog|blogged|publish|published|article|articles|essay|essays)\b",
    )
});

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Languages that posts are asked for in, with their ISO 639-1 codes.
const LANGUAGES: [(&str, &str); 12] = [
    ("english", "en"),
    ("german", "de"),
    ("french", "fr"),
    ("spanish", "es"),
    ("italian", "it"),
    ("portuguese", "pt"),
    ("dutch", "nl"),
    ("polish", "pl"),
    ("swedish", "sv"),
    ("russian", "ru"),
    ("japanese", "ja"),
    ("chinese", "zh"),
];

static LANGUAGE: LazyLock<Regex> = LazyLock::new(|| {
    let names = LANGUAGES.map(|(name, _)| name).join("|");
    regex(&format!(r"(?i)\b(?:written\s+|posts\s+)?in\s+({names})\b"))
});
static RANGE: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!(r"(?i)\b(?:between|from)\s+{WHEN}\s+(?:and|to|until|till)\s+{WHEN_END}\b")));
static ONE: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(r"(?i)\b(in|during|since|after|before|until|till|up\s+to|from)\s+(?:the\s+year\s+)?{WHEN}\b"))
});
static TAG: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?i)\b(?:tagged|with\s+the\s+tag)\s+(?:as\s+)?(?:"([^"]+)"|“([^”]+)”|#?([\w.+-]+\w))"#));

/// A year, with a month or without.
const WHEN: &str = r"(?:(?P<month>january|february|march|april|may|june|july|august|september|october|november|december)\s+)?(?P<year>(?:19|20)\d\d)";
const WHEN_END: &str = r"(?:(?P<last_month>january|february|march|april|may|june|july|august|september|october|november|december)\s+)?(?P<last_year>(?:19|20)\d\d)";

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Takes days and tags out of a question.
pub(super) fn parse(question: &str) -> Parsed {
    let mut parsed = Parsed::as_it_is(question);
    if let Some(found) = TAG.captures(&parsed.text) {
        let tag = (1..=3).find_map(|group| found.get(group)).map(|tag| tag.as_str().to_owned());
        let place = found.get(0).map(|all| all.range());
        parsed.filter.tags.extend(tag);
        parsed.cut(place);
    }
    if WRITING.is_match(question) {
        parsed.take_language();
        parsed.take_days();
    }
    parsed
}

impl Parsed {
    /// A question that is searched for without a look at it.
    pub fn as_it_is(question: &str) -> Self {
        Self { text: question.to_owned(), filter: Filter::default() }
    }

    /// A filter with what the question names in addition. What the caller asks for stays.
    pub fn narrowed(&self, filter: &Filter) -> Filter {
        let mut narrowed = filter.clone();
        narrowed.from = filter.from.or(self.filter.from);
        narrowed.to = filter.to.or(self.filter.to);
        if narrowed.languages.is_empty() {
            narrowed.languages.clone_from(&self.filter.languages);
        }
        if narrowed.tags.is_empty() {
            narrowed.tags.clone_from(&self.filter.tags);
        }
        narrowed
    }

    fn take_language(&mut self) {
        let Some(found) = LANGUAGE.captures(&self.text) else { return };
        let named = found.get(1).map_or("", |name| name.as_str());
        let code = LANGUAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(named)).map(|(_, code)| *code);
        let place = found.get(0).map(|all| all.range());
        self.filter.languages.extend(code.map(str::to_owned));
        self.cut(place);
    }

    fn take_days(&mut self) {
        if let Some(found) = RANGE.captures(&self.text) {
            let span = |month, year| span(found.name(month).map(|m| m.as_str()), found.name(year).map(|y| y.as_str()));
            let (first, last) = (span("month", "year"), span("last_month", "last_year"));
            let place = found.get(0).map(|all| all.range());
            if let (Some(first), Some(last)) = (first, last)
                && first.0 <= last.1
            {
                (self.filter.from, self.filter.to) = (Some(first.0), Some(last.1));
                self.cut(place);
            }
            return;
        }
        let Some(found) = ONE.captures(&self.text) else { return };
        let when = span(found.name("month").map(|m| m.as_str()), found.name("year").map(|y| y.as_str()));
        let (Some((first, last)), Some(word)) = (when, found.get(1)) else { return };
        let place = found.get(0).map(|all| all.range());
        (self.filter.from, self.filter.to) = match word.as_str().to_lowercase().as_str() {
            "in" | "during" => (Some(first), Some(last)),
            "since" | "from" => (Some(first), None),
            "after" => (last.tomorrow().ok(), None),
            "before" => (None, first.yesterday().ok()),
            _ => (None, Some(last)), // Until, up to.
        };
        self.cut(place);
    }

    fn cut(&mut self, place: Option<std::ops::Range<usize>>) {
        let Some(place) = place else { return };
        self.text.replace_range(place, "");
        self.text = self.text.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ?", "?").replace(" ,", ",");
    }
}

/// The first and the last day of a year or of one of its months.
fn span(month: Option<&str>, year: Option<&str>) -> Option<(Date, Date)> {
    let year: i16 = year?.parse().ok()?;
    let Some(month) = month else { return Some((date(year, 1, 1), date(year, 12, 31))) };
    let number = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as i8 + 1;
    let first = Date::new(year, number, 1).ok()?;
    Some((first, first.last_of_month()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(question: &str) -> (String, Option<String>, Option<String>) {
        let Parsed { text, filter } = parse(question);
        (text, filter.from.map(|day| day.to_string()), filter.to.map(|day| day.to_string()))
    }

    fn check(question: &str, text: &str, from: Option<&str>, to: Option<&str>) {
        assert_eq!(days(question), (text.to_owned(), from.map(str::to_owned), to.map(str::to_owned)), "{question}");
    }

    #[test]
    fn days_that_a_question_about_writing_names_are_taken_out() {
        let about = "What did you write about testing?";
        check("What did you write about testing in 2021?", about, Some("2021-01-01"), Some("2021-12-31"));
        check("What did you write about testing in February 2024?", about, Some("2024-02-01"), Some("2024-02-29"));
        check("What did you write about testing since 2020?", about, Some("2020-01-01"), None);
        check("What did you write about testing after March 2020?", about, Some("2020-04-01"), None);
        check("What did you write about testing before 2019?", about, None, Some("2018-12-31"));
        check("What did you write about testing up to 2019?", about, None, Some("2019-12-31"));
        let between = "What did you write about testing between 2018 and May 2020?";
        check(between, about, Some("2018-01-01"), Some("2020-05-31"));
        check(
            "Which posts from 2018 to 2019 are about boats?",
            "Which posts are about boats?",
            Some("2018-01-01"),
            Some("2019-12-31"),
        );
    }

    #[test]
    fn a_year_that_is_the_subject_stays() {
        for question in ["What did the refractor cost in 1864?", "What happened in 1987?", "Did you write about 1984?"]
        {
            check(question, question, None, None);
        }
        let backwards = "Which posts from 2020 to 2018 are about boats?";
        check(backwards, backwards, None, None);
    }

    #[test]
    fn tags_are_taken_out() {
        let Parsed { text, filter } = parse("What is in the posts tagged rust-analyzer about testing?");
        assert_eq!(
            (text.as_str(), filter.tags),
            ("What is in the posts about testing?", vec!["rust-analyzer".to_owned()])
        );
        assert_eq!(parse("Posts with the tag “boat building”").filter.tags, ["boat building"]);
        assert_eq!(parse("Was the tree tagged?").filter, Filter::default());
    }

    #[test]
    fn a_language_is_a_filter_only_where_writing_is_asked_for() {
        let Parsed { text, filter } = parse("What did you write in German about boats?");
        assert_eq!((text.as_str(), filter.languages), ("What did you write about boats?", vec!["de".to_owned()]));
        assert_eq!(parse("How do you say keel in German?").filter, Filter::default());
    }

    #[test]
    fn nothing_named_leaves_the_question_as_it_is() {
        for question in ["", "  two  spaces ", "in 2021", "tagged ", "posts in 20211", "from and to"] {
            assert_eq!(parse(question), Parsed { text: question.to_owned(), filter: Filter::default() }, "{question}");
        }
    }
}
