//! The arrows of ARCHITECTURE.md: which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

/// What is needed here of `cargo metadata --format-version 1`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
}

/// What each crate may use of the others, tests excepted.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("twin-domain", &[]),
    ("twin-feature-store", &["twin-domain"]),
    ("twin-model-registry", &["twin-domain"]),
    ("twin-models", &["twin-domain"]),
    ("twin-style", &["twin-domain"]),
    ("twin-feature-pipeline", &["twin-domain", "twin-models", "twin-style"]),
    ("twin-training-pipeline", &["twin-domain", "twin-models", "twin-style"]),
    ("twin-inference-pipeline", &["twin-domain", "twin-models", "twin-style"]),
    (
        "twin",
        &[
            "twin-domain",
            "twin-feature-pipeline",
            "twin-feature-store",
            "twin-inference-pipeline",
            "twin-model-registry",
            "twin-models",
            "twin-style",
            "twin-training-pipeline",
        ],
    ),
];

/// Engines that only one crate may name. (Each pipeline offers routes of its own, so axum is not among them.)
const OWNED: [(&str, &str); 6] = [
    ("qdrant-edge", "twin-feature-store"),
    ("qdrant-client", "twin-feature-store"),
    ("parquet", "twin-feature-store"),
    ("candle-core", "twin-models"),
    ("fastembed", "twin-models"),
    ("tokenizers", "twin-models"),
];

/// What the nouns must not drag in.
const NOT_IN_DOMAIN: [&str; 5] = ["tokio", "axum", "reqwest", "candle-core", "qdrant-edge"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).output().unwrap();
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let normal = |package: Package| {
        let all = package.dependencies.into_iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        (package.name, all.map(|dependency| dependency.name).collect())
    };
    metadata.packages.into_iter().map(normal).collect()
}

#[test]
fn arrows_point_down_only() {
    let found = dependencies();
    assert_eq!(found.len(), ALLOWED.len(), "a new crate has its place in ARCHITECTURE.md and in this table");
    for (name, allowed) in ALLOWED {
        for used in found[name].iter().filter(|used| used.starts_with("twin")) {
            assert!(allowed.contains(&used.as_str()), "`{name}` must not use `{used}`");
        }
    }
}

#[test]
fn engines_have_one_owner() {
    let found = dependencies();
    for (engine, owner) in OWNED {
        for (name, used) in &found {
            assert!(name == owner || !used.contains(engine), "`{name}` must not name `{engine}`, which `{owner}` owns");
        }
    }
}

#[test]
fn the_nouns_know_nothing() {
    let used = &dependencies()["twin-domain"];
    for engine in NOT_IN_DOMAIN {
        assert!(!used.contains(engine), "`twin-domain` must not use `{engine}`");
    }
}
