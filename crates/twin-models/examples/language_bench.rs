//! Measures the language engine on one model: training, prompts, decoding, evaluation, and memory.
//!
//!     cargo run --release -p twin-models --example language_bench -- MODEL [THREADS]
//!
//! Prints one figure per line: tokens per second of wall clock, the best of a few repetitions because a shared machine only
//! ever makes them worse, and in brackets tokens per second of one core's time, which other processes hardly change. The
//! memory is the largest that the process held so far.

#![expect(clippy::print_stdout, reason = "the figures are the product")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use twin_domain::CancelFlag;
use twin_models::language::{
    GenerateRequest, Input, LanguageModel, Llama, LoadOptions, LoraConfig, Sampling, Trainer, TrainerConfig,
    TrainingExample,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: language_bench MODEL [THREADS]")?;
    let threads = arguments.next().map(|threads| threads.parse()).transpose()?;
    let start = Instant::now();
    let options = LoadOptions { name: "bench".to_owned(), threads, ..LoadOptions::default() };
    let model = Arc::new(Llama::load(Path::new(&path), options)?);
    println!("load                        {:8.2} s", start.elapsed().as_secs_f64());
    report_memory("after loading");
    training(&model, 1, 512, 0.0)?;
    training(&model, 1, 512, 0.05)?;
    training(&model, 6, 160, 0.05)?;
    evaluation(&model)?;
    report_memory("after training");
    let start = Instant::now();
    model.prepare_decoding();
    println!("rounding to eight bits      {:8.2} s", start.elapsed().as_secs_f64());
    for (prompt, with_adapter) in [(32, false), (512, false), (1000, false), (32, true), (1000, true)] {
        generation(&model, prompt, with_adapter)?;
    }
    report_memory("at the end");
    Ok(())
}

/// Tokens without meaning, different for every salt.
fn tokens(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| (17 + (i * 7919 + salt * 104_729) % 40_000) as u32).collect()
}

fn training(model: &Arc<Llama>, examples: usize, length: usize, dropout: f32) -> Result<(), Failure> {
    let lora = LoraConfig { dropout, ..LoraConfig::default() };
    let mut trainer = Trainer::new(Arc::clone(model), TrainerConfig { lora, ..TrainerConfig::default() })?;
    let batch: Vec<TrainingExample> =
        (0..examples).map(|salt| TrainingExample::new(tokens(length, salt), vec![true; length])).collect();
    let mut best = Rate::default();
    for _ in 0..3 {
        let start = Clock::start();
        let loss = trainer.accumulate(&batch)?;
        trainer.apply(1e-4, Some(1.0), loss.target_tokens)?;
        best.take(start.rate(examples * length));
    }
    println!("train {examples} x {length:4}, dropout {dropout:4} {best}");
    Ok(())
}

fn evaluation(model: &Llama) -> Result<(), Failure> {
    let start = Clock::start();
    let nll = model.nll(None, &tokens(1024, 5), &[true; 1024])?;
    println!("evaluate 1024               {}", start.rate(nll.tokens));
    Ok(())
}

fn generation(model: &Arc<Llama>, prompt: usize, with_adapter: bool) -> Result<(), Failure> {
    let adapter = if with_adapter {
        let trainer = Trainer::new(Arc::clone(model), TrainerConfig::default())?;
        Some(Arc::new(trainer.adapter().clone()))
    } else {
        None
    };
    let (mut prefill, mut decode) = (Rate::default(), Rate::default());
    for salt in 0..3 {
        let request = |new_tokens| GenerateRequest {
            input: Input::Tokens(tokens(prompt, 100 * prompt + salt)),
            adapter: adapter.clone(),
            sampling: Sampling::greedy(new_tokens),
        };
        // The second request finds the prompt read, so it measures decoding alone.
        let start = Clock::start();
        model.generate(&request(1), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()))?;
        prefill.take(start.rate(prompt));
        let start = Clock::start();
        let answer = model.generate(&request(64), &CancelFlag::new(), &mut |_| ControlFlow::Continue(()))?;
        decode.take(start.rate(answer.usage.new_tokens));
    }
    let adapter = if with_adapter { "adapter" } else { "base" };
    println!("prompt of {prompt:4}, {adapter:7}     {prefill}; then {decode}");
    Ok(())
}

/// Wall clock and the time of all cores, of this process.
struct Clock {
    start: Instant,
    core_seconds: f64,
}

/// Tokens per second, of wall clock and of one core's time.
#[derive(Default)]
struct Rate {
    wall: f64,
    core: f64,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), core_seconds: core_seconds() }
    }

    fn rate(&self, tokens: usize) -> Rate {
        let core = core_seconds() - self.core_seconds;
        Rate { wall: tokens as f64 / self.start.elapsed().as_secs_f64(), core: tokens as f64 / core.max(1e-9) }
    }
}

impl Rate {
    /// Keeps the better of both.
    fn take(&mut self, other: Self) {
        self.wall = self.wall.max(other.wall);
        self.core = self.core.max(other.core);
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7.1} tokens/s ({:6.1} per core)", self.wall, self.core)
    }
}

/// The time that all cores spent on this process; 0 where the system does not say.
fn core_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    // A tick is a hundredth of a second on every Linux of today.
    ticks / 100.0
}

/// The largest resident set so far, where the system says.
fn report_memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    println!("peak memory {when:15} {peak}");
}
