//! How long a list of many versions takes: `cargo run --release -p twin-model-registry --example list_many -- 10000`.
//!
//! Prints the time of one cold listing with an index, without one, and of registering one more, beside the time that listing
//! the names of the directory takes.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::collections::BTreeMap;
use std::time::Instant;

use twin_domain::model_registry::Candidate;
use twin_domain::{AuthorId, BaseModel, Digest, FeatureViewId, ModelRegistry, PromptVersion, TrainingSetId};
use twin_model_registry::LocalRegistry;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    let place = tempfile::tempdir()?;
    let files = place.path().join("files");
    std::fs::create_dir(&files)?;
    for name in ["adapter_model.safetensors", "adapter_config.json", "README.md", "evaluation.json"] {
        std::fs::write(files.join(name), name)?;
    }
    let root = place.path().join("registry");
    let registry = LocalRegistry::open(&root)?;
    let author = AuthorId::parse("ada")?;
    for n in 0..count {
        registry.register(&candidate(&author, n)?, &files)?;
    }
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let begun = Instant::now();
        let found = work();
        println!("{what:<34} {:>9.1} ms ({found})", begun.elapsed().as_secs_f64() * 1e3);
    };
    timed("names of the directory", &|| std::fs::read_dir(root.join("ada/versions")).map_or(0, Iterator::count));
    timed("list", &|| registry.list(&author).map_or(0, |listing| listing.versions.len()));
    timed("register one more", &|| {
        candidate(&author, count).ok().and_then(|one| registry.register(&one, &files).ok()).map_or(0, |_| 1)
    });
    std::fs::remove_file(root.join("ada/index.jsonl"))?;
    timed("list without the index", &|| registry.list(&author).map_or(0, |listing| listing.versions.len()));
    timed("verify", &|| registry.verify(&author).map_or(1, |problems| problems.len()));
    Ok(())
}

fn candidate(author: &AuthorId, n: u64) -> Result<Candidate, Box<dyn std::error::Error>> {
    let metrics = (0..30).map(|index| (format!("some.metric.{index}"), index as f64 / 7.0));
    let metrics: BTreeMap<String, f64> = metrics.chain([("bits_per_byte.author.twin".to_owned(), 1.1)]).collect();
    Ok(Candidate {
        author: author.clone(),
        base: BaseModel { name: "smol".to_owned(), hub: "hub/smol".to_owned(), digest: Digest::of("smol") },
        training_set: TrainingSetId::new(&Digest::of(n.to_string())),
        feature_view: FeatureViewId::parse("features-0123456789ab").ok_or("a view's id")?,
        prompt: PromptVersion("twin-1+00000000".to_owned()),
        hyper_parameters: serde_json::json!({ "seed": n, "rank": 16, "alpha": 32.0, "learning_rate": 1e-3 }),
        metrics,
        code: "0.1.0".to_owned(),
    })
}
