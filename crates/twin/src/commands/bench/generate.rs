//! `twin bench generate`: how fast prompts are read and answers written, what reuse, guessing ahead and writing answers together
//! bring, and how near that is to what the machine can do; beside llama.cpp where `--peer-command` says how to run it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use twin_domain::{CancelFlag, ChatMessage};
use twin_models::language::{
    Adapter, GenerateError, GenerateRequest, Generation, Input, LanguageModel, Listener, Llama, LoraConfig, Sampling,
};

use super::train::{load_average, peak_memory};
use crate::args::GenerateBenchArguments;
use crate::output;
use crate::wiring::{Wiring, blocking};

/// Lengths of prompts, as far as the model's context goes.
const PROMPTS: [usize; 3] = [256, 1000, 4000];
/// Tokens before the ones whose writing is measured.
const CONTEXTS: [usize; 2] = [8, 1000];
/// Answers written together.
const TOGETHER: [usize; 3] = [1, 4, 16];
const NEW_TOKENS: usize = 64;
/// Tokens of passages in a prompt, and of the answer before the next question.
const PASSAGES: usize = 900;
const ANSWER: usize = 40;
/// Tokens of the text whose perplexity is taken.
const TEXT: usize = 400;
const STOPPED: &str = "stopped; run the same command again to start anew";
/// Voices in the batch that has several.
const VOICES: usize = 4;

/// What both sides measure.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Figures {
    /// Tokens a second by length of the prompt.
    prefill: BTreeMap<usize, f64>,
    /// Tokens a second, one at a time, by length of what is before.
    decode: BTreeMap<usize, f64>,
    /// Seconds to the first token of an answer from passages, and of the next answer in the same conversation.
    first_token_cold: f64,
    first_token_next: f64,
    /// Of the sample posts, as the model is when it answers: what rounding costs.
    #[serde(default)]
    perplexity: Option<f64>,
    peak_memory_mb: Option<u64>,
}

/// What the peer's program prints.
#[derive(Debug, Serialize, Deserialize)]
struct Peer {
    name: String,
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Guessing {
    plain_tokens_per_second: f64,
    tokens_per_second: f64,
    guessed: usize,
    right: usize,
}

/// Answers of [`NEW_TOKENS`] tokens written together.
#[derive(Debug, Serialize)]
struct Throughput {
    answers: usize,
    voices: usize,
    /// Of all together.
    tokens_per_second: f64,
    /// Between the end of the first answer and of the last, as a share of the whole time.
    spread: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    parameters: usize,
    threads: usize,
    /// Whether another thread burnt a core all the while.
    beside_a_busy_core: bool,
    load_average: Option<f64>,
    figures: Figures,
    /// Prompt tokens of the first and of the next question.
    question_tokens: [usize; 2],
    guessing: Guessing,
    throughput: Vec<Throughput>,
    /// Bytes a second that the threads read from memory, and the share of it that decoding reaches.
    memory_gb_per_second: f64,
    memory_share: f64,
    /// Floating-point operations a second of a large product, and the share of it that prompts of 1000 tokens reach.
    matmul_gflops: f64,
    matmul_share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Peer>,
}

pub async fn run(wiring: &Wiring, arguments: GenerateBenchArguments) -> anyhow::Result<bool> {
    let model = wiring.local_answering_model().await?;
    let (models, name) = (Arc::clone(&wiring.models), wiring.config.models.base.clone());
    let (progress, cancel, json) = (Arc::clone(&wiring.progress), wiring.cancel.clone(), wiring.json);
    blocking(move || -> anyhow::Result<bool> {
        let file = models.language_model_file(&name, progress.as_ref(), &cancel)?;
        let burner = arguments.busy.then(Burner::start);
        let mut report = measure(&model, arguments.busy, &cancel)?;
        report.peer = match (&arguments.peer_command, &arguments.peer) {
            (Some(command), _) => Some(run_peer(command, &file, &report, &text(&model)?)?),
            (None, Some(path)) => Some(
                serde_json::from_slice(&fs_err::read(path)?)
                    .with_context(|| format!("`{}` does not have a peer's figures", path.display()))?,
            ),
            (None, None) => None,
        };
        drop(burner);
        output::result(json, &report, print)?;
        Ok(true)
    })
    .await
}

fn measure(model: &Arc<Llama>, busy: bool, cancel: &CancelFlag) -> anyhow::Result<Report> {
    model.prepare_decoding();
    generate(model, tokens(64, 0), 8, cancel)?;
    let mut figures = Figures::default();
    model.guess_ahead(false);
    let mut salt = 0;
    for prompt in PROMPTS.into_iter().filter(|prompt| prompt + 1 < model.context_length()) {
        let rate = best(if prompt > 2000 { 2 } else { 3 }, || {
            salt += 1;
            Ok(generate(model, tokens(prompt, salt), 1, cancel)?.timings.prefill_tokens_per_second)
        })?;
        figures.prefill.insert(prompt, rate);
    }
    for context in CONTEXTS {
        let rate = best(3, || {
            salt += 1;
            Ok(generate(model, tokens(context, salt), NEW_TOKENS, cancel)?.timings.decode_tokens_per_second)
        })?;
        figures.decode.insert(context, rate);
    }
    let throughput = throughput(model, cancel)?;
    model.guess_ahead(true);
    let question_tokens = questions(model, &mut figures, cancel)?;
    let guessing = guessing(model, cancel)?;
    let text = text(model)?;
    let nll = model.nll(None, &text, &vec![true; text.len()])?;
    figures.perplexity = Some((nll.nats / nll.tokens as f64).exp());
    figures.peak_memory_mb = peak_memory();
    let (memory, products) = (model.memory_rate(), model.matmul_rate());
    let parameters = model.info().parameters;
    let decode = figures.decode.get(&CONTEXTS[0]).copied().unwrap_or_default();
    let prefill = figures.prefill.get(&PROMPTS[1]).copied().unwrap_or_default();
    Ok(Report {
        model: model.info().name.clone(),
        parameters,
        threads: model.threads(),
        beside_a_busy_core: busy,
        load_average: load_average(),
        question_tokens,
        guessing,
        throughput,
        memory_gb_per_second: memory / 1e9,
        memory_share: decode * model.bytes_per_token() as f64 / memory,
        matmul_gflops: products / 1e9,
        matmul_share: prefill * 2.0 * model.parameters_per_prompt_token() as f64 / products,
        figures,
        peer: None,
    })
}

/// Tokens without meaning, different for every salt from the first on: speed does not depend on what they are.
fn tokens(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| (17 + (i * 7919 + salt * 104_729) % 40_000) as u32).collect()
}

fn best(runs: usize, mut measure: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..runs {
        best = best.max(measure()?);
    }
    Ok(best)
}

fn generate(model: &Llama, tokens: Vec<u32>, new_tokens: usize, cancel: &CancelFlag) -> anyhow::Result<Generation> {
    let vocabulary = model.info().vocab_size as u32;
    let tokens = tokens.into_iter().map(|token| token % vocabulary).collect();
    let request =
        GenerateRequest { input: Input::Tokens(tokens), adapter: None, sampling: Sampling::greedy(new_tokens) };
    write(model, &request, cancel)
}

/// Writes an answer to its end.
fn write(model: &Llama, request: &GenerateRequest, cancel: &CancelFlag) -> anyhow::Result<Generation> {
    let generation = model.generate(request, cancel, &mut |_| ControlFlow::Continue(()))?;
    anyhow::ensure!(!cancel.is_cancelled(), STOPPED);
    Ok(generation)
}

/// A question about passages from the sample posts, then one more in the same conversation: the time to both first tokens.
fn questions(model: &Llama, figures: &mut Figures, cancel: &CancelFlag) -> anyhow::Result<[usize; 2]> {
    let (mut question_tokens, mut times) = ([0; 2], [f64::INFINITY; 2]);
    for run in 0..2 {
        let passages = passages(model, run)?;
        let mut messages = vec![
            ChatMessage::system("You answer as the author of the passages, from them alone."),
            ChatMessage::user(format!("{passages}\n\nWhat do these passages say, in short?")),
        ];
        for turn in 0..2 {
            let request = GenerateRequest {
                input: Input::Messages(messages.clone()),
                adapter: None,
                sampling: Sampling::greedy(ANSWER),
            };
            let generation = write(model, &request, cancel)?;
            question_tokens[turn] = generation.usage.prompt_tokens;
            times[turn] = times[turn].min(generation.timings.time_to_first_token.as_secs_f64());
            messages.push(ChatMessage::assistant(generation.text));
            messages.push(ChatMessage::user("And why does that matter to the author?"));
        }
    }
    [figures.first_token_cold, figures.first_token_next] = times;
    Ok(question_tokens)
}

/// Some [`PASSAGES`] tokens of the sample posts; other ones for every `skip`.
fn passages(model: &Llama, skip: usize) -> anyhow::Result<String> {
    let text = crate::commands::quickstart::sample_texts().join("\n\n");
    let tokens = model.encode(&text)?;
    let from = (skip * PASSAGES).min(tokens.len().saturating_sub(PASSAGES));
    Ok(model.decode(&tokens[from..tokens.len().min(from + PASSAGES)])?)
}

/// The beginning of the sample posts.
fn text(model: &Llama) -> anyhow::Result<Vec<u32>> {
    let mut tokens = model.encode(&crate::commands::quickstart::sample_texts().join("\n\n"))?;
    tokens.truncate(TEXT);
    Ok(tokens)
}

/// What guessing ahead brings where an answer quotes its passages.
fn guessing(model: &Llama, cancel: &CancelFlag) -> anyhow::Result<Guessing> {
    let passages = passages(model, 2)?;
    let request = GenerateRequest {
        input: Input::Messages(vec![
            ChatMessage::system("You answer from the passages alone, in their words."),
            ChatMessage::user(format!("{passages}\n\nQuote what the first passage says.")),
        ]),
        adapter: None,
        sampling: Sampling::greedy(2 * NEW_TOKENS),
    };
    let again = |ahead: bool| -> anyhow::Result<Generation> {
        model.guess_ahead(ahead);
        // The second time the prompt is known.
        write(model, &request, cancel)?;
        write(model, &request, cancel)
    };
    let (plain, guessed) = (again(false)?, again(true)?);
    anyhow::ensure!(plain.text == guessed.text, "guessing ahead changed an answer");
    Ok(Guessing {
        plain_tokens_per_second: plain.timings.decode_tokens_per_second,
        tokens_per_second: guessed.timings.decode_tokens_per_second,
        guessed: guessed.usage.guessed_tokens,
        right: guessed.usage.right_guesses,
    })
}

/// Waits for one of several answers.
struct Counter(mpsc::Sender<Result<(Generation, Instant), GenerateError>>);

impl Listener for Counter {
    fn text(&mut self, _: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn end(self: Box<Self>, result: Result<Generation, GenerateError>) {
        // The receiver outlives the batch.
        let _ = self.0.send(result.map(|generation| (generation, Instant::now())));
    }
}

fn throughput(model: &Arc<Llama>, cancel: &CancelFlag) -> anyhow::Result<Vec<Throughput>> {
    let voices: Vec<_> = (0..VOICES).map(|seed| voice(model, seed as u64)).collect::<Result<_, _>>()?;
    let none: &[Arc<Adapter>] = &[];
    let mut results = Vec::new();
    for (answers, voices) in TOGETHER.into_iter().map(|answers| (answers, none)).chain([(TOGETHER[2], &*voices)]) {
        let (sender, endings) = mpsc::channel();
        let mut batch = model.batch();
        let began = Instant::now();
        for index in 0..answers {
            let request = GenerateRequest {
                input: Input::Tokens(tokens(32, 1000 + 100 * answers + voices.len() + index)),
                adapter: (!voices.is_empty()).then(|| Arc::clone(&voices[index % voices.len()])),
                sampling: Sampling::greedy(NEW_TOKENS),
            };
            batch.add(request, cancel.clone(), Box::new(Counter(sender.clone())));
        }
        drop(sender);
        while !batch.is_empty() {
            batch.step();
        }
        anyhow::ensure!(!cancel.is_cancelled(), STOPPED);
        let (mut tokens, mut ends) = (0, Vec::new());
        for ending in endings {
            let (generation, end) = ending?;
            tokens += generation.usage.new_tokens;
            ends.push(end.duration_since(began).as_secs_f64());
        }
        let last = ends.iter().copied().fold(0.0, f64::max);
        let first = ends.iter().copied().fold(last, f64::min);
        results.push(Throughput {
            answers,
            voices: voices.len(),
            tokens_per_second: tokens as f64 / last,
            spread: (last - first) / last,
        });
    }
    Ok(results)
}

/// An adapter as large as a trained one; what it says does not matter here.
fn voice(model: &Llama, seed: u64) -> anyhow::Result<Arc<Adapter>> {
    Ok(Arc::new(model.untrained_adapter(LoraConfig::default(), seed)?))
}

/// A thread that does nothing but take a core's time.
struct Burner {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Burner {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // It cannot panic.
        }
    }
}

/// Runs the peer on the same file, with as many threads, prompts of the same lengths and the same text.
fn run_peer(command: &str, file: &Path, report: &Report, text: &[u32]) -> anyhow::Result<Peer> {
    let mut words = command.split_whitespace();
    let program = words.next().context("--peer-command is empty")?;
    let [first, next] = report.question_tokens;
    let output = Command::new(program)
        .args(words)
        .arg(file)
        .args([report.threads, first, next, ANSWER].map(|number| number.to_string()))
        .arg(serde_json::to_string(text)?)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not run `{program}`"))?;
    anyhow::ensure!(output.status.success(), "`{command}` failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("`{command}` did not print its figures as JSON"))
}

fn print(report: &Report) {
    let Report { model, parameters, threads, figures, throughput, guessing, .. } = report;
    let load = report.load_average.map_or(String::new(), |load| format!(", load average {load:.1}"));
    let busy = if report.beside_a_busy_core { ", beside a busy core" } else { "" };
    output::line(format!("{model}: {parameters} parameters, {threads} threads{load}{busy}"));
    let peer = report.peer.as_ref();
    if let Some(peer) = peer {
        output::line(format!("beside {}", peer.name));
    }
    let other = |of: fn(&Figures) -> Option<f64>| peer.and_then(|peer| of(&peer.figures));
    for (tokens, rate) in &figures.prefill {
        let theirs = peer.and_then(|peer| peer.figures.prefill.get(tokens).copied());
        compare(&format!("prompt of {tokens} tokens"), *rate, theirs, "tokens/s");
    }
    for (tokens, rate) in &figures.decode {
        let theirs = peer.and_then(|peer| peer.figures.decode.get(tokens).copied());
        compare(&format!("writing after {tokens} tokens"), *rate, theirs, "tokens/s");
    }
    let [first, next] = report.question_tokens;
    let cold = other(|figures| Some(figures.first_token_cold));
    compare(&format!("first token, {first} tokens of question"), figures.first_token_cold, cold, "s");
    let again = other(|figures| Some(figures.first_token_next));
    compare(&format!("first token, next question ({next})"), figures.first_token_next, again, "s");
    if let Some(perplexity) = figures.perplexity {
        compare("perplexity of the sample posts", perplexity, other(|figures| figures.perplexity), "");
    }
    if let Some(peak) = figures.peak_memory_mb {
        let theirs = other(|figures| figures.peak_memory_mb.map(|peak| peak as f64));
        compare("peak memory", peak as f64, theirs, "MB");
    }
    output::line(format!(
        "guessing ahead: {:.1} tokens/s, {:.1} without; {} of {} guesses came true",
        guessing.tokens_per_second, guessing.plain_tokens_per_second, guessing.right, guessing.guessed
    ));
    for Throughput { answers, voices, tokens_per_second, spread } in throughput {
        let voices = if *voices == 0 { String::new() } else { format!(" in {voices} voices") };
        let spread = spread * 100.0;
        output::line(format!(
            "{answers} answers together{voices}: {tokens_per_second:.1} tokens/s in all; the first ends {spread:.0}% before the last"
        ));
    }
    output::line(format!(
        "memory: {:.1} GB/s, of which writing reaches {:.0}%; products of matrices: {:.0} GFLOP/s, of which prompts reach {:.0}%",
        report.memory_gb_per_second,
        report.memory_share * 100.0,
        report.matmul_gflops,
        report.matmul_share * 100.0
    ));
}

fn compare(what: &str, ours: f64, theirs: Option<f64>, unit: &str) {
    let digits = if matches!(unit, "s" | "") { 3 } else { 1 };
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    let beside =
        theirs.map_or(String::new(), |theirs| format!(" beside {theirs:.digits$} ({:.2} times)", ours / theirs));
    output::line(format!("{what}: {ours:.digits$}{unit}{beside}"));
}
