//! What can be typed after `twin registry`, `twin release`, `twin lineage` and `twin forget`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use twin_domain::{Arm, AuthorId, FeatureViewId, ModelVersionId};

use super::ImportArguments;

#[derive(Debug, Args)]
pub struct RegistryArguments {
    #[command(subcommand)]
    pub command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// List model versions
    List {
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// Show a version with its lineage, stage, tags and notes
    Show { model: ModelVersionId },
    /// Take an adapter that was trained elsewhere in PEFT's layout; it is measured and registered
    Import(ImportArguments),
    /// Compare two versions: what they were made of, how they measure, which files differ
    Diff { first: ModelVersionId, second: ModelVersionId },
    /// Give a version a name that no other one of the author has
    Tag {
        model: ModelVersionId,
        tag: String,
        /// Take the tag off instead
        #[arg(long)]
        remove: bool,
    },
    /// Write a note on a version
    Note { model: ModelVersionId, text: String },
    /// Put a version aside, to go with the next clean-up when nothing refers to it
    Archive {
        model: ModelVersionId,
        /// Make it a candidate again
        #[arg(long)]
        undo: bool,
    },
    /// Check every file against its digest
    Verify {
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// Push a version to the Hugging Face Hub, or to HF_ENDPOINT: a commit with the tag v<N>, and a model card
    Push(PushArguments),
    /// Fetch a version from the hub and register it
    Pull {
        /// As in ada/voice
        repository: String,
        /// A tag, as in v3, or a commit
        #[arg(long, value_name = "TAG")]
        revision: String,
    },
    /// List the tags of a repository on the hub
    Remote {
        /// As in ada/voice
        repository: String,
    },
    /// Remove the archived versions to which no release and no tag refers
    Gc {
        #[arg(long)]
        author: Option<AuthorId>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub struct PushArguments {
    pub model: ModelVersionId,
    /// As in ada/voice; it is made if it is not there
    pub repository: String,
    /// Let everybody see the repository, if it is made now
    #[arg(long)]
    pub public: bool,
    /// The hub's name of the licence, as in apache-2.0
    #[arg(long, default_value = "other")]
    pub license: String,
    /// Also push the training set, to this dataset repository
    #[arg(long, value_name = "REPOSITORY")]
    pub dataset: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReleaseArguments {
    #[command(subcommand)]
    pub command: ReleaseCommand,
}

#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Show what serves
    Status {
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// Make a release of a model version, a feature view and a prompt version; it does not serve yet
    Create {
        model: ModelVersionId,
        /// [default: the view that the model was made with]
        #[arg(long)]
        view: Option<FeatureViewId>,
    },
    /// Let a model version serve, if it passes the gate
    Promote(PromoteArguments),
    /// Show a report of the gate
    Gate {
        #[arg(long)]
        author: AuthorId,
        /// The beginning of its digest, as `twin release history` shows it
        report: String,
    },
    /// One step back: a split ends, or else the release that served before serves again
    Rollback {
        #[arg(long)]
        author: AuthorId,
        /// Why
        #[arg(long, default_value = "rolled back by hand")]
        reason: String,
    },
    /// Let other releases have a share of the new conversations, or answer unseen
    Split(SplitArguments),
    /// Show every change of what serves
    History {
        #[arg(long)]
        author: AuthorId,
    },
}

#[derive(Debug, Args)]
pub struct PromoteArguments {
    pub model: ModelVersionId,
    /// Promote this release of the model [default: the one of the model's own view and prompt]
    #[arg(long)]
    pub release: Option<u32>,
    /// Why
    #[arg(long, default_value = "promoted by hand")]
    pub reason: String,
    /// Promote it even if it does not pass the gate; the record says so
    #[arg(long)]
    pub force: bool,
    /// Thresholds of the gate [default: those of eval/gate.toml, which come with the program]
    #[arg(long, value_name = "FILE")]
    pub gate: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SplitArguments {
    #[arg(long)]
    pub author: AuthorId,
    /// A release and its share of the new conversations, as in 3=20%; may be repeated. The release that serves has the rest
    #[arg(value_name = "RELEASE=PERCENT", value_parser = arm)]
    pub arms: Vec<Arm>,
    /// A release that answers, too, unseen by readers
    #[arg(long, value_name = "RELEASE")]
    pub shadow: Option<u32>,
    /// End the split: the release that serves has all new conversations again
    #[arg(long, conflicts_with_all = ["arms", "shadow"], required_unless_present_any = ["arms", "shadow"])]
    pub off: bool,
    /// Why
    #[arg(long, default_value = "split by hand")]
    pub reason: String,
}

fn arm(text: &str) -> Result<Arm, String> {
    let parse = || {
        let (release, percent) = text.split_once('=')?;
        let percent = percent.strip_suffix('%').unwrap_or(percent);
        Some(Arm { release: release.parse().ok()?, percent: percent.parse().ok()? })
    };
    parse().ok_or_else(|| "write a release and its share in whole percent, as in 3=20%".to_owned())
}

#[derive(Debug, Args)]
pub struct LineageArguments {
    /// A post by its address or id, a training set (set-0123456789ab), a model version (ada@v3), or a conversation by its id
    pub subject: String,
    /// Whose, where the address is of posts of several authors
    #[arg(long)]
    pub author: Option<AuthorId>,
    /// As what it is written
    #[arg(long, value_enum, default_value_t = LineageForm::Text)]
    pub format: LineageForm,
    /// Write it to a file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The form of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineageForm {
    Text,
    Json,
    Svg,
}

#[derive(Debug, Args)]
pub struct ForgetArguments {
    /// The post by its address or id
    pub post: String,
    /// Whose, where the address is of posts of several authors
    #[arg(long)]
    pub author: Option<AuthorId>,
    /// Only say what would be removed and which models learnt from it
    #[arg(long)]
    pub dry_run: bool,
}
