//! Feature views from above: what refers to them, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use twin_domain::{
    AuthorId, ChunkId, Digest, DocumentId, FeatureStore, FeatureView, FeatureViewId, Filter, Fusion, HybridQuery,
    ModelRegistry, RegistryError, Searches, StoreError,
};
use twin_models::embedding::{EmbedError, Embedder};

/// Why views could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("the feature store could not be read")]
    Store(#[from] StoreError),
    #[error("the model registry could not be read")]
    Registry(#[from] RegistryError),
    #[error("a question could not be embedded")]
    Embed(#[from] EmbedError),
}

/// Why each view is needed, in words. A view that is not in the map can be removed.
///
/// # Errors
/// When the store or the registry cannot be read: then nothing is known to be free.
pub fn references(
    store: &dyn FeatureStore,
    registry: &dyn ModelRegistry,
) -> Result<BTreeMap<FeatureViewId, Vec<String>>, ViewError> {
    let mut reasons: BTreeMap<FeatureViewId, Vec<String>> = BTreeMap::new();
    let mut add = |view: FeatureViewId, reason: String| reasons.entry(view).or_default().push(reason);
    if let Some(serving) = store.serving_view()? {
        add(serving, "it serves".to_owned());
    }
    if let Some(before) = served_before(store)? {
        add(before, "a rollback goes to it".to_owned());
    }
    for author in registry.authors()? {
        for version in registry.versions(&author)? {
            add(version.feature_view, format!("model version {}", version.id));
        }
        for release in registry.releases(&author)? {
            add(release.feature_view, format!("release {} of {author}", release.number));
        }
    }
    Ok(reasons)
}

/// The view that a rollback goes to: the one that served last before the present one and is still there.
///
/// # Errors
/// When the store cannot be read.
pub fn served_before(store: &dyn FeatureStore) -> Result<Option<FeatureViewId>, ViewError> {
    let there: BTreeSet<FeatureViewId> = store.views()?.iter().map(FeatureView::id).collect();
    let serving = store.serving_view()?;
    let earlier = store.switches()?.into_iter().rev().map(|switch| switch.view);
    Ok(earlier.filter(|view| there.contains(view)).find(|view| Some(view) != serving.as_ref()))
}

/// How the chunks of an author differ between two views.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChunkDiff {
    /// Chunks that are in both, in the same place.
    pub same: usize,
    /// Chunks whose text is in both, at another position or under other headings.
    pub moved: usize,
    /// Chunks that only the second view has.
    pub added: usize,
    /// Chunks that only the first view has.
    pub removed: usize,
    /// Addresses of documents that only the second view has.
    pub documents_added: Vec<String>,
    /// Addresses of documents that only the first view has.
    pub documents_removed: Vec<String>,
    /// Documents that are in both and cut differently, or changed.
    pub documents_changed: usize,
}

/// Compares the chunks of an author in two views.
///
/// # Errors
/// When a view is not there or cannot be read.
pub fn compare_chunks(
    store: &dyn FeatureStore,
    author: &AuthorId,
    first: &FeatureViewId,
    second: &FeatureViewId,
) -> Result<ChunkDiff, ViewError> {
    let (mut before, after) = (outline(store, author, first)?, outline(store, author, second)?);
    let mut diff = ChunkDiff::default();
    for (id, new) in after {
        let Some(old) = before.remove(&id) else {
            diff.added += new.chunks.values().map(Vec::len).sum::<usize>();
            diff.documents_added.push(new.url);
            continue;
        };
        let counted = (diff.moved, diff.added, diff.removed);
        compare_document(old, new, &mut diff);
        diff.documents_changed += usize::from(counted != (diff.moved, diff.added, diff.removed));
    }
    for old in before.into_values() {
        diff.removed += old.chunks.values().map(Vec::len).sum::<usize>();
        diff.documents_removed.push(old.url);
    }
    diff.documents_added.sort();
    diff.documents_removed.sort();
    Ok(diff)
}

/// The chunks of a document: where each text stands, by its digest.
struct Outline {
    url: String,
    chunks: HashMap<Digest, Vec<Place>>,
}

/// A position and the headings above it.
type Place = (u32, Vec<String>);

fn outline(
    store: &dyn FeatureStore,
    author: &AuthorId,
    view: &FeatureViewId,
) -> Result<BTreeMap<DocumentId, Outline>, ViewError> {
    const PAGE: usize = 512;
    let mut documents: BTreeMap<DocumentId, Outline> = BTreeMap::new();
    let mut after: Option<ChunkId> = None;
    loop {
        let page = store.page(view, Some(author), after, PAGE)?;
        let last = page.last().map(|last| last.chunk.id).filter(|_| page.len() == PAGE);
        for embedded in page {
            let empty = || Outline { url: embedded.document.url.clone(), chunks: HashMap::new() };
            let outline = documents.entry(embedded.chunk.document).or_insert_with(empty);
            let place = (embedded.chunk.ordinal, embedded.chunk.heading_path);
            outline.chunks.entry(Digest::of(&embedded.chunk.text)).or_default().push(place);
        }
        if last.is_none() {
            return Ok(documents);
        }
        after = last;
    }
}

fn compare_document(mut old: Outline, new: Outline, diff: &mut ChunkDiff) {
    for (text, places) in new.chunks {
        let mut others = old.chunks.remove(&text).unwrap_or_default();
        let mut elsewhere = 0;
        for place in places {
            match others.iter().position(|other| *other == place) {
                Some(index) => {
                    others.swap_remove(index);
                    diff.same += 1;
                }
                None => elsewhere += 1,
            }
        }
        // What stands elsewhere was moved as long as there is a place it can have come from.
        let moved = elsewhere.min(others.len());
        diff.moved += moved;
        diff.added += elsewhere - moved;
        diff.removed += others.len() - moved;
    }
    diff.removed += old.chunks.values().map(Vec::len).sum::<usize>();
}

/// A question and, where it is known, the document that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    pub answer: Option<DocumentId>,
}

/// How two views answer the same questions. Documents are ranked by their best chunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RetrievalDiff {
    pub questions: usize,
    /// The mean share of the first ten documents that both views give.
    pub overlap_at_10: f64,
    /// The share of questions for which both have the same document first.
    pub same_first: f64,
    /// Questions whose document is known and in both views; the figures that follow are of these.
    pub with_answer: usize,
    /// The mean reciprocal rank of the known document among the first ten, in the first view and in the second.
    pub mrr_at_10: [f64; 2],
    /// The share of questions with the known document first, in the first view and in the second.
    pub success_at_1: [f64; 2],
    /// The reciprocal rank of each of them among the first ten, 0 where it is not there, in the first view and in the second.
    pub reciprocal_ranks: Vec<[f64; 2]>,
}

/// Asks two views the same questions. Both must be of the embedder that is given.
///
/// # Errors
/// When a view cannot be searched or a question not embedded.
pub fn compare_retrieval(
    store: &dyn FeatureStore,
    embedder: &dyn Embedder,
    author: &AuthorId,
    views: [&FeatureViewId; 2],
    questions: &[Question],
) -> Result<RetrievalDiff, ViewError> {
    let mut sum = RetrievalDiff { questions: questions.len(), ..RetrievalDiff::default() };
    for Question { text, answer } in questions {
        let embedding = embedder.embed_one(text)?;
        let query = HybridQuery {
            author: author.clone(),
            text: text.clone(),
            embedding,
            filter: Filter::default(),
            searches: Searches::Both,
            fusion: Fusion::default(),
            candidates: 50,
            limit: 50,
        };
        let ranked = [documents(store, views[0], &query)?, documents(store, views[1], &query)?];
        let shared = ranked[0].iter().filter(|document| ranked[1].contains(document)).count();
        let most = ranked[0].len().max(ranked[1].len());
        sum.overlap_at_10 += if most == 0 { 1.0 } else { shared as f64 / most as f64 };
        sum.same_first += f64::from(u8::from(ranked[0].first() == ranked[1].first()));
        let Some(answer) = answer else { continue };
        sum.with_answer += 1;
        let ranks = ranked.map(|ranked| ranked.iter().position(|document| document == answer));
        sum.reciprocal_ranks.push(ranks.map(|rank| rank.map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0))));
    }
    let mean = |sum: f64, of: usize| if of == 0 { 0.0 } else { sum / of as f64 };
    sum.overlap_at_10 = mean(sum.overlap_at_10, sum.questions);
    sum.same_first = mean(sum.same_first, sum.questions);
    let of_all = |share: fn(f64) -> f64| {
        [0, 1].map(|view| mean(sum.reciprocal_ranks.iter().map(|ranks| share(ranks[view])).sum(), sum.with_answer))
    };
    (sum.mrr_at_10, sum.success_at_1) = (of_all(|rank| rank), of_all(f64::floor));
    Ok(sum)
}

/// The titles of an author's documents as questions that each document answers: at most `most` of those that are in both
/// views, spread evenly, of titles that only one document has.
///
/// # Errors
/// When a view cannot be read.
pub fn title_questions(
    store: &dyn FeatureStore,
    author: &AuthorId,
    views: [&FeatureViewId; 2],
    most: usize,
) -> Result<Vec<Question>, ViewError> {
    let there: BTreeSet<DocumentId> =
        store.documents(views[1], author)?.into_iter().map(|stored| stored.document.info.id).collect();
    let mut by_title: BTreeMap<String, Vec<DocumentId>> = BTreeMap::new();
    for stored in store.documents(views[0], author)? {
        let info = stored.document.info;
        if there.contains(&info.id) && !info.title.trim().is_empty() {
            by_title.entry(info.title).or_default().push(info.id);
        }
    }
    let questions = by_title.into_iter().filter_map(|(text, documents)| match documents.as_slice() {
        [only] => Some(Question { text, answer: Some(*only) }),
        _ => None,
    });
    let questions: Vec<Question> = questions.collect();
    let step = questions.len().div_ceil(most.max(1)).max(1);
    Ok(questions.into_iter().step_by(step).collect())
}

/// The first ten documents, each where its best chunk is.
fn documents(
    store: &dyn FeatureStore,
    view: &FeatureViewId,
    query: &HybridQuery,
) -> Result<Vec<DocumentId>, ViewError> {
    let mut ranked = Vec::new();
    for found in store.query(view, query)? {
        if !ranked.contains(&found.document.id) {
            ranked.push(found.document.id);
        }
    }
    ranked.truncate(10);
    Ok(ranked)
}
