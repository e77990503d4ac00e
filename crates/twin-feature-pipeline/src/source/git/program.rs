//! The `git` program, run so that a repository cannot make it run anything else.

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use url::Url;

/// No single answer of Git's that is read here is larger.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;
/// A clone takes its time; more than this is no repository of somebody's posts.
const MAX_CLONE_TIME: Duration = Duration::from_secs(20 * 60);

/// Git in a repository.
pub(crate) struct Git {
    place: PathBuf,
}

impl Git {
    pub(super) fn at(place: &Path) -> Self {
        Self { place: place.to_owned() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        // Neither this user's nor the machine's settings, nor hooks, watchers, pagers or helpers that a repository names.
        for name in
            ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_PROXY_COMMAND"]
        {
            command.env_remove(name);
        }
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https")
            .env("GIT_ASKPASS", "")
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat"])
            .args(["-c", "credential.helper=", "-c", "protocol.ext.allow=never", "-c", "core.alternateRefsCommand="])
            .stdin(Stdio::null());
        command
    }

    /// What a command answers.
    ///
    /// # Errors
    /// In a sentence: there is no `git`, or what it says.
    pub(super) fn bytes(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = self.command();
        command.arg("-C").arg(&self.place).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(missing)?;
        let mut answer = Vec::new();
        let read = child.stdout.take().map(|out| out.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)).transpose();
        let done = child.wait_with_output().map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())?;
        if done.status.success() { Ok(answer) } else { Err(said(&done.stderr)) }
    }

    pub(super) fn text(&self, arguments: &[&str]) -> Result<String, String> {
        self.bytes(arguments).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Brings what the repository at `url` has to the folder `to`: all of it the first time, what is new after that. A clone
/// that a killed run left behind is gone on with. Git connects to `addresses` only, which are those of the host, checked.
///
/// # Errors
/// In a sentence: what Git says.
pub(crate) fn clone(url: &Url, addresses: &[SocketAddr], to: &Path, stop: &AtomicBool) -> Result<(), String> {
    let git = Git::at(to);
    fs_err::create_dir_all(to).map_err(|error| error.to_string())?;
    let version = git.text(&["--version"])?;
    if !is_new_enough(&version) {
        return Err(format!("{} cannot be held to checked addresses: Git 2.37 and newer can", version.trim()));
    }
    if !super::is_repository(to) {
        git.bytes(&["init", "--quiet", "--bare", "."])?;
    }
    let mut command = git.command();
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let at = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(",");
    command.args(["-c", &format!("http.curloptResolve={host}:{port}:{at}")]);
    // A redirect could lead anywhere; a proxy would resolve the name by itself.
    command.args(["-c", "http.followRedirects=false", "-c", "http.proxy="]);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let agent = OsString::from(format!("http.userAgent={}", crate::fetch::USER_AGENT));
    command.arg("-c").arg(agent).arg("-C").arg(to);
    command.args(["fetch", "--quiet", "--no-tags", "--force", "--no-recurse-submodules", "--end-of-options"]);
    command.args([url.as_str(), "HEAD:refs/heads/twin"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(missing)?;
    let begun = Instant::now();
    loop {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            break;
        }
        if stop.load(Ordering::Relaxed) || begun.elapsed() > MAX_CLONE_TIME {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err("cloning was stopped; run the same command again".to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let done = child.wait_with_output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        return Err(said(&done.stderr));
    }
    git.bytes(&["symbolic-ref", "HEAD", "refs/heads/twin"]).map(drop)
}

/// `git version 2.47.3`: the first that takes `http.curloptResolve` is 2.37.
fn is_new_enough(version: &str) -> bool {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 37)
}

fn missing(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "the `git` program is needed for it and is not installed".to_owned(),
        _ => format!("`git` could not be run: {error}"),
    }
}

/// The last of what Git said, without its marks.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("git gave no reason");
    last.trim_start_matches("fatal: ").trim_start_matches("error: ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared() {
        assert!(is_new_enough("git version 2.47.3\n") && is_new_enough("git version 3.0.1.windows.1"));
        assert!(!is_new_enough("git version 2.36.9") && !is_new_enough("git"));
    }
}
