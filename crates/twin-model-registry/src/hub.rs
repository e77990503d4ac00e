//! Model versions and training sets on the Hugging Face Hub, or on any server that speaks its API.
//!
//! A version is a commit with a tag `v<N>`: its files, the manifest by which they are checked, and a model card that the Hub and
//! PEFT understand, so that `PeftModel.from_pretrained(base, "owner/name")` works. Nothing of it counts before the tag is there,
//! and pushing again goes on where it stopped. A pull pins the commit, fetches into a folder beside the registry, from where a
//! part that is there ends, checks every file against the manifest, and only then registers the version.
//!
//! The documented HTTP API is spoken here directly. The crate hf-hub 1.0 uploads large files through Xet alone: for a server
//! that offers the plain LFS transfer (mirrors, private hubs) it puts them into the body of the commit as base64, and its
//! downloads are checked against nothing. With plain LFS the same code serves the Hub and the others.

use std::fmt;

pub use self::client::{HubClient, HubOptions};
pub use self::error::HubError;
pub use self::pull::Pulled;
pub use self::push::{PushOptions, Pushed};

mod card;
mod client;
mod error;
mod files;
mod pull;
mod push;
mod transfer;

/// A kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    Model,
    Dataset,
}

impl RepositoryKind {
    /// As in `"type": "model"`.
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// As in `/api/models/…`.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the name in addresses of files.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// A repository, as in `ada/voice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub kind: RepositoryKind,
    owner: String,
    name: String,
}

impl Repository {
    /// Checks a name of the form `owner/name`.
    ///
    /// # Errors
    /// [`HubError::Name`] when it has another form; what passes is safe in an address.
    pub fn parse(kind: RepositoryKind, text: &str) -> Result<Self, HubError> {
        let allowed = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            let edges = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (1..=96).contains(&part.len())
                && part.bytes().all(plain)
                && part.starts_with(edges)
                && part.ends_with(edges)
                && !part.contains("..")
                && !part.contains("--")
        };
        match text.split_once('/') {
            Some((owner, name)) if allowed(owner) && allowed(name) && !name.ends_with(".git") => {
                Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(HubError::Name { name: text.to_owned() }),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}
