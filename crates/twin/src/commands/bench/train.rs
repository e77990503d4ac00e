//! `twin bench train`: how fast an adapter is trained, beside what the machine can multiply; and, with `--out`, all that
//! `eval/training/peer.py` needs to do the same with PyTorch and PEFT and to compare.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_models::language::{
    Adapter, ExportFormat, LanguageModel, Llama, LoraConfig, Trainer, TrainerConfig, TrainingExample,
};

use crate::args::TrainBenchArguments;
use crate::output;
use crate::wiring::{Wiring, blocking};

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    parameters: usize,
    adapter_parameters: usize,
    rank: usize,
    tokens: usize,
    threads: usize,
    /// Of the fastest step and of the middle one.
    tokens_per_second: f64,
    median_tokens_per_second: f64,
    /// Of a large product of f32 matrices on the same threads, right after.
    matmul_gflops: f64,
    /// Share of that rate which the products that training cannot do without reach at the fastest step.
    matmul_share: f64,
    peak_memory_mb: Option<u64>,
    load_average: Option<f64>,
    /// Losses of the steps on the text, where `--out` asks for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<f64>,
}

/// Logits that one implementation computed for the other to compare.
#[derive(Debug, Serialize, Deserialize)]
struct Logits {
    tokens: Vec<u32>,
    /// After each of the last tokens.
    logits: Vec<Vec<f32>>,
}

const CURVE_STEPS: usize = 100;
const CURVE_TOKENS: usize = 128;
const CURVE_RATE: f32 = 1e-3;
/// After how many tokens logits are compared.
const COMPARED: usize = 8;

pub async fn run(wiring: &Wiring, arguments: TrainBenchArguments) -> anyhow::Result<bool> {
    let model = wiring.language_model().await?;
    let (models, name) = (Arc::clone(&wiring.models), wiring.config.models.base.clone());
    let (progress, cancel, json) = (Arc::clone(&wiring.progress), wiring.cancel.clone(), wiring.json);
    blocking(move || -> anyhow::Result<bool> {
        if let Some(directory) = &arguments.check {
            return check(&model, directory);
        }
        let mut report = speed(&model, &arguments)?;
        if let Some(directory) = &arguments.out {
            let source = models.language_model_file(&name, progress.as_ref(), &cancel)?;
            report.losses = exchange(&model, &source, directory, arguments.rank)?;
            write_json(&directory.join("ours.json"), &report)?;
        }
        output::result(json, &report, print)?;
        Ok(true)
    })
    .await
}

fn trainer_config(rank: usize) -> TrainerConfig {
    let lora = LoraConfig { rank, alpha: 2.0 * rank as f32, dropout: 0.0, ..LoraConfig::default() };
    TrainerConfig { lora, seed: 17, ..TrainerConfig::default() }
}

fn speed(model: &Arc<Llama>, arguments: &TrainBenchArguments) -> anyhow::Result<Report> {
    let TrainBenchArguments { tokens, rank, steps, .. } = *arguments;
    let tokens = usize::from(tokens);
    let mut trainer = Trainer::new(Arc::clone(model), trainer_config(rank))?;
    let vocabulary = model.info().vocab_size as u32;
    // What the tokens are makes no difference to the time.
    let token_ids = (0..tokens as u32).map(|index| index.wrapping_mul(7919) % vocabulary).collect();
    let example = TrainingExample::new(token_ids, vec![true; tokens]);
    let mut seconds = Vec::new();
    // The first step touches its memory for the first time and is not counted.
    for step in 0..=steps.max(1) {
        let began = Instant::now();
        let loss = trainer.accumulate(std::slice::from_ref(&example))?;
        trainer.apply(1e-4, Some(1.0), loss.target_tokens)?;
        if step > 0 {
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let (best, median) = (tokens as f64 / seconds[0], tokens as f64 / seconds[seconds.len() / 2]);
    let matmul_gflops = model.matmul_rate() / 1e9;
    let (parameters, adapter) = (model.info().parameters, trainer.adapter().parameters());
    // Forward and the gradient of activations: two operations a weight each. Adapters need their own gradient as well.
    let operations = (4 * parameters + 6 * adapter) as f64;
    Ok(Report {
        model: model.info().name.clone(),
        parameters,
        adapter_parameters: adapter,
        rank,
        tokens,
        threads: model.threads(),
        tokens_per_second: best,
        median_tokens_per_second: median,
        matmul_gflops,
        matmul_share: operations * best / (matmul_gflops * 1e9),
        peak_memory_mb: peak_memory(),
        load_average: load_average(),
        losses: Vec::new(),
    })
}

/// Writes base, fresh adapter and examples, trains, and writes what came of it.
fn exchange(model: &Arc<Llama>, source: &Path, directory: &Path, rank: usize) -> anyhow::Result<Vec<f64>> {
    model.export(None, source, &directory.join("base"), ExportFormat::SafetensorsF32)?;
    let mut trainer = Trainer::new(Arc::clone(model), trainer_config(rank))?;
    trainer.adapter().save(&directory.join("start"), "base")?;
    let examples = examples(model)?;
    write_json(&directory.join("examples.json"), &examples)?;
    let mut losses = Vec::new();
    for token_ids in &examples {
        let example = TrainingExample::new(token_ids.clone(), vec![true; token_ids.len()]);
        let loss = trainer.accumulate(std::slice::from_ref(&example))?;
        losses.push(loss.mean());
        trainer.apply(CURVE_RATE, Some(1.0), loss.target_tokens)?;
    }
    trainer.adapter().save(&directory.join("trained"), "base")?;
    let tokens = examples.first().cloned().unwrap_or_default();
    let logits = logits(model, trainer.adapter(), &tokens)?;
    write_json(&directory.join("trained/logits.json"), &Logits { tokens, logits })?;
    Ok(losses)
}

/// The sample authors' posts in pieces of one length.
fn examples(model: &Llama) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut tokens = Vec::new();
    for text in crate::commands::quickstart::sample_texts() {
        tokens.extend(model.encode(text)?);
    }
    let pieces: Vec<Vec<u32>> = tokens.chunks_exact(CURVE_TOKENS).take(CURVE_STEPS).map(<[u32]>::to_vec).collect();
    anyhow::ensure!(pieces.len() == CURVE_STEPS, "the sample posts are too short for {CURVE_STEPS} steps");
    Ok(pieces)
}

fn logits(model: &Llama, adapter: &Adapter, tokens: &[u32]) -> anyhow::Result<Vec<Vec<f32>>> {
    let flat = model.logits(Some(adapter), tokens, COMPARED)?;
    Ok(flat.chunks(model.info().vocab_size).map(<[f32]>::to_vec).collect())
}

/// Compares the adapter that the peer trained with what the peer computes with it.
fn check(model: &Llama, directory: &Path) -> anyhow::Result<bool> {
    let place = directory.join("peer");
    let adapter = model.load_adapter(&place)?;
    let path = place.join("logits.json");
    let text =
        std::fs::read(&path).with_context(|| format!("could not read `{}`: run peer.py first", path.display()))?;
    let theirs: Logits = serde_json::from_slice(&text)?;
    let ours = logits(model, &adapter, &theirs.tokens)?;
    anyhow::ensure!(ours.len() == theirs.logits.len(), "`{}` has logits after other tokens", path.display());
    let pairs = ours.iter().zip(&theirs.logits).flat_map(|(ours, theirs)| ours.iter().zip(theirs));
    let most = pairs.map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0f32, f32::max);
    output::line(format!("the peer's adapter here: largest difference of a logit {most:.2e}"));
    Ok(most < 1e-3)
}

fn print(report: &Report) {
    let Report { model, parameters, adapter_parameters, rank, tokens, threads, .. } = report;
    output::line(format!(
        "{model}: {parameters} parameters, rank {rank} ({adapter_parameters} parameters), {threads} threads"
    ));
    output::line(format!(
        "training, sequences of {tokens} tokens: {:.1} tokens/s at best, {:.1} in the middle",
        report.tokens_per_second, report.median_tokens_per_second
    ));
    output::line(format!(
        "matmul f32: {:.0} GFLOP/s; training reaches {:.0}% of it",
        report.matmul_gflops,
        report.matmul_share * 100.0
    ));
    if let Some(peak) = report.peak_memory_mb {
        output::line(format!("peak memory: {peak} MB"));
    }
    if let Some(load) = report.load_average {
        output::line(format!("load average of the last minute: {load:.1}"));
    }
    if let (Some(first), Some(last)) = (report.losses.first(), report.losses.last()) {
        output::line(format!("losses of {} steps on the sample posts: {first:.3} to {last:.3}", report.losses.len()));
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("could not make `{}`", parent.display()))?;
    }
    std::fs::write(path, serde_json::to_vec(value)?).with_context(|| format!("could not write `{}`", path.display()))
}

/// The largest resident set of this process, where the system says.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes / 1024)
}

pub(super) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
