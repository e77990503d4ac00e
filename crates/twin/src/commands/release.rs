//! `twin release`: what serves, and how it came to.

use anyhow::{Context, ensure};
use twin_domain::{
    Arm, AuthorId, Change, FeatureViewId, Gate, ModelRegistry, ModelVersionId, Occasion, Promotion, Release, Traffic,
};
use twin_inference_pipeline::conversations::{Conversations, OutcomeKind};
use twin_inference_pipeline::experiment::{ArmOutcomes, ExperimentReport, report};
use twin_models::prompt::PromptSet;
use twin_training_pipeline::gate::GateReport;

use crate::args::{PromoteArguments, ReleaseCommand, SplitArguments};
use crate::output;
use crate::wiring::Wiring;

pub mod gate;

pub async fn run(wiring: &Wiring, command: ReleaseCommand) -> anyhow::Result<bool> {
    match command {
        ReleaseCommand::Status { author } => status(wiring, author).await,
        ReleaseCommand::Create { model, view } => create(wiring, &model, view),
        ReleaseCommand::Promote(arguments) => promote(wiring, &arguments).await,
        ReleaseCommand::Gate { author, report } => show_report(wiring, &author, &report),
        ReleaseCommand::Rollback { author, reason } => rollback(wiring, &author, &reason),
        ReleaseCommand::Split(arguments) => split(wiring, &arguments),
        ReleaseCommand::History { author } => history(wiring, &author),
    }
}

async fn status(wiring: &Wiring, author: Option<AuthorId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let conversations = Conversations::open(&wiring.config.conversations()).await?;
    let mut reports = Vec::new();
    for author in wiring.authors(author)? {
        reports.extend(report(&*registry, &conversations, &author).await?);
    }
    let shadows = |report: &ExperimentReport| {
        report.shadow.as_ref().map(|shadow| registry.release(&report.author, shadow.release)).transpose()
    };
    let shadows: Vec<_> = reports.iter().map(shadows).collect::<Result<_, _>>()?;
    output::result(wiring.json, &reports, |reports| {
        let releases = |(report, shadow): (&ExperimentReport, &Option<Release>)| {
            let arms = report.arms.iter().map(|arm| &arm.release).chain(shadow);
            arms.map(|release| row(&report.traffic, release)).collect::<Vec<_>>()
        };
        let rows = reports.iter().zip(&shadows).flat_map(releases);
        output::table(&["author", "release", "new conversations", "model", "features", "prompt"], rows);
        reports.iter().for_each(print_outcomes);
    })?;
    Ok(true)
}

/// How the arms fare, where there is more than one.
fn print_outcomes(report: &ExperimentReport) {
    if let Some(shadow) = &report.shadow {
        let (release, answers, seconds) = (shadow.release, shadow.answers, shadow.mean_seconds);
        output::line(format!("release {release} answered {answers} times unseen, in {seconds:.2} s on average"));
    }
    if report.comparisons.is_empty() {
        return;
    }
    output::line(format!("\n{} since {}", report.author, report.traffic.since.strftime("%Y-%m-%d %H:%M UTC")));
    let cell = |arm: &ArmOutcomes, kind: OutcomeKind| {
        arm.means.get(&kind).map_or_else(|| "-".to_owned(), |mean| format!("{:.3} of {}", mean.mean, mean.count))
    };
    let rows = report.arms.iter().map(|arm| {
        let figures = OutcomeKind::ALL.map(|kind| cell(arm, kind));
        [arm.release.number.to_string(), arm.conversations.to_string()].into_iter().chain(figures).collect()
    });
    let head = ["release", "conversations", "helpful", "asked again", "copied", "seconds", "changed before publishing"];
    output::table(&head, rows);
    let rows = report.comparisons.iter().map(|one| {
        vec![
            format!("{} against {}", one.release, report.traffic.release),
            one.outcome.to_string(),
            format!("{:+.3} ({:+.3} to {:+.3})", one.difference, one.interval.0, one.interval.1),
            format!("{:.3}", one.p_value),
            one.verdict.to_string(),
        ]
    });
    output::table(&["", "outcome", "difference", "p", "verdict"], rows);
    output::line(format!(
        "the chance that any line says better or worse where nothing differs is {}% over the life of the split, however often \
         one looks; seconds are compared by their logarithms",
        report.error_rate * 100.0
    ));
}

fn row(traffic: &Traffic, release: &Release) -> Vec<String> {
    let given: u32 = traffic.arms.iter().map(|arm| arm.percent).sum();
    let share = match traffic.arms.iter().find(|arm| arm.release == release.number) {
        Some(arm) => format!("{}%", arm.percent),
        None if traffic.release == release.number => format!("{}%", 100 - given.min(100)),
        None => "unseen".to_owned(),
    };
    vec![
        release.author.to_string(),
        release.number.to_string(),
        share,
        release.model.to_string(),
        release.feature_view.to_string(),
        release.prompt.to_string(),
    ]
}

fn create(wiring: &Wiring, model: &ModelVersionId, view: Option<FeatureViewId>) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let version = registry.version(model)?;
    let release = registry.create_release(model, &view.unwrap_or(version.feature_view), &version.prompt)?;
    output::result(wiring.json, &release, |release| {
        output::line(format!(
            "release {} of {}: {}, {}, {}; it does not serve yet",
            release.number, release.author, release.model, release.feature_view, release.prompt
        ));
    })?;
    remark_prompt(&release)?;
    Ok(true)
}

/// Prompts are compiled in, so a release of another prompt version is answered with the prompts that this program has.
fn remark_prompt(release: &Release) -> anyhow::Result<()> {
    let prompts = PromptSet::builtin()?;
    if *prompts.version() != release.prompt {
        output::remark(format!(
            "release {} was made with the prompts {}, and this program has {}, which it would answer with",
            release.number,
            release.prompt,
            prompts.version()
        ));
    }
    Ok(())
}

/// Passes when the candidate was promoted.
async fn promote(wiring: &Wiring, arguments: &PromoteArguments) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let PromoteArguments { model, reason, .. } = arguments;
    let version = registry.version(model)?;
    let prepared = arguments.release.map(|number| registry.release(&model.author, number)).transpose()?;
    if let Some(release) = &prepared {
        ensure!(release.model == *model, "release {} is of {} and not of {model}", release.number, release.model);
    }
    let view = prepared.as_ref().map_or(&version.feature_view, |release| &release.feature_view);
    let asked = gate::ask(wiring, model, view, arguments.gate.as_deref()).await?;
    if let Some((report, digest)) = &asked {
        output::result(wiring.json, report, gate::print)?;
        output::remark(format!("the report is kept as {}", digest.short()));
    }
    let Some(gate) = gate::record(asked.as_ref(), arguments.force) else {
        output::remark(format!("{model} was not promoted: --force does it all the same, and the record says so"));
        return Ok(false);
    };
    let release = match prepared {
        Some(release) => release,
        None => registry.create_release(model, &version.feature_view, &version.prompt)?,
    };
    let change = Change::Promote { release: release.number, gate };
    registry.change(&model.author, &change, &occasion(wiring, reason))?;
    output::remark(format!("release {} of {} serves: {model}", release.number, model.author));
    remark_prompt(&release)?;
    Ok(true)
}

/// A report of the gate that was kept, by the beginning of its digest as the history shows it.
fn show_report(wiring: &Wiring, author: &AuthorId, beginning: &str) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let mut digests = registry.history(author)?.into_iter().filter_map(|entry| match entry.gate {
        Gate::Passed { report } | Gate::Forced { report: Some(report) } => Some(report),
        _ => None,
    });
    let digest = digests.find(|digest| digest.as_str().starts_with(beginning));
    let digest = digest.with_context(|| format!("the history of `{author}` names no report {beginning}"))?;
    let report: GateReport = serde_json::from_slice(&registry.gate_report(author, &digest)?)?;
    output::result(wiring.json, &report, gate::print)?;
    Ok(report.passed)
}

fn occasion(wiring: &Wiring, reason: &str) -> Occasion {
    Occasion::new(wiring.operator(), reason)
}

fn rollback(wiring: &Wiring, author: &AuthorId, reason: &str) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let before = registry.traffic(author)?.with_context(|| format!("no release of `{author}` was ever promoted"))?;
    let entry = registry.change(author, &Change::Rollback, &occasion(wiring, reason))?;
    output::line(match entry.release == before.release {
        true => format!("the split has ended: release {} of {author} has all conversations again", entry.release),
        false => format!("release {} of {author} serves again, in place of {}", entry.release, before.release),
    });
    Ok(true)
}

fn split(wiring: &Wiring, arguments: &SplitArguments) -> anyhow::Result<bool> {
    let registry = wiring.registry()?;
    let change = Change::Split { arms: arguments.arms.clone(), shadow: arguments.shadow };
    let entry = registry.change(&arguments.author, &change, &occasion(wiring, &arguments.reason))?;
    output::line(format!("{}: {}", arguments.author, shares(&entry)));
    Ok(true)
}

/// Who has which share, in words.
fn shares(entry: &Promotion) -> String {
    let share = |arm: &Arm| format!("release {} has {}%", arm.release, arm.percent);
    let mut parts: Vec<String> = entry.arms.iter().map(share).collect();
    let rest = 100 - entry.arms.iter().map(|arm| arm.percent).sum::<u32>().min(100);
    parts.insert(0, format!("release {} has {rest}%", entry.release));
    parts.extend(entry.shadow.map(|shadow| format!("release {shadow} answers unseen")));
    parts.join(", ")
}

fn history(wiring: &Wiring, author: &AuthorId) -> anyhow::Result<bool> {
    let history = wiring.registry()?.history(author)?;
    output::result(wiring.json, &history, |history| {
        let rows = history.iter().map(|entry| {
            let at = entry.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            vec![at, shares(entry), verdict(&entry.gate), entry.by.clone(), entry.reason.clone()]
        });
        output::table(&["when (UTC)", "what", "gate", "who", "why"], rows);
    })?;
    Ok(true)
}

fn verdict(gate: &Gate) -> String {
    match gate {
        Gate::NotAsked => "not asked".to_owned(),
        Gate::Passed { report } => format!("passed, report {}", report.short()),
        Gate::Forced { report: Some(report) } => format!("forced, report {}", report.short()),
        Gate::Forced { report: None } => "forced, unmeasured".to_owned(),
    }
}
