use std::time::{Duration, Instant};

use twin_domain::{Document, FeatureStore};
use twin_feature_pipeline::{Skip, Source};

use crate::bench::{Bench, chain, words};

#[tokio::test]
async fn a_folder_becomes_features() {
    let bench = Bench::new().await;
    bench.write("b.md", format!("---\ntitle: Second\ndate: 2022-01-01\ntags: [x]\n---\n\n{}\n", words(1, 50)));
    bench.write("deep/a.markdown", format!("# First\n\n{}\n\n## Part\n\n{}\n", words(2, 300), words(3, 20)));
    bench.write(
        "page.html",
        format!(
            "<html lang=de><title>Page</title><article><h1>Page</h1><p>{}.</p><p>{}.</p></article>",
            words(4, 60),
            words(5, 60)
        ),
    );
    bench.write("note.txt", words(6, 30));
    bench.write(".hidden.md", words(7, 30));
    bench.write(".git/x.md", words(8, 30));
    bench.write("image.png", [0_u8, 1]);
    let report = bench.ingest_posts().await;
    assert_eq!((report.found, report.new, report.documents_indexed, report.skipped.len()), (4, 4, 4, 0), "{report:?}");
    assert_eq!(report.chunks_in_view as usize, report.chunks_written);
    assert_eq!(bench.titles(), ["First", "note", "Page", "Second"]);
    assert!(report.chunk_tokens.max <= 220 && report.chunk_tokens.beyond_window == 0, "{:?}", report.chunk_tokens);
    assert!(report.notes.iter().any(|note| note.contains("1 files of other kinds")), "{:?}", report.notes);

    // The store alone gives every document back, byte for byte.
    let view = bench.store.serving_view().unwrap().unwrap();
    let stored: Vec<Document> =
        bench.store.documents(&view, &bench.author.id).unwrap().into_iter().map(|stored| stored.document).collect();
    assert_eq!(stored, bench.warehouse.documents(&bench.author.id).await.unwrap());
    let second = stored.iter().find(|document| document.info.title == "Second").unwrap();
    assert_eq!(second.info.url, "file:posts/b.md");
    assert_eq!(second.info.tags, ["x"]);
}

#[tokio::test]
async fn a_second_run_embeds_nothing() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.write(&format!("{n}.md"), words(n, 300));
    }
    let first = bench.ingest_posts().await;
    assert_eq!(bench.embedder.take(), first.chunks_written);
    let digest = bench.digest().await;
    let second = bench.ingest_posts().await;
    assert_eq!((second.new, second.changed, second.unchanged, second.chunks_written), (0, 0, 20, 0));
    assert_eq!(bench.embedder.take(), 0);
    assert_eq!(bench.digest().await, digest);
    assert_eq!(second.chunks_in_view, first.chunks_in_view);
}

#[tokio::test]
async fn only_what_changed_is_embedded_and_what_is_gone_is_reported() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.write(&format!("{n}.md"), words(n, 500));
    }
    bench.ingest_posts().await;
    bench.embedder.take();
    bench.write("3.md", words(33, 40));
    fs_err::remove_file(bench.posts().join("4.md")).unwrap();
    let report = bench.ingest_posts().await;
    assert_eq!((report.new, report.changed, report.unchanged), (0, 1, 4), "{report:?}");
    assert_eq!(report.missing, ["4.md"]);
    assert_eq!(bench.embedder.take(), 1, "one short chunk");
    assert_eq!(
        report.chunks_in_view,
        4 * 3 + 1,
        "the old chunks of the changed document are gone, the missing one stays"
    );
}

#[tokio::test]
async fn a_lost_index_is_made_again_without_the_source() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.write(&format!("{n}.md"), words(n, 500));
    }
    bench.ingest_posts().await;
    let digest = bench.digest().await;
    for lost in [1, 1000] {
        bench.store.lose(lost);
        assert_ne!(bench.digest().await, digest);
        let report = bench.ingest_posts().await;
        assert_eq!((report.unchanged, report.documents_indexed), (5, 5));
        assert!(report.notes.iter().any(|note| note.contains("loaded again")), "{:?}", report.notes);
        assert_eq!(bench.digest().await, digest);
    }
}

#[tokio::test]
async fn a_bad_file_costs_itself_only() {
    let bench = Bench::new().await;
    bench.write("good.md", words(1, 50));
    bench.write("binary.md", [0x89, b'P', b'N', b'G', 0, 0, 1, 2].repeat(100));
    bench.write("draft.md", format!("---\ndraft: true\n---\n{}", words(2, 50)));
    bench.write("short.md", "Too short.");
    bench.write("empty.md", "");
    bench.write("copy.md", words(1, 50));
    bench.write("latin.md", [words(3, 50).as_bytes(), b" na\xefve"].concat());
    bench.write("noise.md", (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8 | 1).collect::<Vec<_>>());
    bench.write("bomb.html", format!("<article>{}", "<ul><li>".repeat(60_000)));
    let huge = fs_err::File::create(bench.posts().join("huge.md")).unwrap();
    huge.set_len(200 * 1024 * 1024).unwrap();
    let begun = Instant::now();
    let report = bench.ingest_posts().await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!((report.found, report.new), (10, 2), "{report:?}");
    let reason = |name: &str| {
        let skip = report.skipped.iter().find(|skip| skip.what == name);
        skip.unwrap_or_else(|| panic!("{name} is skipped: {report:?}")).reason.clone()
    };
    assert_eq!(reason("binary.md"), "not a text: it has zero bytes");
    assert!(reason("noise.md").starts_with("not a text: "), "{}", reason("noise.md"));
    assert_eq!(reason("draft.md"), "a draft: its front matter says that it is not published");
    assert_eq!(reason("short.md"), "only 2 words; a document needs 5");
    assert_eq!(reason("empty.md"), "only 0 words; a document needs 5");
    assert_eq!(reason("huge.md"), "too large: 209715200 bytes; at most 4194304 are read");
    assert_eq!(reason("bomb.html"), "the page nests its elements more than 512 deep, as no article does");
    let duplicate = &report.duplicates[0];
    assert_eq!((duplicate.what.as_str(), duplicate.of.as_str()), ("good.md", "file:posts/copy.md"));
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    assert!(documents.iter().any(|document| document.text.contains("naïve")));
}

#[cfg(unix)]
#[tokio::test]
async fn what_may_not_be_read_or_leads_outside_is_skipped() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = Bench::new().await;
    bench.write("good.md", words(1, 50));
    let outside = bench.folder.path().join("secret.md");
    fs_err::write(&outside, words(2, 50)).unwrap();
    symlink(&outside, bench.posts().join("link.md")).unwrap();
    symlink(bench.folder.path(), bench.posts().join("up")).unwrap();
    let locked = bench.write("locked.md", words(3, 50));
    fs_err::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    let report = bench.ingest_posts().await;
    let skipped = |name: &str| report.skipped.iter().find(|skip| skip.what == name).map(|skip| skip.reason.as_str());
    assert_eq!(skipped("link.md"), Some("a symbolic link: what it points to is not read"));
    assert_eq!(skipped("up"), Some("a symbolic link: what it points to is not read"));
    // Root may read everything; then there is nothing to skip.
    if fs_err::read(&locked).is_err() {
        assert!(skipped("locked.md").unwrap().contains("denied"), "{report:?}");
        assert_eq!(report.new, 1);
    }
}

#[tokio::test]
async fn boilerplate_is_removed_and_reported() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.write(&format!("{n}.md"), format!("{}\n\nSubscribe to my newsletter, it is free!\n", words(n, 50)));
    }
    let report = bench.ingest_posts().await;
    assert!(
        report.notes.contains(&"removed from 5 documents: “Subscribe to my newsletter, it is free!”".to_owned()),
        "{:?}",
        report.notes
    );
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    assert!(documents.iter().all(|document| !document.text.contains("newsletter")));
}

#[tokio::test]
async fn guest_posts_can_be_left_out() {
    let mut bench = Bench::new().await;
    bench.write("own.md", format!("---\nauthor: Ada Lovelace\n---\n{}", words(1, 50)));
    bench.write("guest.md", format!("---\nauthor: Charles Babbage\n---\n{}", words(2, 50)));
    bench.write("plain.md", words(3, 50));
    bench.options.only_by = Some("ada lovelace".to_owned());
    let report = bench.ingest_posts().await;
    let expected = Skip { what: "guest.md".to_owned(), reason: "by Charles Babbage, not by ada lovelace".to_owned() };
    assert_eq!((report.new, report.skipped), (2, vec![expected]));
}

#[tokio::test]
async fn authors_do_not_mix() {
    let mut bench = Bench::new().await;
    bench.write("a.md", words(1, 50));
    let first = bench.ingest_posts().await;
    bench.author = twin_domain::Author::new(twin_domain::AuthorId::parse("bob").unwrap());
    let second = bench.ingest_posts().await;
    assert_eq!((first.new, second.new, second.duplicates.len()), (1, 1, 0));
    assert_eq!((first.chunks_in_view, second.chunks_in_view), (1, 1));
    assert_eq!(bench.store.authors().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_no_source_is_a_clear_error() {
    let bench = Bench::new().await;
    let error = chain(&bench.try_ingest(&Source::Folder(bench.posts())).await.unwrap_err());
    assert!(error.starts_with("the folder `") && error.contains("has no posts: .md .markdown"), "{error}");
    assert!(bench.store.authors().unwrap().is_empty(), "nothing is recorded for a source that gave nothing");
    for source in [
        Source::Folder("/no/such/folder".into()),
        Source::File("/no/such.md".into()),
        Source::Rows("/no/such.jsonl".into()),
    ] {
        let error = chain(&bench.try_ingest(&source).await.unwrap_err());
        assert!(error.contains("/no/such") && error.contains("could not be read: check that it exists"), "{error}");
    }
}

#[tokio::test]
async fn chunks_that_the_embedder_would_cut_off_are_refused() {
    let mut bench = Bench::new().await;
    bench.write("a.md", words(1, 50));
    bench.options.max_chunk_tokens = 255;
    let error = bench.try_ingest(&Source::Folder(bench.posts())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "chunks of 255 tokens do not fit the embedder `scripted`, which sees 256: ask for fewer"
    );
}

/// The server ingests on a task of its own.
#[tokio::test]
async fn ingestion_can_be_spawned() {
    let bench = Bench::new().await;
    bench.write("a.md", words(1, 50));
    let report = tokio::spawn(async move { bench.ingest_posts().await }).await.unwrap();
    assert_eq!(report.new, 1);
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_every_file_and_does_not_come_back() {
    let bench = Bench::new().await;
    let store: std::sync::Arc<dyn FeatureStore> = bench.store.clone();
    for n in 0..5 {
        bench.write(&format!("{n}.md"), words(n, 60));
    }
    bench.ingest_posts().await;
    let found = bench.warehouse.find_documents("file:posts/3.md").await.unwrap();
    assert_eq!((found.len(), found[0].forgotten_at), (1, None));
    let view = bench.store.serving_view().unwrap().unwrap();
    assert!(!bench.store.chunks(&view, found[0].id).unwrap().is_empty());

    for _ in 0..2 {
        twin_feature_pipeline::forget(&bench.warehouse, store.clone(), &found[0]).await.unwrap();
        assert!(bench.store.chunks(&view, found[0].id).unwrap().is_empty());
        assert_eq!(bench.warehouse.documents(&bench.author.id).await.unwrap().len(), 4);
    }
    let in_files = || {
        let files = fs_err::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_string_lossy().contains("warehouse.sqlite"));
        files.map(|path| fs_err::read(path).unwrap()).any(|bytes| bytes.windows(10).any(|part| part == b"word300042"))
    };
    assert!(!in_files(), "its text can be read from the warehouse's files");
    let found = bench.warehouse.find_documents(&found[0].id.to_string()).await.unwrap();
    assert!(found[0].forgotten_at.is_some() && found[0].title.is_empty());

    let again = bench.ingest_posts().await;
    assert_eq!((again.new, again.unchanged), (0, 4), "{again:?}");
    assert!(!in_files(), "another run brought its text back");
    assert!(again.skipped.iter().any(|skip| skip.what == "3.md" && skip.reason.contains("forgotten")), "{again:?}");
    assert!(bench.store.chunks(&view, found[0].id).unwrap().is_empty());
}
