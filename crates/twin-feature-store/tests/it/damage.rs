use std::path::{Path, PathBuf};
use std::process::Command;

use twin_domain::{Digest, FeatureStore, StoreError};
use twin_feature_store::{EmbeddedFeatureStore, StoreOptions};

use crate::fixture::{self, Draft, Random, author, query, view};

const DIRECTORY: &str = "TWIN_TEST_DAMAGED_DIRECTORY";

#[test]
fn a_lost_segment_is_noticed_moved_aside_and_the_collection_can_be_made_again() {
    let directory = fixture::directory();
    fill(directory.path());
    let segments = directory.path().join(view().id().as_str()).join("shard/segments");
    for segment in std::fs::read_dir(segments).unwrap() {
        // Without this file the engine deletes a segment as unfinished and says nothing.
        let _ = std::fs::remove_file(segment.unwrap().path().join("version.info"));
    }

    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    let id = view().id();
    for _ in 0..2 {
        match store.count(&id, None) {
            Err(StoreError::Damaged { problem, .. }) => assert!(problem.contains("moved to"), "{problem}"),
            other => panic!("the loss went unnoticed: {other:?}"),
        }
    }
    assert_eq!(store.moved_aside().unwrap().len(), 1);
    drop(store);
    rebuild(directory.path());
}

#[test]
fn a_reset_collection_is_empty_and_the_old_one_is_kept() {
    let directory = fixture::directory();
    fill(directory.path());
    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    store.reset(&view().id()).unwrap();
    assert_eq!(store.count(&view().id(), None).unwrap(), 0);
    assert_eq!(store.moved_aside().unwrap().len(), 1);
}

/// Bytes flipped, zeroed, cut off or deleted in any file of a collection: what comes back is what was stored, or an error.
#[test]
fn whatever_is_changed_on_the_disk_is_never_served_as_something_else() {
    let cases = if std::env::var_os("TWIN_SLOW_TESTS").is_some() { 1000 } else { 30 };
    let original = fixture::directory();
    fill(original.path());
    let expected = format!("whole {}", read_everything(original.path()).unwrap());
    let mut outcomes = [0, 0];
    for seed in 0..cases {
        let directory = fixture::directory();
        copy(original.path(), directory.path());
        let change = corrupt(directory.path(), &mut Random(seed));
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["damage::child_reads_everything", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{change}: {} {text}", output.status);
        let whole = text.lines().any(|line| line == expected);
        let seen = text.lines().any(|line| line.starts_with("seen "));
        assert!(whole || seen, "{change}: something else came back: {text}");
        outcomes[usize::from(seen)] += 1;
    }
    assert!(outcomes[1] > 0, "no change did any harm, so nothing was tested");
}

/// Not a test of its own: a process of its own for what could end it.
#[test]
fn child_reads_everything() {
    use std::io::Write;
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let line = match read_everything(Path::new(&directory)) {
        Ok(digest) => format!("whole {digest}"),
        Err(error) => format!("seen {error}"),
    };
    writeln!(std::io::stdout().lock(), "\n{line}").unwrap();
}

fn read_everything(directory: &Path) -> Result<Digest, StoreError> {
    let store = EmbeddedFeatureStore::open(directory)?;
    let id = view().id();
    let documents = store.documents(&id, &author("ada"))?;
    let texts: Vec<_> = documents.into_iter().map(|stored| (stored.document.info, stored.document.text)).collect();
    let found = store.query(&id, &query("ada", "a boat in the harbour"))?;
    assert!(found.iter().all(|found| texts.iter().any(|(_, text)| text.contains(&found.chunk.text))));
    Ok(Digest::of_json(&(texts, store.count(&id, None)?)))
}

fn drafts() -> Vec<Draft<'static>> {
    let text = |n: usize, part: usize| {
        format!("document {n}, part {part}: a boat lies in the harbour of number {}. ", n * part)
    };
    let parts = |n| (0..4).map(move |part| text(n, part)).collect::<Vec<_>>();
    let draft = |n| Draft { texts: parts(n), ..Draft::new("ada", &format!("{n}"), &[]) };
    (0..60).map(draft).collect()
}

fn fill(directory: &Path) {
    // Small, so that there is an index to be damaged.
    let options = StoreOptions { indexing_threshold_kb: 8, ..StoreOptions::default() };
    let store = EmbeddedFeatureStore::open_with(directory, options).unwrap();
    let id = store.create_view(&view()).unwrap();
    let drafts = drafts();
    for drafts in drafts[..40].chunks(10) {
        store.upsert(&id, &drafts.iter().flat_map(Draft::chunks).collect::<Vec<_>>()).unwrap();
    }
    store.optimize(&id).unwrap();
    let chunks: Vec<_> = drafts[40..].iter().flat_map(Draft::chunks).collect();
    store.upsert(&id, &chunks).unwrap();
    assert_eq!(store.count(&id, None).unwrap(), 240);
}

fn rebuild(directory: &Path) {
    let store = EmbeddedFeatureStore::open(directory).unwrap();
    let id = view().id();
    assert_eq!(store.count(&id, None).unwrap(), 0);
    let chunks: Vec<_> = drafts().iter().flat_map(Draft::chunks).collect();
    store.upsert(&id, &chunks).unwrap();
    assert_eq!(store.documents(&id, &author("ada")).unwrap().len(), 60);
}

fn corrupt(directory: &Path, random: &mut Random) -> String {
    let mut files = Vec::new();
    list(&directory.join(view().id().as_str()).join("shard"), &mut files);
    files.retain(|file| std::fs::metadata(file).unwrap().len() > 0);
    files.sort();
    let file = &files[random.below(files.len())];
    let mut bytes = std::fs::read(file).unwrap();
    let at = random.below(bytes.len());
    let what = match random.below(4) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            "a flipped bit"
        }
        1 => {
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
            "zeroes"
        }
        2 => {
            bytes.truncate(at);
            "a cut"
        }
        _ => {
            std::fs::remove_file(file).unwrap();
            return format!("{} deleted", file.display());
        }
    };
    std::fs::write(file, bytes).unwrap();
    format!("{what} at {at} in {}", file.display())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}
