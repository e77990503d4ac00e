//! `/metrics`: counts and times in the text format of Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::ServerState;
use super::openai::ApiError;
use super::openapi::Problems;
use crate::twins::{Answer, AnswerError, Trace};

type Labels<const N: usize> = [(&'static str, String); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;

/// What was counted since the server started.
pub(super) struct Metrics {
    registry: Registry,
    answers: Counts<1>,
    tokens: Counts<3>,
    cached_tokens: Counter,
    guessed_tokens: Counts<1>,
    running: Gauge,
    first_token: Histogram,
    per_token: Histogram,
    waiting: Histogram,
    total: Histogram,
    batch: Histogram,
    retrieval: Family<Labels<1>, Histogram>,
    /// Answers, and how many milliseconds they took together.
    took: (AtomicU64, AtomicU64),
}

/// From a millisecond to half a minute and more.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Of so many answers at a time.
fn answers_at_once() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let retrieval: fn() -> Histogram = seconds;
        let mut metrics = Self {
            registry: Registry::default(),
            answers: Counts::default(),
            tokens: Counts::default(),
            cached_tokens: Counter::default(),
            guessed_tokens: Counts::default(),
            running: Gauge::default(),
            first_token: seconds(),
            per_token: seconds(),
            waiting: seconds(),
            total: seconds(),
            batch: answers_at_once(),
            retrieval: Family::new_with_constructor(retrieval),
            took: Default::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("twin_answers", "Requests for an answer, by how they ended", self.answers.clone());
        registry.register("twin_tokens", "Tokens read and written by the language model", self.tokens.clone());
        let known = "Tokens of prompts that were known from earlier requests";
        registry.register("twin_cached_prompt_tokens", known, self.cached_tokens.clone());
        let guessed = "Tokens guessed ahead by looking them up in the prompt, by whether they came true";
        registry.register("twin_guessed_tokens", guessed, self.guessed_tokens.clone());
        let running = "Answers that are being written or wait for the model";
        registry.register("twin_requests_running", running, self.running.clone());
        let at_once = "Answers that were being written or waited when one more was let in, itself included";
        registry.register("twin_requests_at_once", at_once, self.batch.clone());
        let first = "From the request to the first token";
        registry.register("twin_time_to_first_token_seconds", first, self.first_token.clone());
        let each = "From one token to the next, on the average of an answer";
        registry.register("twin_time_per_output_token_seconds", each, self.per_token.clone());
        registry.register("twin_queue_seconds", "From the prompt to its turn at the model", self.waiting.clone());
        registry.register("twin_answer_seconds", "From the request to the end of the answer", self.total.clone());
        let stages = "Embedding the question, searching, and reranking";
        registry.register("twin_retrieval_seconds", stages, self.retrieval.clone());
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("twin_build", "The version of this program", version);
    }

    fn ended(&self, outcome: &str) {
        self.answers.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    /// An answer was let in beside others.
    pub(super) fn admitted(&self, at_once: usize) {
        self.batch.observe(at_once as f64);
    }

    /// A request was turned away because too many wait.
    pub(super) fn rejected(&self) {
        self.ended("rejected");
    }

    /// A request was turned away because its key has asked for too much.
    pub(super) fn limited(&self) {
        self.ended("limited");
    }

    /// An answer is done, or there is none.
    pub(super) fn answered(&self, answer: &Result<Answer, AnswerError>) {
        let Ok(Answer { trace, .. }) = answer else {
            let late = matches!(answer, Err(AnswerError::Late { .. }));
            return self.ended(if late { "deadline" } else { "failed" });
        };
        self.ended(match trace.finish_reason.as_str() {
            "cancelled" => "cancelled",
            "deadline" => "deadline",
            _ if trace.abstained => "abstained",
            _ => "finished",
        });
        for (stage, seconds) in [
            ("embed", trace.retrieval.embed_seconds),
            ("query", trace.retrieval.query_seconds),
            ("rerank", trace.retrieval.rerank_seconds),
        ] {
            self.retrieval.get_or_create(&[("stage", stage.to_owned())]).observe(seconds);
        }
        self.total.observe(trace.total_seconds);
        self.took.0.fetch_add(1, Ordering::Relaxed);
        self.took.1.fetch_add((trace.total_seconds * 1e3) as u64, Ordering::Relaxed);
        self.written(trace);
    }

    fn written(&self, trace: &Trace) {
        if trace.new_tokens == 0 {
            return;
        }
        self.first_token.observe(trace.first_token_seconds);
        self.waiting.observe(trace.queue_seconds);
        if trace.tokens_per_second > 0.0 {
            self.per_token.observe(1.0 / trace.tokens_per_second);
        }
        let release = trace.release.map_or_else(|| "none".to_owned(), |release| release.to_string());
        for (kind, tokens) in [("prompt", trace.prompt_tokens), ("generated", trace.new_tokens)] {
            let labels =
                [("author", trace.author.to_string()), ("release", release.clone()), ("type", kind.to_owned())];
            self.tokens.get_or_create(&labels).inc_by(tokens as u64);
        }
        self.cached_tokens.inc_by(trace.cached_tokens as u64);
        let wrong = trace.guessed_tokens.saturating_sub(trace.right_guesses);
        for (guess, tokens) in [("right", trace.right_guesses), ("wrong", wrong)] {
            self.guessed_tokens.get_or_create(&[("guess", guess.to_owned())]).inc_by(tokens as u64);
        }
    }

    /// How many seconds an answer took on average, rounded up; a guess before there was one. At most a minute.
    pub(super) fn usual_seconds(&self) -> u64 {
        let (answers, milliseconds) = (self.took.0.load(Ordering::Relaxed), self.took.1.load(Ordering::Relaxed));
        milliseconds.checked_div(answers).map_or(2, |usual| usual.div_ceil(1_000).clamp(1, 60))
    }
}

/// Counts and times for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "Operation",
    responses((status = 200, description = "OpenMetrics", content_type = "application/openmetrics-text", body = String), Problems)
)]
pub(super) async fn metrics(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let metrics = &state.metrics;
    metrics.running.set(i64::try_from(state.twins.generator.admitted()).unwrap_or(i64::MAX));
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
