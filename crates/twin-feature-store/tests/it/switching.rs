use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use twin_domain::{ChunkId, FeatureStore, FeatureView, FeatureViewId};
use twin_feature_store::{EmbeddedFeatureStore, InMemoryFeatureStore, StoreOptions};

use crate::fixture::{self, Draft, query, view};
use crate::qdrant::Place;

const DOCUMENTS: usize = 40;
/// Switches there and back.
const ROUNDS: usize = 10;
/// How long the readers, 20 queries a second, read while a view is built and while one serves.
const BETWEEN: Duration = Duration::from_millis(120);

#[test]
fn no_query_fails_or_mixes_views_in_the_embedded_store() {
    let directory = fixture::directory();
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    check(&EmbeddedFeatureStore::open_with(directory.path(), options).unwrap());
}

#[test]
fn no_query_fails_or_mixes_views_on_a_server() {
    let place = Place::new();
    check(&place.store());
}

#[test]
fn no_query_fails_or_mixes_views_in_memory() {
    check(&InMemoryFeatureStore::new());
}

/// 20 queries a second go on while a view is built, switched to, rolled back and removed, ten times.
fn check(store: &dyn FeatureStore) {
    let first = build(store, 0);
    store.switch(&first).unwrap();
    let (done, queries) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (done, queries) = (&done, &queries);
        let readers: Vec<_> = (0..4).map(|reader| scope.spawn(move || read(store, reader, done, queries))).collect();
        let mut unused = None;
        for round in 1..=ROUNDS {
            let next = build(store, round);
            std::thread::sleep(BETWEEN);
            store.switch(&next).unwrap();
            std::thread::sleep(BETWEEN);
            let before =
                store.switches().unwrap().into_iter().rev().map(|switch| switch.view).find(|view| *view != next);
            assert_eq!(before.as_ref(), Some(&first));
            store.switch(&first).unwrap();
            // Readers ask which view serves and then query it, so one may still be at the view that just served: that of the
            // round before is removed.
            if let Some(unused) = unused.replace(next) {
                store.remove_view(&unused).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        let served: Vec<usize> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert!(served.iter().sum::<usize>() > 0, "no reader ever saw another view than the first");
    });
    assert!(queries.load(Ordering::Relaxed) >= ROUNDS * 4, "{queries:?} queries");
}

/// Queries whichever view serves, five times a second. Gives how often it was not the first one.
fn read(store: &dyn FeatureStore, reader: usize, done: &AtomicBool, queries: &AtomicUsize) -> usize {
    let (begun, mut others) = (Instant::now(), 0);
    for n in 0.. {
        let due = Duration::from_millis(50 * (4 * n + reader as u64));
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        if done.load(Ordering::Relaxed) {
            break;
        }
        let serving = store.serving_view().unwrap().unwrap();
        let asked = query("ada", "a boat in the harbour");
        let found = store.query(&serving, &asked).unwrap();
        queries.fetch_add(1, Ordering::Relaxed);
        assert!(!found.is_empty());
        for found in found {
            let (chunk, document) = (found.chunk, found.document);
            let expected = ChunkId::new(document.id, &document.content_hash, &serving, chunk.ordinal);
            assert_eq!(chunk.id, expected, "a chunk of another view than {serving}");
        }
        others += usize::from(serving != made(0).id());
    }
    others
}

fn made(round: usize) -> FeatureView {
    FeatureView { chunker: format!("structure-{round}"), ..view() }
}

fn build(store: &dyn FeatureStore, round: usize) -> FeatureViewId {
    let id = store.create_view(&made(round)).unwrap();
    for n in 0..DOCUMENTS {
        let draft = Draft::new("ada", &format!("{n}"), &["a boat in the harbour ", "and number ", "and poem"]);
        store.upsert(&id, &draft.chunks_in(&id)).unwrap();
    }
    store.optimize(&id).unwrap();
    id
}
