//! Uploads of large files by the LFS batch API (git-lfs, `docs/api/batch.md`), and downloads that go on where they stopped.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use reqwest::{Body, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use twin_domain::Digest;

use super::client::{HubClient, RemoteFile, escaped};
use super::files::{Content, LocalFile};
use super::{HubError, Repository};
use crate::durable;

const LFS: &str = "application/vnd.git-lfs+json";
/// How often a transfer begins anew.
const ATTEMPTS: u32 = 5;

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Actions,
    error: Option<ObjectError>,
}

#[derive(Deserialize, Default)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    message: String,
}

impl HubClient {
    /// Uploads the large files that the hub does not have yet.
    pub(super) async fn upload(&self, repository: &Repository, files: &[&LocalFile]) -> Result<(), HubError> {
        if files.is_empty() {
            return Ok(());
        }
        let operation = format!("upload to {repository}");
        let prefix = repository.kind.prefix();
        let url = format!("{}/{prefix}{repository}.git/info/lfs/objects/batch", self.options.endpoint);
        let objects = files.iter().map(|file| json!({ "oid": file.sha256, "size": file.size }));
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
            "objects": objects.collect::<Vec<_>>(),
        });
        let request = || {
            let request = self.request(Method::POST, &url).body(body.to_string());
            request.header(header::ACCEPT, LFS).header(header::CONTENT_TYPE, LFS)
        };
        let answer = self.send(&operation, repository, request).await?;
        let Batch { objects } = self.json(&operation, answer).await?;
        for object in objects {
            let Some(file) = files.iter().find(|file| file.sha256.as_str() == object.oid) else { continue };
            self.upload_object(&operation, repository, file, object).await?;
            self.taken("push.uploaded");
        }
        Ok(())
    }

    async fn upload_object(
        &self,
        operation: &str,
        repository: &Repository,
        file: &LocalFile,
        object: Object,
    ) -> Result<(), HubError> {
        if let Some(ObjectError { code, message }) = object.error {
            let operation = operation.to_owned();
            return Err(match code {
                507 | 413 => HubError::Quota { operation, message },
                status => HubError::Refused { operation, status, message },
            });
        }
        // Without an action the hub has the file.
        let Some(upload) = object.actions.upload else { return Ok(()) };
        match upload.header.get("chunk_size").and_then(number) {
            Some(size) => self.put_parts(operation, repository, file, &upload, size).await?,
            None => drop(self.put(operation, repository, file, &upload.href, 0..file.size, &upload.header).await?),
        }
        let Some(verify) = object.actions.verify else { return Ok(()) };
        let body = json!({ "oid": file.sha256, "size": file.size }).to_string();
        let request = || {
            // The token belongs to the hub, not to its storage.
            let own = verify.href.starts_with(&self.options.endpoint);
            let request = if own { self.request(Method::POST, &verify.href) } else { self.http.post(&verify.href) };
            let request =
                text_headers(&verify.header).fold(request, |request, (name, value)| request.header(name, value));
            request.header(header::ACCEPT, LFS).header(header::CONTENT_TYPE, LFS).body(body.clone())
        };
        self.send(operation, repository, request).await.map(drop)
    }

    /// In parts, as the hub asks for large files: the numbered headers are the parts' addresses.
    async fn put_parts(
        &self,
        operation: &str,
        repository: &Repository,
        file: &LocalFile,
        upload: &Action,
        size: u64,
    ) -> Result<(), HubError> {
        let malformed =
            |problem: &str| HubError::Malformed { operation: operation.to_owned(), problem: problem.to_owned() };
        let mut parts: Vec<(u64, &str)> =
            upload.header.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str()?))).collect();
        parts.sort_unstable();
        if size == 0 || parts.len() as u64 != file.size.div_ceil(size) {
            return Err(malformed("the parts of an upload do not make up the file"));
        }
        let mut done = Vec::new();
        for (index, (part, address)) in parts.into_iter().enumerate() {
            let from = index as u64 * size;
            let range = from..file.size.min(from + size);
            let answer = self.put(operation, repository, file, address, range, &BTreeMap::new()).await?;
            let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or_else(|| malformed("a part of an upload was taken without an ETag"))?;
            done.push(json!({ "partNumber": part, "etag": etag }));
        }
        let body = json!({ "oid": file.sha256, "parts": done }).to_string();
        let own = upload.href.starts_with(&self.options.endpoint);
        let request = || {
            let request = if own { self.request(Method::POST, &upload.href) } else { self.http.post(&upload.href) };
            request.header(header::ACCEPT, LFS).header(header::CONTENT_TYPE, LFS).body(body.clone())
        };
        self.send(operation, repository, request).await.map(drop)
    }

    /// Sends a range of a file to a storage address, which carries its own permission.
    async fn put(
        &self,
        operation: &str,
        repository: &Repository,
        file: &LocalFile,
        address: &str,
        range: std::ops::Range<u64>,
        headers: &BTreeMap<String, Value>,
    ) -> Result<reqwest::Response, HubError> {
        let length = range.end - range.start;
        let mut pause = std::time::Duration::from_millis(250);
        for attempt in 1.. {
            let body = match &file.content {
                Content::Bytes(bytes) => Body::from(bytes[range.start as usize..range.end as usize].to_vec()),
                Content::File(path) => {
                    let mut opened = tokio::fs::File::open(path).await?;
                    opened.seek(SeekFrom::Start(range.start)).await?;
                    Body::wrap_stream(tokio_util::io::ReaderStream::new(opened.take(length)))
                }
            };
            let request = self.http.put(address).header(header::CONTENT_LENGTH, length).body(body);
            let request = text_headers(headers).fold(request, |request, (name, value)| request.header(name, value));
            let answer = self.once(request).await;
            let passing = match &answer {
                Ok(answer) => answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
                Err(error) => matches!(error, HubError::Unreachable { .. }),
            };
            if !passing || attempt >= ATTEMPTS {
                return self.checked(operation, repository, answer?, attempt).await;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(HubError::Offline)
    }

    /// Fetches a file of a commit to `target`, going on where an earlier attempt ended. Its digest is checked by the caller.
    pub(super) async fn download(
        &self,
        repository: &Repository,
        commit: &str,
        file: &RemoteFile,
        target: &Path,
    ) -> Result<(), HubError> {
        let mut pause = std::time::Duration::from_millis(250);
        for attempt in 1.. {
            match self.download_once(repository, commit, file, target).await {
                Ok(()) => return Ok(()),
                Err(HubError::Unreachable { .. } | HubError::Failing { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn download_once(
        &self,
        repository: &Repository,
        commit: &str,
        file: &RemoteFile,
        target: &Path,
    ) -> Result<(), HubError> {
        let mut there = tokio::fs::metadata(target).await.map_or(0, |metadata| metadata.len());
        if there == file.size && there > 0 {
            return Ok(());
        }
        if there > file.size {
            tokio::fs::remove_file(target).await?;
            there = 0;
        }
        let operation = format!("fetch `{}` of {repository}", file.path);
        let (prefix, revision) = (repository.kind.prefix(), escaped(commit));
        let url = format!("{}/{prefix}{repository}/resolve/{revision}/{}", self.options.endpoint, file.path);
        let mut request = self.request(Method::GET, &url);
        if there > 0 {
            request = request.header(header::RANGE, format!("bytes={there}-"));
        }
        let answer = self.checked(&operation, repository, self.once(request).await?, 1).await?;
        let goes_on = answer.status() == StatusCode::PARTIAL_CONTENT;
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).write(true).append(goes_on).truncate(!goes_on);
        let mut written = if goes_on { there } else { 0 };
        let mut target = options.open(target).await?;
        let mut body = answer.bytes_stream().map_err(|error| self.unreachable(error));
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            written += bytes.len() as u64;
            if written > file.size {
                let problem = format!("it is longer than the {} bytes it should have", file.size);
                let (repository, file) = (repository.to_string(), file.path.clone());
                return Err(HubError::WrongContent { repository, file, problem });
            }
            target.write_all(&bytes).await?;
            self.taken("pull.received");
        }
        target.sync_all().await?;
        if written == file.size {
            return Ok(());
        }
        let problem = format!("the connection ended after {written} of {} bytes", file.size);
        Err(HubError::Unreachable { endpoint: self.options.endpoint.clone(), problem })
    }
}

/// Whether a fetched file has this digest; one that has not is removed, as going on with it would never make it right.
pub(super) fn check(repository: &Repository, name: &str, file: &Path, expected: &Digest) -> Result<(), HubError> {
    let found = durable::digest(file)?;
    if found == *expected {
        return Ok(());
    }
    fs_err::remove_file(file)?;
    let problem = format!("its digest is {found} instead of {expected}");
    Err(HubError::WrongContent { repository: repository.to_string(), file: name.to_owned(), problem })
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn text_headers(headers: &BTreeMap<String, Value>) -> impl Iterator<Item = (&String, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name, value.as_str()?)))
}
