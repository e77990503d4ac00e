//! `/metrics`: a few counters in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::ServerState;
use crate::twins::{Answer, AnswerError};

/// What was counted since the server started. Seconds are counted in microseconds, so that they can be added atomically.
#[derive(Default)]
pub(super) struct Metrics {
    finished: AtomicU64,
    cancelled: AtomicU64,
    abstained: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    prompt_tokens: AtomicU64,
    new_tokens: AtomicU64,
    first_token: Duration,
    retrieval: Duration,
}

#[derive(Default)]
struct Duration {
    microseconds: AtomicU64,
    count: AtomicU64,
}

impl Duration {
    fn add(&self, seconds: f64) {
        add(&self.microseconds, (seconds * 1e6) as u64);
        add(&self.count, 1);
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Metrics {
    pub(super) fn rejected(&self) {
        add(&self.rejected, 1);
    }

    pub(super) fn answered(&self, answer: &Result<Answer, AnswerError>) {
        let Ok(Answer { trace, .. }) = answer else { return add(&self.failed, 1) };
        match trace.finish_reason.as_str() {
            "cancelled" => add(&self.cancelled, 1),
            _ if trace.abstained => add(&self.abstained, 1),
            _ => add(&self.finished, 1),
        }
        add(&self.prompt_tokens, trace.prompt_tokens as u64);
        add(&self.new_tokens, trace.new_tokens as u64);
        self.retrieval.add(trace.retrieval.embed_seconds + trace.retrieval.query_seconds);
        if trace.new_tokens > 0 {
            self.first_token.add(trace.first_token_seconds);
        }
    }
}

pub(super) async fn metrics(State(state): State<ServerState>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        render(&state.metrics, state.twins.generator.admitted()),
    )
}

fn render(metrics: &Metrics, running: usize) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, String)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (suffix, value) in samples {
            let _ = writeln!(text, "{name}{suffix} {value}");
        }
    };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let outcomes = [
        ("{outcome=\"finished\"}", count(&metrics.finished)),
        ("{outcome=\"abstained\"}", count(&metrics.abstained)),
        ("{outcome=\"cancelled\"}", count(&metrics.cancelled)),
        ("{outcome=\"failed\"}", count(&metrics.failed)),
        ("{outcome=\"rejected\"}", count(&metrics.rejected)),
    ];
    family("twin_answers_total", "counter", "Requests for an answer, by how they ended.", &outcomes);
    let tokens =
        [("{type=\"prompt\"}", count(&metrics.prompt_tokens)), ("{type=\"generated\"}", count(&metrics.new_tokens))];
    family("twin_tokens_total", "counter", "Tokens read and written by the language model.", &tokens);
    let admitted = [("", running.to_string())];
    family("twin_requests_running", "gauge", "Answers that are being written or wait for the model.", &admitted);
    let summary = |duration: &Duration| {
        let seconds = duration.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        [("_sum", seconds.to_string()), ("_count", count(&duration.count))]
    };
    let first_token = summary(&metrics.first_token);
    family("twin_time_to_first_token_seconds", "summary", "From the request to the first token.", &first_token);
    let retrieval = summary(&metrics.retrieval);
    family("twin_retrieval_duration_seconds", "summary", "Embedding the question and searching.", &retrieval);
    let build = [(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), "1".to_owned())];
    family("twin_build_info", "gauge", "The version of this program.", &build);
    text
}
