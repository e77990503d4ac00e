//! Measures of style and of copying, and their statistics: pure functions over text. No model, no I/O.
//!
//! A distance says how far two texts lie apart in one respect and nothing more. No single one is a score: text that was
//! copied, or stitched together from the author's words, is nearer to the author than the author's own next post, so
//! [`copying`] and [`fluency`] belong beside every distance. [`likeness`] puts the distances on one scale, from other
//! people (0) to the author's own new posts (1), and refuses where they cannot tell the two apart. [`assessment`] puts
//! all of it together; [`verification`] and [`cheats`] try the measures themselves.

pub mod assessment;
pub mod cheats;
pub mod copying;
mod counts;
pub mod delta;
pub mod fluency;
pub mod function_words;
pub mod grounding;
pub mod impostors;
pub mod judge;
pub mod likeness;
pub mod map;
pub mod ngrams;
pub mod overlap;
pub mod population;
pub mod profile;
pub mod stats;
pub mod text;
pub mod two_sample;
pub mod verification;
