use std::time::{Duration, Instant};

use twin_domain::{FeatureStore, StoreError};
use twin_feature_store::{EmbeddedFeatureStore, StoreOptions};

use crate::fixture::{self, Draft, view};

#[test]
fn a_second_opener_is_refused_at_once_and_told_who_has_it() {
    let directory = fixture::directory();
    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    let id = store.create_view(&view()).unwrap();
    store.upsert(&id, &Draft::new("ada", "a", &["text"]).chunks()).unwrap();
    let before = files(directory.path());

    let begun = Instant::now();
    match EmbeddedFeatureStore::open(directory.path()) {
        Err(StoreError::Locked { owner, .. }) => assert_eq!(owner, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(files(directory.path()), before, "the second opener touched the first one's files");

    drop(store);
    let again = EmbeddedFeatureStore::open(directory.path()).unwrap();
    assert_eq!(again.count(&id, None).unwrap(), 1);
}

/// As when a command that was killed is started again at once.
#[test]
fn an_owner_that_is_just_ending_is_waited_for() {
    let directory = fixture::directory();
    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(store);
    });
    EmbeddedFeatureStore::open(directory.path()).unwrap();
    ending.join().unwrap();
}

#[test]
fn writing_stops_before_the_disk_is_full_and_reading_goes_on() {
    let directory = fixture::directory();
    let id = {
        let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
        let id = store.create_view(&view()).unwrap();
        store.upsert(&id, &Draft::new("ada", "a", &["text"]).chunks()).unwrap();
        id
    };
    let free = fs4::available_space(directory.path()).unwrap();
    // The disk is as good as full, though other tests may free some of it meanwhile.
    let store = EmbeddedFeatureStore::open_with(
        directory.path(),
        StoreOptions { reserve_bytes: free.saturating_mul(2), ..StoreOptions::default() },
    )
    .unwrap();
    let refused = store.upsert(&id, &Draft::new("ada", "b", &["more"]).chunks()).unwrap_err();
    let StoreError::Engine { source, .. } = refused else { panic!("{refused:?}") };
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(store.count(&id, None).unwrap(), 1);
    assert_eq!(store.chunks(&id, Draft::new("ada", "a", &["text"]).info().id).unwrap().len(), 1);
}

/// On a disk of its own, such as a tmpfs of 64 MiB, named by `TWIN_TEST_SMALL_DISK`.
#[test]
fn a_small_disk_is_filled_without_harm() {
    let Some(disk) = std::env::var_os("TWIN_TEST_SMALL_DISK") else { return };
    let directory = tempfile::tempdir_in(disk).unwrap();
    let options = StoreOptions { reserve_bytes: 12 << 20, ..StoreOptions::default() };
    let store = EmbeddedFeatureStore::open_with(directory.path(), options.clone()).unwrap();
    let id = store.create_view(&view()).unwrap();
    let draft = |n: usize| Draft::new("ada", &n.to_string(), &["text of a boat ".repeat(2000).as_str(); 8]);
    let mut stored = 0;
    let refused = loop {
        match store.upsert(&id, &draft(stored).chunks()) {
            Ok(()) => stored += 1,
            Err(refused) => break refused,
        }
    };
    let StoreError::Engine { source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(source.downcast_ref::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::StorageFull);
    assert!(stored > 3, "only {stored} fitted");
    assert_eq!(store.documents(&id, &draft(0).info().author).unwrap().len(), stored);
    drop(store);
    let store = EmbeddedFeatureStore::open_with(directory.path(), options).unwrap();
    assert_eq!(store.documents(&id, &draft(0).info().author).unwrap().len(), stored);
}

fn files(directory: &std::path::Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        match metadata.is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), metadata.len(), metadata.modified().unwrap())),
        }
    }
    found.sort();
    found
}
