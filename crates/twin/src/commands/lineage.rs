//! `twin lineage`: from a post to every chunk, training set, model, release and answer that used it, and from any of these
//! back to the posts behind it.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use twin_domain::{AuthorId, ModelRegistry, ModelVersionId, Split, TrainingSetId, TrainingSetStore};
use twin_feature_pipeline::KnownDocument;
use twin_inference_pipeline::conversations::Conversations;

use self::graph::{Graph, Kind};
use crate::args::{LineageArguments, LineageForm};
use crate::output;
use crate::wiring::Wiring;

pub mod graph;
mod svg;

pub async fn run(wiring: &Wiring, arguments: LineageArguments) -> anyhow::Result<bool> {
    let subject = subject(wiring, &arguments.subject, arguments.author.as_ref()).await?;
    let graph = trace(wiring, &subject).await?;
    let form = if wiring.json { LineageForm::Json } else { arguments.format };
    let text = match form {
        LineageForm::Text => graph.to_text(),
        LineageForm::Json => serde_json::to_string_pretty(&graph)?,
        LineageForm::Svg => svg::draw(&graph),
    };
    match arguments.out {
        None => output::line(text.trim_end()),
        Some(path) => {
            std::fs::write(&path, text).with_context(|| format!("could not write `{}`", path.display()))?;
            output::line(format!("the lineage of {} is in {}", arguments.subject, path.display()));
        }
    }
    Ok(true)
}

/// What a lineage is of.
pub enum Subject {
    Post(KnownDocument),
    Set(AuthorId, TrainingSetId),
    Model(ModelVersionId),
    Conversation(AuthorId, String),
}

impl Subject {
    fn author(&self) -> &AuthorId {
        match self {
            Self::Post(post) => &post.author,
            Self::Set(author, _) | Self::Conversation(author, _) => author,
            Self::Model(model) => &model.author,
        }
    }

    /// The nodes that it is in a graph.
    fn nodes(&self, graph: &Graph) -> BTreeSet<String> {
        match self {
            Self::Post(post) => BTreeSet::from([post.id.to_string()]),
            Self::Set(_, set) => BTreeSet::from([set.to_string()]),
            Self::Model(model) => BTreeSet::from([model.to_string()]),
            Self::Conversation(_, id) => graph.named(Kind::Answer, &format!("{id}#")),
        }
    }
}

async fn subject(wiring: &Wiring, text: &str, author: Option<&AuthorId>) -> anyhow::Result<Subject> {
    if let Ok(model) = text.parse() {
        wiring.registry()?.version(&model)?;
        return Ok(Subject::Model(model));
    }
    if let Ok(set) = text.parse() {
        let manifest = wiring.store().await?.training_set(&set)?;
        return Ok(Subject::Set(manifest.author, set));
    }
    let conversations = Conversations::open(&wiring.config.conversations()).await?;
    if let Ok(conversation) = conversations.get(text).await {
        return Ok(Subject::Conversation(conversation.summary.author, conversation.summary.id));
    }
    Ok(Subject::Post(post(wiring, text, author).await?))
}

/// The one post of this address or id.
pub async fn post(wiring: &Wiring, text: &str, author: Option<&AuthorId>) -> anyhow::Result<KnownDocument> {
    let mut found = wiring.warehouse().await?.find_documents(text).await?;
    found.retain(|document| author.is_none_or(|author| document.author == *author));
    match found.len() {
        0 => bail!(
            "`{text}` is neither the address nor the id of a post, nor a training set, a model version or a conversation: \
             `twin retrieve` and `twin dataset show` print addresses"
        ),
        1 => Ok(found.remove(0)),
        _ => {
            let authors: Vec<&str> = found.iter().map(|document| document.author.as_str()).collect();
            bail!("`{text}` is a post of {}: say whose with --author", authors.join(" and of "))
        }
    }
}

/// All that a subject came from and all that came of it.
pub async fn trace(wiring: &Wiring, subject: &Subject) -> anyhow::Result<Graph> {
    let mut graph = Graph::default();
    let author = subject.author();
    let store = wiring.store().await?;
    if let Subject::Post(post) = subject {
        graph.node(post.id, Kind::Post, &post.url, &post.title);
        for view in store.views()? {
            for (chunk, _) in store.chunks(&view.id(), post.id)? {
                let detail = format!("{}, part {} of {}", view.id(), chunk.ordinal + 1, chunk.chunk_count);
                graph.node(chunk.id, Kind::Chunk, &chunk.id.to_string(), &detail);
                graph.edge(post.id, chunk.id, "cut into");
            }
        }
    }
    sets(&*store, author, &mut graph)?;
    models(wiring, author, &mut graph)?;
    answers(wiring, author, &mut graph).await?;
    let nodes = subject.nodes(&graph);
    Ok(graph.around(&nodes))
}

fn sets(store: &dyn TrainingSetStore, author: &AuthorId, graph: &mut Graph) -> anyhow::Result<()> {
    for set in store.training_sets(author)? {
        let detail = format!("{} documents, {}, prompt {}", set.documents.len(), set.feature_view, set.prompt);
        graph.node(&set.id, Kind::TrainingSet, set.id.as_str(), &detail);
        for document in &set.documents {
            graph.node(document.id, Kind::Post, &document.url, "");
            graph.edge(document.id, &set.id, purpose(document.split));
        }
    }
    Ok(())
}

/// What a document of a set is for, in words.
fn purpose(split: Split) -> &'static str {
    match split {
        Split::Train => "trains",
        Split::Calibration => "calibrates",
        Split::Test => "tests",
    }
}

fn models(wiring: &Wiring, author: &AuthorId, graph: &mut Graph) -> anyhow::Result<()> {
    let registry = wiring.registry()?;
    let (stages, said) = (registry.stages(author)?, registry.annotations(author)?);
    for summary in registry.list(author)?.versions {
        let id = ModelVersionId { author: author.clone(), number: summary.number };
        let stage = stages.get(&summary.number).copied().unwrap_or_default();
        let retrain = said.get(&summary.number).is_some_and(|said| !said.retrain.is_empty());
        let mark = if retrain { ", must be trained again" } else { "" };
        graph.node(&id, Kind::Model, &id.to_string(), &format!("{stage}{mark}, base {}", summary.base));
        if graph.has(summary.training_set.as_str()) {
            graph.edge(&summary.training_set, &id, "trained on");
        }
    }
    for release in registry.releases(author)? {
        let id = release_node(author, release.number);
        graph.node(
            &id,
            Kind::Release,
            &id,
            &format!("{} with {}, {}", release.model, release.feature_view, release.prompt),
        );
        if graph.has(&release.model.to_string()) {
            graph.edge(&release.model, &id, "released as");
        }
    }
    Ok(())
}

fn release_node(author: &AuthorId, number: u32) -> String {
    format!("release {number} of {author}")
}

async fn answers(wiring: &Wiring, author: &AuthorId, graph: &mut Graph) -> anyhow::Result<()> {
    let conversations = Conversations::open(&wiring.config.conversations()).await?;
    for answer in conversations.answers(author).await? {
        let id = format!("{}#{}", answer.conversation, answer.number);
        let beginning: String = answer.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
        graph.node(&id, Kind::Answer, &id, &format!("{}: {beginning}", answer.created_at));
        for passage in &answer.trace.passages {
            let post = passage.document.id;
            graph.node(post, Kind::Post, &passage.document.url, &passage.document.title);
            for chunk in &passage.chunks {
                graph.node(chunk, Kind::Chunk, &chunk.to_string(), answer.trace.feature_view.as_str());
                graph.edge(post, chunk, "cut into");
                graph.edge(chunk, &id, &format!("passage {}", passage.number));
            }
        }
        let release = answer.trace.release.map(|number| release_node(author, number)).filter(|node| graph.has(node));
        match (release, &answer.trace.model) {
            (Some(release), _) => graph.edge(release, &id, "answered"),
            (None, Some(model)) if graph.has(&model.to_string()) => graph.edge(model, &id, "answered"),
            _ => {}
        }
    }
    Ok(())
}

/// The models that learnt from a post: those trained on a set in which it trains or calibrates.
pub fn learnt_from(graph: &Graph, post: &str) -> Vec<ModelVersionId> {
    let learns = |set: &str| graph.labels(post, set).any(|label| label == "trains" || label == "calibrates");
    let sets = graph.after(post).filter(|set| learns(set));
    let models: BTreeSet<ModelVersionId> =
        sets.flat_map(|set| graph.after(set)).filter_map(|model| model.parse().ok()).collect();
    models.into_iter().collect()
}
