//! `twin bench retrieval`: whether the right passage is found, stage by stage, on collections with judgements.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_domain::{Filter, Progress, ProgressUpdate, Searches};
use twin_feature_pipeline::feature_view;
use twin_inference_pipeline::retrieve::measures::Measures;
use twin_inference_pipeline::retrieve::{Corpus, Expansion, RetrievalConfig, retrieve};
use twin_models::embedding::Embedder;
use twin_models::language::LanguageModel;
use twin_style::stats::{Difference, bootstrap_interval, holm, mean, paired_difference, quantile};

use self::collection::{Collection, Query};
use crate::args::BenchRetrievalArguments;
use crate::output;
use crate::wiring::{Wiring, blocking};

mod chart;
mod collection;

/// `eval/retrieval.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    data: PathBuf,
    seed: u64,
    collections: Vec<CollectionSpec>,
    #[serde(default)]
    expect: Expectations,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionSpec {
    name: String,
    directory: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    /// The least nDCG@10 of all stages together, by collection.
    #[serde(default)]
    ndcg_10: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    collections: Vec<CollectionOutcome>,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct CollectionOutcome {
    name: String,
    documents: usize,
    chunks: usize,
    queries: usize,
    /// How long chunking, embedding and loading took.
    load_seconds: f64,
    stages: Vec<StageOutcome>,
}

#[derive(Debug, Serialize)]
struct StageOutcome {
    stage: &'static str,
    /// Means over the queries, in the order of [`Measures::NAMES`].
    means: [f64; 5],
    /// 95% bootstrap intervals over the queries.
    intervals: [(f64, f64); 5],
    /// nDCG@10 less that of the stage it adds to, on the same queries; none for the first two, which stand alone.
    gain: Option<Difference>,
    /// The p-value of the gain, corrected for the number of stages.
    gain_p: Option<f64>,
    /// Milliseconds for a query: the median and the 99th percentile.
    milliseconds: (f64, f64),
}

/// A stage, added to those before it.
struct Stage {
    name: &'static str,
    config: RetrievalConfig,
    compared: Compared,
}

/// What a stage has to beat.
#[derive(Clone, Copy)]
enum Compared {
    /// It stands alone.
    Not,
    /// The better one of those before it.
    WithBest,
    With(&'static str),
}

/// The stage that is the configuration as it is, which is held against what is expected.
const IN_FORCE: &str = "+ the rest of the document";
const FUSED: &str = "both, by reciprocal rank";
const MEASURED: &str = "+ similarity and words";
const INTERACTING: &str = "+ late interaction";

/// The searches alone, their fusion, and what reranking adds; expansion by the model only where there is one.
fn stages(on: RetrievalConfig, model: bool) -> Vec<Stage> {
    let expanded = |name, expansion| {
        let config = RetrievalConfig { expansion, ..on.clone() };
        Stage { name, config, compared: Compared::With(IN_FORCE) }
    };
    let off = RetrievalConfig { rerank: false, ..on.clone() };
    let mut stages = vec![
        Stage {
            name: "BM25 alone",
            config: RetrievalConfig { searches: Searches::Lexical, ..off.clone() },
            compared: Compared::Not,
        },
        Stage {
            name: "dense alone",
            config: RetrievalConfig { searches: Searches::Dense, ..off.clone() },
            compared: Compared::Not,
        },
        Stage { name: FUSED, config: off, compared: Compared::WithBest },
        Stage {
            name: MEASURED,
            config: RetrievalConfig { token_weight: 0.0, document_weight: 0.0, ..on.clone() },
            compared: Compared::With(FUSED),
        },
        Stage {
            name: INTERACTING,
            config: RetrievalConfig { document_weight: 0.0, ..on.clone() },
            compared: Compared::With(MEASURED),
        },
        Stage { name: IN_FORCE, config: on.clone(), compared: Compared::With(INTERACTING) },
    ];
    stages.push(expanded("+ expansion by rules (off unless set)", Expansion::Rules));
    if model {
        stages.push(expanded("+ expansion by model (off unless set)", Expansion::Model));
    }
    stages
}

pub async fn run(wiring: &Wiring, arguments: BenchRetrievalArguments) -> anyhow::Result<bool> {
    let file = &arguments.suite;
    let suite: Suite = toml::from_str(&fs_err::read_to_string(file)?)
        .with_context(|| format!("`{}` is not a suite of collections", file.display()))?;
    let data = arguments.data.clone().unwrap_or_else(|| suite.data.clone());
    let embedder = wiring.embedder().await?;
    let model = if arguments.expand_by_model { Some(wiring.local_answering_model().await?) } else { None };
    let view = feature_view(embedder.as_ref(), &wiring.ingest_options());
    let mut collections = Vec::new();
    for spec in &suite.collections {
        let (directory, view) = (data.join(&spec.directory), view.clone());
        let (embedder, progress) = (Arc::clone(&embedder), Arc::clone(&wiring.progress));
        let (name, seed) = (spec.name.clone(), suite.seed);
        let (config, model) = (wiring.config.retrieval.clone(), model.clone());
        let measured = move || {
            let model = model.as_deref().map(|model| model as &dyn LanguageModel);
            measure(name, &directory, view, &(embedder.as_ref(), model), config, seed, progress.as_ref())
        };
        collections.push(blocking(measured).await?);
    }
    let reached = |outcome: &CollectionOutcome| {
        let least = suite.expect.ndcg_10.get(&outcome.name);
        let in_force = outcome.stages.iter().find(|stage| stage.stage == IN_FORCE);
        least.is_none_or(|least| in_force.is_some_and(|all| all.means[0] >= *least))
    };
    let outcome = Outcome { passed: collections.iter().all(reached), collections };
    if let Some(file) = &arguments.svg {
        fs_err::write(file, chart::svg(&outcome))?;
    }
    output::result(wiring.json, &outcome, print)?;
    Ok(outcome.passed)
}

fn measure(
    name: String,
    directory: &std::path::Path,
    view: twin_domain::FeatureView,
    (embedder, model): &(&dyn Embedder, Option<&dyn LanguageModel>),
    config: RetrievalConfig,
    seed: u64,
    progress: &dyn Progress,
) -> anyhow::Result<CollectionOutcome> {
    let scratch = tempfile::tempdir()?;
    let begun = Instant::now();
    let tell = |stage: &str, done: usize, total: usize, unit: &str| {
        let (done, total) = (done as u64, Some(total as u64));
        progress.update(ProgressUpdate { stage, done, total, unit, detail: &name });
    };
    let loaded = Collection::load(directory, scratch.path(), view, *embedder, |done, total| {
        tell("embedding", done, total, "documents");
    })?;
    let load_seconds = begun.elapsed().as_secs_f64();
    let (mut outcomes, mut before): (Vec<StageOutcome>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    let stages = stages(config, model.is_some());
    for (index, stage) in stages.iter().enumerate() {
        tell("searching", index * loaded.queries.len(), stages.len() * loaded.queries.len(), "queries");
        let (measured, mut milliseconds) = search(&loaded, *embedder, *model, &stage.config)?;
        milliseconds.sort_by(f64::total_cmp);
        let ndcg: Vec<f64> = measured.iter().map(|measures| measures.ndcg_10).collect();
        let reference: Option<&Vec<f64>> = match stage.compared {
            Compared::Not => None,
            Compared::WithBest => before.iter().max_by(|a, b| total(a).total_cmp(&total(b))),
            Compared::With(name) => {
                stages.iter().position(|stage| stage.name == name).and_then(|place| before.get(place))
            }
        };
        let gain = reference.and_then(|before| paired_difference(&ndcg, before, seed));
        outcomes.push(StageOutcome {
            stage: stage.name,
            means: std::array::from_fn(|measure| mean(measured.iter().map(|measures| measures.values()[measure]))),
            intervals: std::array::from_fn(|measure| {
                bootstrap_interval(&measured, seed, |drawn| mean(drawn.iter().map(|m| m.values()[measure])))
            }),
            gain,
            gain_p: None,
            milliseconds: (quantile(&milliseconds, 0.5), quantile(&milliseconds, 0.99)),
        });
        before.push(ndcg);
    }
    correct(&mut outcomes);
    let (documents, queries) = (loaded.names.len(), loaded.queries.len());
    Ok(CollectionOutcome { name, documents, chunks: loaded.chunks, queries, load_seconds, stages: outcomes })
}

fn total(values: &[f64]) -> f64 {
    values.iter().sum()
}

/// Corrects the p-values for their number.
fn correct(stages: &mut [StageOutcome]) {
    let found: Vec<f64> = stages.iter().filter_map(|stage| Some(stage.gain.as_ref()?.p_value)).collect();
    let with_gain = stages.iter_mut().filter(|stage| stage.gain.is_some());
    for (stage, p) in with_gain.zip(holm(&found)) {
        stage.gain_p = Some(p);
    }
}

/// The measures of each query and the milliseconds that it took.
fn search(
    collection: &Collection,
    embedder: &dyn Embedder,
    model: Option<&dyn LanguageModel>,
    config: &RetrievalConfig,
) -> anyhow::Result<(Vec<Measures>, Vec<f64>)> {
    let view = collection.view.id();
    let (store, author) = (&collection.store, &collection.author);
    let corpus = Corpus { store, embedder, view: &view, author, author_name: "", model };
    let count = |text: &str| embedder.count_tokens(text);
    let (mut measured, mut milliseconds) = (Vec::new(), Vec::new());
    for Query { text, judgements, exclude } in &collection.queries {
        let filter = Filter { without: exclude.iter().copied().collect(), ..Filter::default() };
        let begun = Instant::now();
        let found = retrieve(&corpus, text, &filter, config, &count)?;
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
        let mut ranking: Vec<&str> = Vec::new();
        for candidate in &found.trace.candidates {
            let name = collection.names.get(&candidate.document).map_or("", String::as_str);
            // A document stands where its best chunk does.
            if !ranking.contains(&name) {
                ranking.push(name);
            }
        }
        measured.push(Measures::of(&ranking, judgements));
    }
    Ok((measured, milliseconds))
}

fn print(outcome: &Outcome) {
    for collection in &outcome.collections {
        let CollectionOutcome { name, documents, chunks, queries, load_seconds, stages } = collection;
        output::line(format!(
            "{name}: {documents} documents, {chunks} chunks, {queries} queries; loaded in {load_seconds:.0} s"
        ));
        let mut header = vec!["stage"];
        header.extend(Measures::NAMES);
        header.extend(["nDCG@10, 95%", "gain", "p", "ms, median", "ms, p99"]);
        let row =
            |stage: &StageOutcome| {
                let mut cells = vec![stage.stage.to_owned()];
                cells.extend(stage.means.iter().map(|mean| format!("{mean:.3}")));
                let (low, high) = stage.intervals[0];
                cells.push(format!("{low:.3} to {high:.3}"));
                let gain = stage.gain.as_ref();
                cells.push(gain.map_or_else(String::new, |g| {
                    format!("{:+.3} [{:+.3}, {:+.3}]", g.mean, g.interval.0, g.interval.1)
                }));
                cells.push(stage.gain_p.map_or_else(String::new, |p| format!("{p:.3}")));
                cells.extend([format!("{:.0}", stage.milliseconds.0), format!("{:.0}", stage.milliseconds.1)]);
                cells
            };
        output::table(&header, stages.iter().map(row));
    }
    output::line(if outcome.passed { "passed" } else { "not passed: see `[expect]` of the suite" });
}
