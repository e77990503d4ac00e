//! `twin forget`: a post leaves everything that keeps its text, and the models that learnt from it are marked.

use std::sync::Arc;

use serde::Serialize;
use twin_domain::{Annotation, FeatureStore, ModelVersionId, TrainingSetId};
use twin_feature_pipeline::KnownDocument;
use twin_inference_pipeline::conversations::Conversations;

use super::lineage::graph::Kind;
use super::lineage::{self, Subject};
use crate::args::ForgetArguments;
use crate::output;
use crate::wiring::Wiring;

/// What was done, or would be.
#[derive(Serialize)]
struct Forgotten {
    post: KnownDocument,
    chunks: usize,
    /// Their examples are removed, as some quote it.
    training_sets: Vec<TrainingSetId>,
    /// They learnt from it and are to be trained again.
    models: Vec<ModelVersionId>,
    /// Answers with passages of it.
    answers: usize,
}

pub async fn run(wiring: &Wiring, arguments: ForgetArguments) -> anyhow::Result<bool> {
    let post = lineage::post(wiring, &arguments.post, arguments.author.as_ref()).await?;
    let graph = lineage::trace(wiring, &Subject::Post(post.clone())).await?;
    let of_kind = |kind| graph.nodes.iter().filter(move |(_, node)| node.kind == kind).map(|(id, _)| id);
    let id = post.id.to_string();
    let forgotten = Forgotten {
        chunks: of_kind(Kind::Chunk).count(),
        training_sets: of_kind(Kind::TrainingSet).filter_map(|set| set.parse().ok()).collect(),
        models: lineage::learnt_from(&graph, &id),
        answers: of_kind(Kind::Answer)
            .filter(|answer| graph.edges.iter().any(|(_, to, label)| to == *answer && label.starts_with("passage")))
            .count(),
        post,
    };
    if !arguments.dry_run {
        forget(wiring, &forgotten).await?;
    }
    let dry_run = arguments.dry_run;
    output::result(wiring.json, &forgotten, |forgotten| print(forgotten, dry_run))?;
    Ok(true)
}

/// The models are marked first: a kill between must not leave a model that nobody knows to have learnt from a post that is
/// gone. All of it may be repeated.
async fn forget(wiring: &Wiring, forgotten: &Forgotten) -> anyhow::Result<()> {
    let registry = wiring.registry()?;
    for model in &forgotten.models {
        let text = format!("it learnt from {}, which is to be forgotten", forgotten.post.url);
        registry.annotate(model, &Annotation::Retrain { text }, wiring.operator())?;
    }
    let store = wiring.store().await?;
    for set in &forgotten.training_sets {
        store.remove_examples(set)?;
    }
    let conversations = Conversations::open(&wiring.config.conversations()).await?;
    conversations.forget(forgotten.post.id).await?;
    let features: Arc<dyn FeatureStore> = store;
    twin_feature_pipeline::forget(wiring.warehouse().await?, features, &forgotten.post).await?;
    Ok(())
}

fn print(forgotten: &Forgotten, dry_run: bool) {
    let Forgotten { post, chunks, training_sets, models, answers } = forgotten;
    let verb = if dry_run { "would be forgotten" } else { "is forgotten" };
    output::line(format!("{} of {} {verb}: {chunks} chunks, {answers} answers quote it", post.url, post.author));
    for set in training_sets {
        output::line(format!("  {set}: its examples {}", if dry_run { "would be removed" } else { "are removed" }));
    }
    for model in models {
        output::line(format!("  {model} learnt from it: train again, promote the new one, then archive this one"));
    }
    if models.is_empty() {
        output::line("  no model learnt from it");
    } else {
        output::line(format!(
            "  `twin train --author {}` makes one without it; reports of the old ones may quote it until `twin registry gc` removes them",
            post.author
        ));
    }
}
