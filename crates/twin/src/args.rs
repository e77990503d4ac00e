//! What can be typed. Pure clap: nothing here knows what a command does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use twin_domain::{AuthorId, FeatureViewId, ModelVersionId, TrainingSetId};

pub use self::bench::{
    BenchArguments, BenchCommand, BenchRetrievalArguments, BenchStyleArguments, CheatsArguments, ExtractionArguments,
    GenerateBenchArguments, GroundingArguments, JudgeArguments, TrainBenchArguments, VerificationArguments,
};
pub use self::registry::{
    ForgetArguments, LineageArguments, LineageForm, PromoteArguments, PushArguments, RegistryArguments,
    RegistryCommand, ReleaseArguments, ReleaseCommand, SplitArguments,
};
pub use self::train::{ExportModelArguments, ImportArguments, ModelForm, RunsArguments, RunsCommand, TrainArguments};

mod bench;
mod registry;
mod train;

/// A model that writes and answers in one author's voice, grounded in what that author published.
#[derive(Debug, Parser)]
#[command(name = "twin", version, about, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct GlobalArguments {
    /// The configuration file [default: ./twin.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything that belongs to you is kept [default: the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less: no progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a twin of a sample author and open it: collect, embed, train, evaluate, register, release, serve
    Quickstart(QuickstartArguments),
    /// Collect an author's posts from wherever they are published, and load their features
    Ingest(IngestArguments),
    /// Read every source again and take in what changed
    Sync(SyncArguments),
    /// List, pause and remove the places that posts come from
    Sources(SourcesArguments),
    /// Embed what other machines or processes take in, from a job queue
    Worker(WorkerArguments),
    /// Build, compare, switch, move and remove feature views
    Features(FeaturesArguments),
    /// Search an author's posts as the twin does
    Retrieve(RetrieveArguments),
    /// Make, show and export training sets
    Dataset(DatasetArguments),
    /// Fine-tune a voice: training set, LoRA, evaluation, registration
    Train(TrainArguments),
    /// Show and compare training runs
    Runs(RunsArguments),
    /// Show the evaluation of a model version
    Evaluate(EvaluateArguments),
    /// Measure the measures, and models by them
    Bench(BenchArguments),
    /// Measure how a text is written, and whether it reads like an author
    Style(StyleArguments),
    /// List, fetch and import models
    Models(ModelsArguments),
    /// List, compare, tag, archive and verify model versions
    Registry(RegistryArguments),
    /// Show, promote, split and roll back what serves
    Release(ReleaseArguments),
    /// From a post to whatever was made of it, and from an answer or a model to the posts behind it
    Lineage(LineageArguments),
    /// Remove a post from everything, and say which models learnt from it
    Forget(ForgetArguments),
    /// Serve the web page and the API
    Serve(ServeArguments),
    /// Serve search, answers and drafts as tools to a program that speaks the Model Context Protocol, on standard input and output
    Mcp,
    /// Talk to a twin in the terminal
    Chat(ChatArguments),
    /// Show what is in force and what can be reached
    Doctor,
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct QuickstartArguments {
    /// Which sample author
    #[arg(long, default_value = "maren-holt")]
    pub author: AuthorId,
    /// End after the release and print a summary
    #[arg(long)]
    pub no_serve: bool,
    /// The most optimiser steps
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// The address to serve on
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// The queue, as in sqlite:///srv/twin/queue.sqlite or postgres://twin@db/twin [default: features.queue]; a password
    /// belongs into the environment (TWIN__FEATURES__QUEUE)
    #[arg(long, value_name = "ADDRESS")]
    pub queue: Option<String>,
}

#[derive(Debug, Args)]
pub struct IngestArguments {
    /// A site, a feed, a page or a repository by its address; a folder, a repository, a file or an export by its path;
    /// somebody's posts on a service by name: devto:NAME, hashnode:NAME, github:NAME, bluesky:NAME, hackernews:NAME,
    /// mastodon:NAME@SERVER
    pub source: String,
    /// Whose posts these are, as in `ada-lovelace`
    #[arg(long)]
    pub author: AuthorId,
    /// The author's name as it is written [default: from the source, else the id]
    #[arg(long)]
    pub name: Option<String>,
    /// One sentence about the author
    #[arg(long)]
    pub description: Option<String>,
    /// The author's consent to a twin, in the words in which it was given
    #[arg(long)]
    pub consent: Option<String>,
    /// Take only the posts with this byline
    #[arg(long)]
    pub byline: Option<String>,
    /// Allow a private address, as in 127.0.0.1:8080; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub allow_net: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SyncArguments {
    /// Only this author's sources [default: everybody's]
    #[arg(long)]
    pub author: Option<AuthorId>,
    /// Allow a private address, as in 127.0.0.1:8080; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub allow_net: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SourcesArguments {
    #[command(subcommand)]
    pub command: SourcesCommand,
}

#[derive(Debug, Subcommand)]
pub enum SourcesCommand {
    /// List sources with their numbers
    List {
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// What there is of each author, by source, and what a twin of it will be weak on
    Report {
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// Let `twin sync` pass a source over
    Pause { source: i64 },
    /// Let `twin sync` take a source along again
    Resume { source: i64 },
    /// Remove a source with its documents
    Remove { source: i64 },
}

#[derive(Debug, Args)]
pub struct FeaturesArguments {
    #[command(subcommand)]
    pub command: FeaturesCommand,
}

#[derive(Debug, Subcommand)]
pub enum FeaturesCommand {
    /// Build the view that the settings describe from the documents that are known, beside the one that serves
    Build(BuildArguments),
    /// List the views
    List,
    /// Show how a view was made, what it has, and what refers to it
    Show {
        /// As in `features-0123456789ab` [default: the one that serves]
        view: Option<FeatureViewId>,
    },
    /// Compare two views: their chunks, and what they answer
    Diff(DiffArguments),
    /// Let a view serve
    Switch { view: FeatureViewId },
    /// Go back to the view that served before
    Rollback,
    /// Remove the views that no release, model version or rollback refers to
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy a view with its vectors from this machine to a Qdrant server
    Push(TransferArguments),
    /// Copy a view with its vectors from a Qdrant server to this machine
    Pull(TransferArguments),
}

#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Only this author's documents [default: everybody's]
    #[arg(long)]
    pub author: Option<AuthorId>,
    /// The most tokens of a chunk [default: as configured]
    #[arg(long, value_name = "N")]
    pub max_chunk_tokens: Option<usize>,
    /// The sparse model and its parameters [default: bm25 k1=1.2 b=0.75 forms=stem+word]
    #[arg(long, value_name = "MODEL")]
    pub sparse: Option<String>,
    /// Let it serve once it is whole
    #[arg(long)]
    pub switch: bool,
}

#[derive(Debug, Args)]
pub struct DiffArguments {
    pub first: FeatureViewId,
    pub second: FeatureViewId,
    /// Only this author [default: everybody]
    #[arg(long)]
    pub author: Option<AuthorId>,
    /// A text file with a question on each line [default: the titles of the documents]
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TransferArguments {
    /// [default: the one that serves where it comes from]
    pub view: Option<FeatureViewId>,
    /// The address of the server's gRPC port [default: `store.url` of the configuration]
    #[arg(long)]
    pub url: Option<String>,
}

#[derive(Debug, Args)]
pub struct RetrieveArguments {
    /// The question
    pub question: String,
    #[arg(long)]
    pub author: AuthorId,
    /// How many chunks
    #[arg(long, default_value_t = 5)]
    pub limit: usize,
    /// Also show what each stage did, with scores and times
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Args)]
pub struct DatasetArguments {
    #[command(subcommand)]
    pub command: DatasetCommand,
}

#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Make the training set of an author from the feature store
    Build {
        #[arg(long)]
        author: AuthorId,
    },
    /// List training sets, newest first
    List {
        /// Only this author's [default: everybody's]
        #[arg(long)]
        author: Option<AuthorId>,
    },
    /// Show what a set was made of
    Show { set: TrainingSetId },
    /// Show how many examples and words a set has, and how long its targets are
    Stats { set: TrainingSetId },
    /// Write a set as a dataset of the Hugging Face Hub: a card, and Parquet or JSON lines that TRL reads
    Export(ExportArguments),
    /// Send a set with its card to a dataset repository of the Hugging Face Hub
    Push(PushSetArguments),
}

#[derive(Debug, Args)]
pub struct PushSetArguments {
    /// As in `set-0123456789ab`
    pub set: TrainingSetId,
    /// As in ada/posts; it is made if it is not there
    pub repository: String,
    /// Let everybody see the repository, if it is made now
    #[arg(long)]
    pub public: bool,
    /// The form of the files
    #[arg(long, value_enum, default_value_t = ExportForm::Parquet)]
    pub format: ExportForm,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// As in `set-0123456789ab`
    pub set: TrainingSetId,
    /// An empty directory, or one to be made
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The form of the files
    #[arg(long, value_enum, default_value_t = ExportForm::Parquet)]
    pub format: ExportForm,
}

/// The form of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    Parquet,
    Jsonl,
}

#[derive(Debug, Args)]
pub struct EvaluateArguments {
    /// A model version, as in `ada-lovelace@v3`
    pub model: ModelVersionId,
}

#[derive(Debug, Args)]
pub struct StyleArguments {
    #[command(subcommand)]
    pub command: StyleCommand,
}

#[derive(Debug, Subcommand)]
pub enum StyleCommand {
    /// How an author writes, or a text, in figures to read; with both, where the text leaves the author's range
    Profile {
        /// A Markdown file
        file: Option<PathBuf>,
        #[arg(long, required_unless_present = "file")]
        author: Option<AuthorId>,
    },
    /// Whether a text reads like an author, and is more than copying
    Measure {
        /// Markdown files; 500 words or more in all
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[arg(long)]
        author: AuthorId,
        #[command(flatten)]
        others: OthersArguments,
    },
    /// Other people's statistics, for authors who have nobody to be compared with
    Population {
        #[command(subcommand)]
        command: PopulationCommand,
    },
}

#[derive(Debug, Args)]
pub struct OthersArguments {
    /// The statistics of other people [default: those that come with the program]
    #[arg(long, value_name = "FILE")]
    pub population: Option<PathBuf>,
    /// Use only these genres of the population; may be repeated
    #[arg(long, value_name = "GENRE")]
    pub genre: Vec<String>,
    /// Leave out who bears this name in the population, as it is the same author; may be repeated
    #[arg(long, value_name = "NAME")]
    pub without: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum PopulationCommand {
    /// Count other people's texts
    Build {
        /// What kind of texts, and where: a folder with a folder of Markdown files for each author, or JSON lines with
        /// `author`, `date` and `text`
        #[arg(required = true, value_name = "GENRE=PATH")]
        texts: Vec<String>,
        /// Two names of one author, the second of which is kept, as in "Jon Doe=Jonathan Doe"; may be repeated
        #[arg(long, value_name = "NAME=NAME")]
        same: Vec<String>,
        /// Who is left out; may be repeated
        #[arg(long, value_name = "NAME")]
        without: Vec<String>,
        #[arg(long)]
        name: String,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show who is in a population
    Show {
        /// [default: the one that comes with the program]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct ModelsArguments {
    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the catalogue and what of it is here
    List,
    /// Fetch a model, or all of them
    Pull { name: Option<String> },
    /// Take a file that was fetched by hand
    Import { name: String, file: PathBuf },
    /// Print the directory of a model
    Path { name: String },
    /// Write a model version as one model that needs no adapter: a Hugging Face folder, or GGUF with a Modelfile for Ollama
    Export(ExportModelArguments),
}

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,
}

#[derive(Debug, Args)]
pub struct ChatArguments {
    #[arg(long)]
    pub author: AuthorId,
    /// Ask this one question and end
    #[arg(long, short)]
    pub message: Option<String>,
    /// Write a post with this title instead of answering
    #[arg(long, value_name = "TITLE", conflicts_with = "message")]
    pub write: Option<String>,
    /// Seed of the sampling
    #[arg(long)]
    pub seed: Option<u64>,
}
