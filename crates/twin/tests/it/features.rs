//! `twin features` as it is typed.

use std::path::Path;
use std::process::{Command, Output};

use twin_domain::{Digest, FeatureStore, FeatureView};
use twin_feature_store::{EmbeddedFeatureStore, StoreOptions};

fn twin(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
    command.current_dir(dir).args(["--data-dir", "data"]).args(arguments);
    command.env("XDG_CACHE_HOME", dir.join("cache")).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn view(chunker: &str) -> FeatureView {
    FeatureView {
        cleaner: "clean-1".to_owned(),
        chunker: chunker.to_owned(),
        max_chunk_tokens: 220,
        embedder: "made-up".to_owned(),
        embedder_digest: Digest::of("made-up"),
        dimension: 8,
        sparse: "bm25 k1=1.2 b=0.75".to_owned(),
    }
}

fn store(dir: &Path, purpose: &str) -> EmbeddedFeatureStore {
    let options = StoreOptions { purpose: purpose.to_owned(), ..StoreOptions::default() };
    EmbeddedFeatureStore::open_with(&dir.join("data/features"), options).unwrap()
}

#[test]
fn views_are_listed_switched_rolled_back_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = ["a", "b", "c"].map(view);
    let ids = [first.id(), second.id(), third.id()];
    {
        let store = store(dir.path(), "a test");
        [first, second, third].iter().for_each(|view| drop(store.create_view(view).unwrap()));
        store.switch(&ids[0]).unwrap();
    }
    let run = |arguments: &[&str]| {
        let output = twin(dir.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    let [first, second, third] = ids.map(|id| id.to_string());
    let listed = run(&["features", "list"]);
    assert!([&first, &second, &third].iter().all(|id| listed.contains(*id)), "{listed}");
    assert!(run(&["features", "show"]).contains(&format!("{first} serves")));

    assert!(run(&["features", "switch", &second]).contains(&format!("{second} serves")));
    assert!(run(&["features", "rollback"]).contains(&format!("{first} serves again")));
    let dry = run(&["features", "gc", "--dry-run"]);
    assert!(dry.contains(&format!("{third} would be removed")), "{dry}");
    let collected = run(&["features", "gc"]);
    assert!(collected.contains(&format!("{first} stays: it serves")), "{collected}");
    assert!(collected.contains(&format!("{second} stays: a rollback goes to it")), "{collected}");
    assert!(collected.contains(&format!("{third} is removed")), "{collected}");
    assert!(!run(&["features", "list"]).contains(&third));
    assert!(run(&["features", "rollback"]).contains(&format!("{second} serves again")));

    let unknown = twin(dir.path(), &["features", "switch", &third]);
    assert!(!unknown.status.success() && said(&unknown).contains("is not in the feature store"), "{}", said(&unknown));
}

#[test]
fn a_store_that_another_process_has_open_is_named_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let _open = store(dir.path(), "twin serve");
    let output = twin(dir.path(), &["features", "list"]);
    let owner = format!("process {} (`twin serve`)", std::process::id());
    assert!(!output.status.success() && said(&output).contains(&owner), "{}", said(&output));
}

#[cfg(unix)]
#[test]
fn a_store_that_is_shared_is_used_through_the_process_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = std::sync::Arc::new(store(dir.path(), "twin serve"));
    let sharing = twin_feature_store::Sharing::start(open.clone(), &dir.path().join("data/features")).unwrap();
    let ids = [view("a"), view("b")].map(|view| open.create_view(&view).unwrap());
    let listed = said(&twin(dir.path(), &["features", "list"]));
    assert!(ids.iter().all(|id| listed.contains(&id.to_string())), "{listed}");
    let switched = twin(dir.path(), &["features", "switch", &ids[1].to_string()]);
    assert!(switched.status.success(), "{}", said(&switched));
    assert_eq!(open.serving_view().unwrap().as_ref(), Some(&ids[1]));
    drop(sharing);
    assert!(!twin(dir.path(), &["features", "list"]).status.success(), "the store is still locked");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twin.toml"), "[store]\nurl = \"http://127.0.0.1:9\"\nretries = 0\n").unwrap();
    let output = twin(dir.path(), &["features", "list"]);
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("http://127.0.0.1:9") && said.contains("cannot be reached"),
        "{said}"
    );
    let output = twin(dir.path(), &["features", "push", "--url", "http://127.0.0.1:9"]);
    assert!(!output.status.success());
}
