use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use twin_domain::{FeatureStore, StoreError};
use twin_feature_store::{EmbeddedFeatureStore, SharedFeatureStore, Sharing, StoreOptions};

use crate::fixture::{self, Draft, query, view};

fn open(directory: &Path) -> Arc<EmbeddedFeatureStore> {
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    Arc::new(EmbeddedFeatureStore::open_with(directory, options).unwrap())
}

fn connect(directory: &Path) -> Option<SharedFeatureStore> {
    SharedFeatureStore::connect(directory, &directory.join("training-sets")).unwrap()
}

#[test]
fn two_see_what_the_other_writes_and_nobody_is_met_once_it_is_over() {
    let directory = fixture::directory();
    assert!(connect(directory.path()).is_none());
    let store = open(directory.path());
    let sharing = Sharing::start(store.clone(), directory.path()).unwrap();
    let (one, two) = (connect(directory.path()).unwrap(), connect(directory.path()).unwrap());
    let id = one.create_view(&view()).unwrap();
    one.upsert(&id, &Draft::new("ada", "a", &["boats and engines"]).chunks()).unwrap();
    let found = store.query(&id, &query("ada", "engines")).unwrap();
    assert_eq!(found[0].chunk.text, "boats and engines");
    assert_eq!(two.query(&id, &query("ada", "engines")).unwrap(), found, "every value arrives with the same bits");
    let mode = std::fs::metadata(directory.path().join("shared")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can enter");

    drop(sharing);
    assert!(matches!(one.authors(), Err(StoreError::Engine { .. })));
    assert!(connect(directory.path()).is_none());
    // It can be shared again, and a socket that a killed process left is no hindrance.
    let _again = Sharing::start(store, directory.path()).unwrap();
    assert_eq!(connect(directory.path()).unwrap().count(&id, None).unwrap(), 1);
}

#[test]
fn many_at_once_are_answered() {
    let directory = fixture::directory();
    let store = open(directory.path());
    let _sharing = Sharing::start(store.clone(), directory.path()).unwrap();
    let id = store.create_view(&view()).unwrap();
    std::thread::scope(|scope| {
        for author in ["ada", "bob", "cleo", "dora"] {
            let (directory, id) = (directory.path(), &id);
            scope.spawn(move || {
                let guest = connect(directory).unwrap();
                for post in 0..10 {
                    guest.upsert(id, &Draft::new(author, &format!("{post}"), &["boats", "poems"]).chunks()).unwrap();
                }
                assert_eq!(guest.documents(id, &fixture::author(author)).unwrap().len(), 10);
            });
        }
    });
    assert_eq!(store.count(&id, None).unwrap(), 80);
}

#[test]
fn nonsense_and_other_versions_are_refused_and_harm_nobody() {
    let directory = fixture::directory();
    let store = open(directory.path());
    let _sharing = Sharing::start(store.clone(), directory.path()).unwrap();
    let socket = directory.path().join("shared/store.sock");
    let ask = |message: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&(message.len() as u32).to_le_bytes()).unwrap();
        stream.write_all(message).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned()
    };
    for nonsense in ["", "{", "[1,2]", r#"{"protocol":1,"request":{"format_disk":1}}"#, r#"{"protocol":1,"request":7}"#]
    {
        assert!(ask(nonsense.as_bytes()).contains("failed"), "{nonsense}");
    }
    assert!(ask(br#"{"protocol":99,"request":"views"}"#).contains("version 99"));
    // A length without a message, and one that is too long.
    for length in [1_u32 << 20, u32::MAX] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&length.to_le_bytes()).unwrap();
        drop(stream);
    }
    assert!(connect(directory.path()).unwrap().views().unwrap().is_empty());
}
