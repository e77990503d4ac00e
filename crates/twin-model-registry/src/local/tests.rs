use tempfile::TempDir;
use twin_domain::{BaseModel, TrainingSet, TrainingSetId};

use super::*;

fn ada() -> AuthorId {
    AuthorId::parse("ada").unwrap()
}

fn because(reason: &str) -> Occasion {
    Occasion::new("ada", reason)
}

fn candidate(seed: u64) -> Candidate {
    let prompt = PromptVersion("p".into());
    let view: FeatureViewId = serde_json::from_str("\"features-x\"").unwrap();
    let content = TrainingSet::content_digest(&ada(), &view, &prompt, "r", &[], &[]);
    Candidate {
        author: ada(),
        base: BaseModel { name: "b".into(), hub: "h/b".into(), digest: Digest::of("b") },
        training_set: TrainingSetId::new(&content),
        feature_view: view,
        prompt,
        hyper_parameters: serde_json::json!({ "seed": seed }),
        metrics: BTreeMap::from([("m".into(), 1.5)]),
        code: "0.1.0".into(),
    }
}

fn files(weights: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("adapter_model.safetensors"), weights).unwrap();
    fs::write(directory.path().join("README.md"), "card").unwrap();
    directory
}

#[test]
fn the_same_content_is_one_version_and_other_content_another() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    let first = registry.register(&candidate(1), files("w").path()).unwrap();
    assert_eq!(first.id.to_string(), "ada@v1");
    assert_eq!(registry.register(&candidate(1), files("w").path()).unwrap(), first);
    assert_eq!(registry.register(&candidate(2), files("w").path()).unwrap().id.number, 2);
    assert_eq!(registry.register(&candidate(1), files("x").path()).unwrap().id.number, 3);
    assert_eq!(registry.versions(&ada()).unwrap().len(), 3);
    assert_eq!(registry.authors().unwrap(), [ada()]);
}

#[test]
fn a_damaged_file_is_named_and_does_not_begin_to_serve() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    let version = registry.register(&candidate(1), files("w").path()).unwrap();
    let release = registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    let path = registry.open(&version.id).unwrap().join("adapter_model.safetensors");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "W").unwrap();
    for error in
        [registry.open(&version.id).unwrap_err(), registry.promote(&ada(), release.number, &because("r")).unwrap_err()]
    {
        assert!(error.to_string().contains("adapter_model.safetensors"), "{error}");
    }
    assert_eq!(registry.serving(&ada()).unwrap(), None);
}

#[test]
fn promotions_and_rollbacks_stay_on_record() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    for seed in [1, 2] {
        let version = registry.register(&candidate(seed), files("w").path()).unwrap();
        let release = registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
        registry.promote(&ada(), release.number, &because("better")).unwrap();
        registry.promote(&ada(), release.number, &because("again")).unwrap();
    }
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 2);
    registry.promote(&ada(), 1, &because("back")).unwrap();
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 1);
    let history: Vec<u32> = registry.history(&ada()).unwrap().iter().map(|promotion| promotion.release).collect();
    assert_eq!(history, [1, 2, 1]);
    assert!(registry.promote(&ada(), 9, &because("no")).is_err());
}

#[test]
fn a_promotion_that_a_crash_cut_short_is_as_if_it_had_not_been() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    let version = registry.register(&candidate(1), files("w").path()).unwrap();
    let release = registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    fs::write(place.path().join("ada/history.jsonl"), "\n{\"release\":7,\"rea").unwrap();
    assert_eq!(registry.serving(&ada()).unwrap(), None);
    registry.promote(&ada(), release.number, &because("first")).unwrap();
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 1);
}

#[test]
fn half_a_version_is_never_seen_and_is_cleared_away() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    let half = place.path().join("ada/tmp-1234");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("adapter_model.safetensors"), "hal").unwrap();
    assert!(registry.versions(&ada()).unwrap().is_empty());
    assert!(registry.authors().unwrap().is_empty());
    registry.register(&candidate(1), files("w").path()).unwrap();
    assert!(!half.exists());
}

#[test]
fn odd_files_are_refused() {
    let place = TempDir::new().unwrap();
    let registry = LocalRegistry::open(place.path()).unwrap();
    let directory = files("w");
    fs::create_dir(directory.path().join("sub")).unwrap();
    assert!(matches!(registry.register(&candidate(1), directory.path()), Err(RegistryError::Invalid { .. })));
    let empty = TempDir::new().unwrap();
    assert!(matches!(registry.register(&candidate(1), empty.path()), Err(RegistryError::Invalid { .. })));
    let directory = files("w");
    fs::write(directory.path().join("manifest.json"), "{}").unwrap();
    assert!(matches!(registry.register(&candidate(1), directory.path()), Err(RegistryError::Invalid { .. })));
}
