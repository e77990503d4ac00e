//! The sparse model of a feature view, as the view's text names it.

use std::collections::BTreeMap;

use qdrant_edge::SparseVector;
use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;
use twin_domain::{FeatureView, StoreError};

use crate::failure::invalid;

/// The mean number of terms, without stop words, in a chunk's search text where a view does not state one. 8,900 passages
/// of real blog posts and essays of at most 220 embedder tokens have 83.9; `mean_length` in this crate's tests measures it.
const AVERAGE_LENGTH: f64 = 80.0;

/// BM25 (Robertson and Zaragoza, 2009) and its parameters.
///
/// Its text form is `bm25`, followed by any of `k1=`, `b=`, `avg_len=`, `language=` and `forms=`, as in
/// `bm25 k1=1.2 b=0.75`. What is left out has the defaults `k1=1.2 b=0.75 avg_len=80 language=english forms=stem`. Existing
/// views mean these defaults when they say nothing, so the defaults never change.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseModel {
    /// How soon repetition of a term stops counting; 0 or more.
    pub k1: f64,
    /// How much longer texts are held back, 0 to 1.
    pub b: f64,
    /// The mean length of a text in tokens.
    pub average_length: f64,
    /// The English name of the language whose stop words and endings are removed, in lower case.
    pub language: String,
    pub forms: Forms,
}

/// Which forms of a word are terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// `stem`: the word without its ending.
    Stem,
    /// `stem+word`: that, and the word as it stands, as two terms. What shares a stem is found, and what shares the very word
    /// comes before it.
    StemAndWord,
}

impl Default for SparseModel {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75, average_length: AVERAGE_LENGTH, language: "english".to_owned(), forms: Forms::Stem }
    }
}

impl SparseModel {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the text does not begin with `bm25`, has an unknown parameter, or a value is out of range.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let refused = |problem: String| invalid(format!("the sparse model `{text}`"), problem);
        let mut words = text.split_whitespace();
        if words.next() != Some("bm25") {
            return Err(refused("it must begin with `bm25`, as in `bm25 k1=1.2 b=0.75`".to_owned()));
        }
        let mut model = Self::default();
        for word in words {
            model.set(word).ok_or_else(|| {
                refused(format!(
                    "`{word}` is none of `k1=` (0 or more), `b=` (0 to 1), `avg_len=` (above 0), `language=`, `forms=` \
                     (stem, stem+word)"
                ))
            })?;
        }
        Ok(model)
    }

    /// Sets the parameter that `word` names, if it names one and its value is allowed.
    fn set(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        let number = || value.parse::<f64>().ok().filter(|value| value.is_finite());
        match name {
            "k1" => self.k1 = number().filter(|k1| *k1 >= 0.0)?,
            "b" => self.b = number().filter(|b| (0.0..=1.0).contains(b))?,
            "avg_len" => self.average_length = number().filter(|length| *length > 0.0)?,
            "forms" => {
                self.forms = match value {
                    "stem" => Forms::Stem,
                    "stem+word" => Forms::StemAndWord,
                    _ => return None,
                }
            }
            "language" => self.language = value.to_ascii_lowercase(),
            _ => return None,
        }
        Some(())
    }

    /// The weight of a term that stands `count` times in a text of `length` tokens, without its inverse document frequency.
    pub(crate) fn term_weight(&self, count: f64, length: f64) -> f64 {
        count * (self.k1 + 1.0) / (count + self.k1 * (1.0 - self.b + self.b * length / self.average_length))
    }
}

/// Makes the sparse vectors of a view. The engines multiply in the inverse document frequency when they are asked.
pub(crate) struct SparseEncoder {
    stems: EdgeBm25,
    words: Option<EdgeBm25>,
}

/// Tells a word as it stands from a stem of the same letters. The terms of the engine are below it.
const WORD: u32 = 1 << 31;

/// A language whose endings the engine does not know, so that it leaves words as they stand.
const WITHOUT_ENDINGS: &str = "chinese";

impl SparseEncoder {
    /// The encoder of a view's sparse model.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the model's text cannot be read or its language is not known.
    pub fn new(view: &FeatureView) -> Result<Self, StoreError> {
        let model = SparseModel::parse(&view.sparse)?;
        let number = |value: f64| NotNan::new(value).map_err(|error| invalid("the sparse model", error));
        let config = EdgeBm25Config {
            k: number(model.k1)?,
            b: number(model.b)?,
            avg_len: number(model.average_length)?,
            ..EdgeBm25Config::default()
        };
        let stems = EdgeBm25Config { language: Some(model.language.clone()), ..config.clone() };
        let words = EdgeBm25Config {
            language: Some(WITHOUT_ENDINGS.to_owned()),
            // The stop words of the text's own language, by its name. One that is not known is refused with the stems.
            stopwords: serde_json::from_value(model.language.into()).ok(),
            ..config
        };
        let made = |config| {
            EdgeBm25::new(config).map_err(|error| invalid(format!("the sparse model `{}`", view.sparse), error))
        };
        let words = (model.forms == Forms::StemAndWord).then(|| made(words)).transpose()?;
        Ok(Self { stems: made(stems)?, words })
    }

    /// The weights of a text's terms. `None` for a text of stop words and signs only: lexical search cannot find it.
    pub fn document(&self, text: &str) -> Option<SparseVector> {
        self.terms(|bm25| bm25.embed_document(text))
    }

    /// What to look for; `None` when there is nothing.
    pub fn query(&self, text: &str) -> Option<SparseVector> {
        self.terms(|bm25| bm25.embed_query(text))
    }

    fn terms(&self, embed: impl Fn(&EdgeBm25) -> SparseVector) -> Option<SparseVector> {
        let mut terms = BTreeMap::new();
        for (bm25, mark) in std::iter::once((&self.stems, 0)).chain(self.words.iter().map(|words| (words, WORD))) {
            let SparseVector { indices, values } = embed(bm25);
            for (index, value) in indices.into_iter().zip(values) {
                *terms.entry(index ^ mark).or_insert(0.0) += value;
            }
        }
        let (indices, values) = terms.into_iter().unzip();
        Some(SparseVector { indices, values }).filter(|vector| !vector.indices.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_in_use_is_understood() {
        assert_eq!(SparseModel::parse("bm25 k1=1.2 b=0.75").unwrap(), SparseModel::default());
        let german = SparseModel::parse("bm25 k1=0.9 b=0.4 avg_len=120 language=German").unwrap();
        assert_eq!(SparseModel::parse("bm25 forms=stem").unwrap(), SparseModel::default());
        assert_eq!(SparseModel::parse("bm25 forms=stem+word").unwrap().forms, Forms::StemAndWord);
        assert_eq!((german.k1, german.b, german.average_length, german.language.as_str()), (0.9, 0.4, 120.0, "german"));
    }

    #[test]
    fn what_it_does_not_know_is_refused_and_named() {
        for (text, named) in [
            ("splade", "bm25"),
            ("bm25 k2=1", "k2=1"),
            ("bm25 b=1.5", "b=1.5"),
            ("bm25 avg_len=NaN", "avg_len=NaN"),
            ("bm25 forms=", "forms="),
        ] {
            assert!(SparseModel::parse(text).unwrap_err().to_string().contains(named), "{text}");
        }
    }

    /// The dot product of a query's and a text's terms.
    fn score(sparse: &str, query: &str, text: &str) -> f32 {
        let view = FeatureView {
            cleaner: String::new(),
            chunker: String::new(),
            max_chunk_tokens: 1,
            embedder: String::new(),
            embedder_digest: twin_domain::Digest::of(""),
            dimension: 1,
            sparse: sparse.to_owned(),
        };
        let encoder = SparseEncoder::new(&view).unwrap();
        let (Some(query), Some(text)) = (encoder.query(query), encoder.document(text)) else { return 0.0 };
        let text: BTreeMap<u32, f32> = text.indices.into_iter().zip(text.values).collect();
        let products =
            query.indices.iter().zip(&query.values).map(|(index, value)| value * text.get(index).unwrap_or(&0.0));
        products.sum()
    }

    #[test]
    fn the_very_word_counts_more_than_its_stem_where_both_are_terms() {
        let (same, kin, none) = ("the planks are caulked", "a caulking iron lies there", "the planks are painted");
        for sparse in ["bm25", "bm25 forms=stem"] {
            assert_eq!(score(sparse, "caulked", same), score(sparse, "caulked", "the planks are caulking"), "{sparse}");
        }
        let both = |text| score("bm25 forms=stem+word", "caulked", text);
        assert!(both(same) > 1.5 * both(kin) && both(kin) > 0.0 && both(none) == 0.0);
        assert_eq!(score("bm25 forms=stem+word", "the", "the planks are the best"), 0.0, "stop words are no terms");
        assert!(score("bm25 forms=stem+word language=german", "Planken", "die Planken und die Planke") > 0.0);
    }

    #[test]
    fn the_weight_is_the_published_one() {
        // 2 occurrences in a text of mean length: 2 * 2.2 / (2 + 1.2).
        let model = SparseModel { average_length: 5.0, ..SparseModel::default() };
        assert!((model.term_weight(2.0, 5.0) - 1.375).abs() < 1e-12);
    }
}
