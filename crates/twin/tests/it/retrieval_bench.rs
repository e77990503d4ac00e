use std::path::Path;
use std::process::{Command, Output};

use crate::settings::text;

const CORPUS: &str = r#"{"_id": "a", "title": "Caulking", "text": "The garboard seam is caulked first, with cotton and an iron."}
{"_id": "b", "title": "Steam", "text": "A rib is steamed for an hour before it is bent into its socket."}
{"_id": "c", "title": "Paint", "text": "Three coats of undercoat, rubbed down between, make a hull shine."}
"#;
const QUERIES: &str = r#"{"_id": "1", "text": "How long is a rib steamed?"}
{"_id": "2", "text": "Which seam is caulked first?"}
{"_id": "3", "text": "A query that nothing is judged for"}
"#;
const SUITE: &str = "data = \".\"\nseed = 1\n[[collections]]\nname = \"tiny\"\ndirectory = \"tiny\"\n";

fn collection(qrels: &str, suite: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tiny = dir.path().join("tiny");
    fs_err::create_dir(&tiny).unwrap();
    for (name, content) in [("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("qrels.tsv", qrels)] {
        fs_err::write(tiny.join(name), content).unwrap();
    }
    fs_err::write(dir.path().join("suite.toml"), suite).unwrap();
    dir
}

fn bench(dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
    command.current_dir(dir).args([
        "--json",
        "-q",
        "bench",
        "retrieval",
        "--suite",
        "suite.toml",
        "--svg",
        "chart.svg",
    ]);
    command.output().unwrap()
}

/// Whether the embedding model is in the cache; the tests that need it say that they are skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn has_embedder() -> bool {
    let path = Command::new(env!("CARGO_BIN_EXE_twin")).args(["models", "path", "all-minilm-l6-v2"]).output();
    let there = path.unwrap().status.success();
    if !there {
        eprintln!("skipped: the embedding model is not in the cache");
    }
    there
}

#[test]
fn a_suite_is_measured_by_stage_and_drawn() {
    if !has_embedder() {
        return;
    }
    let dir = collection("query-id\tcorpus-id\tscore\n1\tb\t1\n2\ta\t1\n", SUITE);
    let output = bench(dir.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tiny = &outcome["collections"][0];
    assert_eq!(
        (&tiny["documents"], &tiny["queries"]),
        (&3.into(), &2.into()),
        "a query without judgements is no query"
    );
    let stages = tiny["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 7);
    assert!(stages.iter().all(|stage| stage["means"][0] == 1.0), "{stages:?}");
    assert!(fs_err::read_to_string(dir.path().join("chart.svg")).unwrap().contains("tiny, nDCG@10"));
}

#[test]
fn a_suite_that_expects_more_than_there_is_does_not_pass() {
    if !has_embedder() {
        return;
    }
    let suite = format!("{SUITE}[expect.ndcg_10]\ntiny = 0.9\n");
    let dir = collection("query-id\tcorpus-id\tscore\n1\tc\t1\n2\tc\t1\n", &suite);
    let output = bench(dir.path());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("\"passed\": false"));
}

#[test]
fn what_is_wrong_with_a_collection_is_named() {
    if !has_embedder() {
        return;
    }
    let dir = collection("query-id\tcorpus-id\tscore\n1\tb\tvery\n", SUITE);
    let output = bench(dir.path());
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("qrels.tsv`, line 2: not a query, a document and a whole number"));
}
