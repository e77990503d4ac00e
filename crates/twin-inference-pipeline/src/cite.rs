//! Citations, made outside the model: each sentence of an answer is aligned to the passages by meaning, words and numbers.
//!
//! A small model cannot be trusted to number its sources. Here it does not: what a sentence says must be near a sentence of a
//! passage, and its numbers and names must stand in that passage, or it is marked as unsupported. Where the passage that
//! answers best is not what the answer rests on, the author's own sentence is quoted below it: the *anchor quote*.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use twin_domain::Embedding;
use twin_models::embedding::{EmbedError, Embedder};

use crate::retrieve::FoundPassage;
use crate::sentences::sentences;
use crate::words::{all_words, content_words, names, numbers, share};

use self::known::EvidenceSentence;

mod anchor;
mod known;
mod patience;

pub use self::known::KnownPassages;
pub use self::patience::Patience;

/// The cosine similarity above which two sentences say nearly the same.
const SAME_MEANING: f32 = 0.72;
/// The similarity above which common words decide.
const NEAR_MEANING: f32 = 0.45;
/// The share of a sentence's content words that a passage's sentence must have when meaning alone does not decide.
const COMMON_WORDS: f32 = 0.5;
/// Sentences with fewer content words claim nothing.
const CLAIM_WORDS: usize = 3;

/// Whether a sentence rests on a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// A passage says it.
    Supported,
    /// No passage says it.
    Unsupported,
    /// It says nothing that would need one.
    NoClaim,
    /// It is a passage's own sentence, word for word.
    Quotation,
}

/// A sentence of an answer with what it rests on. The texts of all pieces, joined, are the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub text: String,
    pub support: Support,
    /// Citation numbers of passages, from 1, best first.
    pub citations: Vec<usize>,
    /// The sentence of the first cited passage that supports it, an exact slice of that passage.
    pub evidence: Option<String>,
}

impl Piece {
    /// A text that claims nothing.
    pub fn without_claim(text: impl Into<String>) -> Self {
        Self { text: text.into(), support: Support::NoClaim, citations: Vec::new(), evidence: None }
    }
}

/// The sentences of passages with their vectors, for aligning answers to them.
pub struct Evidence {
    passages: Vec<FoundPassage>,
    sentences: Vec<EvidenceSentence>,
    /// What each passage states, by citation number minus one.
    facts: Vec<Facts>,
}

/// What must not differ between a sentence and the passage that supports it.
struct Facts {
    numbers: BTreeSet<String>,
    words: BTreeSet<String>,
}

impl Facts {
    fn of(passage: &FoundPassage) -> Self {
        let prompt = passage.for_prompt();
        let text = format!("{}\n{}\n{}", prompt.title, passage.document.author, prompt.text);
        Self { numbers: numbers(&text), words: all_words(&text) }
    }

    /// Whether all numbers and names of a sentence stand in the passage.
    fn hold(&self, numbers: &BTreeSet<String>, names: &BTreeSet<String>) -> bool {
        numbers.is_subset(&self.numbers) && names.is_subset(&self.words)
    }
}

impl Evidence {
    /// Splits and embeds passages, which are numbered from 1 without gaps.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn new(passages: Vec<FoundPassage>, embedder: &dyn Embedder) -> Result<Self, EmbedError> {
        Self::of_known(passages, embedder, &KnownPassages::default())
    }

    /// [`new`](Self::new), where the sentences of some passages are known.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn of_known(
        passages: Vec<FoundPassage>,
        embedder: &dyn Embedder,
        known: &KnownPassages,
    ) -> Result<Self, EmbedError> {
        let sentences = known.sentences(&passages, embedder)?;
        let facts = passages.iter().map(Facts::of).collect();
        Ok(Self { passages, sentences, facts })
    }

    /// The pieces of an answer with their citations.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn align(&self, answer: &str, embedder: &dyn Embedder) -> Result<Vec<Piece>, EmbedError> {
        let texts = sentences(answer);
        let claims: Vec<&str> = texts.iter().map(|text| text.trim()).filter(|text| is_claim(text)).collect();
        let mut embeddings = embedder.embed(&claims)?.into_iter();
        let piece = |text: &&str| {
            let trimmed = text.trim();
            let embedding = is_claim(trimmed).then(|| embeddings.next()).flatten();
            match embedding {
                Some(embedding) => self.piece(text, trimmed, &embedding),
                None => Piece::without_claim(*text),
            }
        };
        Ok(texts.iter().map(piece).collect())
    }

    /// The pieces of an answer to a question, with the anchor quote where it is needed.
    ///
    /// The rule: those sentences of the passages that answer the question best are anchors, one, or one each of two posts.
    /// An anchor on which no sentence of the answer rests, and so every one when nothing is supported, is quoted below the
    /// answer word for word, with its citation. Facts are then the author's even where the model fails.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn cite(&self, answer: &str, question: &str, embedder: &dyn Embedder) -> Result<Vec<Piece>, EmbedError> {
        let mut pieces = self.align(answer, embedder)?;
        let rests_on = |anchor: &Piece, piece: &Piece| {
            piece
                .evidence
                .as_ref()
                .is_some_and(|evidence| anchor.evidence.as_ref().is_some_and(|a| a.contains(evidence)))
        };
        let mut anchors = self.quotations(question, embedder)?;
        anchors.retain(|anchor| !pieces.iter().any(|piece| rests_on(anchor, piece)));
        for mut quotation in anchors {
            let gap = if pieces.is_empty() { "" } else { "\n\n" };
            quotation.text = format!("{gap}> {}", quotation.text);
            pieces.push(quotation);
        }
        Ok(pieces)
    }

    fn piece(&self, text: &str, sentence: &str, embedding: &Embedding) -> Piece {
        let (words, figures, named) = (content_words(sentence), numbers(sentence), names(sentence));
        let mut supporting: Vec<(f32, &EvidenceSentence)> = Vec::new();
        for candidate in &self.sentences {
            let similarity = embedding.cosine(&candidate.embedding);
            let common = share(&words, &candidate.words);
            let says_so = similarity >= SAME_MEANING || (similarity >= NEAR_MEANING && common >= COMMON_WORDS);
            // A wrong figure or name in a right sentence is the error that readers cannot see.
            if says_so && self.facts[candidate.passage - 1].hold(&figures, &named) {
                supporting.push((similarity + common, candidate));
            }
        }
        supporting.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut citations: Vec<usize> = Vec::new();
        for (_, candidate) in &supporting {
            if !citations.contains(&candidate.passage) && citations.len() < 2 {
                citations.push(candidate.passage);
            }
        }
        let support = if citations.is_empty() { Support::Unsupported } else { Support::Supported };
        let evidence = supporting.first().map(|(_, candidate)| candidate.text.clone());
        Piece { text: text.to_owned(), support, citations, evidence }
    }
}

/// The share of the sentences that claim something which rest on a passage; 1 when none claims anything.
pub fn grounded_share(pieces: &[Piece]) -> f64 {
    let count = |wanted: &[Support]| pieces.iter().filter(|piece| wanted.contains(&piece.support)).count() as f64;
    let claims = count(&[Support::Supported, Support::Unsupported, Support::Quotation]);
    if claims > 0.0 { count(&[Support::Supported, Support::Quotation]) / claims } else { 1.0 }
}

fn is_claim(sentence: &str) -> bool {
    !sentence.ends_with('?') && content_words(sentence).len() >= CLAIM_WORDS
}

/// Headings, rules and fences are no sentences.
fn is_prose(text: &str) -> bool {
    !text.starts_with('#') && !text.starts_with("```") && text.chars().filter(|c| c.is_alphabetic()).count() >= 12
}

#[cfg(test)]
pub(super) mod tests {
    use twin_domain::{AuthorId, Digest, DocumentId, DocumentInfo};
    use twin_models::embedding::ScriptedEmbedder;

    use super::*;

    pub(super) fn passage(number: usize, text: &str) -> FoundPassage {
        let author = AuthorId::parse("ada").unwrap();
        let url = format!("https://ada.example/{number}");
        let document = DocumentInfo {
            id: DocumentId::new(&author, &url),
            author,
            url,
            title: "T".into(),
            date: None,
            language: None,
            tags: vec![],
            content_hash: Digest::of(text),
        };
        let text = text.to_owned();
        FoundPassage {
            number,
            document,
            heading_path: vec![],
            text,
            chunks: vec![],
            score: 1.0,
            similarity: 1.0,
            instructions: vec![],
        }
    }

    fn passages() -> Vec<FoundPassage> {
        vec![
            passage(1, "The putty takes three kilos of whiting and 600 ml of raw oil. It costs £11."),
            passage(2, "The mallet is live oak with slots through the head."),
        ]
    }

    fn pieces(answer: &str, question: &str) -> Vec<Piece> {
        let embedder = ScriptedEmbedder::default();
        Evidence::new(passages(), &embedder).unwrap().cite(answer, question, &embedder).unwrap()
    }

    #[test]
    fn a_sentence_that_a_passage_says_is_cited() {
        let pieces = pieces("The putty takes three kilos of whiting and raw oil. Yes.", "What does the putty take?");
        assert_eq!(pieces[0].support, Support::Supported);
        assert_eq!(pieces[0].citations, [1]);
        assert_eq!(pieces[1].support, Support::NoClaim);
        assert_eq!(pieces.len(), 2, "nothing is quoted when the right passage is cited");
    }

    #[test]
    fn a_wrong_figure_takes_the_support_away() {
        let pieces =
            pieces("The putty takes three kilos of whiting and 900 ml of raw oil.", "What does the putty take?");
        assert_eq!(pieces[0].support, Support::Unsupported);
    }

    #[test]
    fn a_name_that_no_passage_has_takes_the_support_away() {
        let answer = "The putty of Ackley takes three kilos of whiting and raw oil.";
        assert_eq!(pieces(answer, "What does the putty take?")[0].support, Support::Unsupported);
    }

    #[test]
    fn an_answer_that_rests_on_another_passage_is_followed_by_the_anchor() {
        let pieces = pieces("The mallet is live oak with slots through the head.", "What does the putty take?");
        assert_eq!(pieces[0].citations, [2]);
        assert_eq!((pieces[1].support, pieces[1].citations.as_slice()), (Support::Quotation, [1].as_slice()));
    }

    #[test]
    fn an_empty_answer_is_the_quotation_alone() {
        let pieces = pieces("", "What is the mallet made of?");
        assert_eq!(pieces[0].text, "> The mallet is live oak with slots through the head.");
    }

    #[test]
    fn an_answer_without_support_is_followed_by_the_authors_own_words() {
        let pieces = pieces("Parliament dissolved several committees yesterday.", "What is the mallet made of?");
        assert_eq!(pieces[0].support, Support::Unsupported);
        let quotation = &pieces[1];
        assert_eq!(quotation.support, Support::Quotation);
        assert_eq!(quotation.text, "\n\n> The mallet is live oak with slots through the head.");
        assert_eq!(quotation.citations, [2]);
        assert_eq!(pieces[2].citations, [1], "and the post that search puts first");
        assert_eq!(grounded_share(&pieces), 2.0 / 3.0);
    }

    #[test]
    fn the_pieces_are_the_answer() {
        let answer = "One thing happened here today. Dr. Pym was late!\n\n- a list item\n- another one\n";
        let evidence = Evidence::new(passages(), &ScriptedEmbedder::default()).unwrap();
        let pieces = evidence.align(answer, &ScriptedEmbedder::default()).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), answer);
    }
}
