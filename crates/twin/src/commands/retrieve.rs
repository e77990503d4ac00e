//! `twin retrieve`: what the twin would read before it answers, and how it came to that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use twin_domain::{DocumentId, FeatureStore, FeatureViewId, Filter};
use twin_inference_pipeline::retrieve::{Candidate, Corpus, Expansion, Retrieval, RetrievalConfig, retrieve};
use twin_models::language::LanguageModel;

use crate::args::RetrieveArguments;
use crate::output;
use crate::wiring::Wiring;

/// How much of a passage is shown, and of a candidate.
const SHOWN: usize = 160;
const SHOWN_OF_CANDIDATE: usize = 48;
/// How many candidates are explained.
const EXPLAINED: usize = 15;

pub async fn run(wiring: &Wiring, arguments: RetrieveArguments) -> anyhow::Result<bool> {
    let (store, embedder, view) = (wiring.store().await?, wiring.embedder().await?, wiring.searchable_view().await?);
    let author = store.author(&arguments.author)?;
    let default = wiring.config.retrieval.clone();
    let config = RetrievalConfig {
        max_passages: arguments.limit,
        limit: default.limit.max(arguments.limit * 3),
        max_tokens: usize::MAX,
        ..default
    };
    let count = |text: &str| embedder.count_tokens(text);
    let model = match config.expansion {
        Expansion::Model => Some(wiring.local_answering_model().await?),
        Expansion::Off | Expansion::Rules => None,
    };
    let corpus = Corpus {
        store: &*store,
        embedder: &*embedder,
        view: &view,
        author: &author.id,
        author_name: &author.name,
        model: model.as_deref().map(|model| model as &dyn LanguageModel),
    };
    let find = || retrieve(&corpus, &arguments.question, &Filter::default(), &config, &count);
    let found = tokio::task::block_in_place(find)?;
    output::result(wiring.json, &found, print)?;
    if arguments.explain && !wiring.json {
        explain(&found, &config, &*store, &view)?;
    }
    Ok(found.trace.relevant)
}

fn print(found: &Retrieval) {
    for passage in &found.passages {
        let title = passage.for_prompt().title;
        output::line(format!(
            "{:>2}. {title}  (similarity {:.2}, score {:.4})",
            passage.number, passage.similarity, passage.score
        ));
        output::line(format!("    {}", passage.document.url));
        output::line(format!("    {} …", beginning(&passage.text, SHOWN)));
    }
    let verdict =
        if found.trace.relevant { "near enough to answer from" } else { "nothing near enough: the twin would say so" };
    output::line(format!("{verdict} ({:.0} ms)", milliseconds(found.trace.seconds())));
}

/// What each stage did.
fn explain(
    found: &Retrieval,
    config: &RetrievalConfig,
    store: &dyn FeatureStore,
    view: &FeatureViewId,
) -> anyhow::Result<()> {
    let trace = &found.trace;
    output::line("");
    output::line(format!("searched for: {}", trace.query));
    if !trace.added.is_empty() {
        output::line(format!("and, by words, for what is found first: {}", trace.added.join(", ")));
    }
    if trace.filter != Filter::default() {
        let day = |day: Option<jiff::civil::Date>| day.map_or_else(|| "…".to_owned(), |day| day.to_string());
        let tags = trace.filter.tags.join(", ");
        output::line(format!("only posts from {} to {}; tags: {tags}", day(trace.filter.from), day(trace.filter.to)));
    }
    output::line(format!(
        "embedding {:.0} ms; both searches and their fusion {:.0} ms, {} chunks; reranking {:.0} ms",
        milliseconds(trace.embed_seconds),
        milliseconds(trace.query_seconds),
        trace.candidates.len(),
        milliseconds(trace.rerank_seconds),
    ));
    output::line(format!(
        "near enough from {:.2} = similarity + {:.1} × tokens + {:.1} × words",
        config.relevant, config.token_weight, config.word_weight
    ));
    let mut documents = BTreeMap::new();
    let mut rows = Vec::new();
    for (index, candidate) in trace.candidates.iter().take(EXPLAINED).enumerate() {
        let chunk = beginning_of(candidate, store, view, &mut documents)?;
        rows.push(vec![
            (index + 1).to_string(),
            candidate.passage.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            format!("{:.4}", candidate.score),
            format!("{:.2}", candidate.similarity),
            format!("{:.2}", candidate.token_score),
            format!("{:.2}", candidate.word_share),
            chunk,
        ]);
    }
    output::table(&["rank", "passage", "fused", "similarity", "tokens", "words", "chunk"], rows);
    Ok(())
}

/// The title of a candidate's document and how its chunk begins. Each document is read once.
fn beginning_of(
    candidate: &Candidate,
    store: &dyn FeatureStore,
    view: &FeatureViewId,
    read: &mut BTreeMap<DocumentId, Vec<(twin_domain::Chunk, twin_domain::DocumentInfo)>>,
) -> anyhow::Result<String> {
    let chunks = match read.entry(candidate.document) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(store.chunks(view, candidate.document)?),
    };
    let chunk = chunks.iter().find(|(chunk, _)| chunk.id == candidate.chunk);
    Ok(chunk.map_or_else(String::new, |(chunk, document)| {
        format!("{}: {} …", document.title, beginning(&chunk.text, SHOWN_OF_CANDIDATE))
    }))
}

fn beginning(text: &str, characters: usize) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(characters).collect()
}

fn milliseconds(seconds: f64) -> f64 {
    seconds * 1e3
}
