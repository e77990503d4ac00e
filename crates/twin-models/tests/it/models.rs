use twin_domain::CancelFlag;
use twin_domain::progress::Silent;
use twin_models::{Models, ModelsConfig, ModelsError};

use crate::support::Home;

#[test]
fn the_base_model_is_known_without_its_files() {
    let models = Models::new(ModelsConfig::new(Home::new().path("cache")));
    let base = models.base_model("smollm2-135m-instruct").unwrap();
    assert_eq!(base.hub, "HuggingFaceTB/SmolLM2-135M-Instruct");
    assert_eq!(base.digest.short(), "b179c9523d0e");
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones() {
    let models = Models::new(ModelsConfig::new(Home::new().path("cache")));
    let error = models.embedder("all-minilm", &Silent, &CancelFlag::new()).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("`all-minilm`") && cause.contains("`all-minilm-l6-v2`"), "{cause}");
    let error = models.embedder("smollm2-135m-instruct", &Silent, &CancelFlag::new()).err().unwrap();
    assert!(matches!(error, ModelsError::WrongKind { .. }), "{error}");
    assert!(matches!(models.base_model("onnxruntime"), Err(ModelsError::WrongKind { .. })));
}

#[test]
fn offline_with_an_empty_cache_says_what_is_missing_and_how_to_bring_it() {
    let home = Home::new();
    let mut config = ModelsConfig::new(home.path("cache"));
    config.offline = true;
    let error = Models::new(config).embedder("all-minilm-l6-v2", &Silent, &CancelFlag::new()).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("offline") && cause.contains("twin models import all-minilm-l6-v2 FILE"), "{cause}");
}
