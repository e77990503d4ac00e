//! `twin runs`: what was trained or is being trained, and how runs differ.

use std::collections::BTreeMap;

use serde_json::Value;
use twin_training_pipeline::run::{RunReport, RunSummary, run as find, runs};

use crate::args::RunsCommand;
use crate::output;
use crate::wiring::Wiring;

pub fn run(wiring: &Wiring, command: &RunsCommand) -> anyhow::Result<bool> {
    let directory = wiring.config.runs();
    match command {
        RunsCommand::List => list(wiring, &runs(&directory)?)?,
        RunsCommand::Show { run } => show(wiring, &find(&directory, run)?)?,
        RunsCommand::Compare { runs } => {
            let runs = runs.iter().map(|name| find(&directory, name)).collect::<Result<Vec<_>, _>>()?;
            compare(wiring, &runs)?;
        }
    }
    Ok(true)
}

fn list(wiring: &Wiring, runs: &[RunSummary]) -> anyhow::Result<()> {
    output::result(wiring.json, &runs, |runs| {
        let rows = runs.iter().map(|run| {
            let RunSummary { name, manifest, steps, report, .. } = run;
            let told = |of: &dyn Fn(&twin_training_pipeline::run::RunManifest) -> String| {
                manifest.as_ref().map_or_else(|| "-".to_owned(), of)
            };
            vec![
                name.clone(),
                told(&|manifest| manifest.author.to_string()),
                told(&|manifest| manifest.method.as_str().to_owned()),
                told(&|manifest| manifest.parent.as_ref().map_or_else(String::new, |parent| parent.id.to_string())),
                if report.is_some() { "ended".to_owned() } else { "can go on".to_owned() },
                steps.to_string(),
                report.as_ref().map_or_else(String::new, |report| format!("{:.4}", report.calibration_loss)),
                report.as_ref().map_or_else(String::new, |report| format!("{:.0} s", report.seconds)),
                told(&|manifest| manifest.started_at.strftime("%Y-%m-%d %H:%M").to_string()),
            ]
        });
        let header = ["run", "author", "method", "from", "state", "steps", "best loss", "took", "began (UTC)"];
        output::table(&header, rows);
    })
}

fn show(wiring: &Wiring, run: &RunSummary) -> anyhow::Result<()> {
    if wiring.json {
        let curve = serde_json::to_value(&run.curve)?;
        let mut whole = serde_json::to_value(run)?;
        whole["curve"] = curve;
        output::line(serde_json::to_string_pretty(&whole)?);
        return Ok(());
    }
    let state = if run.report.is_some() { "ended" } else { "can go on: `twin train --resume`" };
    output::line(format!("{}: {} steps, {state}", run.name, run.steps));
    for (name, value) in facts(run) {
        output::line(format!("  {name:<28} {value}"));
    }
    for point in &run.curve.validation {
        let margin = point.margin.map_or_else(String::new, |margin| format!("  margin {margin:.3}"));
        let refused = if point.refused { "  not kept: the author's words became less likely" } else { "" };
        output::line(format!("  after step {:<6} calibration loss {:.4}{margin}{refused}", point.step, point.loss));
    }
    if run.report.is_some() {
        let directory = wiring.config.runs().join(&run.name).join("artefacts");
        output::line(format!("  the curve: {}", directory.join("curve.svg").display()));
    }
    Ok(())
}

fn compare(wiring: &Wiring, runs: &[RunSummary]) -> anyhow::Result<()> {
    let columns: Vec<BTreeMap<String, String>> = runs.iter().map(facts).collect();
    let mut names: Vec<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let cell = |column: &BTreeMap<String, String>, name: &str| column.get(name).cloned().unwrap_or_default();
    let differing: Vec<Vec<String>> = names
        .into_iter()
        .map(|name| std::iter::once(name.clone()).chain(columns.iter().map(|column| cell(column, name))).collect())
        .filter(|row: &Vec<String>| row[1..].iter().any(|value| *value != row[1]))
        .collect();
    output::result(wiring.json, &differing, |rows| {
        let header: Vec<&str> = std::iter::once("").chain(runs.iter().map(|run| run.name.as_str())).collect();
        output::table(&header, rows.iter().cloned());
    })
}

/// Everything about a run by name, in words.
fn facts(run: &RunSummary) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut tell = |name: &str, value: String| {
        facts.insert(name.to_owned(), value);
    };
    if let Some(manifest) = &run.manifest {
        tell("author", manifest.author.to_string());
        tell("training set", manifest.training_set.to_string());
        tell("base", manifest.base.name.clone());
        tell("method", manifest.method.as_str().to_owned());
        tell("began (UTC)", manifest.started_at.strftime("%Y-%m-%d %H:%M:%S").to_string());
        if let Some(parent) = &manifest.parent {
            tell("from", parent.id.to_string());
        }
    }
    let config = run.manifest.as_ref().map(|manifest| &manifest.config).or(run.report.as_ref().map(|r| &r.config));
    if let Some(Ok(Value::Object(settings))) = config.map(serde_json::to_value) {
        settings.iter().for_each(|(name, value)| tell(&format!("set {name}"), value.to_string()));
    }
    tell("steps", run.steps.to_string());
    if let Some(report) = &run.report {
        tell_of_end(report, &mut tell);
    }
    facts
}

fn tell_of_end(report: &RunReport, tell: &mut impl FnMut(&str, String)) {
    tell("best step", report.best_step.to_string());
    tell("calibration loss", format!("{:.4} -> {:.4}", report.calibration_loss_before, report.calibration_loss));
    tell("examples", format!("{} + {} to calibrate", report.train_examples, report.calibration_examples));
    tell("tokens", report.tokens.to_string());
    tell("took", format!("{:.0} s", report.seconds));
    tell("tokens/s", format!("{:.0}", report.tokens as f64 / report.seconds.max(1e-9)));
    if let Some(estimate) = &report.estimate {
        let (at, seconds) = (estimate.at_step, estimate.seconds);
        tell("expected", format!("{seconds:.0} s for {} steps, said after step {at}", estimate.planned_steps));
    }
    if let Some(preference) = &report.preference {
        tell("margin", format!("{:.3} -> {:.3}", preference.before.margin, preference.after.margin));
        tell("preferred", format!("{:.0}%", preference.after.accuracy * 100.0));
    }
}
