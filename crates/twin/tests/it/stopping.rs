//! What is long ends when it is asked to.

#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::settings::text;

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_benchmark_that_is_interrupted_says_so_and_has_no_result() {
    let path = Command::new(env!("CARGO_BIN_EXE_twin")).args(["models", "path", "smollm2-135m-instruct"]).output();
    if !path.unwrap().status.success() {
        eprintln!("skipped: the language model is not in the cache");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
    command.args(["--data-dir", ".", "bench", "generate"]).current_dir(dir.path());
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The whole takes a minute and more, loading the model some seconds.
    std::thread::sleep(Duration::from_secs(8));
    interrupt(&bench);
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stdout));
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("stopped"), "{}", text(&output.stderr));
}
