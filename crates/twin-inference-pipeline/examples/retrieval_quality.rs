//! Measures retrieval on questions with known answers: whether the right post is found, given to the model and quoted, and
//! whether questions that no post answers are recognised.
//!
//!     cargo run --release -p twin-inference-pipeline --example retrieval_quality -- STORE MODELS eval/questions/*.jsonl
//!
//! STORE is the feature store of a data directory into which the authors were ingested, MODELS a model cache. A file of
//! questions is named after its author; each line has `question`, `url` (null when no post answers) and `answer`. Prints a
//! line of JSON for each question, then the summary.

#![expect(clippy::print_stdout, reason = "the figures are the product")]

use std::path::Path;

use serde::Deserialize;
use twin_domain::progress::Silent;
use twin_domain::{Author, AuthorId, CancelFlag, DocumentId, FeatureStore, FeatureViewId, Filter};
use twin_feature_store::EmbeddedFeatureStore;
use twin_inference_pipeline::cite::Evidence;
use twin_inference_pipeline::retrieve::{Candidate, Corpus, Retrieval, RetrievalConfig, retrieve};
use twin_models::embedding::Embedder;
use twin_models::{Models, ModelsConfig};

type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Question {
    question: String,
    url: Option<String>,
}

#[derive(Default)]
struct Tally {
    answerable: usize,
    first: usize,
    among_three: usize,
    given: usize,
    quoted: usize,
    wrongly_abstained: usize,
    unanswerable: usize,
    rightly_abstained: usize,
    milliseconds: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, models, files @ ..] = arguments.as_slice() else {
        return Err("usage: retrieval_quality STORE MODELS QUESTIONS...".into());
    };
    let store = EmbeddedFeatureStore::open(Path::new(store))?;
    let models = Models::new(ModelsConfig { offline: true, ..ModelsConfig::new(models) });
    let embedder = models.embedder("all-minilm-l6-v2", &Silent, &CancelFlag::new())?;
    let view = store.serving_view()?.ok_or("nothing serves in this store: ingest an author first")?;
    let mut tally = Tally::default();
    for file in files {
        let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let author = store.author(&AuthorId::parse(&name)?)?;
        for line in fs_err::read_to_string(file)?.lines() {
            measure(&store, embedder.as_ref(), &view, &author, &serde_json::from_str(line)?, &mut tally)?;
        }
    }
    tally.print();
    Ok(())
}

fn measure(
    store: &EmbeddedFeatureStore,
    embedder: &dyn Embedder,
    view: &FeatureViewId,
    author: &Author,
    question: &Question,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let corpus = Corpus { store, embedder, view, author: &author.id, author_name: &author.name, model: None };
    let count = |text: &str| embedder.count_tokens(text);
    let found = retrieve(&corpus, &question.question, &Filter::default(), &RetrievalConfig::default(), &count)?;
    let anchors = Evidence::new(found.passages.clone(), embedder)?.quotations(&question.question, embedder)?;
    let cited: Vec<usize> = anchors.iter().flat_map(|anchor| anchor.citations.iter().copied()).collect();
    tally.add(question, &found, &cited);
    let trace = &found.trace;
    println!(
        "{}",
        serde_json::json!({
            "question": question.question, "answerable": question.url.is_some(), "rank": rank(question, &found),
            "quoted": anchors.into_iter().map(|anchor| anchor.text).collect::<Vec<_>>(), "relevant": trace.relevant, "similarity": trace.similarity,
            "word_share": trace.word_share,
            "candidates": candidates(&author.id, question, &found),
        })
    );
    Ok(())
}

/// What weights can be chosen from: each candidate's measures and whether it is of the right post.
fn candidates(author: &AuthorId, question: &Question, found: &Retrieval) -> Vec<serde_json::Value> {
    let right = question.url.as_deref().map(|url| DocumentId::new(author, url));
    let candidate = |c: &Candidate| {
        let right = Some(c.document) == right;
        serde_json::json!([c.document, c.similarity, c.token_score, c.word_share, right, c.passage])
    };
    found.trace.candidates.iter().map(candidate).collect()
}

/// The place of the right post among the posts of the passages, from 1.
fn rank(question: &Question, found: &Retrieval) -> Option<usize> {
    let mut posts: Vec<&str> = Vec::new();
    for passage in &found.passages {
        if !posts.contains(&passage.document.url.as_str()) {
            posts.push(&passage.document.url);
        }
    }
    let url = question.url.as_deref()?;
    posts.iter().position(|post| *post == url).map(|index| index + 1)
}

impl Tally {
    fn add(&mut self, question: &Question, found: &Retrieval, cited: &[usize]) {
        self.milliseconds += found.trace.seconds() * 1e3;
        let Some(url) = &question.url else {
            self.unanswerable += 1;
            self.rightly_abstained += usize::from(!found.trace.relevant);
            return;
        };
        let rank = rank(question, found);
        let quoted = cited.iter().any(|number| found.passages[number - 1].document.url == *url);
        self.answerable += 1;
        self.first += usize::from(rank == Some(1));
        self.among_three += usize::from(rank.is_some_and(|rank| rank <= 3));
        self.given += usize::from(rank.is_some());
        self.quoted += usize::from(quoted);
        self.wrongly_abstained += usize::from(!found.trace.relevant);
    }

    fn print(&self) {
        let all = self.answerable + self.unanswerable;
        println!("questions that a post answers        {:4}", self.answerable);
        println!("  right post first                   {:4}", self.first);
        println!("  right post among the first three   {:4}", self.among_three);
        println!("  right post given to the model      {:4}", self.given);
        println!("  anchor quote from the right post   {:4}", self.quoted);
        println!("  wrongly abstained                  {:4}", self.wrongly_abstained);
        println!("questions that no post answers       {:4}", self.unanswerable);
        println!("  rightly abstained                  {:4}", self.rightly_abstained);
        println!("milliseconds for a question          {:7.2}", self.milliseconds / all.max(1) as f64);
    }
}
