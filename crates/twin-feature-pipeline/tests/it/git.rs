//! Git repositories, here and over HTTP.
#![expect(clippy::print_stderr, reason = "these tests say why they tested nothing")]

use std::path::Path;
use std::process::{Command, Stdio};

use twin_domain::Document;
use twin_feature_pipeline::{IngestReport, Source};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::bench::{Bench, chain, words};

fn git(folder: &Path, arguments: &[&str], day: &str) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@a.example", "-c", "init.defaultBranch=main"]);
    for date in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
        command.env(date, format!("{day}T12:00:00+0000"));
    }
    let done = command.current_dir(folder).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.unwrap().success(), "git {arguments:?}");
}

/// Whether there is a `git` to make repositories with.
fn has_git() -> bool {
    let there = Command::new("git").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("git is not there: nothing was tested");
    }
    there
}

/// A repository with a README, posts one of which was moved, and much that is not prose.
fn repository(folder: &Path) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    };
    git(folder, &["init", "-q"], "2020-01-01");
    write("README.md", &format!("# Notes\n\n{}\n", words(1, 30)));
    write("old/first.md", &format!("# First\n\n{}\n", words(2, 30)));
    write("LICENSE.md", &words(3, 30));
    write("requirements.txt", &words(4, 30));
    write("node_modules/x/README.md", &words(5, 30));
    git(folder, &["add", "."], "2020-01-01");
    git(folder, &["commit", "-qm", "one"], "2020-01-02");
    write("posts/second.adoc", &format!("= Second\n\n{}\n", words(6, 30)));
    write("posts/2019-05-06-third.md", &format!("# Third\n\n{}\n", words(7, 30)));
    git(folder, &["add", "."], "2021-03-04");
    git(folder, &["commit", "-qm", "two"], "2021-03-04");
    git(folder, &["mv", "old/first.md", "posts/first.md"], "2022-05-06");
    git(folder, &["commit", "-qm", "three"], "2022-05-06");
    // Not committed, and so not published.
    write("posts/draft.md", &words(8, 30));
}

async fn dated(bench: &Bench) -> Vec<(String, String)> {
    let documents: Vec<Document> = bench.warehouse.documents(&bench.author.id).await.unwrap();
    let dated =
        |document: Document| (document.info.title, document.info.date.map(|date| date.to_string()).unwrap_or_default());
    documents.into_iter().map(dated).collect()
}

fn expected() -> Vec<(String, String)> {
    let dated = [("Third", "2019-05-06"), ("First", "2020-01-02"), ("Notes", "2020-01-02"), ("Second", "2021-03-04")];
    dated.iter().map(|(title, date)| ((*title).to_owned(), (*date).to_owned())).collect()
}

#[tokio::test]
async fn a_repository_gives_its_prose_with_the_dates_of_its_commits() {
    if !has_git() {
        return;
    }
    let bench = Bench::new().await;
    repository(&bench.posts());
    let source = Source::recognise(bench.posts().to_str().unwrap()).unwrap();
    assert_eq!(source.to_string(), format!("the Git repository {}", bench.posts().display()));
    let report: IngestReport = bench.ingest(&source).await;
    assert_eq!((report.found, report.new), (4, 4), "{report:?}");
    let mut found = dated(&bench).await;
    found.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    assert_eq!(found, expected());
    let again = bench.ingest(&source).await;
    assert_eq!((again.unchanged, again.chunks_written), (4, 0), "{again:?}");
}

#[tokio::test]
async fn a_repository_without_commits_or_prose_is_named() {
    if !has_git() {
        return;
    }
    let bench = Bench::new().await;
    let folder = bench.posts();
    git(&folder, &["init", "-q"], "2020-01-01");
    let source = Source::recognise(folder.to_str().unwrap()).unwrap();
    assert!(chain(&bench.try_ingest(&source).await.unwrap_err()).contains("nothing is committed"));
    fs_err::write(folder.join("main.rs"), "fn main() {}").unwrap();
    git(&folder, &["add", "."], "2020-01-01");
    git(&folder, &["commit", "-qm", "x"], "2020-01-01");
    assert!(chain(&bench.try_ingest(&source).await.unwrap_err()).contains("no files that posts are read from"));
}

/// Git's own server, a process a request, behind loopback.
struct Backend {
    root: std::path::PathBuf,
}

impl Respond for Backend {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        use std::io::Write;
        let mut child = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", request.method.as_str())
            .env("PATH_INFO", request.url.path())
            .env("QUERY_STRING", request.url.query().unwrap_or_default())
            .env("CONTENT_TYPE", request.headers.get("content-type").map_or("", |value| value.to_str().unwrap()))
            .env("GIT_PROTOCOL", request.headers.get("git-protocol").map_or("", |value| value.to_str().unwrap()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&request.body).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        let split = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&output[..split]).into_owned();
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let status = field("Status:").map_or(200, |status| status[..3].parse().unwrap());
        let media = field("Content-Type:").unwrap_or_default();
        ResponseTemplate::new(status).set_body_raw(output[split + 4..].to_vec(), &media)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_cloned_once_and_then_asked_for_what_is_new() {
    if !has_git() {
        return;
    }
    let mut bench = Bench::new().await;
    let root = bench.folder.path().join("served");
    let work = root.join("notes");
    fs_err::create_dir_all(&work).unwrap();
    repository(&work);
    let server = MockServer::builder().disable_request_recording().start().await;
    Mock::given(wiremock::matchers::any()).respond_with(Backend { root: root.clone() }).mount(&server).await;
    let source = Source::recognise(&format!("{}/notes/.git", server.uri())).unwrap();
    // Nothing private is asked unless it is allowed, by Git's client either.
    let error = chain(&bench.try_ingest(&source).await.unwrap_err());
    assert!(error.contains("private or reserved network"), "{error}");
    bench.options.fetch.allow_net = vec![server.address().to_string()];
    bench.options.clones = Some(bench.folder.path().join("clones"));
    let report = bench.ingest(&source).await;
    assert_eq!((report.new, report.skipped.len()), (4, 0), "{report:?}");
    let mut found = dated(&bench).await;
    found.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    assert_eq!(found, expected());

    fs_err::write(work.join("posts/fourth.md"), format!("# Fourth\n\n{}\n", words(9, 30))).unwrap();
    git(&work, &["add", "posts/fourth.md"], "2023-01-01");
    git(&work, &["commit", "-qm", "four"], "2023-01-01");
    let report = bench.ingest(&source).await;
    assert_eq!((report.new, report.unchanged), (1, 4), "{report:?}");

    let nothing = Source::recognise(&format!("{}/nothing.git", server.uri())).unwrap();
    let error = chain(&bench.try_ingest(&nothing).await.unwrap_err());
    assert!(error.contains("nothing.git") && error.contains("not found"), "{error}");
}
