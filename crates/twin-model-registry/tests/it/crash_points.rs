//! The process ends, as by `kill -9`, after each durable step in turn; what is left is the state before or the state after.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use twin_domain::{Annotation, Arm, Change, ModelRegistry};
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

const DIRECTORY: &str = "TWIN_TEST_CRASH_DIRECTORY";
const OPERATION: &str = "TWIN_TEST_CRASH_OPERATION";
const STEP: &str = "TWIN_TEST_CRASH_STEP";

const OPERATIONS: [&str; 6] = ["register", "release", "promote", "split", "annotate", "collect"];

/// Everything that a reader can see.
fn state(place: &Path) -> String {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    assert!(registry.verify(&ada()).unwrap().is_empty());
    let listing = registry.list(&ada()).unwrap();
    assert!(listing.unreadable.is_empty());
    let numbers: Vec<u32> = registry.versions(&ada()).unwrap().iter().map(|version| version.id.number).collect();
    assert_eq!(listing.versions.iter().map(|version| version.number).collect::<Vec<_>>(), numbers);
    let releases = registry.releases(&ada()).unwrap().len();
    let history: Vec<_> = registry.history(&ada()).unwrap().into_iter().map(|e| (e.release, e.kind, e.arms)).collect();
    let tags: Vec<_> = registry.annotations(&ada()).unwrap().into_values().map(|said| said.tags).collect();
    format!("{numbers:?} {releases} {history:?} {tags:?}")
}

fn prepare(place: &Path) {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    for n in 1..=4 {
        files(&place.join(format!("candidate-{n}")), n);
    }
    for n in 1..=3 {
        let version = registry.register(&candidate(n), &place.join(format!("candidate-{n}"))).unwrap();
        if n < 3 {
            registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
        }
    }
    registry.promote(&ada(), 1, &because("first")).unwrap();
    registry.annotate(&"ada@v3".parse().unwrap(), &Annotation::Archived, "ada").unwrap();
}

fn operate(registry: &LocalRegistry, place: &Path, operation: &str) {
    match operation {
        "register" => drop(registry.register(&candidate(4), &place.join("candidate-4")).unwrap()),
        "release" => {
            let version = registry.version(&"ada@v3".parse().unwrap()).unwrap();
            registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
        }
        "promote" => registry.promote(&ada(), 2, &because("better")).unwrap(),
        "split" => {
            let change = Change::Split { arms: vec![Arm { release: 2, percent: 20 }], shadow: None };
            registry.change(&ada(), &change, &because("to see")).unwrap();
        }
        "annotate" => {
            let tag = Annotation::Tagged { tag: "best".to_owned() };
            registry.annotate(&"ada@v1".parse().unwrap(), &tag, "ada").unwrap();
        }
        "collect" => drop(registry.collect(&ada(), false, "ada").unwrap()),
        other => panic!("{other}"),
    }
}

#[test]
fn whenever_the_process_ends_the_old_or_the_new_state_is_there() {
    let mut seen = 0;
    for operation in OPERATIONS {
        let place = tempfile::tempdir().unwrap();
        prepare(place.path());
        let old = state(place.path());
        let mut states = Vec::new();
        for step in 0.. {
            let place = tempfile::tempdir().unwrap();
            prepare(place.path());
            let status = child(place.path(), operation, step);
            states.push(state(place.path()));
            // What was cut short is done again without harm.
            let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
            operate(&registry, place.path(), operation);
            let again = state(place.path());
            let left = std::fs::read_dir(place.path().join("registry/ada")).unwrap();
            let left = left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("tmp-"));
            assert_eq!(left.count(), 0, "{operation} after step {step}");
            states.push(again);
            if status.success() {
                break;
            }
            assert!(status.code().is_none(), "{operation} after step {step} failed: {status}");
            seen += 1;
        }
        let new = states.last().unwrap();
        assert_ne!(*new, old, "{operation}");
        assert!(states.iter().all(|state| *state == old || state == new), "{operation}: {states:#?}\n{old}\n{new}");
    }
    assert!(seen >= 20, "only {seen} steps");
}

/// Not a test of its own: the process that ends.
#[test]
fn child_ends_after_a_step() {
    let Some(place) = std::env::var_os(DIRECTORY) else { return };
    let operation = std::env::var(OPERATION).unwrap();
    let last: usize = std::env::var(STEP).unwrap().parse().unwrap();
    let taken = AtomicUsize::new(0);
    let registry = LocalRegistry::open(&Path::new(&place).join("registry")).unwrap();
    let registry = registry.observed(Arc::new(move |_| {
        if taken.fetch_add(1, Ordering::SeqCst) == last {
            std::process::abort();
        }
    }));
    operate(&registry, Path::new(&place), &operation);
}

fn child(place: &Path, operation: &str, step: usize) -> std::process::ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["crash_points::child_ends_after_a_step", "--exact"]).env(DIRECTORY, place);
    child.env(OPERATION, operation).env(STEP, step.to_string()).output().unwrap().status
}
