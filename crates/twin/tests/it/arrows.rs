//! The arrows of ARCHITECTURE.md: which crate may know which.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

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

/// Engines that only one crate may name.
const OWNED: [(&str, &str); 6] = [
    ("qdrant-edge", "twin-feature-store"),
    ("parquet", "twin-feature-store"),
    ("candle-core", "twin-models"),
    ("fastembed", "twin-models"),
    ("tokenizers", "twin-models"),
    ("axum", "twin-inference-pipeline"),
];

/// What the nouns must not drag in.
const NOT_IN_DOMAIN: [&str; 5] = ["tokio", "axum", "reqwest", "candle-core", "qdrant-edge"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().other_options(vec!["--offline".to_owned()]).exec().unwrap();
    let normal = |package: &cargo_metadata::Package| {
        let all = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        all.map(|dependency| dependency.name.clone()).collect::<BTreeSet<_>>()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
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
