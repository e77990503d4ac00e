//! The arguments of `twin train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use twin_domain::{AuthorId, ModelVersionId};
use twin_training_pipeline::run::{AnsweredBy, Method};

#[derive(Debug, Args)]
pub struct TrainArguments {
    #[arg(long)]
    pub author: AuthorId,
    /// How the adapter learns
    #[arg(long, value_enum, default_value_t = TrainMethod::Sft)]
    pub method: TrainMethod,
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
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Seed of everything random
    #[arg(long)]
    pub seed: Option<u64>,
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
