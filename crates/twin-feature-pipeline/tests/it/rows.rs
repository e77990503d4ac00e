use twin_feature_pipeline::Source;

use crate::bench::{Bench, chain, words};

fn row(title: &str, source: &str, seed: usize) -> String {
    serde_json::json!({"author": "Ada", "title": title, "date": "2020-01-02", "source": source, "text": words(seed, 50)})
        .to_string()
}

#[tokio::test]
async fn rows_become_documents_and_bad_rows_are_skipped() {
    let bench = Bench::new().await;
    let large = serde_json::json!({"text": "x ".repeat(3 * 1024 * 1024)}).to_string();
    let lines = [
        row("One", "content/one.md", 1),
        "{not json".to_owned(),
        String::new(),
        row("Two", "https://a.org/two?utm_source=x", 2),
        large.clone() + &large,
        r#"{"title": "no text"}"#.to_owned(),
        format!(r#"{{"text": "{}"}}"#, words(4, 50)),
        row("Two again", "https://a.org/two?utm_source=x", 5),
        large,
    ];
    let path = bench.write("export.jsonl", lines.join("\n"));
    let report = bench.ingest(&Source::Rows(path.clone())).await;
    assert_eq!((report.found, report.new), (8, 4), "{report:?}");
    let skipped: Vec<&str> = report.skipped.iter().map(|skip| skip.what.as_str()).collect();
    assert_eq!(
        skipped,
        ["export.jsonl, line 2", "export.jsonl, line 5", "export.jsonl, line 6", "export.jsonl, line 9"]
    );
    assert!(report.skipped[1].reason.starts_with("too large"), "{:?}", report.skipped[1]);
    let urls: Vec<String> = bench
        .warehouse
        .documents(&bench.author.id)
        .await
        .unwrap()
        .into_iter()
        .map(|document| document.info.url)
        .collect();
    assert_eq!(urls, ["file:export/row-7", "file:export/content/one.md", "https://a.org/two", "https://a.org/two#2"]);
    let again = bench.ingest(&Source::Rows(path)).await;
    assert_eq!((again.unchanged, again.chunks_written), (4, 0));
}

#[tokio::test]
async fn a_file_without_rows_is_a_clear_error() {
    let bench = Bench::new().await;
    let path = bench.write("empty.jsonl", "\n\n");
    let error = chain(&bench.try_ingest(&Source::Rows(path)).await.unwrap_err());
    assert!(error.contains("empty.jsonl` has no rows: each line must be a JSON object"), "{error}");
}
