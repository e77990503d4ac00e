//! The tokenizers that GGUF files describe in their metadata: byte-level BPE, and SentencePiece's BPE by scores.

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::tokenizer::TokenizerError;

/// How words are cut before merging, in Llama 3 and in Qwen 2 and 3: they differ in how many digits stay together.
pub(crate) const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What stands for a space in SentencePiece's tokens.
const SPACE: &str = "\u{2581}";

/// GPT-2's byte-level BPE, cut into words as `pre` says.
pub(crate) fn byte_level_bpe(tokens: &[&str], merges: &[&str], pre: &str) -> Result<Tokenizer, TokenizerError> {
    let merges = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or(TokenizerError::Metadata { key: "tokenizer.ggml.merges" })?;
    let bpe = BPE::builder().vocab_and_merges(vocabulary(tokens), merges).ignore_merges(pre == "llama-bpe");
    let mut tokenizer = Tokenizer::new(bpe.build().map_err(TokenizerError::Tokenizer)?);
    let whole = ByteLevel::new(false, false, true);
    let steps: Vec<PreTokenizerWrapper> = match pre {
        "smollm" => vec![Digits::new(true).into(), whole.into()],
        "default" | "gpt-2" => vec![whole.into()],
        "llama-bpe" => vec![words(LLAMA_3)?, ByteLevel::new(false, true, false).into()],
        "qwen2" => vec![words(QWEN_2)?, ByteLevel::new(false, true, false).into()],
        other => return Err(TokenizerError::Unsupported { kind: other.to_owned() }),
    };
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

fn words(pattern: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TokenizerError::Tokenizer)?;
    Ok(split.into())
}

fn vocabulary(tokens: &[&str]) -> Vocab {
    tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), id)).collect()
}

/// SentencePiece's BPE: two neighbours are merged whose joined token has the highest score; what is no token is written as
/// bytes. `prefixed` says whether a text begins with a space.
pub(crate) fn scored_bpe(tokens: &[&str], scores: &[f32], prefixed: bool) -> Result<Tokenizer, TokenizerError> {
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), merges(tokens, scores))
        .byte_fallback(true)
        .fuse_unk(true)
        .unk_token("<unk>".to_owned());
    let mut tokenizer = Tokenizer::new(bpe.build().map_err(TokenizerError::Tokenizer)?);
    let replace = |from: &str, to: &str| Replace::new(from.to_owned(), to).map_err(TokenizerError::Tokenizer);
    let mut normalizers: Vec<NormalizerWrapper> = vec![replace(" ", SPACE)?.into()];
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefixed {
        normalizers.insert(0, Prepend::new(SPACE.to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(TokenizerError::Tokenizer)?;
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

/// The merges that scores stand for, best first: every way to make a token of two others.
fn merges(tokens: &[&str], scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let mut found: Vec<(f32, usize, usize)> = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        found.extend(cuts.filter_map(|(left, right)| Some((*score, *ids.get(left)?, *ids.get(right)?))));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    found.into_iter().map(|(_, left, right)| (tokens[left].to_owned(), tokens[right].to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_score_is_merged_first_and_the_rest_is_bytes() {
        let tokens = ["<unk>", "<0xC3>", "<0xA4>", "\u{2581}", "a", "b", "c", "ab", "bc", "\u{2581}ab"];
        let scores = [0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0];
        let tokenizer = scored_bpe(&tokens, &scores, false).unwrap();
        let ids = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(ids("abc"), [4, 8], "bc before ab");
        assert_eq!(ids("ab ab"), [7, 9]);
        assert_eq!(ids("aä"), [4, 1, 2]);
        assert_eq!(tokenizer.decode(&[7, 9, 1, 2], true).unwrap(), "ab abä");
        let prefixed = scored_bpe(&tokens, &scores, true).unwrap();
        assert_eq!(prefixed.encode("ab", false).unwrap().get_ids(), [9]);
        assert_eq!(prefixed.decode(&[9, 9], true).unwrap(), "ab ab");
    }

    #[test]
    fn digits_stay_together_as_the_family_has_them() {
        let letters: Vec<String> = ('0'..='9').map(String::from).chain(["12", "123"].map(str::to_owned)).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        let merges = ["1 2", "12 3"];
        let count = |pre: &str| {
            byte_level_bpe(&letters, &merges, pre).unwrap().encode("123123", false).unwrap().get_ids().len()
        };
        assert_eq!((count("llama-bpe"), count("qwen2")), (2, 6));
        assert!(matches!(byte_level_bpe(&letters, &merges, "odd"), Err(TokenizerError::Unsupported { .. })));
    }
}
