use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use twin_domain::ModelRegistry;
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

const DIRECTORY: &str = "TWIN_TEST_KILL_DIRECTORY";
const CANDIDATES: u64 = 6;

/// The child registers and promotes the same six candidates over and over. However often it is killed, each becomes one
/// version, whole, and what it said was promoted serves.
#[test]
fn a_registration_that_is_killed_leaves_nothing_and_repeats_to_the_same_versions() {
    let rounds = if std::env::var_os("TWIN_SLOW_TESTS").is_some() { 100 } else { 15 };
    let place = tempfile::tempdir().unwrap();
    for n in 0..CANDIDATES {
        files(&place.path().join(format!("candidate-{n}")), n);
    }
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    for round in 0..rounds {
        let acknowledged = run_and_kill(place.path(), Duration::from_millis(5 + jitter() % 200));
        assert_eq!(registry.verify(&ada()).unwrap().len(), 0, "round {round}");
        let versions = registry.versions(&ada()).unwrap();
        let contents: BTreeSet<_> = versions.iter().map(|version| &version.content).collect();
        assert_eq!(contents.len(), versions.len(), "round {round}: the same content is there twice");
        let numbers: Vec<u32> = versions.iter().map(|version| version.id.number).collect();
        assert_eq!(numbers, (1..=versions.len() as u32).collect::<Vec<_>>(), "round {round}");
        if let Some(release) = acknowledged {
            let served: Vec<u32> = registry.history(&ada()).unwrap().iter().map(|entry| entry.release).collect();
            // The one after it may have been promoted without the child being able to say so.
            assert!(
                served.iter().rev().take(2).any(|served| *served == release),
                "round {round}: {release} {served:?}"
            );
        }
    }
    register_all(place.path(), |_| {});
    assert_eq!(registry.versions(&ada()).unwrap().len() as u64, CANDIDATES);
    assert_eq!(registry.releases(&ada()).unwrap().len() as u64, CANDIDATES);
    let left = std::fs::read_dir(place.path().join("registry/ada/versions")).unwrap();
    assert_eq!(left.count() as u64, CANDIDATES, "something was left behind");
}

/// Not a test of its own: what the test above runs in a process and kills.
#[test]
fn child_registers_until_it_is_killed() {
    let Some(place) = std::env::var_os(DIRECTORY) else { return };
    loop {
        register_all(Path::new(&place), |release| writeln!(std::io::stdout().lock(), "\npromoted {release}").unwrap());
    }
}

fn register_all(place: &Path, promoted: impl Fn(u32)) {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    for n in 0..CANDIDATES {
        let version = registry.register(&candidate(n), &place.join(format!("candidate-{n}"))).unwrap();
        let release = registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
        registry.promote(&ada(), release.number, &because("better")).unwrap();
        promoted(release.number);
    }
}

fn run_and_kill(place: &Path, delay: Duration) -> Option<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child_registers_until_it_is_killed", "--exact", "--nocapture"])
        .env(DIRECTORY, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("promoted ")?.parse().ok()).last()
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the child ended by itself: {status}");
    reader.join().unwrap()
}

fn jitter() -> u64 {
    u64::from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros())
}
