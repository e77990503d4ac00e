//! `twin features diff`.

use anyhow::Context;
use serde::Serialize;
use twin_domain::{AuthorId, FeatureViewId};
use twin_feature_pipeline::views::{
    ChunkDiff, Question, RetrievalDiff, compare_chunks, compare_retrieval, title_questions,
};

use crate::args::DiffArguments;
use crate::output;
use crate::wiring::Wiring;

/// The most titles that are asked for.
const TITLES: usize = 200;
/// How many addresses are shown; `--json` has all.
const SHOWN: usize = 10;

/// How two views differ for an author.
#[derive(Serialize)]
struct Diff {
    author: AuthorId,
    chunks: ChunkDiff,
    /// `None` when one of them was made by another embedder than the one that is configured.
    retrieval: Option<RetrievalDiff>,
}

pub async fn run(wiring: &Wiring, arguments: DiffArguments) -> anyhow::Result<()> {
    let (store, views) = (wiring.store().await?, [&arguments.first, &arguments.second]);
    let questions = arguments.questions.as_deref().map(questions).transpose()?;
    let authors = match arguments.author {
        Some(author) => vec![author],
        None => store.authors()?.into_iter().map(|author| author.id).collect(),
    };
    let mut diffs = Vec::new();
    for author in authors {
        let chunks = compare_chunks(&*store, &author, views[0], views[1])?;
        let retrieval = retrieval_diff(wiring, &author, views, questions.as_deref()).await?;
        diffs.push(Diff { author, chunks, retrieval });
    }
    output::result(wiring.json, &diffs, |diffs| diffs.iter().for_each(print))
}

/// Asks two views the same questions, or for posts by their titles. `None` when one of the views was made by another embedder
/// than the one that is configured.
pub async fn retrieval_diff(
    wiring: &Wiring,
    author: &AuthorId,
    views: [&FeatureViewId; 2],
    questions: Option<&[Question]>,
) -> anyhow::Result<Option<RetrievalDiff>> {
    if !same_embedder(wiring, views).await? {
        return Ok(None);
    }
    let (store, embedder) = (wiring.store().await?, wiring.embedder().await?);
    let titles = match questions {
        Some(_) => Vec::new(),
        None => title_questions(&*store, author, views, TITLES)?,
    };
    let questions = questions.unwrap_or(&titles);
    let compare = || compare_retrieval(&*store, embedder.as_ref(), author, views, questions);
    Ok(Some(tokio::task::block_in_place(compare)?))
}

async fn same_embedder(wiring: &Wiring, views: [&FeatureViewId; 2]) -> anyhow::Result<bool> {
    let (store, embedder) = (wiring.store().await?, wiring.embedder().await?);
    let all = store.views()?;
    let of = |id: &FeatureViewId| all.iter().find(|view| view.id() == *id).ok_or_else(|| super::not_found(id));
    Ok(of(views[0])?.embedder_digest == *embedder.digest() && of(views[1])?.embedder_digest == *embedder.digest())
}

/// One question a line; empty lines are none.
fn questions(file: &std::path::Path) -> anyhow::Result<Vec<Question>> {
    let text = fs_err::read_to_string(file).context("the questions could not be read")?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(|line| Question { text: line.to_owned(), answer: None }).collect())
}

fn print(diff: &Diff) {
    let ChunkDiff { same, moved, added, removed, documents_added, documents_removed, documents_changed } = &diff.chunks;
    output::line(format!("{}: {same} chunks the same, {moved} moved, {added} added, {removed} removed", diff.author));
    output::line(format!(
        "  documents: {documents_changed} changed, {} added, {} removed",
        documents_added.len(),
        documents_removed.len()
    ));
    for (sign, urls) in [("+", documents_added), ("-", documents_removed)] {
        urls.iter().take(SHOWN).for_each(|url| output::line(format!("  {sign} {url}")));
    }
    let Some(retrieval) = &diff.retrieval else {
        return output::line("  not asked: one of them was made by another embedder than the one that is configured");
    };
    output::line(format!(
        "  {} questions: {:.0}% of the first ten documents are the same, {:.0}% of the first ones",
        retrieval.questions,
        retrieval.overlap_at_10 * 100.0,
        retrieval.same_first * 100.0
    ));
    if retrieval.with_answer > 0 {
        let ([mrr_before, mrr_after], [first_before, first_after]) = (retrieval.mrr_at_10, retrieval.success_at_1);
        output::line(format!(
            "  {} with a known answer: MRR@10 {mrr_before:.3} -> {mrr_after:.3}, first {:.0}% -> {:.0}%",
            retrieval.with_answer,
            first_before * 100.0,
            first_after * 100.0
        ));
    }
}
