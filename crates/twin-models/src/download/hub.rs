//! Files from the Hugging Face Hub.
//!
//! `hf-hub` finds the file and streams it. Its own cache is not used: it checks neither size nor digest and joins names
//! from the server to local paths. Here the bytes go to a part file whose name is ours, and count for nothing until the
//! digest is right. A part file from an earlier run is continued.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use hf_hub::{HFClient, HFError, split_id};

use super::DownloadConfig;
use crate::cache::{HashingFile, Incoming, ModelError, Step};
use crate::catalogue::{HubFile, ModelFile};

/// How long a hub that does not answer may hold things up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long nothing may come before the connection counts as lost.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Broken connections and answers of 5xx are tried again so often, each time from where the last one ended.
const ATTEMPTS: u32 = 3;

/// Why the hub did not give a file.
pub(super) enum Failure {
    /// No connection came about, so asking for another file would be no use.
    Unreachable(String),
    Other(Incoming),
}

impl From<Incoming> for Failure {
    fn from(failure: Incoming) -> Self {
        Self::Other(failure)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Other(Incoming::Fatal(error))
    }
}

pub(super) struct Hub {
    client: HFClient,
    endpoint: String,
}

impl Hub {
    pub(super) fn new(config: &DownloadConfig) -> Result<Self, Incoming> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("llm-twin/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL_TIMEOUT)
            // Ranges count bytes of the file, not of a compressed form of it.
            .no_gzip()
            .build()
            .map_err(Incoming::source)?;
        let mut builder = HFClient::builder()
            .client(http)
            .endpoint(&config.hub_endpoint)
            .cache_enabled(false)
            // Attempts are counted here, where it is known how far the file has come.
            .retry_max_attempts(0);
        if let Some(token) = &config.hub_token {
            builder = builder.token(token.reveal());
        }
        Ok(Self { client: builder.build().map_err(Incoming::source)?, endpoint: config.hub_endpoint.clone() })
    }

    /// Fetches `wanted` to `part`, which is `file` and durable when this returns.
    pub(super) fn fetch(
        &self,
        file: &ModelFile,
        wanted: &HubFile,
        part: &Path,
        step: &Step<'_>,
    ) -> Result<(), Failure> {
        // A thread of its own, because a runtime must not be started inside another one and callers may be in one.
        std::thread::scope(|scope| {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(Incoming::source)?.block_on(self.fetch_async(file, wanted, part, step))
            };
            let thread = std::thread::Builder::new().name("hub".into()).spawn_scoped(scope, work);
            let thread = thread.map_err(Incoming::source)?;
            thread.join().unwrap_or_else(|_| Err(Incoming::source("the download failed inside (a panic)").into()))
        })
    }

    async fn fetch_async(
        &self,
        file: &ModelFile,
        wanted: &HubFile,
        part: &Path,
        step: &Step<'_>,
    ) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let before = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
            let failure = match self.attempt(file, wanted, part, step).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            match failure {
                Stopped::Give(failure) => return Err(failure),
                Stopped::Unreachable(reason) if before == 0 && attempt == 1 => {
                    return Err(Failure::Unreachable(reason));
                }
                // The part is not the beginning of the file. Without it, there is one more chance.
                Stopped::WrongContent(failure) => {
                    let _ = std::fs::remove_file(part);
                    if before == 0 || attempt >= ATTEMPTS {
                        return Err(failure.into());
                    }
                }
                Stopped::Unreachable(reason) if attempt >= ATTEMPTS => return Err(Failure::Unreachable(reason)),
                Stopped::Broken(failure) if attempt >= ATTEMPTS => return Err(failure.into()),
                Stopped::Unreachable(_) | Stopped::Broken(_) => {}
            }
            let pause = Duration::from_millis(250 << attempt);
            if unless_cancelled(tokio::time::sleep(pause), step).await.is_none() {
                return Err(step.cancelled().into());
            }
            attempt += 1;
        }
    }

    /// One request, from where the part file ends.
    async fn attempt(&self, file: &ModelFile, wanted: &HubFile, part: &Path, step: &Step<'_>) -> Result<(), Stopped> {
        let failed = |source| ModelError::io("write", part, file.size_bytes, source);
        let target = File::options().create(true).read(true).append(true).open(part).map_err(failed)?;
        let mut target = HashingFile::resume(target).map_err(failed)?;
        step.tell(target.written(), Some(file.size_bytes), &self.endpoint);
        if target.written() < file.size_bytes {
            self.stream_into(&mut target, file, wanted, part, step).await?;
        }
        if target.written() < file.size_bytes {
            let failure = target.finish(file, part).err();
            return Err(failure.map_or_else(|| Stopped::Broken(Incoming::source("it ended early")), Stopped::Broken));
        }
        target.finish(file, part).map_err(Stopped::from_content)
    }

    async fn stream_into(
        &self,
        target: &mut HashingFile,
        file: &ModelFile,
        wanted: &HubFile,
        part: &Path,
        step: &Step<'_>,
    ) -> Result<(), Stopped> {
        let (owner, name) = split_id(wanted.repository);
        let repository = self.client.model(owner, name);
        let range = (target.written() > 0).then(|| target.written()..file.size_bytes);
        let request =
            repository.download_file_stream().filename(wanted.path).revision(wanted.revision).maybe_range(range).send();
        let cancelled = || Stopped::Give(step.cancelled().into());
        let (_, mut stream) = unless_cancelled(request, step).await.ok_or_else(cancelled)??;
        loop {
            let next = tokio::time::timeout(STALL_TIMEOUT, unless_cancelled(stream.next(), step));
            match next.await {
                Err(_) => return Err(Stopped::Broken(Incoming::source("nothing came for 30 seconds"))),
                Ok(None) => return Err(cancelled()),
                Ok(Some(None)) => return Ok(()),
                Ok(Some(Some(bytes))) => target.push(&bytes?, file, part).map_err(Stopped::from_content)?,
            }
            step.tell(target.written(), Some(file.size_bytes), &self.endpoint);
        }
    }
}

/// Why one attempt ended.
enum Stopped {
    /// Another attempt would be no use.
    Give(Failure),
    Unreachable(String),
    Broken(Incoming),
    WrongContent(Incoming),
}

impl Stopped {
    fn from_content(failure: Incoming) -> Self {
        match failure {
            Incoming::Fatal(_) => Self::Give(failure.into()),
            Incoming::Source(_) => Self::WrongContent(failure),
        }
    }
}

impl From<ModelError> for Stopped {
    fn from(error: ModelError) -> Self {
        Self::Give(error.into())
    }
}

impl From<HFError> for Stopped {
    fn from(error: HFError) -> Self {
        match error {
            // Without its address, which hf-hub's own message has twice.
            HFError::Request { source, .. } if source.is_connect() => {
                Self::Unreachable(format!("the hub cannot be reached: {}", Incoming::source(source.without_url())))
            }
            HFError::Request { .. } | HFError::RateLimited { .. } => Self::Broken(Incoming::source(error)),
            HFError::Http { ref context } if context.status.is_server_error() => Self::Broken(Incoming::source(error)),
            _ => Self::Give(Incoming::source(error).into()),
        }
    }
}

/// What `work` gives, or nothing when somebody asks to stop first.
async fn unless_cancelled<T>(work: impl Future<Output = T>, step: &Step<'_>) -> Option<T> {
    let cancelled = async {
        while !step.cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        result = work => Some(result),
        () = cancelled => None,
    }
}
