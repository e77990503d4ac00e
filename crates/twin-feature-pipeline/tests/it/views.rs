use twin_domain::progress::Silent;
use twin_domain::{CancelFlag, FeatureStore};
use twin_feature_pipeline::views::{compare_chunks, title_questions};
use twin_feature_pipeline::{IngestError, IngestOptions, IngestReport, build_view, feature_view};

use crate::bench::{Bench, words};

async fn build(bench: &Bench, options: &IngestOptions) -> Result<IngestReport, IngestError> {
    let (store, embedder) = (bench.store.clone(), bench.embedder.clone());
    build_view(&bench.warehouse, store, embedder, &bench.author, options, &Silent, &CancelFlag::new()).await
}

/// Posts of a section that fills chunks of 60 tokens and one that is a chunk whatever the size.
fn write_posts(bench: &Bench) {
    for n in 0..6 {
        let text = format!("# Post {n}\n\n{}\n\n## Short\n\n{}\n", words(n, 300), words(50 + n, 20));
        bench.write(&format!("{n}.md"), text);
    }
}

#[tokio::test]
async fn a_view_is_built_beside_the_one_that_serves_and_vectors_of_the_same_texts_are_reused() {
    let bench = Bench::new().await;
    write_posts(&bench);
    bench.ingest_posts().await;
    let serving = bench.store.serving_view().unwrap().unwrap();
    let before = bench.store.state().points.clone();
    bench.embedder.take();

    let smaller = IngestOptions { max_chunk_tokens: 100, ..bench.options.clone() };
    let report = build(&bench, &smaller).await.unwrap();
    assert_eq!(bench.store.serving_view().unwrap().as_ref(), Some(&serving), "it serves as before");
    assert!(before.iter().all(|(key, point)| bench.store.state().points.get(key) == Some(point)));
    assert_eq!(report.documents_indexed, 6);
    assert_ne!(report.view, serving);
    assert!(report.chunks_reused >= 6, "the short sections are the same: {report:?}");
    assert_eq!(bench.embedder.take(), report.chunks_written - report.chunks_reused);

    // Another sparse model changes no text: nothing is embedded.
    let sparse = IngestOptions { sparse: "bm25 k1=0.9 b=0.4".to_owned(), ..bench.options.clone() };
    let report = build(&bench, &sparse).await.unwrap();
    assert_eq!((report.chunks_reused, bench.embedder.take()), (report.chunks_written, 0));
    assert_eq!(bench.store.views().unwrap().len(), 3);

    // And built again there is nothing to do.
    let again = build(&bench, &smaller).await.unwrap();
    assert_eq!((again.documents_indexed, again.chunks_written, bench.embedder.take()), (0, 0, 0));
}

#[tokio::test]
async fn a_small_edit_and_a_lost_index_cost_only_what_is_new() {
    let bench = Bench::new().await;
    write_posts(&bench);
    bench.ingest_posts().await;
    let clean = bench.digest().await;
    bench.embedder.take();
    bench.store.lose(1000);
    bench.ingest_posts().await;
    assert_eq!((bench.digest().await, bench.embedder.take()), (clean, 0), "the vectors were still known");

    let edited = format!("# Post 3\n\n{}\n\n## Short\n\n{} edited\n", words(3, 300), words(53, 20));
    bench.write("3.md", edited);
    let report = bench.ingest_posts().await;
    assert_eq!((report.changed, bench.embedder.take()), (1, 1), "one section was edited: {report:?}");
}

#[tokio::test]
async fn what_is_gone_leaves_no_vectors() {
    let mut bench = Bench::new().await;
    write_posts(&bench);
    bench.ingest_posts().await;
    bench.embedder.take();
    let content = fs_err::read(bench.posts().join("2.md")).unwrap();
    fs_err::remove_file(bench.posts().join("2.md")).unwrap();
    bench.options.remove_gone = true;
    assert_eq!(bench.ingest_posts().await.removed.len(), 1);
    bench.write("2.md", content);
    let report = bench.ingest_posts().await;
    assert_eq!((report.chunks_reused, bench.embedder.take()), (0, report.chunks_written), "all of it is made anew");
    assert!(report.chunks_written > 0);
}

#[tokio::test]
async fn vectors_of_embedders_that_nobody_uses_are_forgotten() {
    let bench = Bench::new().await;
    write_posts(&bench);
    let chunks = bench.ingest_posts().await.chunks_written as u64;
    let digest = feature_view(bench.embedder.as_ref(), &bench.options).embedder_digest;
    assert_eq!(bench.warehouse.forget_embeddings(std::slice::from_ref(&digest)).await.unwrap(), 0);
    assert_eq!(bench.warehouse.forget_embeddings(&[twin_domain::Digest::of("other")]).await.unwrap(), chunks);
}

#[tokio::test]
async fn chunks_that_do_not_fit_the_embedder_are_refused() {
    let bench = Bench::new().await;
    let options = IngestOptions { max_chunk_tokens: 100_000, ..bench.options.clone() };
    assert!(matches!(build(&bench, &options).await, Err(IngestError::ChunkTokens { .. })));
}

#[tokio::test]
async fn a_diff_tells_what_was_added_removed_and_moved() {
    let bench = Bench::new().await;
    write_posts(&bench);
    bench.ingest_posts().await;
    let first = bench.store.serving_view().unwrap().unwrap();
    let author = &bench.author.id;
    let same = compare_chunks(bench.store.as_ref(), author, &first, &first).unwrap();
    let all = bench.store.count(&first, None).unwrap() as usize;
    assert_eq!((same.same, same.moved, same.added, same.removed, same.documents_changed), (all, 0, 0, 0, 0));

    // The other view is cut finer, misses a post, and has a new one.
    let options = IngestOptions { max_chunk_tokens: 100, ..bench.options.clone() };
    let second = build(&bench, &options).await.unwrap().view;
    let gone = bench.store.documents(&second, author).unwrap()[0].document.info.clone();
    bench.store.remove_stale(&second, gone.id, None).unwrap();
    let diff = compare_chunks(bench.store.as_ref(), author, &first, &second).unwrap();
    assert_eq!((diff.documents_removed.as_slice(), diff.documents_changed), ([gone.url].as_slice(), 5), "{diff:?}");
    assert!(diff.moved >= 5, "the short sections stand behind more chunks: {diff:?}");
    assert_eq!(diff.same + diff.moved + diff.removed, all);
    assert_eq!(diff.same + diff.moved + diff.added, bench.store.count(&second, None).unwrap() as usize);

    let questions = title_questions(bench.store.as_ref(), author, [&first, &second], 3).unwrap();
    assert_eq!(questions.len(), 3);
    assert!(questions.iter().all(|question| question.answer != Some(gone.id) && question.text.starts_with("Post ")));
}
