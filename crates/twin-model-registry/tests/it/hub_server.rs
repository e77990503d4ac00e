//! A server that speaks as much of the Hub's API as clients use: repositories, commits, large files by LFS, tags, listings,
//! downloads with ranges. It keeps everything in memory, and fails on demand.
//!
//! That it is faithful is shown by Python's `huggingface_hub`, which pushes to it and pulls from it (`hub::python_…`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use twin_domain::Digest;

pub const TOKEN: &str = "hf_secretsecretsecret";
/// Files of this size and more, and those that are not text, are large.
const LARGE: usize = 10_000;

#[derive(Clone, Default)]
struct File {
    content: Arc<Vec<u8>>,
    large: bool,
}

type Tree = BTreeMap<String, File>;

#[derive(Default)]
struct Repository {
    private: bool,
    commits: HashMap<String, Tree>,
    head: Option<String>,
    tags: BTreeMap<String, String>,
}

/// What a request is answered with instead, for as long as `times` lasts.
#[derive(Clone)]
pub struct Fault {
    /// What is found in the request's method and path, as in `POST /api/models/ada/voice/commit`.
    pub of: &'static str,
    pub status: u16,
    pub message: &'static str,
    pub times: usize,
    /// The request is carried out all the same, and only its answer is lost.
    pub carried_out: bool,
}

#[derive(Default)]
struct Inner {
    repositories: HashMap<String, Repository>,
    large: HashMap<String, Arc<Vec<u8>>>,
    faults: Vec<Fault>,
    log: Vec<String>,
    /// How many bytes of a file are sent before the connection ends, once.
    cut: Option<usize>,
    address: String,
    page: usize,
}

/// The server, as tests hold it.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
    pub url: String,
}

impl Hub {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { address: url.clone(), page: 1000, ..Inner::default() }));
        let hub = Self { inner, url };
        let router = Router::new().fallback(answer).layer(axum::extract::DefaultBodyLimit::disable());
        let router = router.with_state(hub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    pub fn cut_after(&self, bytes: usize) {
        self.lock().cut = Some(bytes);
    }

    pub fn entries_a_page(&self, count: usize) {
        self.lock().page = count;
    }

    /// The requests so far, and forgets them.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    pub fn is_private(&self, name: &str) -> bool {
        self.lock().repositories[name].private
    }

    pub fn tags(&self, name: &str) -> BTreeMap<String, String> {
        self.lock().repositories.get(name).map(|repository| repository.tags.clone()).unwrap_or_default()
    }

    pub fn commits(&self, name: &str) -> usize {
        self.lock().repositories.get(name).map_or(0, |repository| repository.commits.len())
    }

    pub fn file(&self, name: &str, revision: &str, path: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        Some(inner.repositories.get(name)?.tree(revision)?.get(path)?.content.to_vec())
    }

    /// Replaces a file of a tag by something else, as an attacker or a broken disk would.
    pub fn tamper(&self, name: &str, tag: &str, path: &str, content: &[u8]) {
        let mut inner = self.lock();
        let repository = inner.repositories.get_mut(name).unwrap();
        let commit = repository.tags[tag].clone();
        let file = repository.commits.get_mut(&commit).unwrap().get_mut(path).unwrap();
        file.content = Arc::new(content.to_vec());
    }
}

impl Repository {
    fn resolve(&self, revision: &str) -> Option<String> {
        let named = if revision == "main" { self.head.as_ref() } else { self.tags.get(revision) };
        named.cloned().or_else(|| self.commits.contains_key(revision).then(|| revision.to_owned()))
    }

    fn tree(&self, revision: &str) -> Option<&Tree> {
        self.commits.get(&self.resolve(revision)?)
    }
}

fn sha1(parts: &[&[u8]]) -> String {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    hex::encode(hasher.finalize())
}

fn git_blob(content: &[u8]) -> String {
    sha1(&[format!("blob {}\0", content.len()).as_bytes(), content])
}

fn failure(status: u16, message: &str) -> Response {
    let code = match status {
        404 => "RepoNotFound",
        401 | 403 => "GatedRepo",
        _ => "Error",
    };
    let headers = [("x-error-message", message.to_owned()), ("x-error-code", code.to_owned())];
    (StatusCode::from_u16(status).unwrap(), headers, axum::Json(json!({ "error": message }))).into_response()
}

async fn answer(State(hub): State<Hub>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let wanted = format!("{} {path}", parts.method);
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let fault = {
        let mut inner = hub.lock();
        inner.log.push(wanted.clone());
        let fault = inner.faults.iter_mut().find(|fault| fault.times > 0 && wanted.contains(fault.of));
        fault.map(|fault| {
            fault.times -= 1;
            fault.clone()
        })
    };
    if let Some(fault) = fault {
        if fault.carried_out {
            drop(carry_out(&hub, &parts.method, &path, &parts.headers, parts.uri.query(), body));
        }
        let mut failed = failure(fault.status, fault.message);
        if fault.status == 429 {
            failed.headers_mut().insert(header::RETRY_AFTER, "0".parse().unwrap());
        }
        return failed;
    }
    carry_out(&hub, &parts.method, &path, &parts.headers, parts.uri.query(), body)
}

fn carry_out(
    hub: &Hub,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    query: Option<&str>,
    body: Bytes,
) -> Response {
    let mut inner = hub.lock();
    let segments: Vec<String> = path.split('/').skip(1).map(unescaped).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    // Storage addresses carry their own permission.
    if let (&Method::PUT, ["storage", oid]) = (method, segments.as_slice()) {
        if Digest::of(&body).as_str() != *oid {
            return failure(400, "the content is not that of the address");
        }
        inner.large.insert((*oid).to_owned(), Arc::new(body.to_vec()));
        return StatusCode::OK.into_response();
    }
    let expected = format!("Bearer {TOKEN}");
    let known = headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes());
    if !known {
        return failure(401, "Invalid credentials in Authorization header");
    }
    let json = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    match (method, segments.as_slice()) {
        (&Method::GET, ["api", "whoami-v2"]) => axum::Json(json!({ "name": "ada", "type": "user" })).into_response(),
        (&Method::POST, ["api", "repos", "create"]) => create(&mut inner, &json),
        (&Method::POST, ["api", "validate-yaml"]) => {
            axum::Json(json!({ "errors": [], "warnings": [] })).into_response()
        }
        (method, ["api", kind @ ("models" | "datasets"), owner, name, call @ ..]) => {
            let id = id(kind, owner, name);
            api(&mut inner, method, &id, call, query, &json, &body)
        }
        (&Method::POST, [first @ .., "info", "lfs", "objects", "batch"]) => batch(&inner, first, &json),
        (&Method::POST, [.., "verify"]) => verify(&inner, &json),
        (method, ["datasets", owner, name, "resolve", revision, path @ ..]) => {
            download(&mut inner, method, &id("datasets", owner, name), revision, &path.join("/"), headers)
        }
        (method, [owner, name, "resolve", revision, path @ ..]) => {
            download(&mut inner, method, &id("models", owner, name), revision, &path.join("/"), headers)
        }
        _ => failure(404, "there is no such address"),
    }
}

fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = rest.get(1..3).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &rest[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn id(kind: &str, owner: &str, name: &str) -> String {
    if kind == "datasets" { format!("datasets/{owner}/{name}") } else { format!("{owner}/{name}") }
}

fn create(inner: &mut Inner, json: &Value) -> Response {
    let owner = json["organization"].as_str().unwrap_or("ada");
    let kind = if json["type"] == "dataset" { "datasets" } else { "models" };
    let id = id(kind, owner, json["name"].as_str().unwrap_or_default());
    let url = format!("{}/{id}", inner.address);
    if inner.repositories.contains_key(&id) {
        return (StatusCode::CONFLICT, axum::Json(json!({ "error": "You already created this repo", "url": url })))
            .into_response();
    }
    let mut repository = Repository { private: private(json), ..Repository::default() };
    // Like the Hub, a new repository has a first commit with its attributes.
    let attributes = File { content: Arc::new(b"*.safetensors filter=lfs\n".to_vec()), large: false };
    add_commit(&mut repository, BTreeMap::from([(".gitattributes".to_owned(), attributes)]), "initial commit");
    inner.repositories.insert(id.clone(), repository);
    axum::Json(json!({ "url": url, "name": id, "id": "1" })).into_response()
}

/// Clients say it in one of two ways.
fn private(json: &Value) -> bool {
    json["private"] == true || json["visibility"] == "private"
}

fn add_commit(repository: &mut Repository, tree: Tree, summary: &str) -> String {
    let parent = repository.head.clone().unwrap_or_default();
    let count = repository.commits.len().to_string();
    let commit = sha1(&[parent.as_bytes(), summary.as_bytes(), count.as_bytes()]);
    repository.commits.insert(commit.clone(), tree);
    repository.head = Some(commit.clone());
    commit
}

fn api(
    inner: &mut Inner,
    method: &Method,
    id: &str,
    call: &[&str],
    query: Option<&str>,
    json: &Value,
    body: &Bytes,
) -> Response {
    let (address, page, stored) = (inner.address.clone(), inner.page, inner.large.clone());
    let Some(repository) = inner.repositories.get_mut(id) else { return failure(404, "Repository not found") };
    match (method, call) {
        (&Method::GET, []) => info(repository, id, "main"),
        (&Method::GET, ["revision", revision]) => info(repository, id, revision),
        (&Method::GET, ["refs"]) => {
            let reference = |kind: &str, name: &str, commit: &str| json!({ "name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit });
            let branches: Vec<Value> = repository.head.iter().map(|head| reference("heads", "main", head)).collect();
            let tags: Vec<Value> = repository.tags.iter().map(|(tag, commit)| reference("tags", tag, commit)).collect();
            axum::Json(json!({ "branches": branches, "tags": tags, "converts": [] })).into_response()
        }
        (&Method::GET, ["tree", revision, ..]) => list(repository, id, revision, query, &address, page),
        (&Method::POST, ["preupload", _]) => {
            let mode = |file: &Value| {
                let sample = BASE64_STANDARD.decode(file["sample"].as_str().unwrap_or_default()).unwrap_or_default();
                let large =
                    file["size"].as_u64().unwrap_or(0) as usize >= LARGE || std::str::from_utf8(&sample).is_err();
                let large = large || file["path"].as_str().is_some_and(|path| path.ends_with(".safetensors"));
                json!({ "path": file["path"], "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false, "oid": null })
            };
            let files: Vec<Value> = json["files"].as_array().into_iter().flatten().map(mode).collect();
            axum::Json(json!({ "files": files })).into_response()
        }
        (&Method::POST, ["commit", "main"]) => commit(repository, body, &stored, &address, id),
        (&Method::POST, ["tag", revision]) => {
            let Some(commit) = repository.resolve(revision) else { return failure(404, "Revision not found") };
            let tag = json["tag"].as_str().unwrap_or_default().to_owned();
            if repository.tags.contains_key(&tag) {
                return failure(409, "Tag reference exists already");
            }
            repository.tags.insert(tag, commit);
            axum::Json(json!({})).into_response()
        }
        (&Method::DELETE, ["tag", tag]) => match repository.tags.remove(*tag) {
            Some(_) => StatusCode::OK.into_response(),
            None => failure(404, "Tag not found"),
        },
        _ => failure(404, "there is no such call"),
    }
}

fn info(repository: &Repository, id: &str, revision: &str) -> Response {
    let Some(commit) = repository.resolve(revision) else { return failure(404, "Revision not found") };
    let files: Vec<Value> = repository.commits[&commit].keys().map(|path| json!({ "rfilename": path })).collect();
    let id = id.trim_start_matches("datasets/");
    axum::Json(json!({
        "id": id, "modelId": id, "sha": commit, "private": repository.private, "siblings": files, "tags": [], "downloads": 0,
        "likes": 0, "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z",
    }))
    .into_response()
}

fn list(
    repository: &Repository,
    id: &str,
    revision: &str,
    query: Option<&str>,
    address: &str,
    page: usize,
) -> Response {
    let Some(tree) = repository.tree(revision) else { return failure(404, "Revision not found") };
    let start: usize = query
        .and_then(|query| query.split('&').find_map(|part| part.strip_prefix("cursor=")))
        .map_or(0, |start| start.parse().unwrap());
    let entry = |(path, file): (&String, &File)| {
        let mut entry =
            json!({ "type": "file", "path": path, "size": file.content.len(), "oid": git_blob(&file.content) });
        if file.large {
            let oid = Digest::of(file.content.as_slice());
            entry["lfs"] = json!({ "oid": oid, "size": file.content.len(), "pointerSize": 134 });
        }
        entry
    };
    let entries: Vec<Value> = tree.iter().skip(start).take(page).map(entry).collect();
    let mut response = axum::Json(entries).into_response();
    if start + page < tree.len() {
        let kind = if id.starts_with("datasets/") { "" } else { "models/" };
        let next =
            format!("<{address}/api/{kind}{id}/tree/{revision}?recursive=true&cursor={}>; rel=\"next\"", start + page);
        response.headers_mut().insert(header::LINK, next.parse().unwrap());
    }
    response
}

fn commit(
    repository: &mut Repository,
    body: &Bytes,
    stored: &HashMap<String, Arc<Vec<u8>>>,
    address: &str,
    id: &str,
) -> Response {
    let mut tree = repository.head.as_ref().map(|head| repository.commits[head].clone()).unwrap_or_default();
    let mut summary = String::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return failure(400, "a line is no JSON") };
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        match line["key"].as_str() {
            Some("header") => {
                summary = value["summary"].as_str().unwrap_or_default().to_owned();
                let parent = value["parentCommit"].as_str();
                if parent.is_some_and(|parent| Some(parent) != repository.head.as_deref()) {
                    return failure(412, "A commit has happened since. Please refresh and try again.");
                }
            }
            Some("file") => {
                let Ok(content) = BASE64_STANDARD.decode(value["content"].as_str().unwrap_or_default()) else {
                    return failure(400, "a file is not base64");
                };
                tree.insert(path, File { content: Arc::new(content), large: false });
            }
            Some("lfsFile") => {
                let Some(content) = stored.get(value["oid"].as_str().unwrap_or_default()) else {
                    return failure(422, "LFS pointer pointed to a file that does not exist");
                };
                tree.insert(path, File { content: Arc::clone(content), large: true });
            }
            Some("deletedFile") => drop(tree.remove(&path)),
            _ => return failure(400, "an unknown operation"),
        }
    }
    let commit = add_commit(repository, tree, &summary);
    let url = format!("{address}/{id}/commit/{commit}");
    axum::Json(json!({ "success": true, "commitOid": commit, "commitUrl": url, "hookOutput": "" })).into_response()
}

fn batch(inner: &Inner, repository: &[&str], json: &Value) -> Response {
    let id = repository.join("/");
    if !inner.repositories.contains_key(id.trim_end_matches(".git")) {
        return failure(404, "Repository not found");
    }
    let object = |object: &Value| {
        let oid = object["oid"].as_str().unwrap_or_default();
        if inner.large.contains_key(oid) {
            return json!({ "oid": oid, "size": object["size"] });
        }
        let upload = json!({ "href": format!("{}/storage/{oid}", inner.address), "header": {} });
        let verify = json!({ "href": format!("{}/{id}/info/lfs/verify", inner.address), "header": {} });
        json!({ "oid": oid, "size": object["size"], "actions": { "upload": upload, "verify": verify } })
    };
    let objects: Vec<Value> = json["objects"].as_array().into_iter().flatten().map(object).collect();
    axum::Json(json!({ "transfer": "basic", "objects": objects })).into_response()
}

fn verify(inner: &Inner, json: &Value) -> Response {
    let found = inner.large.get(json["oid"].as_str().unwrap_or_default());
    match found.is_some_and(|content| json["size"] == content.len()) {
        true => axum::Json(json!({})).into_response(),
        false => failure(404, "the object is not there"),
    }
}

fn download(inner: &mut Inner, method: &Method, id: &str, revision: &str, path: &str, headers: &HeaderMap) -> Response {
    let Some(repository) = inner.repositories.get(id) else { return failure(404, "Repository not found") };
    let Some(commit) = repository.resolve(revision) else { return failure(404, "Revision not found") };
    let Some(file) = repository.commits[&commit].get(path) else {
        let mut missing = failure(404, "Entry not found");
        missing.headers_mut().insert("x-error-code", "EntryNotFound".parse().unwrap());
        return missing;
    };
    let content = Arc::clone(&file.content);
    let etag = if file.large { Digest::of(content.as_slice()).to_string() } else { git_blob(&content) };
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (status, from) = match range {
        Some(from) if from < content.len() => (StatusCode::PARTIAL_CONTENT, from),
        _ => (StatusCode::OK, 0),
    };
    let mut response = Response::builder()
        .status(status)
        .header("x-repo-commit", &commit)
        .header("accept-ranges", "bytes")
        .header(header::ETAG, format!("\"{etag}\""))
        .header(header::CONTENT_LENGTH, content.len() - from);
    if file.large {
        response = response.header("x-linked-size", content.len()).header("x-linked-etag", format!("\"{etag}\""));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        response = response.header(header::CONTENT_RANGE, range);
    }
    if method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    let rest = content[from..].to_vec();
    let body = match inner.cut.take_if(|cut| *cut < rest.len()) {
        // Then the connection ends although more was promised.
        Some(cut) => {
            let parts = [Ok(Bytes::from(rest[..cut].to_vec())), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures::stream::iter(parts))
        }
        None => Body::from(rest),
    };
    response.body(body).unwrap()
}
