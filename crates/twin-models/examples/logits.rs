//! What a model makes of a text, as JSON for `eval/training/reference.py` to compare with another implementation.
//!
//!     cargo run --release -p twin-models --example logits -- MODEL TEXT

#![expect(clippy::print_stdout, reason = "the JSON is the product")]

use std::path::Path;

use twin_models::language::{LanguageModel, Llama, LoadOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: logits MODEL TEXT".into());
    };
    let model = Llama::load(Path::new(&path), LoadOptions::default())?;
    let tokens = model.encode(&text)?;
    let logits = model.logits(None, &tokens, tokens.len())?;
    let rows: Vec<&[f32]> = logits.chunks(model.info().vocab_size).collect();
    let back = model.decode(&tokens)?;
    println!("{}", serde_json::json!({ "text": text, "tokens": tokens, "decoded": back, "logits": rows }));
    Ok(())
}
