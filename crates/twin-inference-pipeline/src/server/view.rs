//! What clients are shown of an answer: flat values, the same in events, in stored conversations and beside completions.

use jiff::civil::Date;
use serde::Serialize;
use twin_domain::{FeatureViewId, ModelVersionId, PromptVersion};
use utoipa::ToSchema;

use crate::cite::Piece;
use crate::retrieve::FoundPassage;
use crate::twins::{LABEL, Trace, Trimmed};

/// A passage with what a reader wants to know of its post.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PassageView<'a> {
    number: usize,
    title: &'a str,
    url: &'a str,
    #[schema(value_type = Option<String>)]
    date: Option<Date>,
    heading_path: &'a [String],
    text: &'a str,
    similarity: f32,
    /// Sentences that the model was not given, because they speak to a model.
    instructions: &'a [String],
}

impl<'a> PassageView<'a> {
    pub(super) fn all(passages: &'a [FoundPassage]) -> Vec<Self> {
        let view = |passage: &'a FoundPassage| Self {
            number: passage.number,
            title: &passage.document.title,
            url: &passage.document.url,
            date: passage.document.date,
            heading_path: &passage.heading_path,
            text: passage.text.trim(),
            similarity: passage.similarity,
            instructions: &passage.instructions,
        };
        passages.iter().map(view).collect()
    }
}

/// An answer beyond its text: that a twin wrote it, what each sentence rests on, and how it was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AnswerView<'a> {
    label: &'static str,
    release: Option<u32>,
    #[schema(value_type = Option<String>)]
    model: Option<&'a ModelVersionId>,
    base: &'a str,
    #[schema(value_type = String)]
    feature_view: &'a FeatureViewId,
    #[schema(value_type = String)]
    prompt: &'a PromptVersion,
    seed: u64,
    abstained: bool,
    finish_reason: &'a str,
    grounded_share: f64,
    #[schema(value_type = Vec<Object>)]
    sentences: &'a [Piece],
    passages: Vec<PassageView<'a>>,
    #[schema(value_type = Object)]
    trimmed: Trimmed,
    usage: Usage,
    timings: Timings,
}

#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    prompt_tokens: usize,
    cached_tokens: usize,
    new_tokens: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct Timings {
    retrieval_seconds: f64,
    queue_seconds: f64,
    first_token_seconds: f64,
    total_seconds: f64,
    tokens_per_second: f64,
}

impl<'a> AnswerView<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self {
            label: LABEL,
            release: trace.release,
            model: trace.model.as_ref(),
            base: &trace.base,
            feature_view: &trace.feature_view,
            prompt: &trace.prompt,
            seed: trace.sampling.seed,
            abstained: trace.abstained,
            finish_reason: &trace.finish_reason,
            grounded_share: trace.grounded_share(),
            sentences: &trace.pieces,
            passages: PassageView::all(&trace.passages),
            trimmed: trace.trimmed,
            usage: Usage {
                prompt_tokens: trace.prompt_tokens,
                cached_tokens: trace.cached_tokens,
                new_tokens: trace.new_tokens,
            },
            timings: Timings {
                retrieval_seconds: trace.retrieval.seconds(),
                queue_seconds: trace.queue_seconds,
                first_token_seconds: trace.first_token_seconds,
                total_seconds: trace.total_seconds,
                tokens_per_second: trace.tokens_per_second,
            },
        }
    }
}
