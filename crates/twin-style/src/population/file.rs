//! A population as bytes: JSON in which n-grams are numbered and numbers are written as gaps, deflated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{Member, Population};
use crate::counts::{CountedAuthor, CountedText, CountedUnit, WordCounts};
use crate::ngrams::Key;

/// The version of this format. A file of another one is refused.
const FORMAT: u32 = 1;

/// The most bytes that a file may come to when it is unpacked: a small file must not fill the memory.
const MAX_BYTES: u64 = 256 << 20;

/// Why bytes are no population.
#[derive(Debug, thiserror::Error)]
pub enum PopulationError {
    #[error("it is not a population, or it is damaged: build it again")]
    Damaged(#[from] std::io::Error),
    #[error("it is not a population, or it is damaged: build it again")]
    NotOne(#[from] serde_json::Error),
    #[error("it has format {found} and this version reads format {expected}: build it again", expected = FORMAT)]
    Format { found: u32 },
    #[error("it counts something that is not in its lists: build it again")]
    Inconsistent,
}

/// Pairs of a number and a count, each number as the distance from the one before.
type Sparse = Vec<u32>;

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    name: String,
    unit_words: usize,
    vocabulary: Vec<String>,
    /// Each n-gram as its difference from the one before, in hexadecimal digits.
    characters: Vec<String>,
    grammar: Vec<String>,
    /// Three numbers in the vocabulary for each.
    triples: Vec<u32>,
    authors: Vec<FileAuthor>,
}

#[derive(Serialize, Deserialize)]
struct FileAuthor {
    member: Member,
    known: Vec<FileWords>,
    characters: Sparse,
    grammar: Sparse,
    held_out: Vec<FileUnit>,
}

#[derive(Serialize, Deserialize)]
struct FileWords {
    total: u32,
    words: Sparse,
    marks: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct FileUnit {
    words: FileWords,
    characters: Sparse,
    grammar: Sparse,
    post: usize,
}

/// The lists by which things are numbered, sorted.
struct Lists {
    vocabulary: Vec<String>,
    characters: Vec<Key>,
    grammar: Vec<Key>,
}

impl Population {
    /// The population as bytes. The same population gives the same bytes.
    ///
    /// # Errors
    /// When memory cannot be written to, which does not happen.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PopulationError> {
        let sorted =
            |keys: &std::collections::HashSet<Key>| keys.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let lists = Lists {
            vocabulary: self.vocabulary.iter().cloned().collect(),
            characters: sorted(&self.characters),
            grammar: sorted(&self.grammar),
        };
        let word_number = numbers(&lists.vocabulary);
        let author = |(member, author): &(Member, CountedAuthor)| FileAuthor {
            member: member.clone(),
            known: author.known.units.iter().map(|unit| write_words(unit, &word_number)).collect(),
            characters: write_grams(
                author.known.characters.iter().map(|(key, count)| (*key, *count)),
                &lists.characters,
            ),
            grammar: write_grams(author.known.grammar.iter().map(|(key, count)| (*key, *count)), &lists.grammar),
            held_out: author.held_out.iter().map(|unit| write_unit(unit, &lists, &word_number)).collect(),
        };
        let file = File {
            format: FORMAT,
            name: self.name.clone(),
            unit_words: self.unit_words,
            characters: gaps(&lists.characters),
            grammar: gaps(&lists.grammar),
            triples: self.triples.iter().flatten().filter_map(|word| word_number.get(word).copied()).collect(),
            authors: self.members.iter().map(author).collect(),
            vocabulary: lists.vocabulary,
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&serde_json::to_vec(&file)?)?;
        Ok(encoder.finish()?)
    }

    /// The population that bytes stand for.
    ///
    /// # Errors
    /// When they stand for none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PopulationError> {
        let mut json = Vec::new();
        GzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut json)?;
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(&json)?;
        if format != FORMAT {
            return Err(PopulationError::Format { found: format });
        }
        let file: File = serde_json::from_slice(&json)?;
        let lists = Lists {
            characters: keys(&file.characters).ok_or(PopulationError::Inconsistent)?,
            grammar: keys(&file.grammar).ok_or(PopulationError::Inconsistent)?,
            vocabulary: file.vocabulary,
        };
        let authors: Option<Vec<_>> = file.authors.into_iter().map(|author| read_author(author, &lists)).collect();
        let word = |number: &u32| lists.vocabulary.get(*number as usize).cloned();
        let triple = |triple: &[u32]| Some([word(&triple[0])?, word(&triple[1])?, word(&triple[2])?]);
        let triples: Option<BTreeSet<[String; 3]>> = file.triples.chunks_exact(3).map(triple).collect();
        Ok(Self {
            name: file.name,
            unit_words: file.unit_words,
            members: authors.ok_or(PopulationError::Inconsistent)?,
            triples: triples.ok_or(PopulationError::Inconsistent)?,
            vocabulary: lists.vocabulary.into_iter().collect(),
            characters: lists.characters.into_iter().collect(),
            grammar: lists.grammar.into_iter().collect(),
        })
    }
}

fn numbers(vocabulary: &[String]) -> HashMap<String, u32> {
    vocabulary.iter().cloned().zip(0..).collect()
}

fn gaps(keys: &[Key]) -> Vec<String> {
    let mut before = 0;
    let gap = |key: &Key| format!("{:x}", key - std::mem::replace(&mut before, *key));
    keys.iter().map(gap).collect()
}

fn keys(gaps: &[String]) -> Option<Vec<Key>> {
    let mut sum: Key = 0;
    let mut key = |gap: &String| {
        sum = sum.checked_add(Key::from_str_radix(gap, 16).ok()?)?;
        Some(sum)
    };
    gaps.iter().map(&mut key).collect()
}

fn sparse(pairs: BTreeMap<u32, u32>) -> Sparse {
    let mut before = 0;
    pairs.into_iter().flat_map(|(number, count)| [number - std::mem::replace(&mut before, number), count]).collect()
}

fn pairs(sparse: &[u32]) -> Option<Vec<(usize, u32)>> {
    let mut sum: u32 = 0;
    let mut pair = |pair: &[u32]| {
        sum = sum.checked_add(pair[0])?;
        Some((sum as usize, pair[1]))
    };
    sparse.chunks_exact(2).map(&mut pair).collect()
}

fn write_words(words: &WordCounts, numbers: &HashMap<String, u32>) -> FileWords {
    let numbered = words.words.iter().filter_map(|(word, count)| Some((*numbers.get(word)?, *count)));
    FileWords { total: words.total, words: sparse(numbered.collect()), marks: words.marks.clone() }
}

fn write_grams(grams: impl Iterator<Item = (Key, u32)>, list: &[Key]) -> Sparse {
    sparse(grams.filter_map(|(key, count)| Some((list.binary_search(&key).ok()? as u32, count))).collect())
}

fn write_unit(unit: &CountedUnit, lists: &Lists, numbers: &HashMap<String, u32>) -> FileUnit {
    FileUnit {
        words: write_words(&unit.words, numbers),
        characters: write_grams(unit.characters.iter().copied(), &lists.characters),
        grammar: write_grams(unit.grammar.iter().copied(), &lists.grammar),
        post: unit.post,
    }
}

fn read_author(author: FileAuthor, lists: &Lists) -> Option<(Member, CountedAuthor)> {
    let known = CountedText {
        units: author.known.into_iter().map(|unit| read_words(unit, lists)).collect::<Option<_>>()?,
        characters: read_grams(&author.characters, &lists.characters)?.into_iter().collect(),
        grammar: read_grams(&author.grammar, &lists.grammar)?.into_iter().collect(),
    };
    let unit = |unit: FileUnit| {
        Some(CountedUnit {
            words: read_words(unit.words, lists)?,
            characters: read_grams(&unit.characters, &lists.characters)?,
            grammar: read_grams(&unit.grammar, &lists.grammar)?,
            post: unit.post,
        })
    };
    let held_out = author.held_out.into_iter().map(unit).collect::<Option<_>>()?;
    Some((author.member, CountedAuthor { known, held_out }))
}

fn read_words(words: FileWords, lists: &Lists) -> Option<WordCounts> {
    let word = |(number, count): (usize, u32)| Some((lists.vocabulary.get(number)?.clone(), count));
    Some(WordCounts {
        total: words.total,
        words: pairs(&words.words)?.into_iter().map(word).collect::<Option<_>>()?,
        marks: words.marks,
    })
}

fn read_grams(sparse: &[u32], list: &[Key]) -> Option<Vec<(Key, u32)>> {
    pairs(sparse)?.into_iter().map(|(number, count)| Some((*list.get(number)?, count))).collect()
}
