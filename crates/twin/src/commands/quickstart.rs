//! `twin quickstart`: the whole loop on a sample author. Whatever was done before is recognised, so a second run takes
//! seconds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use twin_domain::Author;
use twin_feature_pipeline::{IngestReport, Source};
use twin_inference_pipeline::twins::{Answer, AnswerRequest, LABEL};
use twin_models::language::Sampling;
use twin_models::prompt::Request;
use twin_training_pipeline::evaluate::EvaluationConfig;
use twin_training_pipeline::run::{Preset, TrainingOptions};

use crate::args::QuickstartArguments;
use crate::output;
use crate::wiring::Wiring;

use super::train::{self, Lesson, Made};
use super::{chat, ingest, serve};

/// The sample authors, written for this project.
static SAMPLES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../data");

/// Optimiser steps: enough to hear the voice, within minutes on two cores.
const STEPS: usize = 32;

/// How many of the author's suggested questions are asked for the summary.
const QUESTIONS: usize = 2;

pub async fn run(wiring: &Wiring, arguments: QuickstartArguments) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let authors = samples()?;
    let known: Vec<&str> = authors.iter().map(|author| author.id.as_str()).collect();
    let author = authors.iter().find(|author| author.id == arguments.author);
    let author = author
        .with_context(|| format!("there is no sample author `{}`: choose of {}", arguments.author, known.join(", ")))?;

    stage(1, "models", "fetched once, checked by digest");
    wiring.embedder().await?;
    wiring.language_model().await?;

    stage(2, "posts", "collected, cleaned, cut into chunks, embedded, loaded");
    let mut reports = BTreeMap::new();
    for sample in &authors {
        let report = take_in(wiring, sample).await?;
        ingest::print(&report);
        anyhow::ensure!(!report.interrupted, "stopped; run the same command again to go on");
        reports.insert(sample.id.clone(), report);
    }

    stage(
        3,
        "training and evaluation",
        &format!("a voice for {} out of the older posts, measured on the newest", author.name),
    );
    let steps = arguments.steps.unwrap_or(STEPS);
    // The samples are small; what a tour shows does not depend on how small.
    let tour = TrainingOptions { preset: Some(Preset::Balanced), ..TrainingOptions::default() };
    let said = TrainingOptions { max_steps: Some(steps), ..TrainingOptions::default() };
    let options = tour.overlaid(&wiring.config.training).overlaid(&said);
    let short = steps < STEPS;
    let measured = if short {
        EvaluationConfig { prompts: 1, max_new_tokens: 60, ..EvaluationConfig::default() }
    } else {
        EvaluationConfig::default()
    };
    let made = train::make(wiring, &author.id, &Lesson::new(options), &measured).await?;

    stage(4, "release", "what serves from now on");
    match train::promote(wiring, &made).await? {
        Some(release) => {
            output::line(format!("  release {} of {} serves {}", release.number, release.author, release.model))
        }
        None => output::line(
            "  the adapter does not help yet or does not pass the gate, so nothing was promoted; more steps may change that",
        ),
    }

    let answers = answers(wiring, author, &made).await?;
    summary(author, &reports, &made, &answers, begun.elapsed().as_secs_f64());
    if arguments.no_serve {
        return Ok(true);
    }
    serve::run(wiring, arguments.bind).await
}

fn stage(number: usize, name: &str, what: &str) {
    output::line(format!("\n[{number}/4] {name}: {what}"));
}

/// The posts of all sample authors, in the order of their names.
pub fn sample_texts() -> Vec<&'static str> {
    let posts = SAMPLES.dirs().filter_map(|author| SAMPLES.get_dir(author.path().join("posts")));
    let mut files: Vec<_> = posts.flat_map(|posts| posts.files()).collect();
    files.sort_by_key(|file| file.path());
    files.into_iter().filter_map(|file| file.contents_utf8()).collect()
}

/// The authors that come with the program, by id.
fn samples() -> anyhow::Result<Vec<Author>> {
    let mut authors = Vec::new();
    for directory in SAMPLES.dirs() {
        if let Some(file) = directory.get_file(directory.path().join("author.toml")) {
            let text = file.contents_utf8().context("a sample author's description is not UTF-8")?;
            authors.push(toml::from_str::<Author>(text).context("a sample author's description is not valid")?);
        }
    }
    authors.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(authors)
}

/// Lays a sample author's posts out as files and takes them in like any folder.
async fn take_in(wiring: &Wiring, author: &Author) -> anyhow::Result<IngestReport> {
    let place = wiring.config.data_dir.join("samples");
    let posts = SAMPLES.get_dir(Path::new(author.id.as_str()).join("posts"));
    let posts = posts.with_context(|| format!("the sample author `{}` has no posts", author.id))?;
    let folder = place.join(posts.path());
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make `{}`", folder.display()))?;
    posts.extract(&place).with_context(|| format!("could not write the sample posts to `{}`", place.display()))?;
    let source = Source::recognise(&folder.to_string_lossy())?;
    ingest::ingest(wiring, author, &source, &wiring.ingest_options()).await
}

/// An answer of the summary.
#[derive(Serialize, Deserialize)]
struct Asked {
    question: String,
    text: String,
    cited: Vec<String>,
}

/// Answers to some of the suggested questions; those of a release are asked once and kept beside the run.
async fn answers(wiring: &Wiring, author: &Author, made: &Made) -> anyhow::Result<Vec<Asked>> {
    let kept = made.run.directory.join("answers.json");
    if let Some(answers) = std::fs::read(&kept).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
        return Ok(answers);
    }
    let twins = serve::twins(wiring).await?;
    let mut answers = Vec::new();
    for question in author.suggested_questions.iter().take(QUESTIONS) {
        let ask = Request::Ask { question: question.clone() };
        // The same seed each time: the summary of a release is the same on every machine.
        let sampling = Sampling { seed: 1, ..twins.config().ask.clone() };
        let request =
            AnswerRequest { sampling: Some(sampling), ..AnswerRequest::new(made.version.id.to_string(), ask) };
        let answer = twins.answer_with(request, |_| ControlFlow::Continue(()), wiring.cancel.clone()).await?;
        answers.push(asked(question, answer));
    }
    std::fs::write(&kept, serde_json::to_vec_pretty(&answers)?)
        .with_context(|| format!("could not write `{}`", kept.display()))?;
    Ok(answers)
}

fn asked(question: &str, answer: Answer) -> Asked {
    let cited = chat::cited(&answer.trace.pieces);
    let cited = cited.into_iter().filter_map(|number| answer.trace.passages.iter().find(|p| p.number == number));
    let cited = cited.map(|passage| format!("{} <{}>", passage.document.title, passage.document.url)).collect();
    Asked { question: question.to_owned(), text: answer.text, cited }
}

fn summary(
    author: &Author,
    reports: &BTreeMap<twin_domain::AuthorId, IngestReport>,
    made: &Made,
    answers: &[Asked],
    seconds: f64,
) {
    output::line(format!("\n== {} ==", author.name));
    if let Some(report) = reports.get(&author.id) {
        let documents = report.new + report.changed + report.unchanged;
        output::line(format!("documents {documents}, chunks {}", report.chunks_in_view));
    }
    train::print(made);
    for Asked { question, text, cited } in answers {
        output::line(format!("\nQ: {question}\n{}", text.trim()));
        cited.iter().for_each(|source| output::line(format!("  <- {source}")));
    }
    output::line(format!("\n{LABEL}\ndone in {seconds:.0} s"));
}
