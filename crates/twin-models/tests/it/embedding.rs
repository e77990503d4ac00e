use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use twin_domain::CancelFlag;
use twin_domain::progress::Silent;
use twin_models::embedding::Embedder;
use twin_models::{Models, ModelsConfig};

/// The real model out of the shared cache. Nothing is downloaded for a test.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn embedder() -> Option<&'static Arc<dyn Embedder>> {
    static EMBEDDER: OnceLock<Option<Arc<dyn Embedder>>> = OnceLock::new();
    let load = || {
        let named = std::env::var_os("TWIN_MODEL_CACHE").map(PathBuf::from);
        let cache = named.or_else(|| std::env::home_dir().map(|home| home.join(".cache/twin/models")))?;
        let mut config = ModelsConfig::new(cache);
        config.offline = true;
        let models = Models::new(config);
        if let Err(error) = models.cache().path(twin_models::catalogue::entry("all-minilm-l6-v2")?) {
            eprintln!("skipped: {error}");
            return None;
        }
        Some(models.embedder("all-minilm-l6-v2", &Silent, &CancelFlag::new()).unwrap())
    };
    EMBEDDER.get_or_init(load).as_ref()
}

#[test]
fn similarities_are_those_that_the_makers_of_the_model_print() {
    let Some(embedder) = embedder() else { return };
    // The example of the Sentence Transformers documentation (sbert.net, "Usage") with this model.
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let vectors = embedder.embed(&texts).unwrap();
    for (a, b, expected) in [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)] {
        let found = vectors[a].cosine(&vectors[b]);
        assert!((found - expected).abs() < 1e-3, "{} / {}: {found} instead of {expected}", texts[a], texts[b]);
    }
    assert!(vectors.iter().all(|vector| vector.dimension() == embedder.dimension()));
}

#[test]
fn a_batch_gives_what_single_texts_give_in_their_order() {
    let Some(embedder) = embedder() else { return };
    let words = "the boat lay on the hard all winter and nobody had looked at her garboards since the spring tide";
    let texts: Vec<String> = (0..40).map(|n| format!("{n} {}", &words.repeat(n % 7 + 1)[n..])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let batch = embedder.embed(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&batch) {
        let alone = embedder.embed_one(text).unwrap();
        assert!(alone.cosine(vector) > 0.999, "{text}");
        let length: f32 = vector.values().iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-3);
    }
    assert!(batch[0].cosine(&batch[39]) < 0.999, "texts differ, and so do their vectors");
}

#[test]
fn a_text_is_seen_up_to_the_limit_and_no_further() {
    let Some(embedder) = embedder() else { return };
    let long = "caulking ".repeat(300);
    // Two of the tokens that the model sees are its own start and end.
    let within = embedder.max_tokens() - 2;
    let cut: String = long.split_whitespace().collect::<Vec<_>>().join(" ");
    let tokens_each = embedder.count_tokens("caulking");
    let fitting = "caulking ".repeat(within / tokens_each);
    let beyond = embedder.embed_one(&format!("{cut} and then something else")).unwrap();
    assert!(embedder.embed_one(&cut).unwrap().cosine(&beyond) > 0.9999);
    let half = "caulking ".repeat(within / tokens_each / 2);
    let changed = embedder.embed_one(&format!("{half} astronomy telescope galaxy {half}")).unwrap();
    assert!(embedder.embed_one(&fitting).unwrap().cosine(&changed) < 0.999, "words within the limit count");
}

#[test]
fn tokens_are_counted_without_the_models_own() {
    let Some(embedder) = embedder() else { return };
    assert_eq!(embedder.count_tokens("Hello, world"), 3);
    assert_eq!(embedder.count_tokens(""), 0);
    assert_eq!(embedder.count_tokens(&"word ".repeat(1000)), 1000, "counting does not cut");
    assert_eq!(embedder.count_tokens("[SEP]"), 3, "a token's name in a text is text");
}

#[test]
fn nothing_and_emptiness_are_no_trouble() {
    let Some(embedder) = embedder() else { return };
    assert!(embedder.embed(&[]).unwrap().is_empty());
    assert_eq!(embedder.embed(&["", "\u{0}\u{fffd}", "🛶"]).unwrap().len(), 3);
}

#[test]
fn token_vectors_are_the_same_when_they_are_remembered() {
    let Some(embedder) = embedder() else { return };
    let texts = ["a pair of oars", "The keel is oak.", "Tar smells of summer."];
    let first = embedder.embed_tokens(&texts).unwrap().unwrap();
    let again = embedder.embed_tokens(&[texts[2], "new to it", texts[0]]).unwrap().unwrap();
    assert_eq!((&again[0], &again[2]), (&first[2], &first[0]));
    assert_eq!(again[1].len(), 3);
    let met =
        |question: &str, passage| embedder.embed_tokens(&[question]).unwrap().unwrap()[0].late_interaction(passage);
    assert!(met("what is the keel made of?", &first[1]) > met("what is the keel made of?", &first[2]));
}

#[test]
fn several_threads_share_one_embedder() {
    let Some(embedder) = embedder() else { return };
    let expected = embedder.embed_one("a pair of oars").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(embedder.embed_one("a pair of oars").unwrap().cosine(&expected) > 0.999));
        }
    });
}
