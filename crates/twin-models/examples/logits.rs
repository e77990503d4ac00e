//! What a model makes of texts and how it goes on from them, as lines of JSON for `eval/training/reference.py` to compare with
//! another implementation.
//!
//!     cargo run --release -p twin-models --example logits -- MODEL TEXT...
//!
//! Each text is continued with the likeliest token, 64 times, in full precision, once guessing ahead and once token by token.

#![expect(clippy::print_stdout, reason = "the JSON is the product")]

use std::ops::ControlFlow;
use std::path::Path;

use twin_domain::CancelFlag;
use twin_models::language::{DecodePrecision, GenerateRequest, Input, LanguageModel, Llama, LoadOptions, Sampling};

/// How many tokens are written.
const NEW_TOKENS: usize = 64;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, texts @ ..] = arguments.as_slice() else { return Err("usage: logits MODEL TEXT...".into()) };
    let load = |plain| -> Result<Llama, Failure> {
        let options = LoadOptions { decode: DecodePrecision::F32, plain, ..LoadOptions::default() };
        Ok(Llama::load(Path::new(path), options)?)
    };
    let (model, plain) = (load(false)?, load(true)?);
    for text in texts {
        let tokens = model.encode(text)?;
        let logits = model.logits(None, &tokens, tokens.len())?;
        let rows: Vec<&[f32]> = logits.chunks(model.info().vocab_size).collect();
        let back = model.decode(&tokens)?;
        let (written, guessed) = (greedy(&plain, &tokens)?, greedy(&model, &tokens)?);
        let line = serde_json::json!({
            "text": text, "tokens": tokens, "decoded": back, "logits": rows, "written": written, "guessed": guessed,
        });
        println!("{line}");
    }
    Ok(())
}

fn greedy(model: &Llama, tokens: &[u32]) -> Result<String, Failure> {
    let request = GenerateRequest {
        input: Input::Tokens(tokens.to_vec()),
        adapter: None,
        sampling: Sampling::greedy(NEW_TOKENS),
    };
    Ok(model.generate(&request, &CancelFlag::new(), &mut |_| ControlFlow::Continue(()))?.text)
}
