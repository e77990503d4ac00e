//! The server with a model that only recites, for working on the web pages without downloading anything.
//!
//!     cargo run --release -p twin-inference-pipeline --example chat_page -- [ADDRESS]
//!
//! It serves the sample authors of `data/`. Retrieval goes by common words, and answers are put together from the passages
//! of the prompt, with a sentence in between that nobody wrote.

#![expect(clippy::print_stdout, reason = "it tells where to point a browser")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use twin_domain::{Author, FeatureStore};
use twin_feature_store::InMemoryFeatureStore;
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::server::{ServerConfig, ServerState, listen, serve};
use twin_inference_pipeline::twins::{InferenceConfig, TwinParts, Twins};
use twin_models::embedding::ScriptedEmbedder;
use twin_models::language::{GenerateRequest, Input, ScriptedModel};
use twin_models::prompt::PromptSet;

#[path = "../tests/it/fixture.rs"]
#[expect(dead_code, reason = "a demonstration needs less than the tests")]
mod fixture;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let bind = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let directory = tempfile::tempdir()?;
    let store = InMemoryFeatureStore::new();
    let view = store.create_view(&fixture::view())?;
    store.switch(&view)?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    for folder in fs_err::read_dir(data)? {
        let folder = folder?.path();
        // The population of other authors is no author.
        if folder.join("author.toml").is_file() {
            load(&store, &folder)?;
        }
    }
    let registry = fixture::MemoryRegistry::new(directory.path());
    registry.serve("maren-holt@v2");
    let parts = TwinParts {
        store: Arc::new(store),
        registry: Arc::new(registry),
        embedder: Arc::new(ScriptedEmbedder::default()),
        model: Arc::new(ScriptedModel::answering(recite).with_delay(Duration::from_millis(35))),
        prompts: PromptSet::builtin()?,
        conversations: Conversations::open(&directory.path().join("conversations.sqlite")).await?,
        config: InferenceConfig::default(),
    };
    let config = ServerConfig::default();
    let listener = listen(&bind, &config).await?;
    println!("http://{}", listener.local_addr()?);
    let state = ServerState::new(Arc::new(Twins::new(parts)?), config);
    serve(listener, state, async { drop(tokio::signal::ctrl_c().await) }).await;
    Ok(())
}

/// An author's posts, cut at blank lines.
fn load(store: &InMemoryFeatureStore, folder: &Path) -> Result<(), Failure> {
    let author: Author = toml::from_str(&fs_err::read_to_string(folder.join("author.toml"))?)?;
    store.put_author(&author)?;
    for file in fs_err::read_dir(folder.join("posts"))? {
        let text = fs_err::read_to_string(file?.path())?;
        let (front_matter, body) = text.trim_start_matches("---\n").split_once("\n---\n").unwrap_or(("", &text));
        let field =
            |name: &str| front_matter.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let paragraphs = paragraphs(body);
        fixture::load(
            store,
            author.id.as_str(),
            field("canonical_url:"),
            field("title:").trim_matches('"'),
            &paragraphs,
        );
    }
    Ok(())
}

/// A text cut at blank lines, headings together with what follows them.
fn paragraphs(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let mut start = 0;
    let mut end = 0;
    for paragraph in text.split_inclusive("\n\n") {
        end += paragraph.len();
        if !paragraph.trim_start().starts_with('#') {
            found.push(&text[start..end]);
            start = end;
        }
    }
    found
}

/// Sentences of the first passages, with one that stands nowhere.
fn recite(request: &GenerateRequest) -> String {
    let Input::Messages(messages) = &request.input else { return String::new() };
    let prompt = messages.last().map(|message| message.content.as_str()).unwrap_or_default();
    let first: Vec<&str> = prompt.split("\n[").skip(1).filter_map(first_sentence).collect();
    let said = first.first().copied().unwrap_or("I would rather not say.");
    let listed: String = first.iter().skip(1).map(|sentence| format!("- {sentence}\n")).collect();
    format!(
        "{said} My uncle in Reykjavik always kept *seventeen* herons for it.\n\n{listed}\n<b>That</b> is all there is to it."
    )
}

/// Of the first line of a passage that is no heading.
fn first_sentence(passage: &str) -> Option<&str> {
    let line = passage.lines().skip(1).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    line.split_inclusive(". ").next().map(str::trim)
}
