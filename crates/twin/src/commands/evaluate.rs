//! `twin evaluate`: the evaluation of a registered version, with what it wrote.

use anyhow::Context;
use twin_domain::{ModelRegistry, ModelVersionId};
use twin_training_pipeline::evaluate::{EvaluationReport, table};
use twin_training_pipeline::registration::read_evaluation;

use crate::output;
use crate::wiring::Wiring;

pub fn run(wiring: &Wiring, id: &ModelVersionId) -> anyhow::Result<bool> {
    let directory = wiring.registry()?.open(id)?;
    let evaluation = read_evaluation(&directory).with_context(|| format!("{id} has no evaluation that can be read"))?;
    output::result(wiring.json, &evaluation, print)?;
    Ok(evaluation.helps())
}

fn print(evaluation: &EvaluationReport) {
    table::predictions(evaluation).iter().for_each(output::line);
    output::table(&table::HEADER, table::rows(evaluation).into_iter().map(Vec::from));
    for report in &evaluation.arms {
        for sample in &report.samples {
            output::line(format!("\n## {}: {}\n\n{}", report.arm.label(), sample.title, sample.text));
        }
    }
}
