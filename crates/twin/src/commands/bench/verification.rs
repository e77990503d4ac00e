//! `twin bench verification`: how well the ruler tells authors apart on real text, before any model is judged by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_style::delta::{DeltaModel, Features, Measure};
use twin_style::likeness::RulerConfig;
use twin_style::verification::{Candidate, Pool, VerificationReport, verify};

use super::corpus::{by_author, candidate, rows};
use crate::args::VerificationArguments;
use crate::output;
use crate::wiring::Wiring;

/// The most pieces of one author.
const MOST_PIECES: usize = 12;

/// `eval/verification.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    data: PathBuf,
    #[serde(default)]
    sets: Vec<SetSpec>,
    #[serde(default)]
    attributions: Vec<AttributionSpec>,
    expect: Expectations,
}

/// Known and questioned text, or posts to part into the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSpec {
    name: String,
    known: Option<PathBuf>,
    questioned: Option<PathBuf>,
    #[serde(default)]
    posts: Vec<PathBuf>,
    /// All, when none are named.
    #[serde(default)]
    authors: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributionSpec {
    name: String,
    posts: Vec<PathBuf>,
    candidates: Vec<String>,
    questioned: String,
    expected: String,
    most_frequent_words: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    /// The least AUC by set.
    auc: BTreeMap<String, f64>,
    /// The most.
    calibration_error: f64,
    /// The least texts given to the expected author, by attribution.
    attributed: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    sets: Vec<SetOutcome>,
    attributions: Vec<AttributionOutcome>,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct SetOutcome {
    name: String,
    report: VerificationReport,
}

#[derive(Debug, Serialize)]
struct AttributionOutcome {
    name: String,
    texts: usize,
    /// How many are nearest to the expected author, by measure.
    expected_author: BTreeMap<&'static str, usize>,
}

pub fn run(wiring: &Wiring, arguments: &VerificationArguments) -> anyhow::Result<bool> {
    let file = &arguments.suite;
    let suite: Suite = toml::from_str(&fs_err::read_to_string(file)?)
        .with_context(|| format!("`{}` is not a suite of verification sets", file.display()))?;
    let data = arguments.data.clone().unwrap_or_else(|| suite.data.clone());
    let mut pools = vec![Pool::Closed];
    pools.extend(arguments.open.then_some(Pool::Open));
    let mut sets = Vec::new();
    for spec in &suite.sets {
        let candidates = candidates(&data, spec)?;
        for pool in &pools {
            let report = verify(&candidates, *pool, &RulerConfig::default()).with_context(|| {
                format!("set `{}` has fewer than four authors with known and newer text", spec.name)
            })?;
            sets.push(SetOutcome { name: spec.name.clone(), report });
        }
    }
    let attributions =
        suite.attributions.iter().map(|spec| attribution(&data, spec)).collect::<anyhow::Result<Vec<_>>>()?;
    let passed = passes(&suite.expect, &sets, &attributions);
    let outcome = Outcome { sets, attributions, passed };
    output::result(wiring.json, &outcome, print)?;
    Ok(passed)
}

fn candidates(data: &Path, spec: &SetSpec) -> anyhow::Result<Vec<Candidate>> {
    let mut read = Vec::new();
    for file in &spec.posts {
        read.extend(rows(&data.join(file))?);
    }
    let wanted = |name: &String| spec.authors.is_empty() || spec.authors.contains(name);
    if let (Some(known), Some(questioned)) = (&spec.known, &spec.questioned) {
        let mut questioned = by_author(rows(&data.join(questioned))?);
        let known = by_author(rows(&data.join(known))?);
        let one = |(name, known): (String, Vec<String>)| {
            let questioned = questioned.remove(&name).unwrap_or_default();
            Candidate { name, known, questioned }
        };
        return Ok(known.into_iter().filter(|(name, _)| wanted(name)).map(one).collect());
    }
    let unit_words = RulerConfig::default().unit_words;
    let one = |(name, texts): (String, Vec<String>)| candidate(&name, &texts, unit_words, MOST_PIECES);
    Ok(by_author(read).into_iter().filter(|(name, _)| wanted(name)).map(one).collect())
}

fn attribution(data: &Path, spec: &AttributionSpec) -> anyhow::Result<AttributionOutcome> {
    let mut read = Vec::new();
    for file in &spec.posts {
        read.extend(rows(&data.join(file))?);
    }
    let texts = by_author(read);
    let of = |name: &str| texts.get(name).cloned().unwrap_or_default();
    let known: Vec<(&str, Vec<String>)> = spec.candidates.iter().map(|name| (name.as_str(), of(name))).collect();
    let questioned = of(&spec.questioned);
    let model = DeltaModel::fit(&known, Features::MostFrequentWords(spec.most_frequent_words));
    let measures =
        [("Cosine Delta", Measure::Cosine), ("Burrows' Delta", Measure::Burrows), ("Eder's Delta", Measure::Eder)];
    let nearest = |text: &String, measure| {
        let distances = model.distances(text, measure);
        distances.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b)).is_some_and(|(name, _)| name == spec.expected)
    };
    let count = |measure| questioned.iter().filter(|text| nearest(text, measure)).count();
    Ok(AttributionOutcome {
        name: spec.name.clone(),
        texts: questioned.len(),
        expected_author: measures.into_iter().map(|(name, measure)| (name, count(measure))).collect(),
    })
}

fn passes(expect: &Expectations, sets: &[SetOutcome], attributions: &[AttributionOutcome]) -> bool {
    let good = |set: &SetOutcome| {
        set.report.pool == Pool::Open
            || (expect.auc.get(&set.name).is_none_or(|least| set.report.auc >= *least)
                && set.report.calibration_error <= expect.calibration_error)
    };
    let attributed = |outcome: &AttributionOutcome| {
        let found = outcome.expected_author.get("Cosine Delta").copied().unwrap_or(0);
        expect.attributed.get(&outcome.name).is_none_or(|least| found >= *least)
    };
    sets.iter().all(good) && attributions.iter().all(attributed)
}

fn print(outcome: &Outcome) {
    let header = [
        "set",
        "the others are",
        "authors",
        "cases",
        "AUC",
        "95%",
        "calibration error",
        "Cllr",
        "accepted at 5%",
        "nearest is right",
    ];
    let row = |SetOutcome { name, report }: &SetOutcome| {
        let (low, high) = report.auc_interval;
        vec![
            name.clone(),
            match report.pool {
                Pool::Closed => "all candidates".to_owned(),
                Pool::Open => "all but the writer".to_owned(),
            },
            report.authors.to_string(),
            report.cases.to_string(),
            format!("{:.3}", report.auc),
            format!("{low:.2} to {high:.2}"),
            format!("{:.3}", report.calibration_error),
            format!("{:.3}", report.cllr),
            format!("{:.2}", report.true_accept),
            format!("{:.2}", report.first),
        ]
    };
    output::table(&header, outcome.sets.iter().map(row));
    for SetOutcome { name, report } in &outcome.sets {
        let name = match report.pool {
            Pool::Closed => name.clone(),
            Pool::Open => format!("{name}, without the writer"),
        };
        let alone: Vec<String> =
            report.component_auc.iter().map(|(component, auc)| format!("{} {auc:.3}", component.label())).collect();
        output::line(format!("{name}: AUC of each measure alone: {}", alone.join(", ")));
        let beside: Vec<String> =
            report.other_auc.iter().map(|(measure, auc)| format!("{} {auc:.3}", measure.label())).collect();
        output::line(format!("{name}: AUC of other measures: {}", beside.join(", ")));
        let pan = &report.pan;
        output::line(format!(
            "{name}: c@1 {:.3}, F0.5u {:.3}, F1 {:.3}, Brier {:.3} (as PAN has them, better when higher)",
            pan.c_at_1, pan.f_0_5_u, pan.f1, pan.brier_complement
        ));
        let authors: Vec<String> = report.by_author.iter().map(|one| format!("{} {:.3}", one.name, one.auc)).collect();
        output::line(format!("{name}: AUC by author: {}", authors.join(", ")));
    }
    for AttributionOutcome { name, texts, expected_author } in &outcome.attributions {
        let counts: Vec<String> =
            expected_author.iter().map(|(measure, count)| format!("{measure} {count} of {texts}")).collect();
        output::line(format!("{name}: {}", counts.join(", ")));
    }
    output::line(if outcome.passed { "passed" } else { "not passed: see `[expect]` of the suite" });
}
