//! What can go wrong with a hub, in words that say what to do.

use std::io;

use twin_domain::RegistryError;

/// Why something could not be pushed or pulled. No message has a token in it.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("`{name}` is not a repository: write its owner and its name, as in ada/voice")]
    Name { name: String },
    #[error("the hub is not asked while offline mode is on (HF_HUB_OFFLINE, or models.offline)")]
    Offline,
    #[error(
        "the hub {endpoint} cannot be reached: {problem}; look whether this machine is connected and HF_ENDPOINT names the right hub, then run the same command again"
    )]
    Unreachable { endpoint: String, problem: String },
    #[error(
        "the hub does not know who asks to {operation}: {message}; set HF_TOKEN to a token that may write, or put it into the hub's token file"
    )]
    Unauthorized { operation: String, message: String },
    #[error("the hub does not let this token {operation}: {message}")]
    Forbidden { operation: String, message: String },
    #[error("the hub has no room left to {operation}: {message}; free some, or push to another account")]
    Quota { operation: String, message: String },
    #[error("the hub has no `{what}`, or this token may not see it")]
    NotFound { what: String },
    #[error("somebody else changed {repository} again and again while this was pushed: run the same command again")]
    Busy { repository: String },
    #[error(
        "{repository} has a tag `{tag}` already, and it is another version: push to another repository, or have its owner remove the tag"
    )]
    TagTaken { repository: String, tag: String },
    #[error("the hub refused to {operation} ({status}): {message}")]
    Refused { operation: String, status: u16, message: String },
    #[error(
        "the hub could not {operation} ({status}), {attempts} times: {message}; run the same command later, and it goes on where it stopped"
    )]
    Failing { operation: String, status: u16, attempts: u32, message: String },
    #[error("the hub's answer to {operation} cannot be understood: {problem}")]
    Malformed { operation: String, problem: String },
    #[error("{repository} at `{revision}` is not a version of a twin: {problem}")]
    NotAVersion { repository: String, revision: String, problem: String },
    #[error("`{file}` of {repository} is not what its manifest says: {problem}; nothing of it was registered")]
    WrongContent { repository: String, file: String, problem: String },
    #[error("a file could not be read or written")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
