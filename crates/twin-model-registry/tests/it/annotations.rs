use std::path::Path;

use twin_domain::{Annotation, ModelRegistry, ModelVersion, RegistryError, Stage};
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

/// A registry with versions 1 to `count`.
fn registry(place: &Path, count: u64) -> (LocalRegistry, Vec<ModelVersion>) {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    files(&place.join("files"), 1);
    let register = |n| registry.register(&candidate(n), &place.join("files")).unwrap();
    let versions = (1..=count).map(register).collect();
    (registry, versions)
}

fn tag(tag: &str) -> Annotation {
    Annotation::Tagged { tag: tag.to_owned() }
}

#[test]
fn a_tag_is_on_one_version_until_it_is_taken_off() {
    let place = tempfile::tempdir().unwrap();
    let (registry, versions) = registry(place.path(), 2);
    let [first, second] = [&versions[0].id, &versions[1].id];
    registry.annotate(first, &tag("best"), "ada").unwrap();
    registry.annotate(first, &tag("best"), "ada").unwrap();
    let taken = registry.annotate(second, &tag("best"), "ben").unwrap_err();
    assert!(matches!(taken, RegistryError::Refused { .. }) && taken.to_string().contains("ada@v1"), "{taken}");
    registry.annotate(first, &Annotation::Untagged { tag: "best".to_owned() }, "ada").unwrap();
    registry.annotate(second, &tag("best"), "ben").unwrap();
    let said = registry.annotations(&ada()).unwrap();
    assert!(said[&1].tags.is_empty() && said[&2].tags.contains("best"));
    for bad in ["", "v3", "a b", "../x", ".x", "x.", "a..b", "x.lock", &"x".repeat(65)] {
        assert!(matches!(registry.annotate(first, &tag(bad), "ada"), Err(RegistryError::Refused { .. })), "{bad}");
    }
}

#[test]
fn what_serves_is_in_production_and_is_not_archived() {
    let place = tempfile::tempdir().unwrap();
    let (registry, versions) = registry(place.path(), 2);
    let release = |version: &ModelVersion| {
        registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap().number
    };
    registry.promote(&ada(), release(&versions[0]), &because("first")).unwrap();
    assert_eq!(registry.stages(&ada()).unwrap().into_iter().collect::<Vec<_>>(), [(1, Stage::Production)]);
    assert!(matches!(
        registry.annotate(&versions[0].id, &Annotation::Archived, "ada"),
        Err(RegistryError::Refused { .. })
    ));
    registry.promote(&ada(), release(&versions[1]), &because("second")).unwrap();
    registry.annotate(&versions[0].id, &Annotation::Archived, "ada").unwrap();
    registry.annotate(&versions[0].id, &Annotation::Note { text: "slow".to_owned() }, "ada").unwrap();
    let stages = registry.stages(&ada()).unwrap();
    assert_eq!((stages[&1], stages[&2]), (Stage::Archived, Stage::Production));
    assert_eq!(registry.annotations(&ada()).unwrap()[&1].notes[0].text, "slow");
}

#[test]
fn clean_up_keeps_what_releases_and_tags_refer_to_and_never_gives_a_number_again() {
    let place = tempfile::tempdir().unwrap();
    let (registry, versions) = registry(place.path(), 5);
    for version in &versions {
        // All but the second are put aside.
        if version.id.number != 2 {
            registry.annotate(&version.id, &Annotation::Archived, "ada").unwrap();
        }
    }
    registry.annotate(&versions[2].id, &tag("thesis"), "ada").unwrap();
    registry.create_release(&versions[3].id, &versions[3].feature_view, &versions[3].prompt).unwrap();
    let would = registry.collect(&ada(), true, "ada").unwrap();
    assert_eq!(registry.versions(&ada()).unwrap().len(), 5, "a dry run removes nothing");
    let done = registry.collect(&ada(), false, "ada").unwrap();
    assert_eq!(would, done);
    let kept: Vec<_> = done.iter().map(|one| (one.model.number, one.kept_by.join(", "))).collect();
    let none = String::new;
    assert_eq!(kept, [(1, none()), (3, "tag thesis".to_owned()), (4, "release 1".to_owned()), (5, none())]);
    assert!(done.iter().all(|one| one.bytes > 2_000_000));
    let left: Vec<u32> = registry.versions(&ada()).unwrap().iter().map(|version| version.id.number).collect();
    assert_eq!(left, [2, 3, 4]);
    assert_eq!(registry.list(&ada()).unwrap().versions.len(), 3);
    let next = registry.register(&candidate(9), &place.path().join("files")).unwrap();
    assert_eq!(next.id.number, 6, "5 was given and is gone");
    assert!(registry.verify(&ada()).unwrap().is_empty());
}

#[test]
fn a_registry_of_a_newer_program_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (registry, _) = registry(place.path(), 1);
    std::fs::write(place.path().join("registry/registry.json"), r#"{"format": 99, "more": true}"#).unwrap();
    let refused = [
        LocalRegistry::open(&place.path().join("registry")).unwrap_err(),
        registry.register(&candidate(2), &place.path().join("files")).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, RegistryError::Newer { found: 99, .. }), "{error}");
        assert!(error.to_string().contains("newer version of twin"), "{error}");
    }
    assert_eq!(std::fs::read_dir(place.path().join("registry/ada/versions")).unwrap().count(), 1);
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn reading_writes_nothing_and_a_registry_that_cannot_be_written_says_so() {
    let place = tempfile::tempdir().unwrap();
    let (registry, versions) = registry(place.path(), 2);
    let release = registry.create_release(&versions[0].id, &versions[0].feature_view, &versions[0].prompt).unwrap();
    registry.promote(&ada(), release.number, &because("first")).unwrap();
    let root = place.path().join("registry");
    let before = snapshot(&root);
    let reader = LocalRegistry::open(&root).unwrap();
    assert_eq!(reader.list(&ada()).unwrap().versions.len(), 2);
    assert!(reader.verify(&ada()).unwrap().is_empty());
    assert_eq!(reader.serving(&ada()).unwrap().unwrap().number, 1);
    assert_eq!(reader.stages(&ada()).unwrap().len(), 1);
    assert_eq!(reader.collect(&ada(), true, "ada").unwrap(), []);
    assert_eq!(snapshot(&root), before, "reading changed something");

    let mut permissions = std::fs::metadata(&root).unwrap().permissions();
    permissions.set_readonly(true);
    for directory in ["ada/versions", "ada", ""] {
        std::fs::set_permissions(root.join(directory), permissions.clone()).unwrap();
    }
    if std::fs::write(root.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write to directories that are read-only");
        return;
    }
    let error = reader.register(&candidate(7), &place.path().join("files")).unwrap_err();
    assert!(matches!(error, RegistryError::ReadOnly { .. }), "{error}");
    assert!(reader.verify(&ada()).unwrap().is_empty());
}

/// Every file with its size and time of change.
fn snapshot(root: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            found.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
