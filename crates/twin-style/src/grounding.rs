//! Grounding: whether what an answer says stands in the passages that it cites. Citation recall and precision are those of
//! ALCE (Gao et al., "Enabling large language models to generate text with citations", 2023); in the place of its model for
//! entailment stands a mechanical checker: every number, name and quoted string of a statement must occur in the passage.
//!
//! The checker never calls a wrong figure right, but it says nothing of a statement that has neither figure nor name nor
//! quotation. So the share of statements that it can check stands beside its figures.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::text::normalise;

/// Words for small numbers, from two on: `one` is a pronoun more often than a count.
const SMALL: &str = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
                     eighteen nineteen twenty";

/// Quotations shorter than this are emphasis or a single term.
const MIN_QUOTED_WORDS: usize = 3;

/// A sentence of an answer with the passages it cites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    pub text: &'a str,
    pub cited: Vec<&'a str>,
}

/// How well answers are grounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Grounding {
    pub statements: usize,
    /// Statements that have a number, a name or a quotation.
    pub checkable: usize,
    pub citations: usize,
    /// The share of statements whose passages together support them.
    pub recall: f64,
    /// The same of the checkable statements alone.
    pub checkable_recall: f64,
    /// The share of citations that support their statement alone, or without which it is not supported.
    pub precision: f64,
    /// What has passages that do not support it.
    pub unsupported: Vec<String>,
}

impl Grounding {
    /// The figures of statements. Without statements or citations the shares are 0.
    pub fn of(statements: &[Statement<'_>]) -> Self {
        let mut found = Self { statements: statements.len(), ..Self::default() };
        let (mut supported, mut supported_checkable, mut precise) = (0, 0, 0);
        for statement in statements {
            let claims = Claims::of(statement.text);
            let holds = !statement.cited.is_empty() && claims.stand_in(&statement.cited);
            found.checkable += usize::from(!claims.is_empty());
            found.citations += statement.cited.len();
            supported += usize::from(holds);
            supported_checkable += usize::from(holds && !claims.is_empty());
            if !holds {
                found.unsupported.extend((!statement.cited.is_empty()).then(|| statement.text.trim().to_owned()));
                continue;
            }
            let counts = |index: &usize| {
                let mut rest = statement.cited.clone();
                let alone = rest.remove(*index);
                claims.stand_in(&[alone]) || !claims.stand_in(&rest)
            };
            precise += (0..statement.cited.len()).filter(counts).count();
        }
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        found.recall = share(supported, found.statements);
        found.checkable_recall = share(supported_checkable, found.checkable);
        found.precision = share(precise, found.citations);
        found
    }
}

/// What of a statement can be looked for.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    numbers: BTreeSet<String>,
    names: BTreeSet<String>,
    quotations: Vec<Vec<String>>,
}

impl Claims {
    fn of(statement: &str) -> Self {
        let is_block = statement.trim_start().starts_with('>');
        let text = normalise(&statement.replace('>', " "));
        let quoted = if is_block { vec![text.as_str()] } else { quotations(&text) };
        let quotations = quoted.into_iter().map(tokens).filter(|tokens| tokens.len() >= MIN_QUOTED_WORDS).collect();
        Self { numbers: numbers(&text), names: names(&text), quotations }
    }

    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.names.is_empty() && self.quotations.is_empty()
    }

    /// Whether all of it stands in the passages together; a quotation has to stand in one of them. Nothing stands in none.
    fn stand_in(&self, passages: &[&str]) -> bool {
        if passages.is_empty() {
            return false;
        }
        let passages: Vec<String> = passages.iter().map(|passage| normalise(passage)).collect();
        let words: Vec<Vec<String>> = passages.iter().map(|passage| tokens(passage)).collect();
        let known: BTreeSet<&String> = words.iter().flatten().collect();
        let known_numbers: BTreeSet<String> = passages.iter().flat_map(|passage| numbers(passage)).collect();
        let stands = |quotation: &Vec<String>| {
            words.iter().any(|words| words.windows(quotation.len()).any(|window| window == quotation.as_slice()))
        };
        self.numbers.is_subset(&known_numbers)
            && self.names.iter().all(|name| known.contains(name))
            && self.quotations.iter().all(stands)
    }
}

/// The words of a text in lower case and without possessives, digits among them.
fn tokens(text: &str) -> Vec<String> {
    text.unicode_words().map(bare).collect()
}

fn bare(word: &str) -> String {
    let lower = word.to_lowercase();
    lower.strip_suffix("'s").unwrap_or(&lower).to_owned()
}

/// Numbers by value, in digits or words.
fn numbers(text: &str) -> BTreeSet<String> {
    let digits = text
        .split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')))
        .map(|number| number.trim_matches(['.', ',']).replace(',', ""))
        .filter(|number| !number.is_empty());
    let in_words = text.unicode_words().filter_map(|word| {
        let place = SMALL.split_whitespace().position(|small| small == word.to_lowercase())?;
        Some((place + 2).to_string())
    });
    digits.chain(in_words).collect()
}

/// Words with a capital that neither begin a sentence or a quotation nor are the first person.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut begins = true;
    for piece in text.split_word_bounds() {
        match piece.chars().next() {
            Some(first) if first.is_alphanumeric() => {
                let is_person = piece == "I" || piece.starts_with("I'");
                if first.is_uppercase() && !begins && !is_person {
                    found.insert(bare(piece));
                }
                begins = false;
            }
            Some('.' | '!' | '?' | ':' | '"' | '*' | '\n' | '#') => begins = true,
            _ => {}
        }
    }
    found
}

/// What stands between quotation marks.
fn quotations(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUTTY: &str = "The putty of 1952 was whiting, linseed oil and red lead. Corisande had 14 planks of it.";
    const RAIN: &str = "It rained in Falmouth for six days.";

    fn statement<'a>(text: &'a str, cited: &[&'a str]) -> Statement<'a> {
        Statement { text, cited: cited.to_vec() }
    }

    #[test]
    fn a_wrong_figure_name_or_quotation_is_not_supported() {
        let supported = |text: &str, cited: &[&str]| Grounding::of(&[statement(text, cited)]).recall > 0.5;
        assert!(supported("The boat Corisande had 14 planks.", &[PUTTY]));
        assert!(!supported("The boat Corisande had 15 planks.", &[PUTTY]));
        assert!(!supported("The boat Ellen had 14 planks.", &[PUTTY]));
        assert!(supported("She calls it “whiting, linseed oil, and red lead”.", &[PUTTY]));
        assert!(!supported("She calls it “whiting, linseed oil and white lead”.", &[PUTTY]));
        assert!(supported("\n\n> The putty of 1952 was whiting, linseed oil and red lead.", &[PUTTY]));
        assert!(!supported("\n\n> The putty was whiting, linseed oil and red lead.", &[PUTTY]));
        assert!(supported("In Falmouth it rained 6 days.", &[RAIN]), "six is 6");
        assert!(!supported("The boat Corisande had 14 planks.", &[]), "nothing is cited");
    }

    #[test]
    fn figures_are_those_of_alce() {
        let statements = [
            // Supported by the two together; neither alone is enough, so both count.
            statement("Corisande had 14 planks and six days in Falmouth.", &[PUTTY, RAIN]),
            // The first alone is enough, the second adds nothing.
            statement("So Corisande had 14 planks.", &[PUTTY, RAIN]),
            statement("So Corisande had 15 planks.", &[PUTTY]),
            statement("That is all.", &[]),
        ];
        let found = Grounding::of(&statements);
        assert_eq!((found.statements, found.checkable, found.citations), (4, 3, 5));
        assert_eq!((found.recall, found.checkable_recall), (2.0 / 4.0, 2.0 / 3.0));
        assert_eq!(found.precision, 3.0 / 5.0);
        assert_eq!(found.unsupported, ["So Corisande had 15 planks."]);
        assert_eq!(Grounding::of(&[]), Grounding::default());
    }

    proptest! {
        #[test]
        fn what_is_cut_from_a_passage_is_supported_by_it(passage in "\\PC{0,120}", start in 0_usize..60, length in 1_usize..60) {
            let cut: String = passage.chars().skip(start).take(length).collect();
            // Cut within a word, it is another word: only whole words are compared.
            let whole = tokens(&normalise(&passage));
            prop_assume!(tokens(&normalise(&cut)).iter().all(|word| whole.contains(word)));
            prop_assume!(numbers(&normalise(&cut)).is_subset(&numbers(&normalise(&passage))));
            prop_assume!(!cut.contains('"') && !cut.contains('>') && quotations(&normalise(&cut)).is_empty());
            prop_assert_eq!(Grounding::of(&[statement(&cut, &[&passage])]).recall, 1.0);
        }
    }
}
