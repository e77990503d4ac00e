//! Logs, and traces for OpenTelemetry where a collector is configured.
//!
//! Spans carry the names that OpenTelemetry has for generative models (`gen_ai.*`) and no text of readers or authors.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// What is logged unless `TWIN_LOG` says otherwise. The embedded engine warns of switches that only its server sets, the HTML
/// writer of every element that was made without a namespace; what the hub's client cannot do is in the errors it returns.
const LOGGED: &str = "warn,qdrant_edge=error,html5ever=error,hf_hub=off";

/// What is traced: this program's own spans.
const TRACED: &str = "off,twin_inference_pipeline=info";

/// How long a collector may take for one batch, and how long the last one may take when the program ends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends what is left when it is dropped.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown_with_timeout(EXPORT_TIMEOUT)) {
            crate::output::remark(format!("the last traces could not be sent: {error}"));
        }
    }
}

/// Starts logging to standard error and, with the address of a collector (OTLP over HTTP), tracing to it.
pub fn start(collector: Option<&str>, runtime: &Handle) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_from_env("TWIN_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    let provider = collector.map(|url| provider(url, runtime)).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("twin"));
        layer.with_location(false).with_threads(false).with_filter(EnvFilter::new(TRACED))
    });
    tracing_subscriber::registry().with(logs).with(traces).init();
    Ok(Telemetry { provider })
}

fn provider(url: &str, runtime: &Handle) -> anyhow::Result<SdkTracerProvider> {
    let http = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Http { http, runtime: runtime.clone() })
        .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
        .build()
        .with_context(|| format!("`telemetry.otlp` is not the address of a collector: `{url}`"))?;
    let resource = Resource::builder().with_service_name("twin").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The exporter has a thread of its own, on which no runtime runs: requests are made on the program's.
#[derive(Debug)]
struct Http {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let response = http.execute(request.try_into()?).await?.error_for_status()?;
            let status = response.status();
            Ok::<_, HttpError>(Response::builder().status(status).body(response.bytes().await?)?)
        });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_a_collector_under_their_names() {
        let collector = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/v1/traces"))
            .and(header("content-type", "application/x-protobuf"))
            .respond_with(ResponseTemplate::new(200))
            .expect(1)
            .mount(&collector)
            .await;
        let provider = provider(&collector.uri(), &Handle::current()).unwrap();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("twin"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("chat", otel.name = "chat ada", gen_ai.usage.input_tokens = 7);
            drop(span);
        });
        tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
        let sent = collector.received_requests().await.unwrap().remove(0).body;
        let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("chat ada") && has("gen_ai.usage.input_tokens") && has("service.name"));
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_name() {
        let error = provider("not an address", &Handle::current()).unwrap_err();
        assert!(error.to_string().contains("telemetry.otlp"), "{error}");
    }
}
