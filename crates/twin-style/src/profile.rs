//! How a text is built, in figures a person can act on: sentences, paragraphs, contractions, punctuation. A profile, not a
//! score: sentence length and readability hardly tell one author from another.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::stats::Quartiles;
use crate::text::{Markup, markup, paragraphs, prose, sentences, word_count, words};

/// Words that end in `'s` and are contractions; with other words it is mostly the genitive.
const IS_CONTRACTED: &[&str] = &[
    "it's",
    "that's",
    "there's",
    "here's",
    "what's",
    "where's",
    "who's",
    "how's",
    "when's",
    "he's",
    "she's",
    "let's",
    "everything's",
    "something's",
    "nothing's",
    "everyone's",
    "somebody's",
    "nobody's",
    "one's",
];

const FIRST_PERSON: &[&str] = &["i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"];

const HEDGES: &[&str] = &[
    "perhaps",
    "maybe",
    "might",
    "possibly",
    "probably",
    "presumably",
    "apparently",
    "arguably",
    "somewhat",
    "seems",
    "seem",
    "suppose",
    "guess",
    "likely",
    "roughly",
    "usually",
    "generally",
    "often",
    "sometimes",
];

/// The places of the rates among [`StyleProfile::features`], by what they are rates of.
const WORDING: Range<usize> = 8..13;
const PUNCTUATION: Range<usize> = 13..21;
const MARKUP: Range<usize> = 21..25;

/// How a text is built. Counts are per 1,000 words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StyleProfile {
    pub words: usize,
    pub sentences: usize,
    pub paragraphs: usize,
    /// Words in a sentence.
    pub sentence_words: Quartiles,
    /// Words in a paragraph.
    pub paragraph_words: Quartiles,
    /// Letters in a word, on average.
    pub word_letters: f64,
    /// Flesch reading ease (1948), 0 (hard) to 100 (easy), with syllables counted by rule.
    pub reading_ease: f64,
    pub contractions: f64,
    /// `I`, `me`, `my` and their contractions.
    pub first_person: f64,
    pub hedges: f64,
    pub questions: f64,
    pub exclamations: f64,
    pub commas: f64,
    pub semicolons: f64,
    pub colons: f64,
    pub dashes: f64,
    pub parentheses: f64,
    pub quotations: f64,
    pub ellipses: f64,
    pub emoji: f64,
    pub headings: f64,
    pub list_items: f64,
    pub links: f64,
    pub emphases: f64,
}

impl StyleProfile {
    /// The profile of a Markdown text. Of a text without words everything is zero.
    pub fn of(markdown: &str) -> Self {
        let prose = prose(markdown);
        let words: Vec<String> = words(&prose).collect();
        if words.is_empty() {
            return Self::default();
        }
        let per_thousand = |count: usize| count as f64 * 1000.0 / words.len() as f64;
        let among = |list: &[&str]| per_thousand(words.iter().filter(|word| list.contains(&word.as_str())).count());
        let marks = |mark: &str| per_thousand(prose.matches(mark).count());
        let lengths = |texts: Vec<&str>| -> Vec<f64> {
            texts.into_iter().map(word_count).filter(|count| *count > 0).map(|count| count as f64).collect()
        };
        let sentences = lengths(sentences(&prose).into_iter().map(|range| &prose[range]).collect());
        let paragraphs = lengths(paragraphs(&prose).collect());
        let Markup { headings, list_items, links, emphases, .. } = markup(markdown);
        Self {
            words: words.len(),
            sentences: sentences.len(),
            paragraphs: paragraphs.len(),
            sentence_words: Quartiles::of(&sentences),
            paragraph_words: Quartiles::of(&paragraphs),
            word_letters: words.iter().map(|word| word.chars().filter(|c| c.is_alphabetic()).count()).sum::<usize>()
                as f64
                / words.len() as f64,
            reading_ease: reading_ease(&words, sentences.len()),
            contractions: per_thousand(contractions(&words)),
            first_person: among(FIRST_PERSON),
            hedges: among(HEDGES),
            questions: marks("?"),
            exclamations: marks("!"),
            commas: marks(","),
            semicolons: marks(";"),
            colons: marks(":"),
            dashes: per_thousand(dashes(&prose)),
            parentheses: marks("("),
            quotations: marks("\"") / 2.0,
            ellipses: marks("..."),
            emoji: per_thousand(prose.chars().filter(|c| is_emoji(*c)).count()),
            headings: per_thousand(headings),
            list_items: per_thousand(list_items),
            links: per_thousand(links),
            emphases: per_thousand(emphases),
        }
    }

    /// The profile in sentences, for people and as a persona.
    pub fn description(&self) -> Vec<String> {
        if self.words == 0 {
            return vec!["There are no words to tell a style by.".to_owned()];
        }
        let Quartiles { lower, median, upper } = self.sentence_words;
        let rate = |value: f64| match value {
            0.0 => "no".to_owned(),
            value if value < 10.0 => format!("{value:.1}"),
            value => format!("{value:.0}"),
        };
        let features = self.features();
        let listed = |range: Range<usize>| {
            let said: Vec<String> =
                features[range].iter().map(|(name, value)| format!("{} {name}", rate(*value))).collect();
            format!("In a thousand words {}.", said.join(", "))
        };
        vec![
            format!(
                "Sentences of {lower:.0} to {upper:.0} words, {median:.0} in the middle; the longest quarter is longer still."
            ),
            format!(
                "Paragraphs of {:.0} to {:.0} words; words of {:.1} letters; reading ease {:.0} (100 is easy).",
                self.paragraph_words.lower, self.paragraph_words.upper, self.word_letters, self.reading_ease
            ),
            listed(WORDING),
            listed(PUNCTUATION),
            listed(MARKUP),
        ]
    }

    /// All features by name: what can be compared between texts.
    pub fn features(&self) -> [(&'static str, f64); 25] {
        [
            ("sentence length, lower quartile", self.sentence_words.lower),
            ("sentence length, median", self.sentence_words.median),
            ("sentence length, upper quartile", self.sentence_words.upper),
            ("paragraph length, lower quartile", self.paragraph_words.lower),
            ("paragraph length, median", self.paragraph_words.median),
            ("paragraph length, upper quartile", self.paragraph_words.upper),
            ("letters in a word", self.word_letters),
            ("reading ease", self.reading_ease),
            ("contractions", self.contractions),
            ("words of the first person", self.first_person),
            ("hedges", self.hedges),
            ("questions", self.questions),
            ("exclamations", self.exclamations),
            ("commas", self.commas),
            ("semicolons", self.semicolons),
            ("colons", self.colons),
            ("dashes", self.dashes),
            ("parentheses", self.parentheses),
            ("quotations", self.quotations),
            ("ellipses", self.ellipses),
            ("emoji", self.emoji),
            ("headings", self.headings),
            ("list items", self.list_items),
            ("links", self.links),
            ("emphases", self.emphases),
        ]
    }
}

/// Where a text leaves the range of an author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    pub feature: String,
    pub value: f64,
    /// The least and the most of the author's texts, after one in twenty is left out at either end.
    pub range: (f64, f64),
    /// How far outside, in widths of the range.
    pub widths: f64,
}

/// The features in which a text lies outside the range of an author's texts, farthest first. The author's texts should be of
/// about the same length.
pub fn departures(author: &[StyleProfile], text: &StyleProfile) -> Vec<Departure> {
    let features: Vec<_> = author.iter().map(StyleProfile::features).collect();
    let mut departures = Vec::new();
    for (index, (name, value)) in text.features().into_iter().enumerate() {
        let mut values: Vec<f64> = features.iter().map(|features| features[index].1).collect();
        values.sort_by(f64::total_cmp);
        let outer = values.len() / 20;
        let inner = &values[outer..values.len() - outer];
        let (Some(low), Some(high)) = (inner.first().copied(), inner.last().copied()) else { continue };
        let outside = (low - value).max(value - high);
        if outside > 0.0 {
            // A feature the author never varies has no width; a tenth of its value, or one in a thousand, will do.
            let width = (high - low).max(high.abs() * 0.1).max(1.0);
            departures.push(Departure { feature: name.to_owned(), value, range: (low, high), widths: outside / width });
        }
    }
    departures.sort_by(|a, b| b.widths.total_cmp(&a.widths));
    departures
}

/// The texture of a text, which cleaning and conversion must not wash out. Per 1,000 words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TextureRates {
    pub contractions: f64,
    /// Marks of punctuation, typography apart: apostrophes and hyphens inside words are none.
    pub punctuation: f64,
    pub paragraphs: f64,
}

impl TextureRates {
    /// Whether every rate is within `tolerance` of the other's, as a share of the other's.
    pub fn is_within(&self, tolerance: f64, source: &Self) -> bool {
        let near = |own: f64, other: f64| (own - other).abs() <= tolerance * other.abs() + 1e-12;
        near(self.contractions, source.contractions)
            && near(self.punctuation, source.punctuation)
            && near(self.paragraphs, source.paragraphs)
    }
}

/// The texture of a Markdown text.
pub fn texture_rates(markdown: &str) -> TextureRates {
    let prose = prose(markdown);
    let words: Vec<String> = words(&prose).collect();
    let per_thousand = |count: usize| count as f64 * 1000.0 / words.len().max(1) as f64;
    let single = prose.chars().filter(|c| matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '(' | ')' | '"')).count();
    // An ellipsis is one mark however it is written; normalising made three of it.
    let punctuation = single + dashes(&prose) - 2 * prose.matches("...").count();
    TextureRates {
        contractions: per_thousand(contractions(&words)),
        punctuation: per_thousand(punctuation),
        paragraphs: per_thousand(paragraphs(&prose).count()),
    }
}

fn contractions(words: &[String]) -> usize {
    let is_contraction = |word: &&String| {
        ["n't", "'re", "'ve", "'ll", "'d", "'m"].iter().any(|end| word.ends_with(end))
            || IS_CONTRACTED.contains(&word.as_str())
    };
    words.iter().filter(is_contraction).count()
}

/// The dashes of normalised prose, which stand alone.
fn dashes(prose: &str) -> usize {
    prose.split_whitespace().filter(|token| *token == "-").count()
}

fn is_emoji(character: char) -> bool {
    matches!(character, '\u{1f300}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}')
}

fn reading_ease(words: &[String], sentences: usize) -> f64 {
    let count = words.len() as f64;
    let syllables = words.iter().map(|word| syllables(word)).sum::<usize>() as f64;
    206.835 - 1.015 * count / sentences.max(1) as f64 - 84.6 * syllables / count
}

/// Groups of vowels, without a silent `e` at the end; at least one.
fn syllables(word: &str) -> usize {
    let is_vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    let letters: Vec<char> = word.chars().filter(|c| c.is_alphabetic()).collect();
    let groups = letters.chunk_by(|a, b| is_vowel(*a) == is_vowel(*b)).filter(|group| is_vowel(group[0])).count();
    let silent = matches!(letters.as_slice(), [.., before, 'e'] if !is_vowel(*before) && *before != 'l');
    groups.saturating_sub(usize::from(silent)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_profile() {
        let text = "# Head\n\nI don't know. Perhaps it's Tom's — or not?\n\n- No! (Yes; maybe…)\n";
        let profile = StyleProfile::of(text);
        assert_eq!((profile.words, profile.sentences, profile.paragraphs), (11, 4, 2));
        assert_eq!(profile.sentence_words, Quartiles { lower: 1.75, median: 2.5, upper: 3.5 });
        let each = 1000.0 / 11.0;
        let close = |value: f64, count: f64| assert!((value - count * each).abs() < 1e-9, "{value} {count}");
        close(profile.contractions, 2.0);
        close(profile.first_person, 1.0);
        close(profile.hedges, 2.0);
        close(profile.questions, 1.0);
        close(profile.exclamations, 1.0);
        close(profile.dashes, 1.0);
        close(profile.semicolons, 1.0);
        close(profile.parentheses, 1.0);
        close(profile.ellipses, 1.0);
        close(profile.headings, 1.0);
        close(profile.list_items, 1.0);
        assert_eq!(StyleProfile::of("```\ncode\n```"), StyleProfile::default());
        let said = profile.description().join(" ");
        assert!(said.starts_with("Sentences of 2 to 4 words, 2 in the middle"), "{said}");
        assert!(said.contains("91 semicolons") && said.contains("no commas"), "{said}");
        let places = |range: Range<usize>| (profile.features()[range.start].0, profile.features()[range.end - 1].0);
        assert_eq!(places(WORDING), ("contractions", "exclamations"));
        assert_eq!(places(PUNCTUATION), ("commas", "emoji"));
        assert_eq!(places(MARKUP), ("headings", "emphases"));
        assert_eq!(StyleProfile::default().description().len(), 1);
    }

    #[test]
    fn syllables_by_rule() {
        for (word, count) in [("the", 1), ("table", 2), ("made", 1), ("reading", 2), ("syllable", 3), ("nth", 1)] {
            assert_eq!(syllables(word), count, "{word}");
        }
    }

    #[test]
    fn what_differs_most_comes_first() {
        let author: Vec<StyleProfile> =
            ["It's so. It's not.", "It isn't so. It's not.", "That's it. It isn't."].map(StyleProfile::of).to_vec();
        assert_eq!(departures(&author, &author[1]).len(), 0);
        let found =
            departures(&author, &StyleProfile::of("It is so, is it not! It is not so at all, and it never was so."));
        // Two commas and one exclamation mark from an author who uses neither.
        assert_eq!((found[0].feature.as_str(), found[1].feature.as_str()), ("commas", "exclamations"));
        assert!(found.windows(2).all(|pair| pair[0].widths >= pair[1].widths));
        assert!(found.iter().any(|departure| departure.feature == "contractions" && departure.value == 0.0));
    }

    #[test]
    fn washing_out_shows() {
        let source = "It’s late — don’t go.\n\nWait… please.";
        let same = texture_rates("It's late -- don't go.\n\nWait... please.");
        assert!(same.is_within(0.01, &texture_rates(source)));
        assert!(!texture_rates("It is late, do not go. Wait please.").is_within(0.01, &texture_rates(source)));
        assert!((same.punctuation - 4000.0 / 6.0).abs() < 1e-9);
        assert!((same.paragraphs - 2000.0 / 6.0).abs() < 1e-9);
    }
}
