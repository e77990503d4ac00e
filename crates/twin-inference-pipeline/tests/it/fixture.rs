//! A house with two authors and no models: in-memory store and registry, scripted embedder and language model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::civil::date;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;
use twin_domain::model_registry::Candidate;
use twin_domain::release::{ChangeKind, Promotion};
use twin_domain::{
    Author, AuthorId, Change, Chunk, ChunkId, ChunkKind, Document, DocumentId, DocumentInfo, EmbeddedChunk,
    FeatureStore, FeatureView, FeatureViewId, Gate, ModelRegistry, ModelVersion, ModelVersionId, Occasion,
    PromptVersion, RegistryError, Release,
};
use twin_feature_store::InMemoryFeatureStore;
use twin_inference_pipeline::conversations::Conversations;
use twin_inference_pipeline::server::{ServerConfig, ServerState, router};
use twin_inference_pipeline::twins::{InferenceConfig, TwinParts, Twins};
use twin_models::embedding::{Embedder, ScriptedEmbedder};
use twin_models::language::ScriptedModel;
use twin_models::prompt::PromptSet;

/// A house and the door to it.
pub struct House {
    pub twins: Arc<Twins>,
    pub model: Arc<ScriptedModel>,
    pub registry: Arc<MemoryRegistry>,
    pub state: ServerState,
    pub app: Router,
    directory: TempDir,
}

/// What a request was answered with.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The server-sent events: name (`message` where none is given) and data.
    pub fn events(&self) -> Vec<(String, String)> {
        events(&self.text)
    }
}

pub fn events(text: &str) -> Vec<(String, String)> {
    let event = |block: &str| {
        let field = |name: &str| block.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).next();
        Some((field("event:").unwrap_or("message").to_owned(), field("data:")?.to_owned()))
    };
    text.split("\n\n").filter_map(event).collect()
}

impl House {
    /// A model that gives these answers in turn.
    pub async fn answering(answers: &[&str]) -> Self {
        Self::with(ScriptedModel::new(answers.iter().map(|answer| (*answer).to_owned()).collect())).await
    }

    pub async fn with(model: ScriptedModel) -> Self {
        Self::configured(model, InferenceConfig::default(), ServerConfig::default()).await
    }

    pub async fn configured(model: ScriptedModel, config: InferenceConfig, server: ServerConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Arc::new(MemoryRegistry::new(directory.path()));
        let door = Arc::clone(&registry) as Arc<dyn ModelRegistry>;
        Self::of(directory, model, config, server, registry, door).await
    }

    /// A house whose releases are in another registry than the one in memory.
    pub async fn registered(model: ScriptedModel, config: InferenceConfig, registry: Arc<dyn ModelRegistry>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unused = Arc::new(MemoryRegistry::new(directory.path()));
        Self::of(directory, model, config, ServerConfig::default(), unused, registry).await
    }

    async fn of(
        directory: TempDir,
        model: ScriptedModel,
        config: InferenceConfig,
        server: ServerConfig,
        registry: Arc<MemoryRegistry>,
        door: Arc<dyn ModelRegistry>,
    ) -> Self {
        let model = Arc::new(model);
        let parts = TwinParts {
            store: Arc::new(store()),
            registry: door,
            embedder: Arc::new(ScriptedEmbedder::default()),
            model: model.clone(),
            prompts: PromptSet::builtin().unwrap(),
            conversations: Conversations::open(&directory.path().join("conversations.sqlite")).await.unwrap(),
            config,
        };
        let twins = Arc::new(Twins::new(parts).unwrap());
        let state = ServerState::new(Arc::clone(&twins), server);
        Self { twins, model, registry, app: router(state.clone()), state, directory }
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("conversations.sqlite")
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    pub async fn send(&self, request: axum::http::request::Builder) -> Reply {
        self.request(local(request).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.request(post(path, body)).await
    }

    pub async fn request(&self, request: Request<Body>) -> Reply {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    /// Asks a question on the chat page's API and gives the `done` event.
    pub async fn ask(&self, author: &str, question: &str) -> Value {
        let body = serde_json::json!({ "author": author, "request": { "task": "ask", "question": question } });
        let reply = self.post("/api/chat", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let (name, data) = reply.events().pop().unwrap();
        assert_eq!(name, "done", "{data}");
        serde_json::from_str(&data).unwrap()
    }
}

/// A request as a client on this machine sends it.
pub fn post(path: &str, body: &Value) -> Request<Body> {
    let request = local(Request::post(path)).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

fn local(request: axum::http::request::Builder) -> axum::http::request::Builder {
    let named = request.headers_ref().is_some_and(|headers| headers.contains_key("host"));
    if named { request } else { request.header("host", "localhost") }
}

pub fn id(text: &str) -> AuthorId {
    AuthorId::parse(text).unwrap()
}

pub fn view() -> FeatureView {
    let embedder = ScriptedEmbedder::default();
    FeatureView {
        cleaner: "clean-1".to_owned(),
        chunker: "paragraphs".to_owned(),
        max_chunk_tokens: 220,
        embedder: embedder.name().to_owned(),
        embedder_digest: embedder.digest().clone(),
        dimension: embedder.dimension(),
        sparse: "bm25 k1=1.2 b=0.75".to_owned(),
    }
}

pub const MALLET: &str = "The mallet is live oak with slots cut through the head. That is what makes it ring.";
pub const PUTTY: &str = "For a batch of putty take 3 kg of whiting and 600 ml of raw oil. It costs £11.";
pub const HOSTILE: &str =
    "The <script>alert('sloop')</script> tag and <img src=x onerror=alert(1)> came from a chandler.";

/// Ada, who wrote three posts, and Ben, who wrote one.
fn store() -> InMemoryFeatureStore {
    let store = InMemoryFeatureStore::new();
    let mut ada = Author::new(id("ada"));
    ada.name = "Ada Quill".to_owned();
    ada.suggested_questions = vec!["What is the mallet made of?".to_owned()];
    store.put_author(&ada).unwrap();
    store.put_author(&Author::new(id("ben"))).unwrap();
    let view = store.create_view(&view()).unwrap();
    load(&store, "ada", "https://ada.example/mallet", "The mallet", &[MALLET]);
    load(&store, "ada", "https://ada.example/putty", "Putty", &[PUTTY]);
    load(&store, "ada", "javascript:alert(1)", "<b>Tags</b>", &[HOSTILE]);
    load(&store, "ben", "https://ben.example/secret", "A secret", &["Ben keeps the mallet under the third stair."]);
    store.switch(&view).unwrap();
    store
}

/// Loads a post of which each text is a chunk.
pub fn load(store: &dyn FeatureStore, author: &str, url: &str, title: &str, texts: &[&str]) {
    let author = id(author);
    let day = Some(date(2023, 4, 18));
    let document = Arc::new(DocumentInfo {
        id: DocumentId::new(&author, url),
        content_hash: Document::content_hash(title, day, &[], &texts.concat()),
        author,
        url: url.to_owned(),
        title: title.to_owned(),
        date: day,
        language: Some("en".to_owned()),
        tags: vec![],
    });
    let view = view().id();
    let chunk = |(ordinal, text): (usize, &&str)| EmbeddedChunk {
        chunk: Chunk {
            id: ChunkId::new(document.id, &document.content_hash, &view, ordinal as u32),
            document: document.id,
            ordinal: ordinal as u32,
            chunk_count: texts.len() as u32,
            kind: ChunkKind::Prose,
            heading_path: vec![],
            text: (*text).to_owned(),
            search_text: format!("{title} {text}").to_lowercase(),
            not_voice: vec![],
        },
        document: Arc::clone(&document),
        embedding: ScriptedEmbedder::default().embed_one(text).unwrap(),
    };
    let chunks: Vec<_> = texts.iter().enumerate().map(chunk).collect();
    store.upsert(&view, &chunks).unwrap();
}

/// A registry of empty adapters.
pub struct MemoryRegistry {
    directory: PathBuf,
    serving: Mutex<Vec<Release>>,
}

impl MemoryRegistry {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), serving: Mutex::default() }
    }

    /// Lets a model version serve.
    pub fn serve(&self, model: &str) {
        let model: ModelVersionId = model.parse().unwrap();
        let mut serving = self.serving.lock().unwrap();
        let number = serving.iter().filter(|release| release.author == model.author).count() as u32 + 1;
        serving.push(Release {
            author: model.author.clone(),
            number,
            model,
            feature_view: view().id(),
            prompt: PromptSet::builtin().unwrap().version().clone(),
            created_at: Timestamp::UNIX_EPOCH,
        });
    }

    fn missing<T>(what: impl ToString) -> Result<T, RegistryError> {
        Err(RegistryError::NotFound { what: what.to_string() })
    }
}

impl ModelRegistry for MemoryRegistry {
    fn register(&self, candidate: &Candidate, _: &Path) -> Result<ModelVersion, RegistryError> {
        Err(RegistryError::Invalid { what: candidate.author.to_string(), problem: "this registry is read-only".into() })
    }

    fn authors(&self) -> Result<Vec<AuthorId>, RegistryError> {
        Ok(self.serving.lock().unwrap().iter().map(|release| release.author.clone()).collect())
    }

    fn versions(&self, _: &AuthorId) -> Result<Vec<ModelVersion>, RegistryError> {
        Ok(vec![])
    }

    fn version(&self, id: &ModelVersionId) -> Result<ModelVersion, RegistryError> {
        Self::missing(id)
    }

    fn open(&self, id: &ModelVersionId) -> Result<PathBuf, RegistryError> {
        let known = self.serving.lock().unwrap().iter().any(|release| release.model == *id);
        if known { Ok(self.directory.clone()) } else { Self::missing(id) }
    }

    fn create_release(
        &self,
        model: &ModelVersionId,
        _: &FeatureViewId,
        _: &PromptVersion,
    ) -> Result<Release, RegistryError> {
        Self::missing(model)
    }

    fn releases(&self, author: &AuthorId) -> Result<Vec<Release>, RegistryError> {
        let serving = self.serving.lock().unwrap();
        Ok(serving.iter().filter(|release| release.author == *author).cloned().collect())
    }

    fn release(&self, author: &AuthorId, number: u32) -> Result<Release, RegistryError> {
        let found = self.releases(author)?.into_iter().find(|release| release.number == number);
        found.map_or_else(|| Self::missing(number), Ok)
    }

    fn change(&self, author: &AuthorId, _: &Change, _: &Occasion) -> Result<Promotion, RegistryError> {
        Self::missing(author)
    }

    fn serving(&self, author: &AuthorId) -> Result<Option<Release>, RegistryError> {
        Ok(self.releases(author)?.pop())
    }

    fn history(&self, author: &AuthorId) -> Result<Vec<Promotion>, RegistryError> {
        let promotion = |release: Release| Promotion {
            release: release.number,
            kind: ChangeKind::Promote,
            arms: vec![],
            shadow: None,
            gate: Gate::NotAsked,
            by: "a test".to_owned(),
            reason: String::new(),
            at: Timestamp::UNIX_EPOCH,
        };
        Ok(self.releases(author)?.into_iter().map(promotion).collect())
    }
}
