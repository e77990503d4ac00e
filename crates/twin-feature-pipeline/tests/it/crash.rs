use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use twin_domain::{CancelFlag, Digest, Progress, ProgressUpdate};
use twin_feature_pipeline::{Source, Warehouse};

use crate::bench::{Bench, CountingEmbedder, MapStore, words};

/// Where the child finds its folder; set by the parent only.
const FOLDER: &str = "TWIN_CRASH_TEST_FOLDER";

fn write_posts(bench: &Bench) {
    for n in 0..40 {
        let footer = "Subscribe to my newsletter, it is free!";
        bench.write(&format!("{n:02}.md"), format!("# Post {n}\n\n{}\n\n{footer}\n", words(n, 400)));
    }
    bench.write("copy.md", format!("# Post 0\n\n{}\n", words(0, 400)));
    bench.write("bad.md", [0; 10]);
}

async fn clean_run() -> Digest {
    let bench = Bench::new().await;
    write_posts(&bench);
    bench.ingest_posts().await;
    bench.digest().await
}

/// A bench in a folder that outlives it, with a durable store and an embedder slow enough to be killed at work.
async fn durable_bench(folder: &std::path::Path, delay: Duration) -> Bench {
    let mut bench = Bench::new().await;
    bench.warehouse = Warehouse::open(&folder.join("warehouse.sqlite")).await.unwrap();
    bench.store = Arc::new(MapStore::in_file(&folder.join("store.json")));
    bench.embedder = Arc::new(CountingEmbedder { delay, ..CountingEmbedder::default() });
    bench.options.batch_chunks = 8;
    bench
}

/// Not a test by itself: the process that is killed.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = std::path::PathBuf::from(folder);
    let bench = durable_bench(&folder, Duration::from_millis(2)).await;
    bench.ingest(&Source::Folder(folder.join("posts"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_and_run_again_ends_like_one_clean_run() {
    let expected = clean_run().await;
    let folder = tempfile::tempdir().unwrap();
    let mut in_progress = 0;
    for round in 0..3 {
        let work = folder.path().join(round.to_string());
        let bench = Bench::new().await;
        write_posts(&bench);
        fs_err::create_dir_all(&work).unwrap();
        fs_err::rename(bench.posts(), work.join("posts")).unwrap();
        for kill in 0..6_u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "crash::child", "--nocapture"])
                .env(FOLDER, &work)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Spread over start, reading, cleaning and loading, differently in each round.
            tokio::time::sleep(Duration::from_millis(10 + 37 * kill + 11 * round)).await;
            in_progress += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let again = durable_bench(&work, Duration::ZERO).await;
        again.ingest(&Source::Folder(work.join("posts"))).await;
        assert_eq!(again.digest().await, expected, "round {round}");
    }
    assert!(in_progress >= 9, "most of the 18 children must be killed at work, not after it: {in_progress}");
}

/// Asks for an end at a given report of progress.
struct StopAt {
    left: AtomicUsize,
    cancel: CancelFlag,
}

impl Progress for StopAt {
    fn update(&self, _: ProgressUpdate<'_>) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
    }
}

#[tokio::test]
async fn interrupted_at_any_step_and_run_again_ends_like_one_clean_run() {
    let expected = clean_run().await;
    let mut interruptions = 0;
    for step in 1.. {
        let mut bench = Bench::new().await;
        write_posts(&bench);
        bench.options.batch_chunks = 30;
        let stop = StopAt { left: AtomicUsize::new(step), cancel: CancelFlag::new() };
        let report = bench.ingest_watched(&Source::Folder(bench.posts()), &stop, &stop.cancel).await.unwrap();
        if stop.left.load(Ordering::Relaxed) > 0 && stop.left.load(Ordering::Relaxed) < usize::MAX / 2 {
            assert!(!report.interrupted);
            break;
        }
        interruptions += usize::from(report.interrupted);
        let again = bench.ingest_posts().await;
        assert!(!again.interrupted);
        assert_eq!(bench.digest().await, expected, "step {step}");
    }
    assert!(interruptions >= 8, "{interruptions}");
}

#[tokio::test]
async fn a_damaged_warehouse_is_named_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warehouse.sqlite");
    fs_err::write(&path, "this is no database, but long enough to be looked at ".repeat(100)).unwrap();
    let error = Warehouse::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("warehouse.sqlite` is damaged") && error.contains("ingest again"), "{error}");
}
