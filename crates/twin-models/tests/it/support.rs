use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use twin_domain::Digest;
use twin_models::ModelCache;
use twin_models::catalogue::{Entry, HubFile, Kind, ModelFile, Package, PackageFile, Role};
use twin_models::download::{DownloadConfig, Downloader};

pub const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// Bytes that are not the same everywhere, so that a part in the wrong place shows.
pub fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed).wrapping_add((index >> 8) as u8))
        .collect()
}

/// Catalogue entries live as long as the program; these are few and small.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// An entry named `toy` whose files are in the hub repository `maker/toy` and in the package `toy-model`.
pub fn toy(files: &[(&'static str, &[u8])]) -> &'static Entry {
    let package = Package { name: "toy-model", version: "1.0", platform: None, size_bytes: 1000 };
    let file = |(name, bytes): &(&'static str, &[u8])| ModelFile {
        name,
        role: Role::Weights,
        sha256: leak(Digest::of(bytes).as_str().to_owned()),
        size_bytes: bytes.len() as u64,
        hub: Some(HubFile { repository: "maker/toy", revision: REVISION, path: leak(format!("sub/{name}")) }),
        package: Some(PackageFile { package, path: leak(format!("toy_model/{name}")) }),
    };
    let files: Vec<_> = files.iter().map(file).collect();
    Box::leak(Box::new(Entry {
        name: "toy",
        kind: Kind::LanguageModel,
        purpose: "tests",
        licence: "Apache-2.0",
        base_model: None,
        files: Box::leak(files.into_boxed_slice()),
    }))
}

/// A wheel with these files.
pub fn wheel(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A temporary directory with a cache, and pip as a shell script.
pub struct Home {
    pub directory: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn cache(&self) -> ModelCache {
        ModelCache::new(self.path("cache"))
    }

    pub fn downloads(&self) -> PathBuf {
        self.path("cache/downloads")
    }

    pub fn downloader(&self, hub: &str, pip: &[&str]) -> Downloader {
        let pip = if pip.is_empty() { vec![] } else { vec![pip.iter().map(|word| (*word).to_owned()).collect()] };
        Downloader::new(self.cache(), DownloadConfig { hub_endpoint: hub.to_owned(), pip, ..DownloadConfig::default() })
    }

    /// A script that does `body` with `$dest` set, and writes a line to `runs` each time. Returns its path.
    pub fn pip(&self, body: &str) -> String {
        let script = self.path("pip.sh");
        let parse = "while [ $# -gt 0 ]; do if [ \"$1\" = --dest ]; then dest=$2; fi; shift; done";
        let text = format!("{parse}\necho run >> '{}'\n{body}\n", self.path("runs").display());
        std::fs::write(&script, text).unwrap();
        script.to_str().unwrap().to_owned()
    }

    /// A pip that gives a wheel with these files.
    pub fn pip_with(&self, files: &[(&str, &[u8])]) -> String {
        let wheel_path = self.path("toy_model-1.0-py3-none-any.whl");
        wheel(&wheel_path, files);
        self.pip(&format!("sleep 0.1; cp '{}' \"$dest/\"", wheel_path.display()))
    }

    pub fn pip_runs(&self) -> usize {
        std::fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    /// Every file below the temporary directory, by relative path.
    pub fn tree(&self) -> Vec<String> {
        fn below(directory: &Path, root: &Path, found: &mut Vec<String>) {
            for item in std::fs::read_dir(directory).unwrap().flatten() {
                if item.path().is_dir() {
                    below(&item.path(), root, found);
                } else {
                    found.push(item.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        below(self.directory.path(), self.directory.path(), &mut found);
        found.sort();
        found
    }
}

/// A hub of a few lines that can break off in the middle, which a proper server would not do. It answers one request per
/// connection.
pub struct RawHub {
    pub endpoint: String,
    /// The first line of each request, with its range.
    pub requests: Arc<Mutex<Vec<String>>>,
}

/// How a [`RawHub`] answers GET.
#[derive(Clone, Copy)]
pub enum Manner {
    Whole,
    /// The first request without a range gets this many bytes, then the connection closes.
    BreakOffAt(usize),
    /// This many bytes, and then silence.
    StallAt(usize),
    /// Ranges are ignored: always the whole file with status 200.
    IgnoreRanges,
    /// A status, with a body that is not the file.
    Status(u16),
}

impl RawHub {
    pub fn start(files: &[(&str, &[u8])], manner: Manner) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), files, manner)
    }

    pub fn serve(listener: TcpListener, files: &[(&str, &[u8])], manner: Manner) -> Self {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|(name, bytes)| (format!("/maker/toy/resolve/{REVISION}/sub/{name}"), bytes.to_vec()))
            .collect();
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (files, log) = (files.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(connection, &files, manner, &log));
            }
        });
        Self { endpoint, requests }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    mut connection: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    manner: Manner,
    log: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut lines = BufReader::new(connection.try_clone().ok()?).lines().map_while(Result::ok);
    let request = lines.next()?;
    let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_ascii_lowercase()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: "));
    let (method, path) = request.trim_end_matches(" HTTP/1.1").split_once(' ')?;
    log.lock().unwrap().push(format!(
        "{method} {}{}",
        path.rsplit('/').next()?,
        range.map_or(String::new(), |range| format!(" {range}"))
    ));
    let Some(body) = files.get(path) else {
        return write!(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
    };
    let head = |status: &str, length: usize| {
        // A hostile name where a client might make a path of it.
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"../../../../escaped\"\r\nX-Repo-Commit: ../escaped\r\nConnection: close\r\n\r\n"
        )
    };
    if let Manner::Status(status) = manner {
        let page = "<html>not the file</html>";
        let body = if method == "HEAD" { "" } else { page };
        return write!(connection, "{}{body}", head(&format!("{status} Something"), page.len())).ok();
    }
    if method == "HEAD" {
        return write!(connection, "{}", head("200 OK", body.len())).ok();
    }
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    let (status, rest) = match (start, manner) {
        (Some(start), Manner::Whole | Manner::BreakOffAt(_) | Manner::StallAt(_)) => {
            ("206 Partial Content", &body[start..])
        }
        _ => ("200 OK", body.as_slice()),
    };
    connection.write_all(head(status, rest.len()).as_bytes()).ok()?;
    match manner {
        Manner::BreakOffAt(count) if start.is_none() => connection.write_all(&rest[..count]).ok(),
        Manner::StallAt(count) if start.is_none() => {
            connection.write_all(&rest[..count]).ok()?;
            // Until the client goes away.
            connection.read(&mut [0]).map(|_| ()).ok()
        }
        _ => connection.write_all(rest).ok(),
    }
}

/// An endpoint at which nobody listens.
pub fn closed_port() -> (String, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (format!("http://127.0.0.1:{port}"), port)
}
