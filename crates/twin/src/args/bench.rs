//! What can be typed after `twin bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use twin_domain::ModelVersionId;

#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Every way of writing, by a model version and by its base, on the same requests
    Style(BenchStyleArguments),
    /// Whether the right passage is found, stage by stage, on collections with judgements
    Retrieval(BenchRetrievalArguments),
    /// Whether answers say what the passages say that they cite, and nothing where there are none
    Grounding(GroundingArguments),
    /// How well the style ruler tells real authors apart
    Verification(VerificationArguments),
    /// How well and how fast main texts are found in pages, beside trafilatura
    Extraction(ExtractionArguments),
    /// How fast prompts are read and answers written, beside llama.cpp and beside what the machine can do
    Generate(GenerateBenchArguments),
    /// How fast an adapter is trained, beside what the machine can multiply; for PEFT beside it, eval/training
    Train(TrainBenchArguments),
    /// Every known trick on every measure, and what stops it; prints a Markdown table
    Cheats(CheatsArguments),
}

#[derive(Debug, Args)]
pub struct GenerateBenchArguments {
    /// Runs llama.cpp on the same file afterwards and compares, as in "node eval/generate/peer.mjs"
    #[arg(long, value_name = "COMMAND")]
    pub peer_command: Option<String>,
    /// Compares with what such a command printed earlier
    #[arg(long, value_name = "FILE", conflicts_with = "peer_command")]
    pub peer: Option<PathBuf>,
    /// Burn one core all the while, as a busy neighbour does
    #[arg(long)]
    pub busy: bool,
}

#[derive(Debug, Args)]
pub struct TrainBenchArguments {
    /// The length of a sequence
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(2..))]
    pub tokens: u16,
    /// Rank of the adapter, on all seven projections
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// How many steps are timed
    #[arg(long, default_value_t = 6)]
    pub steps: usize,
    /// Also train on the sample posts, and write there what `eval/training/peer.py` needs to do the same with PEFT
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Instead, load the adapter that `peer.py` trained there and compare its logits
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub check: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BenchStyleArguments {
    /// A model version, as in `ada-lovelace@v7`
    pub model: ModelVersionId,
    /// Another version of the same author; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub compare: Vec<ModelVersionId>,
    /// What is written and how much of it
    #[arg(long, default_value = "eval/style.toml", value_name = "FILE")]
    pub suite: PathBuf,
    /// How many texts each way of writing writes [default: what the suite says]
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// Where the report and its figures go [default: `bench` in the data directory]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub judge: JudgeArguments,
}

#[derive(Debug, Args)]
pub struct JudgeArguments {
    /// Also ask a model which text the author wrote: the address of an OpenAI-compatible server, as in
    /// http://127.0.0.1:8000/v1. The texts are sent there; a key comes from TWIN__JUDGE__API_KEY
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub judge: Option<String>,
    /// The name that the server knows the judge by
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_model: Option<String>,
    /// On how many requests it judges; every two texts are shown in both orders
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub judge_prompts: usize,
}

#[derive(Debug, Args)]
pub struct GroundingArguments {
    /// An author, for what serves, or a model version, as in `ada-lovelace@v7`
    pub model: String,
    /// JSON lines with `question` and the `url` of the post that has the answer; without one, nothing has it
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Only the first so many questions
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
pub struct ExtractionArguments {
    /// Where the gold sets are
    #[arg(long, default_value = "../shared/data/dev", value_name = "DIR")]
    pub data: PathBuf,
    /// A Python that has trafilatura; without one only our own figures are printed
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    pub python: String,
    /// What runs the peer
    #[arg(long, default_value = "eval/extraction/peer.py", value_name = "FILE")]
    pub peer: PathBuf,
}

#[derive(Debug, Args)]
pub struct BenchRetrievalArguments {
    /// Also let the language model expand the questions, which takes a second each
    #[arg(long)]
    pub expand_by_model: bool,
    /// Which collections, and what must hold
    #[arg(long, default_value = "eval/retrieval.toml", value_name = "FILE")]
    pub suite: PathBuf,
    /// Where the collections are [default: what the suite says]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Also draw the stages
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheatsArguments {
    /// JSON lines with `author` and `text`: what is known
    #[arg(long, default_value = "../shared/data/dev/style-verification-tech/known.jsonl", value_name = "FILE")]
    pub known: PathBuf,
    /// JSON lines with `author` and `text`: newer pieces of about 500 words
    #[arg(long, default_value = "../shared/data/dev/style-verification-tech/questioned.jsonl", value_name = "FILE")]
    pub questioned: PathBuf,
    /// Whom to imitate
    #[arg(long, default_value = "matklad")]
    pub author: String,
}

#[derive(Debug, Args)]
pub struct VerificationArguments {
    /// Which sets of texts, and what must hold
    #[arg(long, default_value = "eval/verification.toml", value_name = "FILE")]
    pub suite: PathBuf,
    /// Where the texts are [default: what the suite says]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Also keep the writer of each text out of the others it is compared with, as a machine's author is not among them
    #[arg(long)]
    pub open: bool,
}
