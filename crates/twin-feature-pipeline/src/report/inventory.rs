//! What there is of an author, by source, and what a twin made of it will be weak on.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use twin_domain::AuthorId;
use twin_style::function_words;

use crate::clean::{normal, word_count};

/// Documents of one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageShare {
    /// ISO 639-1; `und` where neither the page states it nor the text shows it.
    pub language: String,
    pub documents: usize,
    pub words: usize,
}

/// Documents, and what can be counted of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    pub documents: usize,
    pub words: usize,
    /// The dates of the oldest and the newest.
    pub oldest: Option<Date>,
    pub newest: Option<Date>,
    /// Documents without a date.
    pub undated: usize,
    /// Most words first.
    pub languages: Vec<LanguageShare>,
}

/// What came from one source and is not gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHoldings {
    /// The source's number.
    pub source: i64,
    pub kind: String,
    pub location: String,
    #[serde(flatten)]
    pub holdings: Holdings,
}

/// Why a twin of this author will do less well than one could wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeaknessKind {
    FewWords,
    FewDocuments,
    OneTopic,
    Old,
    LanguageMix,
    MostlyShort,
    Undated,
}

/// A weakness, in a sentence that says what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weakness {
    pub kind: WeaknessKind,
    pub message: String,
}

/// All that there is of an author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub author: AuthorId,
    #[serde(flatten)]
    pub holdings: Holdings,
    pub sources: Vec<SourceHoldings>,
    pub weaknesses: Vec<Weakness>,
}

/// With fewer words an adapter learns topics before it learns a voice; the sample authors have about as many.
const ENOUGH_WORDS: usize = 10_000;
const ENOUGH_DOCUMENTS: usize = 10;
/// Older than so many years is not what the author thinks today.
const OLD_YEARS: i16 = 3;
/// A second language with a larger share is a mix.
const MIX_SHARE: f64 = 0.1;
/// Shorter documents say how somebody remarks, not how they argue.
const SHORT_WORDS: usize = 80;
/// How alike two documents of somebody who writes about one thing are, in the words that carry meaning (cosine of logarithmic
/// counts over their beginnings). Bloggers and essayists who write about many things are at .06 to .15; writers of one
/// project's release notes, of a yearly survey or of one handbook at .2 to .3.
const ONE_TOPIC: f64 = 0.2;
/// So many words of each document: longer ones are alike for their length alone.
const COMPARED_WORDS: usize = 400;
/// Documents that are compared.
const MAX_COMPARED: usize = 400;

/// Counts documents one by one, so that they need not be in memory together.
#[derive(Default)]
pub(crate) struct Counter {
    by_source: BTreeMap<i64, Tally>,
    all: Tally,
    topics: Topics,
}

#[derive(Default)]
struct Tally {
    holdings: Holdings,
    languages: BTreeMap<String, (usize, usize)>,
    short: usize,
}

impl Tally {
    fn add(&mut self, date: Option<Date>, language: Option<&str>, words: usize) {
        let holdings = &mut self.holdings;
        holdings.documents += 1;
        holdings.words += words;
        holdings.undated += usize::from(date.is_none());
        holdings.oldest = [holdings.oldest, date].into_iter().flatten().min();
        holdings.newest = [holdings.newest, date].into_iter().flatten().max();
        let language = self.languages.entry(language.unwrap_or("und").to_owned()).or_default();
        *language = (language.0 + 1, language.1 + words);
        self.short += usize::from(words < SHORT_WORDS);
    }

    fn finish(self) -> Holdings {
        let share = |(language, (documents, words))| LanguageShare { language, documents, words };
        let mut languages: Vec<LanguageShare> = self.languages.into_iter().map(share).collect();
        languages.sort_by_key(|share| std::cmp::Reverse(share.words));
        Holdings { languages, ..self.holdings }
    }
}

impl Counter {
    pub(crate) fn add(&mut self, source: i64, date: Option<Date>, language: Option<&str>, text: &str) {
        let words = word_count(text);
        self.all.add(date, language, words);
        self.by_source.entry(source).or_default().add(date, language, words);
        if words >= SHORT_WORDS {
            self.topics.add(text);
        }
    }

    /// The holdings by source, and of all; and what they lack, as of `today`.
    pub(crate) fn finish(self, today: Date) -> (BTreeMap<i64, Holdings>, Holdings, Vec<Weakness>) {
        let short = self.all.short;
        let all = self.all.finish();
        let weaknesses = if all.documents == 0 { Vec::new() } else { weaknesses(&all, short, &self.topics, today) };
        (self.by_source.into_iter().map(|(source, tally)| (source, tally.finish())).collect(), all, weaknesses)
    }
}

fn weaknesses(all: &Holdings, short: usize, topics: &Topics, today: Date) -> Vec<Weakness> {
    let mut found = Vec::new();
    let mut note = |kind, message| found.push(Weakness { kind, message });
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    if all.words < ENOUGH_WORDS {
        note(
            WeaknessKind::FewWords,
            format!(
                "{} words are few: a voice is learnt from {ENOUGH_WORDS} and more; bring older posts, newsletters or talks",
                all.words
            ),
        );
    }
    if all.documents < ENOUGH_DOCUMENTS {
        note(
            WeaknessKind::FewDocuments,
            format!("{} documents are few: some are kept for the evaluation, which then says little", all.documents),
        );
    }
    if let Some(words) = topics.one_topic() {
        note(
            WeaknessKind::OneTopic,
            format!(
                "the documents are all about much the same ({}): of anything else the twin knows nothing",
                words.join(", ")
            ),
        );
    }
    if let Some(newest) = all.newest.filter(|newest| newest.year() + OLD_YEARS <= today.year()) {
        note(
            WeaknessKind::Old,
            format!("nothing is newer than {newest}: what the author wrote or thought since is not in it"),
        );
    }
    let known = all.languages.iter().filter(|language| language.language != "und");
    let mix: Vec<String> = known
        .filter(|language| share(language.words, all.words) >= MIX_SHARE)
        .map(|language| format!("{} {:.0}%", language.language, share(language.words, all.words) * 100.0))
        .collect();
    if mix.len() > 1 {
        note(
            WeaknessKind::LanguageMix,
            format!(
                "the words are of several languages ({}): questions find posts of their own language only, and the voice mixes",
                mix.join(", ")
            ),
        );
    }
    if share(short, all.documents) > 0.5 {
        note(
            WeaknessKind::MostlyShort,
            format!(
                "{short} of {} documents have fewer than {SHORT_WORDS} words: long texts in this voice will be guesswork",
                all.documents
            ),
        );
    }
    if share(all.undated, all.documents) > 0.3 {
        note(
            WeaknessKind::Undated,
            format!(
                "{} of {} documents have no date: what is newer cannot be told, and the evaluation cannot keep the newest back",
                all.undated, all.documents
            ),
        );
    }
    found
}

/// How alike documents are in the words that carry meaning.
#[derive(Default)]
struct Topics {
    /// The sum of the documents' vectors, each of length one.
    sum: HashMap<String, f64>,
    documents: usize,
}

impl Topics {
    fn add(&mut self, text: &str) {
        if self.documents >= MAX_COMPARED {
            return;
        }
        let beginning = text.split_whitespace().take(COMPARED_WORDS).collect::<Vec<_>>().join(" ");
        let mut counts: HashMap<String, usize> = HashMap::new();
        let meaningful = |word: &String| {
            word.chars().count() > 3
                && !word.bytes().any(|byte| byte.is_ascii_digit())
                && !function_words::contains(word)
        };
        normal::words(&beginning).into_iter().filter(meaningful).for_each(|word| *counts.entry(word).or_default() += 1);
        let weight = |count: usize| 1.0 + (count as f64).ln();
        let length = counts.values().map(|count| weight(*count).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            self.documents += 1;
            counts.into_iter().for_each(|(word, count)| *self.sum.entry(word).or_default() += weight(count) / length);
        }
    }

    /// The mean similarity of two documents.
    fn similarity(&self) -> f64 {
        let n = self.documents as f64;
        let square: f64 = self.sum.values().map(|value| value * value).sum();
        if n < 2.0 { 0.0 } else { (square - n) / (n * (n - 1.0)) }
    }

    /// The words that stand for the one topic, if there is but one.
    fn one_topic(&self) -> Option<Vec<&str>> {
        /// Fewer documents are alike by chance.
        const LEAST: usize = 4;
        if self.documents < LEAST || self.similarity() < ONE_TOPIC {
            return None;
        }
        let mut words: Vec<(&String, &f64)> = self.sum.iter().collect();
        words.sort_by(|a, b| b.1.total_cmp(a.1).then_with(|| a.0.cmp(b.0)));
        Some(words.into_iter().take(5).map(|(word, _)| word.as_str()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i16) -> Option<Date> {
        Date::new(year, 1, 2).ok()
    }

    fn kinds(counter: Counter) -> Vec<WeaknessKind> {
        let (_, _, weaknesses) = counter.finish(Date::new(2025, 6, 1).unwrap());
        weaknesses.into_iter().map(|weakness| weakness.kind).collect()
    }

    fn prose(seed: usize, words: usize) -> String {
        (0..words)
            .map(|n| {
                format!(
                    "meaning{} ",
                    char::from(b'a' + ((seed * 7 + n * n) % 26) as u8).to_string().repeat(1 + (seed * 31 + n) % 9)
                )
            })
            .collect()
    }

    #[test]
    fn a_rich_author_has_no_weakness() {
        let mut counter = Counter::default();
        // No word stands in two documents.
        (0..20).for_each(|n| {
            counter.add(
                1,
                date(2025),
                Some("en"),
                &(0..600).map(|w| format!("{}x{}y ", "q".repeat(n + 4), "z".repeat(w % 40))).collect::<String>(),
            )
        });
        assert!(kinds(counter).is_empty());
        assert!(kinds(Counter::default()).is_empty());
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut counter = Counter::default();
        (0..6).for_each(|_| counter.add(1, date(2001), Some("en"), &prose(1, 200)));
        counter.add(2, None, Some("de"), &prose(2, 300));
        let found = kinds(counter);
        for kind in [
            WeaknessKind::FewWords,
            WeaknessKind::FewDocuments,
            WeaknessKind::OneTopic,
            WeaknessKind::Old,
            WeaknessKind::LanguageMix,
        ] {
            assert!(found.contains(&kind), "{kind:?} in {found:?}");
        }
        let mut counter = Counter::default();
        (0..12).for_each(|n| counter.add(1, None, None, &format!("short{n}")));
        let found = kinds(counter);
        assert!(found.contains(&WeaknessKind::MostlyShort) && found.contains(&WeaknessKind::Undated), "{found:?}");
    }

    #[test]
    fn holdings_are_counted_by_source() {
        let mut counter = Counter::default();
        counter.add(1, date(2020), Some("en"), "one two three");
        counter.add(2, date(2022), Some("de"), "eins zwei");
        counter.add(2, None, None, "drei");
        let (by_source, all, _) = counter.finish(Date::new(2022, 6, 1).unwrap());
        assert_eq!((all.documents, all.words, all.undated, all.oldest, all.newest), (3, 6, 1, date(2020), date(2022)));
        assert_eq!(by_source[&2].languages[0], LanguageShare { language: "de".to_owned(), documents: 1, words: 2 });
    }
}
