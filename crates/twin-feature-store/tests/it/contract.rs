use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::date;
use proptest::prelude::*;
use twin_domain::{
    Author, ChunkId, ChunkKind, DocumentId, Embedding, FeatureStore, FeatureView, FeatureViewId, Filter, Fusion,
    Searches, StoreError,
};
use twin_feature_store::{EmbeddedFeatureStore, InMemoryFeatureStore, StoreOptions};
#[cfg(unix)]
use twin_feature_store::{SharedFeatureStore, Sharing};

use crate::fixture::{self, Draft, Random, author, embed, query, view};
use crate::qdrant::Place;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { super::in_a_directory(super::$name); })*
        }
        #[cfg(unix)]
        mod shared {
            $(#[test] fn $name() { super::of_another_process(super::$name); })*
        }
        mod server {
            $(#[test] fn $name() { super::on_a_server(super::$name); })*
        }
        mod in_memory {
            $(#[test] fn $name() { super::$name(&twin_feature_store::InMemoryFeatureStore::new()); })*
        }
    };
}

contract![
    authors_are_recorded_and_replaced,
    views_are_made_once_and_one_serves,
    an_id_that_is_a_path_is_no_view,
    loading_twice_changes_nothing,
    no_query_sees_another_author,
    filters_admit_what_they_say,
    similarity_is_the_exact_cosine,
    words_are_found_where_vectors_are_far_and_vectors_where_words_differ,
    the_score_is_reciprocal_rank_fusion,
    equal_chunks_come_in_a_fixed_order,
    a_text_without_terms_is_found_by_its_vector,
    the_newer_complete_version_of_a_document_counts,
    removing_a_document_leaves_the_others,
    a_missing_chunk_is_damage_and_named,
    a_document_comes_back_byte_for_byte_with_what_is_not_its_voice,
    documents_come_oldest_first,
    a_bad_batch_is_refused_whole,
    each_search_can_be_weighed_and_switched_off,
    every_chunk_is_on_one_page_in_order_with_its_vector,
    switches_are_remembered_in_order,
    a_view_that_serves_stays_and_another_can_be_removed_and_made_again,
    optimizing_and_reading_ahead_change_no_answer,
];

fn in_a_directory(test: impl Fn(&dyn FeatureStore)) {
    let directory = fixture::directory();
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    test(&EmbeddedFeatureStore::open_with(directory.path(), options).unwrap());
}

/// The embedded store through the socket by which other processes reach it.
#[cfg(unix)]
fn of_another_process(test: impl Fn(&dyn FeatureStore)) {
    let directory = fixture::directory();
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    let store = Arc::new(EmbeddedFeatureStore::open_with(directory.path(), options).unwrap());
    let _sharing = Sharing::start(store, directory.path()).unwrap();
    let sets = directory.path().join("training-sets");
    test(&SharedFeatureStore::connect(directory.path(), &sets).unwrap().expect("the store is shared"));
}

fn on_a_server(test: impl Fn(&dyn FeatureStore)) {
    let place = Place::new();
    test(&place.store());
}

/// Loads drafts and gives the view that they are in.
fn load(store: &dyn FeatureStore, drafts: &[Draft<'_>]) -> FeatureViewId {
    let id = store.create_view(&view()).unwrap();
    let chunks: Vec<_> = drafts.iter().flat_map(Draft::chunks).collect();
    store.upsert(&id, &chunks).unwrap();
    id
}

fn authors_are_recorded_and_replaced(store: &dyn FeatureStore) {
    assert!(store.authors().unwrap().is_empty());
    for (name, description) in [("maren", "repairs boats"), ("ada", "computes"), ("maren", "builds boats")] {
        store.put_author(&Author { description: description.to_owned(), ..Author::new(author(name)) }).unwrap();
    }
    let names: Vec<_> = store.authors().unwrap().into_iter().map(|author| author.description).collect();
    assert_eq!(names, ["computes", "builds boats"]);
    assert_eq!(store.author(&author("ada")).unwrap().description, "computes");
    assert!(matches!(store.author(&author("bob")), Err(StoreError::NotFound { .. })));
}

fn views_are_made_once_and_one_serves(store: &dyn FeatureStore) {
    assert_eq!(store.serving_view().unwrap(), None);
    let other = FeatureView { chunker: "structure-2".to_owned(), ..view() };
    let (first, second) = (store.create_view(&view()).unwrap(), store.create_view(&other).unwrap());
    store.upsert(&first, &Draft::new("ada", "a", &["text"]).chunks()).unwrap();
    assert_eq!(store.create_view(&view()).unwrap(), first);
    assert_eq!(store.count(&first, None).unwrap(), 1, "making a view again must not empty it");
    assert_eq!(store.views().unwrap().len(), 2);
    for id in [&first, &second, &second, &first] {
        store.switch(id).unwrap();
        assert_eq!(store.serving_view().unwrap().as_ref(), Some(id));
    }
    let missing = FeatureView { dimension: 7, ..view() };
    assert!(matches!(store.switch(&missing.id()), Err(StoreError::NotFound { .. })));
    assert_eq!(store.serving_view().unwrap(), Some(first));
    for bad in [FeatureView { dimension: 0, ..view() }, FeatureView { sparse: "splade".to_owned(), ..view() }] {
        assert!(matches!(store.create_view(&bad), Err(StoreError::Invalid { .. })), "{bad:?}");
    }
}

fn an_id_that_is_a_path_is_no_view(store: &dyn FeatureStore) {
    let id: FeatureViewId = serde_json::from_str("\"../../etc\"").unwrap();
    assert!(matches!(store.switch(&id), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.count(&id, None), Err(StoreError::NotFound { .. })));
}

fn loading_twice_changes_nothing(store: &dyn FeatureStore) {
    let draft = Draft::new("ada", "a", &["one ", "two ", "three"]);
    let id = load(store, &[draft.clone(), Draft::new("bob", "b", &["four"])]);
    store.upsert(&id, &draft.chunks()).unwrap();
    let twice = [draft.chunks(), draft.chunks()].concat();
    store.upsert(&id, &twice).unwrap();
    store.upsert(&id, &[]).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 4);
    assert_eq!(store.count(&id, Some(&author("ada"))).unwrap(), 3);
    assert_eq!(store.count(&id, Some(&author("nobody"))).unwrap(), 0);
    assert_eq!(store.documents(&id, &author("ada")).unwrap()[0].document.text, "one two three");
}

fn no_query_sees_another_author(store: &dyn FeatureStore) {
    let names = ["ada", "bob", "cleo"];
    let mut random = Random(7);
    let words = ["boat", "engine", "harbour", "poem", "number", "kettle"];
    let mut text = || (0..6).map(|_| words[random.below(words.len())]).collect::<Vec<_>>().join(" ");
    let mut drafts = Vec::new();
    for name in names {
        drafts.extend((0..5).map(|n| Draft::new(name, &format!("{n}"), &[&text(), &text()])));
    }
    let id = load(store, &drafts);
    for name in names {
        for _ in 0..10 {
            let found = store.query(&id, &query(name, &text())).unwrap();
            assert!(!found.is_empty());
            assert!(found.iter().all(|found| found.document.author == author(name)));
        }
    }
    assert!(store.query(&id, &query("nobody", "boat")).unwrap().is_empty());
}

fn filters_admit_what_they_say(store: &dyn FeatureStore) {
    let kinds = [ChunkKind::Prose, ChunkKind::Code, ChunkKind::Quotation];
    let years = [None, Some(2019), Some(2020), Some(2021)];
    let tags = [vec![], vec!["boats"], vec!["poems"], vec!["boats", "poems"]];
    let languages = [None, Some("en"), Some("de"), Some("en"), Some("fr")];
    let mut drafts = Vec::new();
    for n in 0..24 {
        let slug = format!("{n}");
        let draft = Draft::new("ada", &slug, &["the same boat"]);
        let (kind, year, tags) = (kinds[n % 3], years[n % 4], tags[(n / 4) % 4].clone());
        drafts.push(Draft { kind, year, tags, language: languages[n % 5], ..draft });
    }
    let id = load(store, &drafts);
    let all: Vec<_> = drafts.iter().flat_map(Draft::chunks).collect();

    let days =
        || prop_oneof![Just(None), (2018_i16..2023, 1_i8..=12, 1_i8..=28).prop_map(|(y, m, d)| Some(date(y, m, d)))];
    let some_tags = proptest::sample::subsequence(vec!["boats", "poems", "none"], 0..=2);
    let some_kinds = proptest::sample::subsequence(kinds.to_vec(), 0..=2);
    let some_languages = proptest::sample::subsequence(vec!["en", "de", "ja"], 0..=2);
    let some_documents = proptest::sample::subsequence(all.clone(), 0..=4);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let chosen = (days(), days(), some_tags, some_kinds, some_languages, some_documents);
    proptest!(config, |((from, to, tags, kinds, languages, not) in chosen)| {
        let [tags, languages] = [tags, languages].map(|of| of.into_iter().map(str::to_owned).collect());
        let without = not.iter().map(|chunk| chunk.document.id).collect();
        let filter = Filter { from, to, tags, kinds, languages, without };
        let admitted = all.iter().filter(|found| filter.admits(&found.chunk, &found.document));
        let expected: BTreeSet<ChunkId> = admitted.map(|found| found.chunk.id).collect();
        let found = store.query(&id, &twin_domain::HybridQuery { filter, ..query("ada", "boat") }).unwrap();
        let found: BTreeSet<ChunkId> = found.into_iter().map(|found| found.chunk.id).collect();
        prop_assert_eq!(found, expected);
    });
}

fn similarity_is_the_exact_cosine(store: &dyn FeatureStore) {
    let draft = Draft::new("ada", "a", &["a boat in the harbour", "numbers and engines", "zzz", "quiet poems"]);
    let id = load(store, std::slice::from_ref(&draft));
    let asked = query("ada", "which boat");
    let found = store.query(&id, &asked).unwrap();
    assert_eq!(found.len(), 4);
    for found in found {
        let exact = embed(&found.chunk.text).cosine(&asked.embedding);
        assert!((found.similarity - exact).abs() < 1e-5, "{} and {exact}", found.similarity);
    }
}

fn words_are_found_where_vectors_are_far_and_vectors_where_words_differ(store: &dyn FeatureStore) {
    let filler: Vec<String> = (0..40).map(|n| format!("plain text number {n} about nothing much")).collect();
    let mut texts: Vec<&str> = filler.iter().map(String::as_str).collect();
    texts.extend(["the kumquat xx xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "tekhet qjzv"]);
    let id = load(store, &[Draft::new("ada", "a", &texts)]);
    let asked = |text: &str, vector: &str| twin_domain::HybridQuery {
        embedding: embed(vector),
        candidates: 3,
        limit: 5,
        ..query("ada", text)
    };
    let by_word = store.query(&id, &asked("kumquat", "plain text number")).unwrap();
    assert!(by_word.iter().any(|found| found.chunk.text.contains("kumquat")));
    let by_vector = store.query(&id, &asked("zebra", "tekhet vzjq")).unwrap();
    assert_eq!(by_vector[0].chunk.text, "tekhet qjzv");
}

fn the_score_is_reciprocal_rank_fusion(store: &dyn FeatureStore) {
    let id = load(store, &[Draft::new("ada", "a", &["harbour lights", "quiet poems", "engine oil"])]);
    let found = store.query(&id, &query("ada", "harbour lights")).unwrap();
    assert_eq!(found[0].chunk.text, "harbour lights");
    assert!((found[0].score - 2.0 / 61.0).abs() < 1e-6, "first in both searches: {}", found[0].score);
    assert!((found[1].score - 1.0 / 62.0).abs() < 1e-6, "second in one: {}", found[1].score);
    assert!(store.query(&id, &twin_domain::HybridQuery { limit: 2, ..query("ada", "harbour") }).unwrap().len() == 2);
    assert!(store.query(&id, &twin_domain::HybridQuery { limit: 0, ..query("ada", "harbour") }).unwrap().is_empty());
}

fn equal_chunks_come_in_a_fixed_order(store: &dyn FeatureStore) {
    let drafts: Vec<_> = (0..12).map(|n| Draft::new("ada", &format!("{n}"), &["the very same words"])).collect();
    let id = load(store, &drafts);
    let first = store.query(&id, &query("ada", "same words")).unwrap();
    assert_eq!(first.len(), 12);
    for _ in 0..5 {
        assert_eq!(store.query(&id, &query("ada", "same words")).unwrap(), first);
    }
}

fn a_text_without_terms_is_found_by_its_vector(store: &dyn FeatureStore) {
    let id = load(store, &[Draft::new("ada", "a", &["?! … —", "boats"])]);
    let found = store.query(&id, &query("ada", "?! …")).unwrap();
    assert_eq!(found[0].chunk.text, "?! … —");
}

fn the_newer_complete_version_of_a_document_counts(store: &dyn FeatureStore) {
    let old = Draft::new("ada", "a", &["the old ", "text"]);
    let new = Draft::new("ada", "a", &["the new ", "and longer ", "text"]);
    let text = |id| store.documents(&id, &author("ada")).unwrap()[0].document.text.clone();
    let chunks = |id: &FeatureViewId| store.chunks(id, old.info().id).unwrap().len();

    let id = load(store, std::slice::from_ref(&old));
    store.upsert(&id, &new.chunks()[..2]).unwrap();
    assert_eq!((text(id.clone()).as_str(), chunks(&id)), ("the old text", 2), "the new one is not complete");
    store.upsert(&id, &new.chunks()[2..]).unwrap();
    assert_eq!((text(id.clone()).as_str(), chunks(&id)), ("the new and longer text", 3));
    assert_eq!(store.documents(&id, &author("ada")).unwrap().len(), 1);

    store.remove_stale(&id, old.info().id, Some(&new.info().content_hash)).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 3);
    assert_eq!(text(id), "the new and longer text");
}

fn removing_a_document_leaves_the_others(store: &dyn FeatureStore) {
    let (a, b) = (Draft::new("ada", "a", &["one ", "two"]), Draft::new("ada", "b", &["three"]));
    let id = load(store, &[a.clone(), b.clone()]);
    store.remove_stale(&id, b.info().id, Some(&b.info().content_hash)).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 3);
    store.remove_stale(&id, a.info().id, None).unwrap();
    store.remove_stale(&id, a.info().id, None).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 1);
    assert!(store.chunks(&id, a.info().id).unwrap().is_empty());
    let left = store.query(&id, &query("ada", "one two three")).unwrap();
    assert_eq!(left.iter().map(|found| found.document.id).collect::<Vec<DocumentId>>(), [b.info().id]);
}

fn a_missing_chunk_is_damage_and_named(store: &dyn FeatureStore) {
    let whole = Draft::new("ada", "whole", &["one"]);
    let torn = Draft::new("ada", "torn", &["one ", "two ", "three"]);
    let id = load(store, &[whole]);
    store.upsert(&id, &[torn.chunks()[0].clone(), torn.chunks()[2].clone()]).unwrap();
    match store.documents(&id, &author("ada")) {
        Err(StoreError::Damaged { what, .. }) => assert!(what.contains("https://example.org/torn"), "{what}"),
        other => panic!("a document with a hole came back: {other:?}"),
    }
    let mut changed = torn.chunks();
    changed[1].chunk.text = "2 ".to_owned();
    store.upsert(&id, &changed).unwrap();
    match store.documents(&id, &author("ada")) {
        Err(StoreError::Damaged { what, .. }) => assert!(what.contains("https://example.org/torn"), "{what}"),
        other => panic!("a document with another text came back: {other:?}"),
    }
}

fn a_document_comes_back_byte_for_byte_with_what_is_not_its_voice(store: &dyn FeatureStore) {
    let texts = ["It’s — “fine”.\r\n\n> quoted", " to the end\n\nand ", "```\ncode\n```\n"];
    let draft = Draft { tags: vec!["b", "a"], ..Draft::new("ada", "a", &texts) };
    let mut chunks = draft.chunks();
    chunks[0].chunk.not_voice = vec![25..33, 0..2];
    chunks[1].chunk.not_voice.push(0..11);
    chunks[2].chunk.not_voice.push(0..12);
    assert_eq!(chunks[0].chunk.text.len(), 33, "the first chunk ends in a range that the second goes on with");
    let id = store.create_view(&view()).unwrap();
    chunks.reverse();
    store.upsert(&id, &chunks).unwrap();
    let stored = &store.documents(&id, &author("ada")).unwrap()[0];
    assert_eq!(stored.document.text, texts.concat());
    assert_eq!(stored.document.info, draft.info());
    assert_eq!(stored.not_voice, [0..2, 25..44, 50..62]);

    chunks.reverse();
    let given: Vec<_> =
        chunks.into_iter().map(|embedded| (embedded.chunk, Arc::unwrap_or_clone(embedded.document))).collect();
    assert_eq!(store.chunks(&id, draft.info().id).unwrap(), given);
}

fn documents_come_oldest_first(store: &dyn FeatureStore) {
    let dated = |slug, year| Draft { year, ..Draft::new("ada", slug, &["text"]) };
    let drafts =
        [dated("d", Some(2021)), dated("c", Some(2019)), dated("b", Some(2019)), dated("z", None), dated("y", None)];
    let id = load(store, &drafts);
    let slugs: Vec<_> =
        store.documents(&id, &author("ada")).unwrap().into_iter().map(|s| s.document.info.url).collect();
    assert_eq!(slugs, ["y", "z", "b", "c", "d"].map(|slug| format!("https://example.org/{slug}")));
}

fn a_bad_batch_is_refused_whole(store: &dyn FeatureStore) {
    let id = store.create_view(&view()).unwrap();
    let good = || Draft::new("ada", "a", &["one ", "two ", "three"]).chunks();
    let vector = |values: Vec<f32>| Embedding::new(values).unwrap();
    type Spoil = fn(&mut twin_domain::EmbeddedChunk);
    let spoil: [(&str, Spoil); 5] = [
        ("dimension", |chunk| chunk.embedding = Embedding::new(vec![1.0; 3]).unwrap()),
        ("length", |chunk| chunk.embedding = Embedding::new(vec![f32::MAX; 32]).unwrap()),
        ("id", |chunk| chunk.chunk.id = ChunkId(uuid::Uuid::nil())),
        ("ordinal", |chunk| chunk.chunk.chunk_count = 1),
        ("voice", |chunk| chunk.chunk.not_voice.push(0..999)),
    ];
    for (named, spoil) in spoil {
        let mut chunks = good();
        spoil(&mut chunks[1]);
        match store.upsert(&id, &chunks) {
            Err(StoreError::Invalid { what, problem }) => {
                assert!(problem.contains(named) && what.contains("chunk 1"), "{named}: {what} {problem}");
            }
            other => panic!("{named}: {other:?}"),
        }
        assert_eq!(store.count(&id, None).unwrap(), 0, "{named}: the good ones were stored");
    }
    store.upsert(&id, &good()).unwrap();
    let asked = twin_domain::HybridQuery { embedding: vector(vec![1.0; 5]), ..query("ada", "one") };
    assert!(matches!(store.query(&id, &asked), Err(StoreError::Invalid { .. })));
}

fn each_search_can_be_weighed_and_switched_off(store: &dyn FeatureStore) {
    let id =
        load(store, &[Draft::new("ada", "a", &["harbour lights", "thgil ruobrah s", "quiet poems about nothing"])]);
    let ask = |searches, fusion| {
        let asked = twin_domain::HybridQuery { searches, fusion, ..query("ada", "harbour light") };
        store.query(&id, &asked).unwrap()
    };
    let (dense, lexical) = (ask(Searches::Dense, Fusion::default()), ask(Searches::Lexical, Fusion::default()));
    assert_eq!(dense.len(), 3);
    assert!(dense.iter().all(|found| found.lexical.is_none()));
    assert_eq!(lexical.iter().map(|found| found.chunk.text.as_str()).collect::<Vec<_>>(), ["harbour lights"]);
    assert!(lexical[0].lexical.is_some_and(|score| score > 0.0));
    let wordless = twin_domain::HybridQuery { searches: Searches::Lexical, ..query("ada", "! … ?") };
    assert!(store.query(&id, &wordless).unwrap().is_empty());
    let by_score = ask(Searches::Both, Fusion::Score { dense_weight: 0.25 });
    assert_eq!(by_score[0].chunk.text, "harbour lights");
    assert!(by_score[0].score >= 0.75 && by_score[2].score == 0.0, "{by_score:?}");
    for found in ask(Searches::Both, Fusion::default()) {
        assert!(found.embedding.cosine(&embed(&found.chunk.text)) > 0.99999);
    }
}

fn every_chunk_is_on_one_page_in_order_with_its_vector(store: &dyn FeatureStore) {
    let texts: Vec<String> = (0..23).map(|n| format!("chunk {n} of a boat ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (ada, bob) = (Draft::new("ada", "a", &texts), Draft::new("bob", "b", &texts[..9]));
    let id = load(store, &[ada.clone(), bob.clone()]);
    let read = |author: Option<&twin_domain::AuthorId>, size: usize| {
        let mut all = Vec::new();
        loop {
            let page = store.page(&id, author, all.last().map(|last: &twin_domain::EmbeddedChunk| last.chunk.id), size);
            let page = page.unwrap();
            all.extend(page.iter().cloned());
            if page.len() < size {
                return all;
            }
        }
    };
    for (name, size, expected) in
        [(None, 5, 32), (None, 32, 32), (Some("ada"), 7, 23), (Some("bob"), 100, 9), (Some("cleo"), 3, 0)]
    {
        let author = name.map(author);
        let all = read(author.as_ref(), size);
        assert_eq!(all.len(), expected, "{name:?} {size}");
        assert!(all.is_sorted_by(|a, b| a.chunk.id < b.chunk.id));
        for embedded in all {
            let original =
                [ada.chunks(), bob.chunks()].concat().into_iter().find(|one| one.chunk.id == embedded.chunk.id);
            let original = original.unwrap();
            assert_eq!((&embedded.chunk, &embedded.document), (&original.chunk, &original.document));
            assert!(embedded.embedding.cosine(&original.embedding) > 0.99999);
        }
    }
}

fn switches_are_remembered_in_order(store: &dyn FeatureStore) {
    assert!(store.switches().unwrap().is_empty());
    let other = FeatureView { chunker: "structure-2".to_owned(), ..view() };
    let (first, second) = (store.create_view(&view()).unwrap(), store.create_view(&other).unwrap());
    for id in [&first, &second, &first] {
        store.switch(id).unwrap();
    }
    let switches = store.switches().unwrap();
    assert_eq!(switches.iter().map(|switch| &switch.view).collect::<Vec<_>>(), [&first, &second, &first]);
    assert!(switches.is_sorted_by_key(|switch| switch.at));
}

fn a_view_that_serves_stays_and_another_can_be_removed_and_made_again(store: &dyn FeatureStore) {
    let id = load(store, &[Draft::new("ada", "a", &["text"])]);
    store.switch(&id).unwrap();
    assert!(matches!(store.remove_view(&id), Err(StoreError::Invalid { .. })));
    assert_eq!(store.count(&id, None).unwrap(), 1);
    let other = FeatureView { chunker: "structure-2".to_owned(), ..view() };
    let second = store.create_view(&other).unwrap();
    store.switch(&second).unwrap();
    store.remove_view(&id).unwrap();
    assert!(matches!(store.count(&id, None), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.switch(&id), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.remove_view(&id), Err(StoreError::NotFound { .. })));
    assert_eq!(store.views().unwrap(), [other]);
    load(store, &[Draft::new("ada", "b", &["one ", "two"])]);
    assert_eq!(store.count(&id, None).unwrap(), 2, "nothing of before is left");
}

fn optimizing_and_reading_ahead_change_no_answer(store: &dyn FeatureStore) {
    let drafts: Vec<_> =
        (0..60).map(|n| Draft::new("ada", &format!("{n}"), &[&format!("boat number {n} of {}", n * 7)])).collect();
    let id = load(store, &drafts);
    let before = store.query(&id, &query("ada", "boat number 7")).unwrap();
    store.prefetch(&id).unwrap();
    store.optimize(&id).unwrap();
    store.prefetch(&id).unwrap();
    assert_eq!(store.query(&id, &query("ada", "boat number 7")).unwrap(), before);
    assert_eq!(store.count(&id, None).unwrap(), 60);
}

#[test]
fn all_stores_give_the_same_answers() {
    let memory = InMemoryFeatureStore::new();
    let place = Place::new();
    let server = place.store();
    in_a_directory(|store| {
        let words = ["boat", "engine", "harbour", "poem", "number", "kettle", "lantern", "rope"];
        let mut random = Random(3);
        let mut text =
            |count: usize| (0..count).map(|_| words[random.below(words.len())]).collect::<Vec<_>>().join(" ");
        let drafts: Vec<_> = (0..40).map(|n| Draft::new("ada", &format!("{n}"), &[&text(9), &text(14)])).collect();
        let id = load(store, &drafts);
        load(&memory, &drafts);
        load(&server, &drafts);
        for _ in 0..20 {
            let asked = twin_domain::HybridQuery { candidates: 20, limit: 5, ..query("ada", &text(2)) };
            let (ours, theirs) = (store.query(&id, &asked).unwrap(), memory.query(&id, &asked).unwrap());
            // Ties within one of the two searches may fall either way, which moves a score by one rank.
            assert!((ours[0].score - theirs[0].score).abs() < 2e-3, "{} {}", ours[0].score, theirs[0].score);
            let remote = server.query(&id, &asked).unwrap();
            assert!((ours[0].score - remote[0].score).abs() < 2e-3, "{} {}", ours[0].score, remote[0].score);
        }
    });
}
