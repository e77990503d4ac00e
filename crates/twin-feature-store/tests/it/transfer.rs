use twin_domain::progress::Silent;
use twin_domain::{Author, CancelFlag, FeatureStore, FeatureViewId, StoreError};
use twin_feature_store::{EmbeddedFeatureStore, StoreOptions, transfer};

use crate::fixture::{self, Draft, author, query, view};
use crate::qdrant::Place;

#[test]
fn a_view_goes_to_a_server_and_back_and_answers_alike() {
    let (place, here, back) = (Place::new(), fixture::directory(), fixture::directory());
    let (here, server, back) = (open(here.path()), place.store(), open(back.path()));
    let id = fill(&here, 300);
    for (from, to) in [(&here as &dyn FeatureStore, &server as &dyn FeatureStore), (&server, &back)] {
        let moved = transfer(from, to, &id, &Silent, &CancelFlag::new()).unwrap();
        assert_eq!((moved.chunks, moved.removed, moved.interrupted), (600, 0, false));
    }
    assert_eq!(back.author(&author("ada")).unwrap().description, "computes");
    assert_eq!(back.serving_view().unwrap(), None, "what arrives does not begin to serve");
    assert_eq!(back.documents(&id, &author("ada")).unwrap(), here.documents(&id, &author("ada")).unwrap());
    for text in ["boat number 17", "number 203", "poem 24 of the harbour"] {
        let asked = twin_domain::HybridQuery { limit: 1, ..query("ada", text) };
        let first = |store: &dyn FeatureStore| store.query(&id, &asked).unwrap().remove(0);
        assert_eq!(first(&back).chunk, first(&here).chunk, "{text}");
        assert!((first(&back).similarity - first(&here).similarity).abs() < 1e-5);
    }
}

#[test]
fn moving_again_brings_what_changed_and_removes_what_is_gone() {
    let (place, directory) = (Place::new(), fixture::directory());
    let (here, server) = (open(directory.path()), place.store());
    let id = fill(&here, 20);
    let again = || transfer(&here, &server, &id, &Silent, &CancelFlag::new()).unwrap();
    again();
    let (changed, gone) = (draft(3), draft(5));
    let new = Draft { texts: vec!["all new".to_owned()], ..changed };
    here.upsert(&id, &new.chunks()).unwrap();
    here.remove_stale(&id, new.info().id, Some(&new.info().content_hash)).unwrap();
    here.remove_stale(&id, gone.info().id, None).unwrap();
    let moved = again();
    assert_eq!((moved.chunks, moved.removed), (37, 4));
    assert_eq!(server.count(&id, None).unwrap(), 37);
    assert_eq!(server.documents(&id, &author("ada")).unwrap(), here.documents(&id, &author("ada")).unwrap());
    assert_eq!(again().removed, 0);
}

#[test]
fn an_interrupted_move_is_gone_on_with_and_an_unknown_view_is_named() {
    let (place, directory) = (Place::new(), fixture::directory());
    let (here, server) = (open(directory.path()), place.store());
    let id = fill(&here, 10);
    let cancel = CancelFlag::new();
    cancel.cancel();
    assert!(transfer(&here, &server, &id, &Silent, &cancel).unwrap().interrupted);
    assert_eq!(transfer(&here, &server, &id, &Silent, &CancelFlag::new()).unwrap().chunks, 20);
    let other: FeatureViewId = "features-0123456789ab".parse().unwrap();
    let refused = transfer(&here, &server, &other, &Silent, &CancelFlag::new());
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
}

fn open(directory: &std::path::Path) -> EmbeddedFeatureStore {
    EmbeddedFeatureStore::open_with(directory, StoreOptions { reserve_bytes: 0, ..StoreOptions::default() }).unwrap()
}

fn draft(n: usize) -> Draft<'static> {
    Draft::new("ada", &format!("{n}"), &[&format!("boat number {n} "), &format!("poem {} of the harbour", n * 3)])
}

fn fill(store: &dyn FeatureStore, documents: usize) -> FeatureViewId {
    store.put_author(&Author { description: "computes".to_owned(), ..Author::new(author("ada")) }).unwrap();
    let id = store.create_view(&view()).unwrap();
    let chunks: Vec<_> = (0..documents).flat_map(|n| draft(n).chunks()).collect();
    store.upsert(&id, &chunks).unwrap();
    id
}
