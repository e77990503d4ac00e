//! Cutting a text into pieces that fit, and joining small neighbours again.

use std::ops::Range;

use twin_models::embedding::Embedder;

use super::outline::Outline;
use super::sentence;

/// A token of prose has four to five bytes and one of code three. A piece with more bytes per token is a long "word", such
/// as a picture in base64, that tokenizers count as one: it is measured by its bytes. This also means that no large text is
/// ever tokenized whole.
const MAX_BYTES_PER_TOKEN: usize = 12;

/// A slice of the text that becomes a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) range: Range<usize>,
    /// The section that it belongs to.
    pub(super) section: usize,
}

struct Piece {
    range: Range<usize>,
    section: usize,
    tokens: usize,
    is_heading: bool,
}

/// The passages of a text: in order, touching, together the whole text. `budgets` has the tokens that a passage of each
/// section may have.
pub(super) fn passages(text: &str, outline: &Outline, budgets: &[usize], embedder: &dyn Embedder) -> Vec<Passage> {
    let mut cutter = Cutter { text, outline, embedder, pieces: Vec::new() };
    for (index, section) in outline.sections.iter().enumerate() {
        let end = outline.sections.get(index + 1).map_or(text.len(), |next| next.start);
        cutter.cut_section(section.start..end, section.heading_end, index, budgets[index]);
    }
    join(&cutter.pieces, budgets)
}

/// The places at which a piece may be cut, from the best to the last resort.
#[derive(Clone, Copy)]
enum Cut {
    Blocks,
    Parts,
    Sentences,
    Words,
    Characters,
}

impl Cut {
    fn finer(self) -> Option<Self> {
        match self {
            Self::Blocks => Some(Self::Parts),
            Self::Parts => Some(Self::Sentences),
            Self::Sentences => Some(Self::Words),
            Self::Words => Some(Self::Characters),
            Self::Characters => None,
        }
    }
}

struct Cutter<'a> {
    text: &'a str,
    outline: &'a Outline,
    embedder: &'a dyn Embedder,
    pieces: Vec<Piece>,
}

impl Cutter<'_> {
    fn cut_section(&mut self, range: Range<usize>, heading_end: usize, section: usize, budget: usize) {
        let blocks = self.boundaries(&range, Cut::Blocks, budget);
        for (block, _) in pieces_between(&range, &blocks).zip(0_usize..) {
            let is_heading = block.start < heading_end;
            let before = self.pieces.len();
            self.cut(block, section, Cut::Parts, budget);
            self.pieces[before..].iter_mut().for_each(|piece| piece.is_heading = is_heading);
        }
    }

    fn cut(&mut self, range: Range<usize>, section: usize, cut: Cut, budget: usize) {
        let by_bytes = range.len() / MAX_BYTES_PER_TOKEN;
        let fits = by_bytes <= budget;
        let tokens =
            if fits { self.embedder.count_tokens(&self.text[range.clone()]).max(by_bytes) } else { usize::MAX };
        if tokens <= budget {
            self.pieces.push(Piece { range, section, tokens, is_heading: false });
            return;
        }
        let boundaries = self.boundaries(&range, cut, budget);
        match (boundaries.is_empty(), cut.finer()) {
            (true, None) => self.pieces.push(Piece { range, section, tokens, is_heading: false }),
            (true, Some(finer)) => self.cut(range, section, finer, budget),
            (false, finer) => {
                for part in pieces_between(&range, &boundaries) {
                    self.cut(part, section, finer.unwrap_or(Cut::Characters), budget);
                }
            }
        }
    }

    fn boundaries(&self, range: &Range<usize>, cut: Cut, budget: usize) -> Vec<usize> {
        let slice = &self.text[range.clone()];
        let known = |boundaries: &[usize]| {
            let from = boundaries.partition_point(|at| *at <= range.start);
            boundaries[from..].iter().take_while(|at| **at < range.end).copied().collect::<Vec<_>>()
        };
        let mut boundaries = match cut {
            Cut::Blocks => known(&self.outline.blocks),
            Cut::Parts => known(&self.outline.parts),
            Cut::Sentences => sentence::starts(slice).into_iter().map(|at| range.start + at).collect(),
            Cut::Words => word_starts(slice, budget).map(|at| range.start + at).collect(),
            Cut::Characters => character_cuts(slice, budget).into_iter().map(|at| range.start + at).collect(),
        };
        boundaries.retain(|at| !self.outline.is_in_code(*at));
        boundaries
    }
}

fn pieces_between<'a>(range: &'a Range<usize>, boundaries: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
    let starts = std::iter::once(range.start).chain(boundaries.iter().copied());
    let ends = boundaries.iter().copied().chain(std::iter::once(range.end));
    starts.zip(ends).map(|(start, end)| start..end).filter(|piece| !piece.is_empty())
}

/// The starts of words that are at least `apart` bytes from each other. That many bytes are never more tokens, and a text
/// without sentences is not measured word by word.
fn word_starts(text: &str, apart: usize) -> impl Iterator<Item = usize> + '_ {
    let (mut after_space, mut last) = (false, 0);
    text.char_indices().filter_map(move |(at, character)| {
        let starts = after_space && !character.is_whitespace() && at >= last + apart;
        after_space = character.is_whitespace();
        starts.then(|| {
            last = at;
            at
        })
    })
}

/// Cuts in a word without end. Half the bytes that are always measured leave room for scripts of three bytes a character,
/// of which each may be a token.
fn character_cuts(text: &str, budget: usize) -> Vec<usize> {
    let width = (budget * MAX_BYTES_PER_TOKEN / 4).max(4);
    let width = if text.len() <= width { text.len() / 2 } else { width };
    let mut cuts = Vec::new();
    let mut at = text.floor_char_boundary(width);
    while at > 0 && at < text.len() && cuts.last() != Some(&at) {
        cuts.push(at);
        at = text.floor_char_boundary(at + width);
    }
    cuts
}

/// Joins neighbours of one section as long as they fit. A heading without text of its own joins what follows it. Token
/// counts of neighbours are added: tokenizers split at white space, where pieces meet.
fn join(pieces: &[Piece], budgets: &[usize]) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let (mut tokens, mut only_headings) = (0_usize, false);
    for piece in pieces {
        let joined = tokens.saturating_add(piece.tokens);
        match passages.last_mut() {
            Some(last) if only_headings || (last.section == piece.section && joined <= budgets[piece.section]) => {
                last.range.end = piece.range.end;
                last.section = piece.section;
                tokens = joined;
                only_headings &= piece.is_heading;
            }
            _ => {
                passages.push(Passage { range: piece.range.clone(), section: piece.section });
                tokens = piece.tokens;
                only_headings = piece.is_heading;
            }
        }
    }
    passages
}
