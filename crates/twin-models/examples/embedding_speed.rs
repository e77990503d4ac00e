//! How fast the embedder is: passages in length-sorted batches, and as a ratio to the same passages one by one.
//!
//!     cargo run --release -p twin-models --example embedding_speed -- [CACHE_DIR]
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::path::PathBuf;
use std::time::Instant;

use twin_domain::CancelFlag;
use twin_domain::progress::Silent;
use twin_models::{Models, ModelsConfig};

const PASSAGES: usize = 512;
const WORDS: [&str; 12] =
    ["boat", "plank", "rivet", "tide", "copper", "mast", "oak", "winter", "harbour", "caulking", "paint", "oar"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = || std::env::home_dir().unwrap_or_default().join(".cache/twin/models");
    let cache = std::env::args().nth(1).map_or_else(default, PathBuf::from);
    let started = Instant::now();
    let models = Models::new(ModelsConfig::new(cache));
    let embedder = models.embedder("all-minilm-l6-v2", &Silent, &CancelFlag::new())?;
    println!("loaded in {:.2} s", started.elapsed().as_secs_f64());

    // Lengths spread as passages' are: 70 to 120 words.
    let passage =
        |n: usize| (0..70 + n * 37 % 51).map(|word| WORDS[(n * 7 + word * 5) % 12]).collect::<Vec<_>>().join(" ");
    let passages: Vec<String> = (0..PASSAGES).map(passage).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let tokens: usize = passages.iter().map(|passage| embedder.count_tokens(passage)).sum();
    embedder.embed(&passages[..8])?;

    let started = Instant::now();
    embedder.embed(&passages)?;
    let batched = PASSAGES as f64 / started.elapsed().as_secs_f64();
    println!("{batched:.0} passages/s in batches ({} tokens each on average)", tokens / PASSAGES);

    let some = &passages[..64];
    let started = Instant::now();
    for passage in some {
        embedder.embed_one(passage)?;
    }
    let single = some.len() as f64 / started.elapsed().as_secs_f64();
    println!("{single:.0} passages/s one by one; batches are {:.2} times as fast", batched / single);

    let started = Instant::now();
    for _ in 0..100 {
        embedder.embed_one("what goes between the planks?")?;
    }
    println!("{:.1} ms for a short query", started.elapsed().as_secs_f64() * 10.0);
    Ok(())
}
