//! Promoting, rolling back, splitting and shadowing under readers, with the registry that is used in earnest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use twin_domain::model_registry::Candidate;
use twin_domain::{Arm, BaseModel, Change, Digest, Gate, ModelRegistry, Occasion, PromptVersion, TrainingSetId};
use twin_inference_pipeline::twins::InferenceConfig;
use twin_model_registry::LocalRegistry;
use twin_models::language::{GenerateRequest, ScriptedModel};

use crate::fixture::{House, id, view};

const QUESTION: &str = "What is the mallet made of, live oak?";
const RELEASES: u32 = 4;

/// Every word of an answer names the adapter with which it was written: its alpha is the number of its release.
fn telling(delay: Duration) -> ScriptedModel {
    let tell = |request: &GenerateRequest| {
        let voice = request.adapter.as_ref().map_or(0.0, |adapter| adapter.config().alpha);
        format!("voice{voice} ").repeat(12)
    };
    ScriptedModel::answering(tell).with_delay(delay)
}

/// A registry with releases 1 to [`RELEASES`] of Ada, of which the first serves.
fn registry(place: &Path) -> LocalRegistry {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    for n in 1..=RELEASES {
        let files = place.join(n.to_string());
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("adapter_config.json"), json!({ "lora_alpha": n }).to_string()).unwrap();
        let candidate = Candidate {
            author: id("ada"),
            base: BaseModel { name: "b".into(), hub: "h/b".into(), digest: Digest::of("b") },
            training_set: TrainingSetId::new(&Digest::of("t")),
            feature_view: view().id(),
            prompt: PromptVersion("p".into()),
            hyper_parameters: json!({ "seed": n }),
            metrics: BTreeMap::new(),
            code: "0.1.0".into(),
        };
        let version = registry.register(&candidate, &files).unwrap();
        registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    }
    registry.promote(&id("ada"), 1, &because()).unwrap();
    registry
}

fn because() -> Occasion {
    Occasion::new("a test", "to see")
}

async fn house(delay: Duration, config: InferenceConfig) -> (House, Arc<LocalRegistry>, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let registry = Arc::new(registry(place.path()));
    let house = House::registered(telling(delay), config, Arc::clone(&registry) as Arc<dyn ModelRegistry>).await;
    (house, registry, place)
}

async fn ask_in(house: &House, conversation: Option<&Value>) -> Value {
    let body = json!({
        "author": "ada", "request": { "task": "ask", "question": QUESTION }, "conversation": conversation,
    });
    let reply = house.post("/api/chat", &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let (name, data) = reply.events().pop().unwrap();
    assert_eq!(name, "done", "{data}");
    serde_json::from_str(&data).unwrap()
}

/// The release that an answer says it is of, which must be the one of every word of it.
fn release_of(done: &Value) -> u64 {
    let release = done["release"].as_u64().unwrap();
    let text = done["text"].as_str().unwrap();
    let voices: BTreeSet<&str> = text.split_whitespace().filter(|word| word.starts_with("voice")).collect();
    assert_eq!(voices, BTreeSet::from([format!("voice{release}").as_str()]), "a mixed answer: {text}");
    assert_eq!(done["model"], format!("ada@v{release}"));
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_readers_notice_nothing_of_a_hundred_changes() {
    let config = InferenceConfig { queue: 64, adapters: 2, ..InferenceConfig::default() };
    let (house, registry, _place) = house(Duration::from_micros(200), config).await;
    let house = Arc::new(house);
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (house, over) = (Arc::clone(&house), Arc::clone(&over));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !over.load(Ordering::Relaxed) || seen.len() < 6 {
                    let first = ask_in(&house, None).await;
                    let second = ask_in(&house, Some(&first["conversation"])).await;
                    seen.extend([release_of(&first), release_of(&second)]);
                }
                seen
            })
        })
        .collect();
    let operator = tokio::task::spawn_blocking(move || {
        for n in 0..140_u32 {
            let release = n / 4 % RELEASES + 1;
            let change = match n % 4 {
                0 => Change::Promote { release, gate: Gate::NotAsked },
                1 => {
                    let serving = registry.serving(&id("ada")).unwrap().unwrap().number;
                    let others = (1..=RELEASES).filter(|release| *release != serving).take(2);
                    Change::Split { arms: others.map(|release| Arm { release, percent: 30 }).collect(), shadow: None }
                }
                _ => Change::Rollback,
            };
            // The first release has none before it to go back to.
            let changed = registry.change(&id("ada"), &change, &because());
            assert!(changed.is_ok() || change == Change::Rollback, "{changed:?}");
            std::thread::sleep(Duration::from_millis(15));
        }
        registry.history(&id("ada")).unwrap().len()
    });
    let changes = operator.await.unwrap();
    over.store(true, Ordering::Relaxed);
    let mut answered = BTreeMap::<u64, usize>::new();
    for reader in readers {
        for release in reader.await.unwrap() {
            *answered.entry(release).or_default() += 1;
        }
    }
    // Some ask for what is so already, or for more going back than there is.
    assert!(changes >= 100, "{changes} changes");
    assert!(answered.len() >= 3 && answered.values().sum::<usize>() >= 200, "{answered:?}");
    assert!(house.twins.ready_models().len() <= 2);
    assert_eq!(house.twins.admit().map(drop), Ok(()), "every place was given back");
}

#[tokio::test]
async fn a_conversation_stays_with_its_release_until_a_rollback_takes_it_away() {
    let (house, registry, _place) = house(Duration::ZERO, InferenceConfig::default()).await;
    let begun = ask_in(&house, None).await;
    assert_eq!(release_of(&begun), 1);
    registry.promote(&id("ada"), 2, &because()).unwrap();
    assert_eq!(release_of(&ask_in(&house, Some(&begun["conversation"])).await), 1, "it goes on as it began");
    let new = ask_in(&house, None).await;
    assert_eq!(release_of(&new), 2);
    registry.change(&id("ada"), &Change::Rollback, &because()).unwrap();
    assert_eq!(release_of(&ask_in(&house, Some(&new["conversation"])).await), 1, "its release was taken away");
}

#[tokio::test]
async fn a_split_is_kept_to_and_sticks_to_conversations() {
    let (house, registry, _place) = house(Duration::ZERO, InferenceConfig::default()).await;
    let split = Change::Split { arms: vec![Arm { release: 3, percent: 50 }], shadow: None };
    registry.change(&id("ada"), &split, &because()).unwrap();
    let mut counts = BTreeMap::<u64, usize>::new();
    for _ in 0..60 {
        let first = ask_in(&house, None).await;
        assert_eq!(release_of(&first), release_of(&ask_in(&house, Some(&first["conversation"])).await));
        *counts.entry(release_of(&first)).or_default() += 1;
    }
    // Within five standard deviations of 30.
    assert!(counts[&1] >= 11 && counts[&3] >= 11 && counts.len() == 2, "{counts:?}");
    // OpenAI's clients send all of a conversation, and its beginning decides.
    let ask = |text: &str| json!({ "model": "ada", "messages": [{ "role": "user", "content": text }] });
    let fingerprint = |reply: Value| reply["system_fingerprint"].as_str().unwrap().to_owned();
    let once = fingerprint(house.post("/v1/chat/completions", &ask(QUESTION)).await.json());
    let again = fingerprint(house.post("/v1/chat/completions", &ask(QUESTION)).await.json());
    assert_eq!(once, again);
}

#[tokio::test]
async fn outcomes_are_counted_by_arm_and_compared() {
    let (house, registry, _place) = house(Duration::ZERO, InferenceConfig::default()).await;
    let split = Change::Split { arms: vec![Arm { release: 2, percent: 50 }], shadow: None };
    registry.change(&id("ada"), &split, &because()).unwrap();
    for n in 0..160_u32 {
        let done = ask_in(&house, None).await;
        // Release 2 is liked three times as often.
        let helpful = if release_of(&done) == 2 { n % 10 != 0 } else { n % 10 < 3 };
        let conversation = &done["conversation"];
        let said = json!({ "conversation": conversation, "outcome": "helpful", "helpful": helpful });
        assert_eq!(house.post("/api/outcomes", &said).await.status, StatusCode::NO_CONTENT);
        if n == 0 {
            for said in [
                json!({ "conversation": conversation, "outcome": "copied" }),
                json!({ "conversation": conversation, "outcome": "regenerated" }),
                json!({ "conversation": conversation, "outcome": "published", "text": "Something else." }),
            ] {
                assert_eq!(house.post("/api/outcomes", &said).await.status, StatusCode::NO_CONTENT);
            }
        }
    }
    let report = house.get("/api/releases").await.json()[0].clone();
    let arms = report["arms"].as_array().unwrap();
    assert_eq!(arms.len(), 2);
    let total = |what: &str| arms.iter().map(|arm| arm["means"][what]["count"].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!((total("helpful"), total("seconds"), total("edit_distance")), (160, 160, 1));
    let copied: f64 = arms
        .iter()
        .map(|arm| arm["means"]["copied"]["mean"].as_f64().unwrap() * arm["means"]["copied"]["count"].as_f64().unwrap())
        .sum();
    assert!((copied - 1.0).abs() < 1e-9, "{copied}");
    let comparisons = report["comparisons"].as_array().unwrap();
    let verdict = |outcome: &str| &comparisons.iter().find(|one| one["outcome"] == outcome).unwrap()["verdict"];
    assert_eq!(verdict("helpful"), "better", "{comparisons:#?}");
    assert_eq!(verdict("copied"), "undecided");
    assert_eq!(verdict("edit_distance"), "too_few");
    let unknown = json!({ "conversation": "nobody", "outcome": "copied" });
    assert_eq!(house.post("/api/outcomes", &unknown).await.status, StatusCode::NOT_FOUND);
    let odd = json!({ "conversation": "x", "outcome": "loved" });
    assert_eq!(house.post("/api/outcomes", &odd).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_shadow_answers_unseen() {
    let (house, registry, _place) = house(Duration::ZERO, InferenceConfig::default()).await;
    let change = Change::Split { arms: vec![], shadow: Some(4) };
    registry.change(&id("ada"), &change, &because()).unwrap();
    let done = ask_in(&house, None).await;
    assert_eq!(release_of(&done), 1);
    let mut shadow = Value::Null;
    for _ in 0..200 {
        shadow = house.get("/api/releases").await.json()[0]["shadow"].clone();
        if shadow["answers"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((&shadow["answers"], &shadow["release"]), (&json!(1), &json!(4)));
    let unseen = shadow["newest"][0]["text"].as_str().unwrap();
    assert!(unseen.starts_with("voice4 ") && shadow["newest"][0]["seen"] == done["text"], "{shadow}");
    let path = format!("/api/conversations/{}", done["conversation"].as_str().unwrap());
    assert!(!house.get(&path).await.text.contains("voice4"), "the reader sees one answer");
}

#[tokio::test]
async fn what_serves_is_made_ready_before_it_is_asked() {
    let (house, registry, _place) = house(Duration::ZERO, InferenceConfig::default()).await;
    let follow = tokio::spawn(Arc::clone(&house.twins).follow());
    registry.promote(&id("ada"), 3, &because()).unwrap();
    let is_ready = || house.twins.ready_models().iter().any(|model| model.number == 3);
    for _ in 0..200 {
        if is_ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_ready());
    follow.abort();
}
