//! What it costs to let another release of an author answer: the version's files are hashed, its adapter is loaded over the base
//! that is in memory. The cache holds one adapter, so that every switch is a cold one.
//!
//!     cargo run --release --workspace --example release_switch -- DATA MODELS AUTHOR
//!
//! DATA is a data directory in which the author has at least two model versions, MODELS a model cache. Prints milliseconds for a
//! hundred switches and the memory before and after them.

#![expect(clippy::print_stdout, reason = "the figures are the product")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use twin_domain::progress::Silent;
use twin_domain::{AuthorId, CancelFlag, ModelRegistry};
use twin_feature_store::EmbeddedFeatureStore;
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::twins::{InferenceConfig, TwinParts, Twins};
use twin_model_registry::LocalRegistry;
use twin_models::language::{Llama, LoadOptions};
use twin_models::prompt::PromptSet;
use twin_models::{Models, ModelsConfig};

const SWITCHES: usize = 100;
const BASE: &str = "smollm2-135m-instruct";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, models, author] = arguments.as_slice() else {
        return Err("usage: release_switch DATA MODELS AUTHOR".into());
    };
    let (data, author) = (Path::new(data), AuthorId::parse(author)?);
    let registry = LocalRegistry::open(&data.join("registry"))?;
    let versions = registry.versions(&author)?;
    let [.., one, other] = versions.as_slice() else { return Err("the author has fewer than two versions".into()) };
    let models = Models::new(ModelsConfig { offline: true, ..ModelsConfig::new(models) });
    let (silent, cancel) = (Silent, CancelFlag::new());
    let file = models.language_model_file(BASE, &silent, &cancel)?;
    let options =
        LoadOptions { name: BASE.to_owned(), digest: Some(one.base.digest.clone()), ..LoadOptions::default() };
    let scratch = tempfile::tempdir()?;
    let names = [one.id.to_string(), other.id.to_string()];
    let twins = Twins::new(TwinParts {
        store: Arc::new(EmbeddedFeatureStore::open(&data.join("features"))?),
        registry: Arc::new(registry),
        embedder: models.embedder("all-minilm-l6-v2", &silent, &cancel)?,
        model: Arc::new(Llama::load(&file, options)?),
        prompts: PromptSet::builtin()?,
        conversations: Conversations::open(&scratch.path().join("conversations.sqlite")).await?,
        config: InferenceConfig { adapters: 1, ..InferenceConfig::default() },
    })?;
    for name in &names {
        twins.twin(name)?;
    }
    let before = resident_mib();
    let mut milliseconds = Vec::new();
    for name in names.iter().cycle().take(SWITCHES) {
        let begun = Instant::now();
        twins.twin(name)?;
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.sort_by(f64::total_cmp);
    println!("{SWITCHES} switches between {} and {}:", names[0], names[1]);
    println!("  median {:.1} ms, longest {:.1} ms", milliseconds[SWITCHES / 2], milliseconds[SWITCHES - 1]);
    println!("  memory {before} MiB before, {} MiB after", resident_mib());
    Ok(())
}

/// The memory of this process, where the system tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
