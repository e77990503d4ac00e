//! How an author uses the words that carry no subject: function words and punctuation, as relative frequencies.
//!
//! On posts of technical authors, Cosine Delta over such a list tells same from different authors with an AUC of about .90
//! at 500 words, and hardly depends on the topic (Smith and Aldridge, "Improving authorship attribution: optimizing Burrows'
//! Delta method", 2011, for the cosine; Kestemont, "Function words in authorship attribution", 2014, for the list).

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::counts::WordCounts;
use crate::delta::{Measure, ZScores};
use crate::text::prose;

/// English function words and contractions.
const WORDS: &str = "a about above after again against ago all almost alone along already also although always am among an and \
another any anybody anyone anything are around as at away back be because been before behind being below beneath beside besides \
between beyond both but by can cannot could despite did do does doing done down during each either else enough even ever every \
everybody everyone everything except few for from further had has have having he hence her here hers herself him himself his how \
however i if in indeed inside instead into is it its itself just least less like little many may maybe me might mine more most \
much must my myself near nearly neither never no nobody none nor not nothing now of off often on once one only onto or other others \
otherwise ought our ours ourselves out outside over own per perhaps quite rather really round same several shall she should since \
so some somebody someone something sometimes somewhere still such than that the their theirs them themselves then there therefore \
these they thing things this those though through throughout thus till to together too toward towards under underneath unless until \
up upon us usually very was we well were what whatever when whenever where whereas wherever whether which whichever while who \
whoever whom whose why will with within without would yes yet you your yours yourself aren't can't couldn't didn't doesn't don't \
hadn't hasn't haven't he'd he'll he's i'd i'll i'm i've isn't it'd it'll it's let's mightn't mustn't she'd she'll she's shouldn't \
that'd that'll that's there's they'd they'll they're they've wasn't we'd we'll we're we've weren't what's who's won't wouldn't you'd \
you'll you're you've";

/// Punctuation that counts as a feature: in normalised prose, each mark by itself.
const MARKS: [Mark; 13] = [
    Mark::Character('.'),
    Mark::Character(','),
    Mark::Character(';'),
    Mark::Character(':'),
    Mark::Character('!'),
    Mark::Character('?'),
    Mark::Character('('),
    Mark::Character(')'),
    Mark::Character('"'),
    Mark::Character('\''),
    Mark::Hyphen,
    Mark::Dash,
    Mark::Ellipsis,
];

enum Mark {
    Character(char),
    /// `well-known`
    Hyphen,
    /// `so - or not so`
    Dash,
    Ellipsis,
}

impl Mark {
    fn count(&self, prose: &str) -> usize {
        let dashes = || prose.matches(" - ").count();
        let ellipses = || prose.matches("...").count();
        match self {
            Self::Character('.') => prose.matches('.').count() - 3 * ellipses(),
            Self::Character(character) => prose.matches(*character).count(),
            Self::Hyphen => prose.matches('-').count() - dashes(),
            Self::Dash => dashes(),
            Self::Ellipsis => ellipses(),
        }
    }
}

/// Whether a word, in lower case, is a function word.
pub fn contains(word: &str) -> bool {
    static SET: LazyLock<HashSet<&str>> = LazyLock::new(|| WORDS.split_whitespace().collect());
    SET.contains(word)
}

/// All function words, in the order of their features.
pub(crate) fn list() -> impl Iterator<Item = &'static str> {
    WORDS.split_whitespace()
}

/// How many features there are: words and marks.
pub fn feature_count() -> usize {
    WORDS.split_whitespace().count() + MARKS.len()
}

/// How often each mark stands in prose.
pub(crate) fn mark_counts(prose: &str) -> Vec<u32> {
    MARKS.iter().map(|mark| mark.count(prose) as u32).collect()
}

/// The frequencies of all features, relative to the words.
pub(crate) fn frequencies(counts: &WordCounts) -> Vec<f64> {
    let of_words = WORDS.split_whitespace().map(|word| counts.of_word(word));
    of_words
        .chain(counts.marks.iter().copied())
        .map(|count| f64::from(count) / f64::from(counts.total.max(1)))
        .collect()
}

/// The relative frequencies of all features in one text, in the order of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile(Vec<f64>);

impl Profile {
    /// The profile of a Markdown text.
    pub fn of(markdown: &str) -> Self {
        Self(frequencies(&WordCounts::of(&prose(markdown))))
    }
}

/// The scale on which profiles are compared: mean and standard deviation of every feature over known texts.
#[derive(Debug, Clone)]
pub struct Scale(ZScores);

impl Scale {
    /// The scale of known texts, which must not be the ones that are measured later.
    pub fn of(known: &[Profile]) -> Self {
        Self(ZScores::of(known.iter().map(|profile| profile.0.as_slice())))
    }

    /// Cosine Delta: one minus the cosine of the two profiles' z-scores, from 0 (same direction) to 2 (opposite). Features
    /// that do not vary in the known texts have no part in it.
    pub fn cosine_delta(&self, a: &Profile, b: &Profile) -> f64 {
        Measure::Cosine.between(&self.0.apply(&a.0), &self.0.apply(&b.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_nearest_to_its_own_kind() {
        let terse = ["Cut it. Don't wait. It's done.", "Don't. It's wet. Cut two.", "It's late. Don't cut it."];
        let winding = [
            "It was, perhaps, the case that we, who had waited, were not; which is to say that the thing went on.",
            "We had, as it were, been there before; perhaps the others, who were not with us, had also waited.",
            "The thing, which we had perhaps not seen before, was there; and we, who were late, went on.",
        ];
        let profiles: Vec<Profile> = terse.iter().chain(&winding).map(|text| Profile::of(text)).collect();
        let scale = Scale::of(&profiles);
        assert!(scale.cosine_delta(&profiles[0], &profiles[0]) < 1e-9);
        assert!(scale.cosine_delta(&profiles[0], &profiles[1]) < scale.cosine_delta(&profiles[0], &profiles[4]));
        assert!(scale.cosine_delta(&profiles[3], &profiles[5]) < scale.cosine_delta(&profiles[3], &profiles[2]));
    }

    #[test]
    fn known_cosine() {
        // z-scores of two features over known texts (0, 0) and (2, 2): mean 1, sample deviation √2.
        let scale = Scale::of(&[Profile(vec![0.0, 0.0]), Profile(vec![2.0, 2.0])]);
        let at = |x: f64, y: f64| Profile(vec![x, y]);
        assert!((scale.cosine_delta(&at(2.0, 1.0), &at(1.0, 2.0)) - 1.0).abs() < 1e-12);
        assert!((scale.cosine_delta(&at(2.0, 2.0), &at(0.0, 0.0)) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_text_has_a_profile() {
        let scale = Scale::of(&[Profile::of("a b"), Profile::of("the and")]);
        assert!(scale.cosine_delta(&Profile::of(""), &Profile::of("the")).is_finite());
    }

    #[test]
    fn marks_are_told_apart() {
        let counts: Vec<usize> =
            MARKS.iter().map(|mark| mark.count("Well-known - it's so... (\"yes\"). No; a: b, c!?")).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]);
        assert!(contains("the") && contains("don't") && !contains("boat"));
    }
}
