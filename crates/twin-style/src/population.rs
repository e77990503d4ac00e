//! Other people, for whoever has nobody to be compared with: how often some authors use words, marks and n-grams, and no
//! sentence of theirs.
//!
//! Only what two authors or more have in common is kept: the commonest words, and the n-grams and word triples that do not
//! give away whose they are. Whatever is compared with a population is cut down to the same before it is counted, so that
//! an author's rare words are no advantage over people who are known by their common ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::counts::{CountedAuthor, CountedText, CountedUnit, WordCounts};
use crate::fluency::TrigramPool;
use crate::function_words;
use crate::likeness::{AuthorTexts, RulerConfig, counted};
use crate::ngrams::{Counts, Key};
use crate::text::{prose, words};

pub use self::file::PopulationError;

mod file;

/// How many of the commonest words are kept, besides all function words.
const VOCABULARY: usize = 2_000;

/// In how many authors' text something has to stand to be kept.
const MIN_AUTHORS: usize = 2;

/// How often an n-gram has to occur in all to be kept.
const MIN_COUNT: u32 = 4;

/// The most known text of each author, in words, and the most held-out units: a few megabytes in all.
const MAX_KNOWN_WORDS: usize = 20_000;
const MAX_HELD_OUT: usize = 6;

/// Whose text a population is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributor<'a> {
    pub name: String,
    /// What kind of texts these are, as in `posts` or `essays`. Compare like with like.
    pub genre: String,
    /// Markdown, oldest first.
    pub posts: Vec<&'a str>,
}

/// An author of a population, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub genre: String,
    /// Words of text that was counted.
    pub known_words: usize,
    pub held_out_units: usize,
}

/// Statistics of several authors.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    pub name: String,
    unit_words: usize,
    members: Vec<(Member, CountedAuthor)>,
    vocabulary: BTreeSet<String>,
    characters: HashSet<Key>,
    grammar: HashSet<Key>,
    triples: BTreeSet<[String; 3]>,
}

impl Population {
    /// Counts the texts of several authors. Those with less than two units of known or of newer text are left out.
    pub fn build(name: &str, contributors: &[Contributor<'_>]) -> Self {
        let config = RulerConfig { max_known_words: MAX_KNOWN_WORDS, ..RulerConfig::default() };
        let mut members = Vec::new();
        let mut texts: Vec<Vec<String>> = Vec::new();
        for contributor in contributors {
            let parted = AuthorTexts::by_date(&contributor.name, &contributor.posts, 0.7);
            let mut author = counted(&parted, &config);
            let step = author.held_out.len().div_ceil(MAX_HELD_OUT).max(1);
            author.held_out = author.held_out.into_iter().step_by(step).collect();
            if author.known.units.len() < 2 || author.held_out.len() < 2 {
                continue;
            }
            let member = Member {
                name: contributor.name.clone(),
                genre: contributor.genre.clone(),
                known_words: author.known.words(),
                held_out_units: author.held_out.len(),
            };
            members.push((member, author));
            texts.push(parted.known.iter().map(|text| prose(text)).collect());
        }
        let known = || members.iter().map(|(_, author): &(Member, CountedAuthor)| &author.known);
        let mut population = Self {
            name: name.to_owned(),
            unit_words: config.unit_words,
            vocabulary: common_words(known()),
            characters: shared(known().map(|text| &text.characters)),
            grammar: shared(known().map(|text| &text.grammar)),
            triples: BTreeSet::new(),
            members: Vec::new(),
        };
        population.triples = shared_triples(&texts, &population.vocabulary);
        population.members =
            members.into_iter().map(|(member, author)| (member, population.restricted(author))).collect();
        population
    }

    /// The authors in it.
    pub fn members(&self) -> impl Iterator<Item = &Member> + '_ {
        self.members.iter().map(|(member, _)| member)
    }

    /// The length of its units, in words.
    pub fn unit_words(&self) -> usize {
        self.unit_words
    }

    /// The counts of all authors but those who bear one of these names (case makes no difference), and of these genres only
    /// if any are named.
    pub(crate) fn authors(&self, without: &[&str], genres: &[String]) -> Vec<&CountedAuthor> {
        let is_wanted = |member: &Member| {
            !without.iter().any(|name| name.to_lowercase() == member.name.to_lowercase())
                && (genres.is_empty() || genres.contains(&member.genre))
        };
        self.members.iter().filter(|(member, _)| is_wanted(member)).map(|(_, author)| author).collect()
    }

    /// An author's counts without what the population does not count.
    pub(crate) fn restricted(&self, mut author: CountedAuthor) -> CountedAuthor {
        author.known.units.iter_mut().for_each(|unit| self.restrict_words(unit));
        author.known.characters.retain(|key, _| self.characters.contains(key));
        author.known.grammar.retain(|key, _| self.grammar.contains(key));
        author.held_out = author.held_out.into_iter().map(|unit| self.restricted_unit(unit)).collect();
        author
    }

    pub(crate) fn restricted_unit(&self, mut unit: CountedUnit) -> CountedUnit {
        self.restrict_words(&mut unit.words);
        unit.characters.retain(|(key, _)| self.characters.contains(key));
        unit.grammar.retain(|(key, _)| self.grammar.contains(key));
        unit
    }

    fn restrict_words(&self, words: &mut WordCounts) {
        words.words.retain(|word, _| self.vocabulary.contains(word));
    }

    /// The word triples that two of its authors have in common.
    pub(crate) fn triples(&self) -> TrigramPool {
        TrigramPool::new(&self.triples.iter().map(|triple| triple.join(" ")).collect::<Vec<_>>())
    }
}

fn common_words<'a>(known: impl Iterator<Item = &'a CountedText>) -> BTreeSet<String> {
    let mut totals: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for text in known {
        let mut own: HashMap<&str, u64> = HashMap::new();
        for (word, count) in text.units.iter().flat_map(|unit| &unit.words) {
            *own.entry(word).or_default() += u64::from(*count);
        }
        for (word, count) in own {
            let total = totals.entry(word).or_default();
            *total = (total.0 + count, total.1 + 1);
        }
    }
    let mut totals: Vec<(&str, u64)> = totals
        .into_iter()
        .filter(|(_, (_, authors))| *authors >= MIN_AUTHORS)
        .map(|(word, (n, _))| (word, n))
        .collect();
    totals.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let common = totals.into_iter().take(VOCABULARY).map(|(word, _)| word.to_owned());
    common.chain(function_words::list().map(str::to_owned)).collect()
}

fn shared<'a>(known: impl Iterator<Item = &'a Counts>) -> HashSet<Key> {
    let mut totals: HashMap<Key, (u32, usize)> = HashMap::new();
    for (key, count) in known.flatten() {
        let total = totals.entry(*key).or_default();
        *total = (total.0.saturating_add(*count), total.1 + 1);
    }
    let is_shared = |(_, (count, authors)): &(Key, (u32, usize))| *authors >= MIN_AUTHORS && *count >= MIN_COUNT;
    totals.into_iter().filter(is_shared).map(|(key, _)| key).collect()
}

fn shared_triples(texts: &[Vec<String>], vocabulary: &BTreeSet<String>) -> BTreeSet<[String; 3]> {
    let mut authors: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for text in texts {
        let mut own = BTreeSet::new();
        for prose in text {
            let words: Vec<String> = words(prose).collect();
            let is_common = |triple: &&[String]| triple.iter().all(|word| vocabulary.contains(word));
            own.extend(words.windows(3).filter(is_common).map(|triple| [0, 1, 2].map(|place| triple[place].clone())));
        }
        for triple in own {
            *authors.entry(triple).or_default() += 1;
        }
    }
    authors.into_iter().filter(|(_, count)| *count >= MIN_AUTHORS).map(|(triple, _)| triple).collect()
}
