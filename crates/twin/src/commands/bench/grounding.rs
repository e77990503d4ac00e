//! `twin bench grounding`: whether answers say what the passages say that they cite; and whether the twin says that it has
//! nothing when the post that answers is taken out of the index.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_domain::{DocumentId, FeatureStore};
use twin_inference_pipeline::twins::{Answer, AnswerRequest, Twins};
use twin_models::language::Sampling;
use twin_models::prompt::Request;
use twin_style::grounding::{Grounding, Statement};
use twin_style::stats::{bootstrap_interval, mean};

use super::withheld::Withheld;
use crate::args::GroundingArguments;
use crate::commands::serve;
use crate::output;
use crate::wiring::{Wiring, blocking};

/// Sentences with fewer words claim nothing: `Yes.`, `As I said.`
const MIN_WORDS: usize = 4;

/// The seed of answers and of intervals: the same questions get the same figures.
const SEED: u64 = 17;

#[derive(Debug, Deserialize)]
struct Question {
    question: String,
    /// The post that has the answer.
    #[serde(default)]
    url: Option<String>,
}

/// What came of one question.
#[derive(Debug, Serialize)]
struct Asked {
    question: String,
    url: Option<String>,
    abstained: bool,
    /// Whether a passage of the right post is cited.
    right_post: Option<bool>,
    grounding: Grounding,
    /// Whether the twin abstains once the post is taken out of the index; `None` where there is no post.
    abstained_without: Option<bool>,
}

/// A share with its 95% bootstrap interval over questions.
#[derive(Debug, Serialize)]
struct Share {
    value: f64,
    interval: (f64, f64),
    questions: usize,
}

impl Share {
    /// `None` of nothing.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let interval = bootstrap_interval(&values, SEED, |drawn| mean(drawn.iter().map(|value| **value)));
        (!values.is_empty()).then(|| Self { value: mean(values.iter().copied()), interval, questions: values.len() })
    }
}

#[derive(Debug, Serialize)]
struct Outcome {
    model: String,
    /// Of questions that were answered.
    recall: Option<Share>,
    checkable_recall: Option<Share>,
    precision: Option<Share>,
    right_post: Option<Share>,
    /// The share of statements that have something to check, over all answers.
    checkable: f64,
    /// Of questions whose post is there: abstaining is wrong.
    abstained_with: Option<Share>,
    /// Of questions whose post was taken out, or that no post answers: abstaining is right.
    abstained_without: Option<Share>,
    asked: Vec<Asked>,
}

pub async fn run(wiring: &Wiring, arguments: &GroundingArguments) -> anyhow::Result<bool> {
    let questions = questions(&arguments.questions)?;
    let withheld = Arc::new(Withheld::new(wiring.store().await?));
    let twins = serve::twins_of(wiring, Arc::clone(&withheld) as Arc<dyn FeatureStore>).await?;
    let (known, name) = (Arc::clone(&twins), arguments.model.clone());
    let twin = blocking(move || known.twin(&name)).await?;
    let documents = wiring.store().await?.documents(&twin.view, &twin.author.id)?;
    let id_of = |url: &str| documents.iter().map(|stored| &stored.document.info).find(|info| info.url == url);
    let mut asked = Vec::new();
    let questions = questions.into_iter().take(arguments.limit.unwrap_or(usize::MAX));
    for Question { question, url } in questions {
        let known = match &url {
            Some(url) => Some(id_of(url).with_context(|| {
                format!("{url} is not among the posts of `{}`: ask about posts that were ingested", twin.author.id)
            })?),
            None => None,
        };
        withheld.hide([]);
        let answer = answer(wiring, &twins, &arguments.model, &question).await?;
        withheld.hide(known.map(|info| info.id));
        let without = match known {
            Some(_) => Some(self::answer(wiring, &twins, &arguments.model, &question).await?.trace.abstained),
            None => None,
        };
        asked.push(of_answer(question, url, known.map(|info| info.id), &answer, without));
    }
    let outcome = outcome(arguments.model.clone(), asked);
    output::result(wiring.json, &outcome, print)?;
    Ok(!outcome.asked.is_empty())
}

fn questions(file: &Path) -> anyhow::Result<Vec<Question>> {
    let text = fs_err::read_to_string(file)?;
    let question = |(index, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("line {} of `{}` is no question", index + 1, file.display()))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(question).collect()
}

async fn answer(wiring: &Wiring, twins: &Arc<Twins>, model: &str, question: &str) -> anyhow::Result<Answer> {
    let ask = Request::Ask { question: question.to_owned() };
    let sampling = Sampling { seed: SEED, ..twins.config().ask.clone() };
    let request = AnswerRequest { sampling: Some(sampling), ..AnswerRequest::new(model, ask) };
    let answer = twins.answer_with(request, |_| ControlFlow::Continue(()), wiring.cancel.clone()).await?;
    anyhow::ensure!(!wiring.cancel.is_cancelled(), "stopped; run the same command again to start anew");
    Ok(answer)
}

fn of_answer(
    question: String,
    url: Option<String>,
    right: Option<DocumentId>,
    answer: &Answer,
    abstained_without: Option<bool>,
) -> Asked {
    let trace = &answer.trace;
    let passage = |number: &usize| trace.passages.iter().find(|passage| passage.number == *number);
    let long_enough = |text: &str| text.split_whitespace().count() >= MIN_WORDS;
    // The title is part of what a reader is shown of a passage.
    let shown: Vec<Vec<String>> = trace
        .pieces
        .iter()
        .map(|piece| {
            let cited = piece.citations.iter().filter_map(passage);
            cited.map(|passage| format!("{}\n{}", passage.for_prompt().title, passage.text)).collect()
        })
        .collect();
    let statements: Vec<Statement<'_>> = trace
        .pieces
        .iter()
        .zip(&shown)
        .filter(|(piece, _)| !trace.abstained && long_enough(&piece.text))
        .map(|(piece, cited)| Statement { text: &piece.text, cited: cited.iter().map(String::as_str).collect() })
        .collect();
    let mut cited = trace.pieces.iter().flat_map(|piece| &piece.citations).filter_map(passage);
    let right_post = right.map(|right| cited.any(|passage| passage.document.id == right));
    Asked {
        question,
        url,
        abstained: trace.abstained,
        right_post,
        grounding: Grounding::of(&statements),
        abstained_without,
    }
}

fn outcome(model: String, asked: Vec<Asked>) -> Outcome {
    let truth = |value: bool| f64::from(u8::from(value));
    let answered = || asked.iter().filter(|one| !one.abstained && one.grounding.statements > 0);
    let statements: usize = answered().map(|one| one.grounding.statements).sum();
    let checkable: usize = answered().map(|one| one.grounding.checkable).sum();
    let with_citations = |one: &&Asked| one.grounding.citations > 0;
    let with_claims = |one: &&Asked| one.grounding.checkable > 0;
    Outcome {
        model,
        recall: Share::of(answered().map(|one| one.grounding.recall)),
        checkable_recall: Share::of(answered().filter(with_claims).map(|one| one.grounding.checkable_recall)),
        precision: Share::of(answered().filter(with_citations).map(|one| one.grounding.precision)),
        right_post: Share::of(asked.iter().filter(|one| !one.abstained).filter_map(|one| one.right_post).map(truth)),
        checkable: checkable as f64 / statements.max(1) as f64,
        abstained_with: Share::of(asked.iter().filter(|one| one.url.is_some()).map(|one| truth(one.abstained))),
        abstained_without: Share::of(asked.iter().map(|one| match one.abstained_without {
            Some(abstained) => truth(abstained),
            None => truth(one.abstained),
        })),
        asked,
    }
}

fn print(outcome: &Outcome) {
    let row = |what: &str, share: &Option<Share>| {
        let Some(Share { value, interval: (low, high), questions }) = share else {
            return vec![what.to_owned(), "-".to_owned(), "0".to_owned()];
        };
        vec![what.to_owned(), format!("{value:.2} [{low:.2}, {high:.2}]"), questions.to_string()]
    };
    output::line(format!("== {} ==", outcome.model));
    output::table(
        &["", "share", "questions"],
        [
            row("citation recall, all statements", &outcome.recall),
            row("citation recall, statements with a figure, name or quotation", &outcome.checkable_recall),
            row("citation precision", &outcome.precision),
            row("the right post is cited", &outcome.right_post),
            row("says it has nothing though the post is there (wrong)", &outcome.abstained_with),
            row("says it has nothing when nothing is there (right)", &outcome.abstained_without),
        ],
    );
    output::line(format!(
        "{:.0}% of statements have a figure, a name or a quotation, and only these can be checked",
        outcome.checkable * 100.0
    ));
    for text in outcome.asked.iter().flat_map(|one| &one.grounding.unsupported) {
        output::line(format!("not in what it cites: {text}"));
    }
}
