//! The vocabulary as bytes: what a token stands for wherever it stands, and grammars over it for answers of a given form.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Value, json};
use tokenizers::decoders::DecoderWrapper;

use super::sampling::OutputFormat;

/// What stands for a space in SentencePiece's tokens.
const SPACE: char = '\u{2581}';
/// The largest schema, as JSON. Grammars are bounded as well, but only after they were made.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// The most symbols of a grammar.
const MAX_GRAMMAR: usize = 100_000;

/// The bytes of every token.
pub(crate) struct Vocabulary {
    tokens: TokEnv,
    /// `None` when no grammar can be laid over the tokens.
    grammars: Option<ParserFactory>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.tokens.tok_trie().vocab_size()).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The vocabulary of a tokenizer, in which `ends` end an answer and `special` tokens are no text.
    pub(crate) fn new(inner: &tokenizers::Tokenizer, ends: &[u32], special: &[u32]) -> Self {
        let spelling = Spelling::of(inner.get_decoder());
        let count = u32::try_from(inner.get_vocab_size(true)).unwrap_or(u32::MAX);
        let mut tokens: Vec<Vec<u8>> = (0..count)
            .map(|id| inner.id_to_token(id).map(|token| spelling.bytes(&token)).unwrap_or_default())
            .collect();
        for id in special {
            if let Some(token) = tokens.get_mut(*id as usize) {
                let name = inner.id_to_token(*id).unwrap_or_default();
                *token = [&[TokTrie::SPECIAL_TOKEN_MARKER][..], name.as_bytes()].concat();
            }
        }
        let end = ends.first().copied().unwrap_or(0);
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &tokens).with_eos_tokens(ends);
        let tokens: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
        let grammars = factory(&tokens).ok();
        Self { tokens, grammars }
    }

    /// The bytes of a token; none of one that is special or unknown.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        let trie = self.tokens.tok_trie();
        let known = (token as usize) < trie.vocab_size() && !trie.is_special_token(token);
        if known { trie.token(token) } else { &[] }
    }

    /// What holds an answer to a form, token by token.
    ///
    /// # Errors
    /// What is wrong with the form.
    pub(crate) fn matcher(&self, format: &OutputFormat) -> Result<Matcher, String> {
        let grammars = self.grammars.as_ref().ok_or("this model's vocabulary cannot be held to a form")?;
        matcher(grammars, format)
    }
}

/// Checks that answers can be held to a form. Which model is to answer makes no difference.
///
/// # Errors
/// Why they cannot.
pub(crate) fn check_format(format: &OutputFormat) -> Result<(), String> {
    matcher(&factory(&ApproximateTokEnv::single_byte_env())?, format).map(drop)
}

fn matcher(factory: &ParserFactory, format: &OutputFormat) -> Result<Matcher, String> {
    let matcher = Matcher::new(factory.create_parser(grammar(format)?));
    let first_line = |problem: String| problem.lines().next().unwrap_or_default().to_owned();
    matcher.get_error().map_or(Ok(matcher), |problem| Err(first_line(problem)))
}

fn factory(tokens: &TokEnv) -> Result<ParserFactory, String> {
    let mut factory = ParserFactory::new_simple(tokens).map_err(|error| error.to_string())?;
    let limits = factory.quiet().limits_mut();
    limits.max_grammar_size = MAX_GRAMMAR;
    limits.verbose_errors = false;
    Ok(factory)
}

fn grammar(format: &OutputFormat) -> Result<TopLevelGrammar, String> {
    let mut schema = match format {
        OutputFormat::JsonObject => json!({ "type": "object" }),
        OutputFormat::JsonSchema(schema @ Value::Object(_)) => schema.clone(),
        OutputFormat::JsonSchema(_) => return Err("the schema must be a JSON object".to_owned()),
    };
    if schema.to_string().len() > MAX_SCHEMA_BYTES {
        return Err("the schema is longer than 64 KiB".to_owned());
    }
    // Free white space would let a model write nothing else until its limit; this is how most JSON in its training looks.
    let options = JsonCompileOptions {
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// How a vocabulary writes bytes.
enum Spelling {
    /// GPT-2's: every byte is a printable character.
    Printable,
    /// SentencePiece's: text with a mark for the space, and `<0x0A>` for bytes that are no text.
    Marked,
}

impl Spelling {
    fn of(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Self::Printable,
            Some(DecoderWrapper::Sequence(all))
                if all.get_decoders().iter().any(|one| matches!(one, DecoderWrapper::ByteLevel(_))) =>
            {
                Self::Printable
            }
            _ => Self::Marked,
        }
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::Printable => token.chars().flat_map(printable_byte).collect(),
            Self::Marked => {
                let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace(SPACE, " ").into_bytes(),
                }
            }
        }
    }
}

/// The byte that a character of GPT-2's alphabet stands for: those that print stand for themselves, the others for the rest
/// in order. A character outside of it, in a token that was added later, is itself.
fn printable_byte(character: char) -> Vec<u8> {
    let prints = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let code = u32::from(character);
    let byte = match u8::try_from(code) {
        Ok(byte) if prints(byte) => Some(byte),
        Ok(_) => None,
        Err(_) => (0..=255).filter(|byte| !prints(*byte)).nth((code - 256) as usize),
    };
    byte.map_or_else(|| character.to_string().into_bytes(), |byte| vec![byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_bytes_in_both_spellings() {
        assert_eq!(Spelling::Printable.bytes("\u{120}caf\u{c3}\u{a9}\u{10a}"), " café\n".as_bytes());
        assert_eq!(Spelling::Marked.bytes("\u{2581}café"), " café".as_bytes());
        assert_eq!(Spelling::Marked.bytes("<0x0A>"), b"\n");
        assert_eq!(Spelling::Marked.bytes("<0xZZ>"), b"<0xZZ>");
    }

    #[test]
    fn schemas_are_checked_before_anybody_answers() {
        let check = |schema: Value| check_format(&OutputFormat::JsonSchema(schema));
        assert_eq!(check_format(&OutputFormat::JsonObject), Ok(()));
        let named = json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] });
        assert_eq!(check(named), Ok(()));
        for bad in [
            json!(true),
            json!({ "type": "oak" }),
            json!({ "$ref": "https://elsewhere.example/schema.json" }),
            json!({ "type": "object", "x": "y".repeat(MAX_SCHEMA_BYTES) }),
            json!({ "type": "string", "pattern": "(" }),
            json!({ "not": { "type": "string" } }),
        ] {
            assert!(check(bad.clone()).is_err_and(|problem| !problem.is_empty()), "{bad}");
        }
    }
}
