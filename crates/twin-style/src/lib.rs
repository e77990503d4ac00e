//! Measures of style and of copying, and their statistics: pure functions over text. No model, no I/O.
//!
//! A distance says how far two texts lie apart in one respect and nothing more. No single one is a score: text that was
//! copied, or stitched together from the author's words, is nearer to the author than the author's own next post, so
//! [`copying`] belongs beside every distance.

pub mod copying;
pub mod function_words;
pub mod ngrams;
pub mod stats;
pub mod text;
