//! Many adapters over one base in memory: what it costs to let a version answer that is not loaded, whose files are hashed first,
//! and how fast conversations with different versions are answered together, as they come round.
//!
//!     cargo run --release --workspace --example adapter_rotation -- DATA MODELS AUTHOR [VERSIONS]
//!
//! DATA is a data directory with a model version of the author, MODELS a model cache. The newest version is registered 50 times in
//! a registry of its own, or VERSIONS times; eight are kept in memory, so that each that comes round is loaded anew. Prints
//! milliseconds to load, answers and tokens a second beside those of a single version, and the memory.

#![expect(clippy::print_stdout, reason = "the figures are the product")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use twin_domain::model_registry::Candidate;
use twin_domain::progress::Silent;
use twin_domain::{AuthorId, CancelFlag, ModelRegistry, ModelVersion};
use twin_feature_store::EmbeddedFeatureStore;
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::twins::{AnswerRequest, InferenceConfig, TwinParts, Twins};
use twin_model_registry::LocalRegistry;
use twin_models::language::{Llama, LoadOptions, Sampling};
use twin_models::prompt::{PromptSet, Request};
use twin_models::{Models, ModelsConfig};

const VERSIONS: usize = 50;
const BASE: &str = "smollm2-135m-instruct";
/// How many are answered at a time.
const TOGETHER: usize = 4;
const NEW_TOKENS: usize = 32;
const OPENING: &str = "The tide was out when I came down to the slip this morning, and";

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (data, cache, author, count) = match arguments.as_slice() {
        [data, models, author] => (Path::new(data), models, author, VERSIONS),
        [data, models, author, count] => (Path::new(data), models, author, count.parse()?),
        _ => return Err("usage: adapter_rotation DATA MODELS AUTHOR [VERSIONS]".into()),
    };
    let scratch = tempfile::tempdir()?;
    let registry = LocalRegistry::open(&scratch.path().join("registry"))?;
    let versions = copies(&LocalRegistry::open(&data.join("registry"))?, &registry, &AuthorId::parse(author)?, count)?;
    let first = versions.first().ok_or("no versions were asked for")?;
    let models = Models::new(ModelsConfig { offline: true, ..ModelsConfig::new(cache) });
    let (silent, cancel) = (Silent, CancelFlag::new());
    let file = models.language_model_file(BASE, &silent, &cancel)?;
    let options =
        LoadOptions { name: BASE.to_owned(), digest: Some(first.base.digest.clone()), ..LoadOptions::default() };
    let twins = Arc::new(Twins::new(TwinParts {
        store: Arc::new(EmbeddedFeatureStore::open(&data.join("features"))?),
        registry: Arc::new(registry),
        embedder: models.embedder("all-minilm-l6-v2", &silent, &cancel)?,
        model: Arc::new(Llama::load(&file, options)?),
        prompts: PromptSet::builtin()?,
        conversations: Conversations::open(&scratch.path().join("conversations.sqlite")).await?,
        config: InferenceConfig { together: TOGETHER, ..InferenceConfig::default() },
    })?);
    let names: Vec<String> = versions.iter().map(|version| version.id.to_string()).collect();
    load(&twins, &names)?;
    let one = vec![names[0].clone(); names.len()];
    answers(&twins, &one, "one version").await?; // The first answers make what all need.
    answers(&twins, &one, "one version").await?;
    answers(&twins, &names, "in rotation").await?;
    println!("memory {} MiB", resident_mib());
    Ok(())
}

/// Registers an author's newest version many times, each as trained with other parameters.
fn copies(
    from: &LocalRegistry,
    to: &LocalRegistry,
    author: &AuthorId,
    count: usize,
) -> Result<Vec<ModelVersion>, Failure> {
    let newest = from.versions(author)?.pop().ok_or("the author has no model version: train one first")?;
    let (directory, place) = (from.open(&newest.id)?, tempfile::tempdir()?);
    for name in newest.files.keys() {
        fs_err::copy(directory.join(name), place.path().join(name))?;
    }
    let register = |copy: usize| {
        let candidate = Candidate {
            author: author.clone(),
            base: newest.base.clone(),
            training_set: newest.training_set.clone(),
            feature_view: newest.feature_view.clone(),
            prompt: newest.prompt.clone(),
            hyper_parameters: serde_json::json!({ "copy": copy }),
            metrics: newest.metrics.clone(),
            code: newest.code.clone(),
        };
        Ok(to.register(&candidate, place.path())?)
    };
    (0..count).map(register).collect()
}

/// Two rounds of loading.
fn load(twins: &Twins, names: &[String]) -> Result<(), Failure> {
    twins.twin(&names[0])?;
    let before = resident_mib();
    let mut milliseconds = Vec::new();
    for name in names.iter().chain(names) {
        let begun = Instant::now();
        twins.twin(name)?;
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.sort_by(f64::total_cmp);
    let (median, longest) = (milliseconds[milliseconds.len() / 2], milliseconds[milliseconds.len() - 1]);
    println!("{} versions, loaded twice: median {median:.1} ms, longest {longest:.1} ms", names.len());
    println!("memory {before} MiB before, {} MiB after", resident_mib());
    Ok(())
}

/// One answer of each, a few at a time.
async fn answers(twins: &Arc<Twins>, names: &[String], what: &str) -> Result<(), Failure> {
    let (begun, mut tokens) = (Instant::now(), 0);
    for some in names.chunks(TOGETHER) {
        let asked = some.iter().enumerate().map(|(index, name)| {
            let sampling = Sampling { seed: index as u64, ..Sampling::draft(NEW_TOKENS) };
            let request = Request::Continue { opening: OPENING.to_owned() };
            let request = AnswerRequest { sampling: Some(sampling), ..AnswerRequest::new(name, request) };
            let twins = Arc::clone(twins);
            async move { twins.answer_with(request, |_| ControlFlow::Continue(()), CancelFlag::new()).await }
        });
        for answer in futures::future::try_join_all(asked).await? {
            tokens += answer.trace.new_tokens;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} answers, {what}: {:.2} answers/s, {:.1} tokens/s",
        names.len(),
        names.len() as f64 / seconds,
        tokens as f64 / seconds
    );
    Ok(())
}

/// The memory of this process, where the system tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
