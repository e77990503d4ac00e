use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use twin_domain::{FeatureStore, FeatureViewId};
use twin_feature_store::{EmbeddedFeatureStore, StoreOptions};

use crate::fixture::{self, Draft, Random, author, view};

const DIRECTORY: &str = "TWIN_TEST_KILL_DIRECTORY";
const FIRST_STEP: &str = "TWIN_TEST_KILL_FIRST_STEP";
const DOCUMENTS: u64 = 20;

/// Step `n` loads version `n` of document `n % 20` and removes the older ones.
#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let rounds = if std::env::var_os("TWIN_SLOW_TESTS").is_some() { 300 } else { 50 };
    let directory = fixture::directory();
    let mut random = Random(11);
    let mut next = 0;
    for round in 0..rounds {
        let delay = Duration::from_millis(20 + random.next() % 250);
        let acknowledged = run_and_kill(directory.path(), next, delay);
        next = acknowledged.map_or(next, |last| last + 1);
        let store = open(directory.path());
        check(&store, &store.create_view(&view()).unwrap(), next, round);
    }
    assert!(next > rounds, "the child hardly came to anything: {next} steps");

    // Going on from where it was killed leads to the state of a run that was not.
    let store = open(directory.path());
    let id = view().id();
    for n in next..next + DOCUMENTS {
        step(&store, &id, n);
    }
    let expected: u64 = (next..next + DOCUMENTS).map(|n| draft(n).texts.len() as u64).sum();
    assert_eq!(store.count(&id, None).unwrap(), expected);
    for stored in store.documents(&id, &author("ada")).unwrap() {
        let chunks = store.chunks(&id, stored.document.info.id).unwrap();
        assert_eq!(chunks.iter().map(|(chunk, _)| chunk.text.as_str()).collect::<String>(), stored.document.text);
    }
}

/// Not a test of its own: what the test above runs in a process and kills.
#[test]
fn child_loads_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let first: u64 = std::env::var(FIRST_STEP).unwrap().parse().unwrap();
    let store = open(Path::new(&directory));
    let id = store.create_view(&view()).unwrap();
    for n in first.. {
        step(&store, &id, n);
        // Past the test harness, which would keep the line to itself.
        writeln!(std::io::stdout().lock(), "\nacknowledged {n}").unwrap();
        if n % 40 == 39 {
            store.optimize(&id).unwrap();
        }
    }
}

/// Checks that the steps before `next` were done, and at most step `next` besides.
fn check(store: &EmbeddedFeatureStore, id: &FeatureViewId, next: u64, round: u64) {
    let stored = store.documents(id, &author("ada")).unwrap();
    let texts: BTreeMap<String, String> =
        stored.into_iter().map(|stored| (stored.document.info.url, stored.document.text)).collect();
    let last_steps = next.saturating_sub(DOCUMENTS)..next;
    let pending = draft(next);
    for kept in last_steps.clone().map(draft) {
        let text = texts.get(&kept.url).unwrap_or_else(|| panic!("round {round}: {} was lost", kept.url));
        let may_be_newer = pending.url == kept.url && *text == pending.texts.concat();
        assert!(*text == kept.texts.concat() || may_be_newer, "round {round}: {} has an old text", kept.url);
    }
    let chunks = store.count(id, Some(&author("ada"))).unwrap();
    let expected: u64 = last_steps.map(|n| draft(n).texts.len() as u64).sum();
    let replaced = next.checked_sub(DOCUMENTS).map_or(0, |n| draft(n).texts.len() as u64);
    let allowed = expected - replaced..=expected + pending.texts.len() as u64;
    assert!(allowed.contains(&chunks), "round {round}: {chunks} chunks where {allowed:?} were to be expected");
}

fn run_and_kill(directory: &Path, first: u64, delay: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child_loads_until_it_is_killed", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST_STEP, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok()).last()
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && status.code().is_none(), "the child ended by itself: {status}");
    reader.join().unwrap()
}

fn step(store: &EmbeddedFeatureStore, id: &FeatureViewId, n: u64) {
    let draft = draft(n);
    store.upsert(id, &draft.chunks()).unwrap();
    store.remove_stale(id, draft.info().id, Some(&draft.info().content_hash)).unwrap();
}

fn draft(n: u64) -> Draft<'static> {
    let texts: Vec<String> = (0..=n % 7).map(|part| format!("version {n}, part {part}, of a boat. ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Draft::new("ada", &format!("{}", n % DOCUMENTS), &texts)
}

fn open(directory: &Path) -> EmbeddedFeatureStore {
    // Small, so that an index is built and merged while the child runs.
    let options = StoreOptions { indexing_threshold_kb: 4, ..StoreOptions::default() };
    EmbeddedFeatureStore::open_with(directory, options).unwrap()
}
