//! The arguments of `twin train`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use twin_domain::{AuthorId, ModelVersionId, TrainingSetId};
use twin_training_pipeline::run::{AnsweredBy, Method, Preset};

#[derive(Debug, Args)]
pub struct TrainArguments {
    #[arg(long, required_unless_present = "resume")]
    pub author: Option<AuthorId>,
    /// Go on with a run that did not end: the one named, else the one that began last
    #[arg(
        long,
        value_name = "RUN",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["author", "method", "from", "preset", "steps", "rank", "learning_rate", "seed", "set", "preferences"]
    )]
    pub resume: Option<String>,
    /// How the adapter learns
    #[arg(long, value_enum, default_value_t = TrainMethod::Sft)]
    pub method: TrainMethod,
    /// How much is tried [default: by the size of the corpus]
    #[arg(long, value_enum)]
    pub preset: Option<TrainPreset>,
    /// The version to go on from [default: a fresh adapter; for dpo, the version that serves, else the newest one]
    #[arg(long, value_name = "MODEL")]
    pub from: Option<ModelVersionId>,
    /// The most optimiser steps
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Rank of the adapter
    #[arg(long)]
    pub rank: Option<usize>,
    /// Peak learning rate
    #[arg(long, value_parser = finite)]
    pub learning_rate: Option<f64>,
    /// Seed of everything random
    #[arg(long)]
    pub seed: Option<u64>,
    /// Any other setting of training, as in `batch_tokens=2048`; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Register the version but let the present release go on serving
    #[arg(long)]
    pub no_promote: bool,
    /// dpo: answers that you improved, as JSON lines with `prompt`, `chosen` and `rejected`; they come before pairs that are
    /// made of your posts
    #[arg(long, value_name = "FILE", help_heading = "Preferences")]
    pub preferences: Option<PathBuf>,
    /// dpo: how many pairs to train on [default: 64]
    #[arg(long, value_name = "N", help_heading = "Preferences")]
    pub pairs: Option<usize>,
    /// dpo: how far the model may go from where it starts; smaller allows more [default: 0.1]
    #[arg(long, help_heading = "Preferences")]
    pub beta: Option<f64>,
    /// dpo: whose answers your passages are preferred to
    #[arg(long, value_enum, default_value_t = AnswersOf::Start, help_heading = "Preferences")]
    pub answers_of: AnswersOf,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainPreset {
    Quick,
    Balanced,
    Thorough,
}

impl From<TrainPreset> for Preset {
    fn from(preset: TrainPreset) -> Self {
        match preset {
            TrainPreset::Quick => Self::Quick,
            TrainPreset::Balanced => Self::Balanced,
            TrainPreset::Thorough => Self::Thorough,
        }
    }
}

#[derive(Debug, Args)]
pub struct ExportModelArguments {
    /// A model version, as in `ada-lovelace@v3`; the base without an adapter when none is named
    pub model: Option<ModelVersionId>,
    /// An empty directory, or one to be made
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[arg(long, value_enum, default_value_t = ModelForm::Safetensors)]
    pub form: ModelForm,
}

/// The form of an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelForm {
    /// A Hugging Face folder in 16 bits
    Safetensors,
    /// A Hugging Face folder in 32 bits, for comparisons
    SafetensorsF32,
    /// GGUF in 16 bits
    GgufF16,
    /// GGUF in 8 bits
    GgufQ8,
    /// GGUF in 4 bits, embeddings in 8
    GgufQ4,
}

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The directory with adapter_config.json and adapter_model.safetensors
    pub adapter: PathBuf,
    /// The training set that it was trained on, which `twin dataset export` wrote; it is measured on the set's test posts
    #[arg(long)]
    pub set: TrainingSetId,
}

#[derive(Debug, Args)]
pub struct RunsArguments {
    #[command(subcommand)]
    pub command: RunsCommand,
}

#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs, those that began last first
    List,
    /// Show what a run was told and how it went
    Show {
        /// Its name or the beginning of it
        run: String,
    },
    /// Show in what runs differ
    Compare {
        #[arg(required = true, num_args = 2..)]
        runs: Vec<String>,
    },
}

/// How an adapter learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainMethod {
    /// On prompts with your passages as answers
    Sft,
    /// On your posts as they are, without prompts
    Pretrain,
    /// To prefer your passages to a model's answers
    Dpo,
}

impl From<TrainMethod> for Method {
    fn from(method: TrainMethod) -> Self {
        match method {
            TrainMethod::Sft => Self::Sft,
            TrainMethod::Pretrain => Self::Pretrain,
            TrainMethod::Dpo => Self::Dpo,
        }
    }
}

/// Whose answers the author's passages are preferred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswersOf {
    /// The version that training starts from
    Start,
    /// The base model
    Base,
}

impl From<AnswersOf> for AnsweredBy {
    fn from(answers: AnswersOf) -> Self {
        match answers {
            AnswersOf::Start => Self::Start,
            AnswersOf::Base => Self::Base,
        }
    }
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() { Ok(number) } else { Err("it must be a finite number".to_owned()) }
}
