//! Workers and the runs they embed for, over SQLite, and over the PostgreSQL that `TWIN_TEST_POSTGRES_URL` names, if it does.
#![expect(clippy::print_stderr, reason = "these tests say what they did not test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use twin_domain::{CancelFlag, Digest, Embedding, Progress, ProgressUpdate};
use twin_feature_pipeline::workers::{Queue, QueueError, QueuedEmbedder};
use twin_feature_pipeline::{Source, ingest};
use twin_models::embedding::{EmbedError, Embedder, ScriptedEmbedder};

use crate::bench::{Bench, chain, words};

/// Another model, or one that counts its calls and takes its time.
struct Counting {
    inner: ScriptedEmbedder,
    digest: Digest,
    calls: AtomicUsize,
    delay: Duration,
    /// It takes no more time from now on.
    released: AtomicBool,
}

impl Counting {
    fn new(name: &str, delay: Duration) -> Arc<Self> {
        let (inner, digest) = (ScriptedEmbedder::default(), Digest::of(name));
        Arc::new(Self { inner, digest, calls: AtomicUsize::new(0), delay, released: AtomicBool::new(false) })
    }
}

impl Embedder for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn dimension(&self) -> usize {
        self.inner.dimension()
    }

    fn max_tokens(&self) -> usize {
        self.inner.max_tokens()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.inner.count_tokens(text)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while begun.elapsed() < self.delay && !self.released.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.inner.embed(texts)
    }
}

/// A model that cannot embed.
struct Broken(Digest);

impl Embedder for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn digest(&self) -> &Digest {
        &self.0
    }

    fn dimension(&self) -> usize {
        1
    }

    fn max_tokens(&self) -> usize {
        1
    }

    fn count_tokens(&self, _text: &str) -> usize {
        1
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        Err(EmbedError::Run { model: "broken".to_owned(), batch: texts.len(), source: "no memory".into() })
    }
}

/// Each queue that there is, with what keeps it.
async fn queues() -> Vec<(Queue, tempfile::TempDir)> {
    let place = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", place.path().join("queue.sqlite").display());
    let mut queues = vec![(Queue::open(&file).await.unwrap(), place)];
    match std::env::var("TWIN_TEST_POSTGRES_URL") {
        Ok(url) => queues.push((Queue::open(&url).await.unwrap(), tempfile::tempdir().unwrap())),
        Err(_) => eprintln!("TWIN_TEST_POSTGRES_URL names no server: SQLite alone is tested"),
    }
    queues
}

fn work(queue: &Queue, embedder: Arc<dyn Embedder>) -> JoinHandle<()> {
    let queue = queue.clone();
    tokio::spawn(async move {
        queue.work(embedder, std::future::pending()).await.unwrap();
    })
}

async fn embed(embedder: QueuedEmbedder, texts: usize) -> Result<Vec<Embedding>, EmbedError> {
    let texts: Vec<String> = (0..texts).map(|n| format!("text {n} on tar and oakum")).collect();
    let work = move || embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_give_what_one_process_would() {
    for (queue, _place) in queues().await {
        let workers = [Counting::new("a", Duration::from_millis(20)), Counting::new("a", Duration::from_millis(20))];
        let running = workers.each_ref().map(|worker| work(&queue, worker.clone()));
        let local = Counting::new("a", Duration::ZERO);
        let queued = QueuedEmbedder::new(local.clone(), queue, CancelFlag::new());
        let made = embed(queued, 1000).await.unwrap();
        let texts: Vec<String> = (0..1000).map(|n| format!("text {n} on tar and oakum")).collect();
        let expected = local.inner.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert_eq!(made, expected);
        let calls = workers.each_ref().map(|worker| worker.calls.load(Ordering::SeqCst));
        assert!(calls[0] > 0 && calls[1] > 0 && calls[0] + calls[1] == 16, "{calls:?}");
        assert_eq!(local.calls.load(Ordering::SeqCst), 0);
        running.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_do_not_go_through_the_queue() {
    for (queue, _place) in queues().await {
        let queued = QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue, CancelFlag::new());
        assert_eq!(embed(queued, 2).await.unwrap().len(), 2, "and nobody works");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_worker_that_is_gone_goes_to_another_one() {
    for (queue, _place) in queues().await {
        let stuck = Counting::new("a", Duration::from_secs(3600));
        let gone = work(&queue, stuck.clone());
        let queued = QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue.clone(), CancelFlag::new());
        let made = tokio::spawn(embed(queued, 100));
        while stuck.calls.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gone.abort();
        let other = work(&queue, Counting::new("a", Duration::ZERO));
        let made = tokio::time::timeout(Duration::from_secs(120), made).await.expect("somebody takes the job over");
        assert_eq!(made.unwrap().unwrap().len(), 100);
        other.abort();
        stuck.released.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_model_leaves_the_job_to_others() {
    for (queue, _place) in queues().await {
        let other = Counting::new("another", Duration::ZERO);
        let workers = [work(&queue, other.clone()), work(&queue, Counting::new("a", Duration::ZERO))];
        let queued = QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue, CancelFlag::new());
        let made = tokio::time::timeout(Duration::from_secs(60), embed(queued, 200)).await.unwrap();
        assert_eq!((made.unwrap().len(), other.calls.load(Ordering::SeqCst)), (200, 0));
        workers.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_could_not_embed_is_said() {
    for (queue, _place) in queues().await {
        let worker = work(&queue, Arc::new(Broken(Digest::of("a"))));
        let queued = QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue, CancelFlag::new());
        let error = tokio::time::timeout(Duration::from_secs(60), embed(queued, 20)).await.unwrap().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("a worker failed"), "{cause}");
        worker.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_can_be_stopped() {
    for (queue, _place) in queues().await {
        let cancel = CancelFlag::new();
        let queued = QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue, cancel.clone());
        let waiting = tokio::spawn(embed(queued, 20));
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
        let error = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("stopped"));
    }
}

/// Asks for an end a moment after embedding began.
struct StopSoon(CancelFlag);

impl Progress for StopSoon {
    fn update(&self, update: ProgressUpdate<'_>) {
        if update.stage == "embedding" {
            let cancel = self.0.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                cancel.cancel();
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_while_it_waits_for_workers_is_interrupted() {
    let bench = Bench::new().await;
    for post in 0..20 {
        bench.write(&format!("{post}.md"), words(post, 60));
    }
    let source = Source::Folder(bench.posts());
    for (queue, _place) in queues().await {
        let stop = StopSoon(CancelFlag::new());
        let queued = Arc::new(QueuedEmbedder::new(Counting::new("a", Duration::ZERO), queue, stop.0.clone()));
        let (store, author, options) = (bench.store.clone(), &bench.author, &bench.options);
        let run = ingest(&bench.warehouse, store, queued, author, &source, options, &stop, &stop.0);
        let report = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap();
        assert!(report.unwrap_or_else(|error| panic!("{}", chain(&error))).interrupted);
    }
}

#[tokio::test]
async fn what_is_no_queue_is_named_without_its_password() {
    let error = Queue::open("redis://ada:secret@db/0").await.unwrap_err();
    assert!(matches!(error, QueueError::Address(_)) && !error.to_string().contains("secret"), "{error}");
    let error = Queue::open("postgres://ada:secret@127.0.0.1:9/twin").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, QueueError::Database { .. }) && !text.contains("secret"), "{text}");
}
