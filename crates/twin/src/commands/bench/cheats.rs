//! `twin bench cheats`: texts that fool a measure of style, on every measure, with the gates that stop them.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Serialize;
use twin_style::assessment::{Assessment, Assessor};
use twin_style::cheats::Cheat;
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::text::as_markdown;

use super::corpus::{by_author, rows};
use crate::args::CheatsArguments;
use crate::output;
use crate::wiring::Wiring;

/// How many texts of a unit's length each trick makes.
const TEXTS: usize = 12;

#[derive(Debug, Serialize)]
struct Trial {
    text: &'static str,
    /// Whether it is what it should be: only the author's own new text may pass.
    expected: bool,
    assessment: Assessment,
}

pub fn run(wiring: &Wiring, arguments: &CheatsArguments) -> anyhow::Result<bool> {
    let known = by_author(rows(&arguments.known)?);
    let questioned = by_author(rows(&arguments.questioned)?);
    let name = &arguments.author;
    let own_known = known.get(name).with_context(|| {
        format!("`{name}` is not in `{}`: it has {}", arguments.known.display(), names(&known).join(", "))
    })?;
    let nothing = Vec::new();
    let pieces = |name: &String| questioned.get(name).unwrap_or(&nothing);
    let markdown: BTreeMap<&String, (Vec<String>, Vec<String>)> =
        known.iter().map(|(name, texts)| (name, (escaped(texts), escaped(pieces(name))))).collect();
    let texts = |name: &String| AuthorTexts {
        name: name.clone(),
        known: markdown[name].0.iter().map(String::as_str).collect(),
        held_out: markdown[name].1.iter().map(String::as_str).collect(),
    };
    let impostors: Vec<AuthorTexts<'_>> = known.keys().filter(|other| *other != name).map(texts).collect();
    let config = RulerConfig::default();
    let (seed, length) = (config.seed, config.unit_words);
    let assessor = Assessor::fit(&texts(name), &Others { texts: &impostors, ..Others::default() }, config)?;
    let strange: Vec<String> =
        known.keys().filter(|other| *other != name).flat_map(|other| pieces(other).iter().cloned()).collect();
    let trial = |text: &'static str, expected: bool, made: &[String]| {
        let made = escaped(made);
        let assessment = assessor.assess(&made.iter().map(String::as_str).collect::<Vec<_>>());
        Trial { text, expected: assessment.is_like_the_author() == expected, assessment }
    };
    let mut trials =
        vec![trial("the author's new posts", true, pieces(name)), trial("other authors' posts", false, &strange)];
    let own_known = own_known.join("\n\n");
    for cheat in Cheat::ALL {
        trials.push(trial(cheat.label(), false, &cheat.texts(&own_known, &strange, TEXTS, length, seed)));
    }
    output::result(wiring.json, &trials, |trials| print(trials))?;
    Ok(trials.iter().all(|trial| trial.expected))
}

fn names(known: &BTreeMap<String, Vec<String>>) -> Vec<&str> {
    known.keys().map(String::as_str).collect()
}

fn escaped(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| as_markdown(text)).collect()
}

/// As Markdown, so that the table can stand in the documentation as it is.
fn print(trials: &[Trial]) {
    output::line(
        "| text | L | common words | function words | characters | grammar | accepted | copied 8-grams | longest run | pairs known | distinct-4 | triples attested | verdict |",
    );
    output::line(format!("|{}", " --- |".repeat(13)));
    for Trial { text, assessment, .. } in trials {
        let likeness = assessment.likeness.as_ref();
        let value = likeness.map_or("-".to_owned(), |likeness| {
            format!("{:.2} [{:.2}, {:.2}]", likeness.value, likeness.interval.0, likeness.interval.1)
        });
        let components: Vec<String> = likeness.map_or(vec!["-".to_owned(); 4], |likeness| {
            let value = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
            likeness.components.iter().map(|component| value(component.value)).collect()
        });
        let accepted = likeness.map_or("-".to_owned(), |likeness| format!("{:.2}", likeness.accepted_share));
        output::line(format!(
            "| {text} | {value} | {} | {accepted} | {:.3} | {} | {:.2} | {:.3} | {:.3} | {} |",
            components.join(" | "),
            assessment.copied_share,
            assessment.longest_run,
            assessment.pairs_share,
            assessment.distinct_4,
            assessment.attested_trigrams,
            assessment.verdict()
        ));
    }
}
