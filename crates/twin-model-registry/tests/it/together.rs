use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use twin_domain::ModelRegistry;
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

const DIRECTORY: &str = "TWIN_TEST_TOGETHER_DIRECTORY";
const CANDIDATE: &str = "TWIN_TEST_TOGETHER_CANDIDATE";

#[test]
fn processes_that_register_at_once_get_different_numbers_and_the_same_content_one() {
    let place = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..6_u64)
        .map(|n| {
            // Two of each candidate.
            Command::new(std::env::current_exe().unwrap())
                .args(["together::child_registers_one", "--exact"])
                .env(DIRECTORY, place.path())
                .env(CANDIDATE, (n / 2).to_string())
                .env("TWIN_TEST_TOGETHER_PLACE", n.to_string())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    let versions = registry.versions(&ada()).unwrap();
    assert_eq!(versions.iter().map(|version| version.id.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(versions.iter().map(|version| &version.content).collect::<BTreeSet<_>>().len(), 3);
    assert!(registry.verify(&ada()).unwrap().is_empty());
}

/// Not a test of its own: one of the processes of the test above.
#[test]
fn child_registers_one() {
    let Some(place) = std::env::var_os(DIRECTORY) else { return };
    let n: u64 = std::env::var(CANDIDATE).unwrap().parse().unwrap();
    let own = format!("candidate-{}", std::env::var("TWIN_TEST_TOGETHER_PLACE").unwrap());
    files(&Path::new(&place).join(&own), n);
    let registry = LocalRegistry::open(&Path::new(&place).join("registry")).unwrap();
    registry.register(&candidate(n), &Path::new(&place).join(own)).unwrap();
}

#[test]
fn promotions_at_once_are_all_on_record() {
    let place = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    files(&place.path().join("files"), 1);
    for n in 0..4 {
        let version = registry.register(&candidate(n), &place.path().join("files")).unwrap();
        registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    }
    std::thread::scope(|scope| {
        for release in 1..=4 {
            let registry = &registry;
            scope.spawn(move || registry.promote(&ada(), release, &because("at once")).unwrap());
        }
    });
    let history = registry.history(&ada()).unwrap();
    let served: BTreeSet<u32> = history.iter().map(|promotion| promotion.release).collect();
    assert_eq!((history.len(), served.len()), (4, 4));
    assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, history.last().unwrap().release);
}
