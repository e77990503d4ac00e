//! Spans of answers with the names that OpenTelemetry has for generative models. They have figures and names, and no text of
//! readers or authors.

use tracing::Span;
use tracing::field::Empty;

use crate::twins::{Answer, AnswerError, AnswerRequest};

/// The span of one answer.
pub(super) fn answer(request: &AnswerRequest) -> Span {
    let sampling = request.sampling.as_ref();
    tracing::info_span!(
        "chat",
        otel.name = format!("chat {}", request.model),
        otel.kind = "server",
        otel.status_code = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "twin",
        gen_ai.request.model = request.model,
        gen_ai.request.temperature = sampling.map(|sampling| f64::from(sampling.temperature)),
        gen_ai.request.top_p = sampling.map(|sampling| f64::from(sampling.top_p)),
        gen_ai.request.max_tokens = sampling.map(|sampling| sampling.max_new_tokens as u64),
        gen_ai.request.seed = sampling.map(|sampling| sampling.seed),
        gen_ai.conversation.id = request.conversation,
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.server.time_to_first_token = Empty,
        "error.type" = Empty,
        twin.author = Empty,
        twin.release = Empty,
        twin.abstained = Empty,
    )
}

/// Says how it ended.
pub(super) fn answered(span: &Span, answer: &Result<Answer, AnswerError>) {
    let trace = match answer {
        Ok(answer) => &answer.trace,
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.kind());
            return;
        }
    };
    span.record("gen_ai.response.model", trace.model.as_ref().map_or(trace.base.clone(), ToString::to_string));
    span.record("gen_ai.response.finish_reasons", &trace.finish_reason);
    span.record("gen_ai.usage.input_tokens", trace.prompt_tokens as u64);
    span.record("gen_ai.usage.output_tokens", trace.new_tokens as u64);
    span.record("gen_ai.server.time_to_first_token", trace.first_token_seconds);
    span.record("twin.author", trace.author.as_str());
    span.record("twin.release", trace.release.map(u64::from));
    span.record("twin.abstained", trace.abstained);
}
