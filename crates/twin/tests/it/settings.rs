//! Where settings come from, as the command itself sees it.

use std::path::Path;
use std::process::{Command, Output};

fn twin(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
    command.current_dir(dir).args(["--data-dir", "data"]).args(arguments);
    command.env("XDG_CACHE_HOME", dir.join("cache")).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_directory_without_a_configuration_file_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let output = twin(dir.path(), &["models", "list"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("smollm2-135m-instruct"));
}

#[test]
fn a_wrong_key_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twin.toml"), "[server]\nbint = \"127.0.0.1:1\"\n").unwrap();
    let output = twin(dir.path(), &["models", "list"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("bint") && said.contains("twin.toml"), "{said}");
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = twin(dir.path(), &["--config", "mine.toml", "models", "list"]);
    assert!(!output.status.success() && text(&output.stderr).contains("mine.toml"));
}
