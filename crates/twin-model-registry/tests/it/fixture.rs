use std::collections::BTreeMap;
use std::path::Path;

use twin_domain::model_registry::Candidate;
use twin_domain::{AuthorId, BaseModel, Digest, FeatureViewId, Occasion, PromptVersion, TrainingSetId};

pub fn ada() -> AuthorId {
    AuthorId::parse("ada").unwrap()
}

/// Ada does it.
pub fn because(reason: &str) -> Occasion {
    Occasion::new("ada", reason)
}

/// Candidate `n`: another one for every `n`.
pub fn candidate(n: u64) -> Candidate {
    Candidate {
        author: ada(),
        base: BaseModel { name: "smol".to_owned(), hub: "hub/smol".to_owned(), digest: Digest::of("smol") },
        training_set: TrainingSetId::new(&Digest::of("examples")),
        feature_view: FeatureViewId::parse("features-0123456789ab").unwrap(),
        prompt: PromptVersion("twin-1+00000000".to_owned()),
        hyper_parameters: serde_json::json!({ "seed": n, "rank": 16 }),
        metrics: BTreeMap::from([("bits_per_byte".to_owned(), 1.5)]),
        code: "0.1.0".to_owned(),
    }
}

/// The files of candidate `n`; large enough that copying them takes a moment.
pub fn files(directory: &Path, n: u64) {
    std::fs::create_dir_all(directory).unwrap();
    let weights: Vec<u8> = (0..2_000_000_u64).map(|index| (index.wrapping_mul(n + 7) >> 3) as u8).collect();
    std::fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
    std::fs::write(directory.join("adapter_config.json"), format!("{{\"r\": 16, \"n\": {n}}}")).unwrap();
    std::fs::write(directory.join("README.md"), format!("made at {:?}", std::time::SystemTime::now())).unwrap();
}
