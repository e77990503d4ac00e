use std::path::Path;

use twin_domain::release::ChangeKind;
use twin_domain::{Arm, Change, Digest, Gate, ModelRegistry, Promotion, RegistryError};
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

/// A registry with releases 1 to `count`.
fn registry(place: &Path, count: u64) -> LocalRegistry {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    files(&place.join("files"), 1);
    for n in 1..=count {
        let version = registry.register(&candidate(n), &place.join("files")).unwrap();
        registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    }
    registry
}

fn split(arms: &[(u32, u32)], shadow: Option<u32>) -> Change {
    let arms = arms.iter().map(|(release, percent)| Arm { release: *release, percent: *percent }).collect();
    Change::Split { arms, shadow }
}

#[test]
fn traffic_is_split_shadowed_and_taken_back() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry(place.path(), 3);
    let change = |change: &Change| registry.change(&ada(), change, &because("to see"));
    assert!(change(&split(&[(2, 10)], None)).is_err(), "nothing serves yet");
    registry.promote(&ada(), 1, &because("first")).unwrap();
    let entry = change(&split(&[(2, 10)], Some(3))).unwrap();
    assert_eq!((entry.release, entry.kind, entry.shadow), (1, ChangeKind::Split, Some(3)));
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 1);
    let nonsense =
        [split(&[(1, 10)], None), split(&[(2, 0)], None), split(&[(2, 60), (3, 40)], None), split(&[(2, 10)], Some(2))];
    for nonsense in &nonsense {
        assert!(matches!(change(nonsense), Err(RegistryError::Refused { .. })), "{nonsense:?}");
    }
    assert!(matches!(change(&split(&[(9, 10)], None)), Err(RegistryError::NotFound { .. })));

    // The split ends first; then there is nothing to go back to.
    change(&Change::Rollback).unwrap();
    let traffic = registry.traffic(&ada()).unwrap().unwrap();
    assert_eq!((traffic.release, traffic.arms.len(), traffic.shadow), (1, 0, None));
    assert!(!traffic.keeps(2) && traffic.keeps(1));
    assert!(matches!(change(&Change::Rollback), Err(RegistryError::Refused { .. })));
}

#[test]
fn rollbacks_go_further_back_each_time() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry(place.path(), 3);
    for release in [1, 2, 3] {
        registry.promote(&ada(), release, &because("better")).unwrap();
    }
    let mut served = Vec::new();
    while let Ok(entry) = registry.change(&ada(), &Change::Rollback, &because("worse")) {
        served.push(entry.release);
    }
    assert_eq!(served, [2, 1]);
    assert!(registry.history(&ada()).unwrap().iter().all(|entry| entry.by == "ada"));
}

#[test]
fn a_clock_that_was_put_back_does_not_turn_the_history_around() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry(place.path(), 2);
    registry.promote(&ada(), 1, &because("first")).unwrap();
    // As a clock that is years ahead would have written it.
    let path = place.path().join("registry/ada/history.jsonl");
    let mut entry: Promotion = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    entry.at = "2199-01-01T00:00:00Z".parse().unwrap();
    std::fs::write(&path, format!("{}\n", serde_json::to_string(&entry).unwrap())).unwrap();
    registry.promote(&ada(), 2, &because("the clock is right again")).unwrap();
    let history = registry.history(&ada()).unwrap();
    assert!(history[1].at >= history[0].at, "{history:?}");
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 2);
    assert_eq!(registry.change(&ada(), &Change::Rollback, &because("back")).unwrap().release, 1);
}

#[test]
fn the_gate_is_on_record_with_its_report() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry(place.path(), 1);
    let report = registry.put_gate_report(&ada(), b"{\"passed\":false}").unwrap();
    let gate = Gate::Forced { report: Some(report.clone()) };
    registry.change(&ada(), &Change::Promote { release: 1, gate: gate.clone() }, &because("no time")).unwrap();
    assert_eq!(registry.history(&ada()).unwrap()[0].gate, gate);
    assert_eq!(registry.gate_report(&ada(), &report).unwrap(), b"{\"passed\":false}");
    let path = place.path().join(format!("registry/ada/gate/{report}.json"));
    std::fs::write(path, "{\"passed\":true}").unwrap();
    assert!(matches!(registry.gate_report(&ada(), &report), Err(RegistryError::Damaged { .. })));
    assert!(matches!(registry.gate_report(&ada(), &Digest::of("x")), Err(RegistryError::NotFound { .. })));
}
