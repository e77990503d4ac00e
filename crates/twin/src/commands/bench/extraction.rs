//! `twin bench extraction`: main texts against two gold sets, beside trafilatura on the same pages in the same run.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page};

use crate::args::ExtractionArguments;
use crate::output;
use crate::wiring::Wiring;

/// The goal: so much more than the peer's F1, at so many times its speed.
const GOAL_F1: f64 = 0.01;
const GOAL_SPEED: f64 = 20.0;
/// Texts are compared by sequences of so many words.
const SHINGLE: usize = 5;
/// How often our side goes through a set on the clock.
const PASSES: u32 = 5;

/// A page with what its text should be.
struct Case {
    name: String,
    url: String,
    html: Vec<u8>,
    gold: Gold,
}

enum Gold {
    /// Strings that must and must not be in the text.
    Snippets { with: Vec<String>, without: Vec<String> },
    /// The text.
    Text(String),
}

/// How well and how fast somebody did on a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Score {
    set: &'static str,
    who: String,
    pages: usize,
    precision: f64,
    recall: f64,
    f1: f64,
    pages_per_second: f64,
    megabytes_per_second: f64,
}

/// Passes when every goal is reached; without the peer nothing is compared, and nothing fails.
pub fn run(wiring: &Wiring, arguments: &ExtractionArguments) -> anyhow::Result<bool> {
    let sets = [
        ("snippets", snippets(&arguments.data.join("extraction-trafilatura"))?),
        ("readability", readability(&arguments.data.join("extraction-readability"))?),
    ];
    let (mut scores, mut well) = (Vec::new(), true);
    for (set, cases) in &sets {
        let own = score(set, "twin", cases, &own_texts(cases));
        match peer_texts(arguments, cases) {
            Ok((who, texts)) => {
                let peer = score(set, &who, cases, &texts);
                well &= own.f1 >= peer.f1 + GOAL_F1 && own.pages_per_second >= GOAL_SPEED * peer.pages_per_second;
                scores.push(peer);
            }
            Err(error) => output::remark(format!("trafilatura was not measured: {error:#}")),
        }
        scores.push(own);
    }
    output::result(wiring.json, &scores, |scores| {
        output::table(&["set", "", "pages", "precision", "recall", "F1", "pages/s", "MB/s"], scores.iter().map(row));
        for pair in scores.chunks(2).filter(|pair| pair.len() == 2 && pair[0].set == pair[1].set) {
            output::line(format!(
                "{}: F1 {:+.4} against the peer (goal {GOAL_F1:+}), {:.1} times its speed (goal {GOAL_SPEED})",
                pair[0].set,
                pair[1].f1 - pair[0].f1,
                pair[1].pages_per_second / pair[0].pages_per_second
            ));
        }
    })?;
    Ok(well)
}

fn row(score: &Score) -> Vec<String> {
    let share = |value: f64| format!("{value:.4}");
    vec![
        score.set.to_owned(),
        score.who.clone(),
        score.pages.to_string(),
        share(score.precision),
        share(score.recall),
        share(score.f1),
        format!("{:.1}", score.pages_per_second),
        format!("{:.1}", score.megabytes_per_second),
    ]
}

// ---- The sets ----

fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs_err::read(path)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut text)
        .with_context(|| format!("`{}` cannot be unpacked", path.display()))?;
    Ok(text)
}

#[derive(Deserialize)]
struct SnippetCase {
    file: String,
    url: String,
    with: Vec<String>,
    without: Vec<String>,
}

fn snippets(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let gold = folder.join("gold.json");
    let cases: Vec<SnippetCase> = serde_json::from_slice(&fs_err::read(&gold)?)
        .with_context(|| format!("`{}` is no list of pages with their strings", gold.display()))?;
    let case = |case: SnippetCase| {
        let plain = folder.join(&case.file);
        let path = if plain.exists() { plain } else { folder.join(format!("{}.gz", case.file)) };
        let gold = Gold::Snippets { with: case.with, without: case.without };
        Ok(Case { name: case.file, url: case.url, html: unpacked(&path)?, gold })
    };
    cases.into_iter().map(case).collect()
}

fn readability(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = String::from_utf8_lossy(&unpacked(&path.join("expected.html.gz"))?).into_owned();
        let text = clean::html_text(&expected).with_context(|| format!("the gold text of `{name}` cannot be read"))?;
        let html = unpacked(&path.join("source.html.gz"))?;
        cases.push(Case { url: format!("http://fakehost/test/{name}"), name, html, gold: Gold::Text(text) });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

// ---- The texts ----

/// Texts by page, and the seconds that all of them took.
type Texts = (BTreeMap<String, String>, f64);

/// Once before the clock runs; the peer goes through its first ten pages: a site has more pages than these, and what is made for
/// the first is there for the rest. Then several times, as all of them take less than half a second; the seconds are those of one time.
fn own_texts(cases: &[Case]) -> Texts {
    let texts = pass(cases);
    let begun = Instant::now();
    (0..PASSES).for_each(|_| drop(pass(cases)));
    (texts, begun.elapsed().as_secs_f64() / f64::from(PASSES))
}

/// Several pages at a time, as many as there are cores.
fn pass(cases: &[Case]) -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let taken = std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)));
        taken.map(|case| (case.name.clone(), own_text(case))).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        // A worker that panicked has read nothing, which the scores show.
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

fn own_text(case: &Case) -> String {
    let found = clean::decode_page(&case.html, None).and_then(|body| {
        let (key, url) = (case.url.clone(), case.url.clone());
        clean::page(&Page { key, url, media: Media::Html, body, hints: Hints::default() }, &CleanOptions::default())
    });
    found.map(|document| clean::visible_text(&document.text)).unwrap_or_default()
}

#[derive(Deserialize)]
struct PeerText {
    name: String,
    text: String,
    seconds: f64,
}

fn peer_texts(arguments: &ExtractionArguments, cases: &[Case]) -> anyhow::Result<(String, Texts)> {
    let mut command = Command::new(&arguments.python);
    command.arg(&arguments.peer).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("`{}` could not be run", arguments.python))?;
    let requests: Vec<Value> = cases
        .iter()
        .map(|case| {
            let html: String = case.html.iter().map(|byte| char::from(*byte)).collect();
            json!({ "name": case.name, "url": case.url, "html": html })
        })
        .collect();
    let mut input = child.stdin.take().context("the peer takes no pages")?;
    // Written beside the reading: the peer answers page by page.
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        requests.iter().try_for_each(|request| writeln!(input, "{request}"))
    });
    let done = child.wait_with_output()?;
    // A peer that ended early has said why.
    let _ = writing.join();
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{}: `pip install trafilatura` for {}", said.lines().last().unwrap_or("it failed"), arguments.python);
    }
    let answers = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut lines = answers.lines();
    let about: Value =
        serde_json::from_str(lines.next().unwrap_or_default()).context("the peer does not say who it is")?;
    let (mut texts, mut seconds) = (BTreeMap::new(), 0.0);
    for line in lines {
        let answer: PeerText = serde_json::from_str(line).context("the peer's answer is no text")?;
        seconds += answer.seconds;
        texts.insert(answer.name, answer.text);
    }
    Ok((format!("trafilatura {}", about["version"].as_str().unwrap_or_default()), (texts, seconds)))
}

// ---- The scores ----

fn score(set: &'static str, who: &str, cases: &[Case], (texts, seconds): &Texts) -> Score {
    let empty = String::new();
    let text = |case: &Case| texts.get(&case.name).unwrap_or(&empty);
    let (mut hits, mut misses, mut intruders) = (0.0, 0.0, 0.0);
    let mut means = [Vec::new(), Vec::new(), Vec::new()];
    for case in cases {
        match &case.gold {
            Gold::Snippets { with, without } => {
                let text = plain(text(case));
                let there = |snippets: &[String]| {
                    snippets.iter().filter(|snippet| text.contains(&plain(snippet))).count() as f64
                };
                hits += there(with);
                misses += with.len() as f64 - there(with);
                intruders += there(without);
            }
            Gold::Text(gold) => {
                let (precision, recall) = overlap(&shingles(gold), &shingles(text(case)));
                [precision, recall, f1(precision, recall)]
                    .into_iter()
                    .zip(&mut means)
                    .for_each(|(value, all)| all.push(value));
            }
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let share = |part: f64, rest: f64| if part + rest > 0.0 { part / (part + rest) } else { 0.0 };
    let (precision, recall, f1) = if means[0].is_empty() {
        let (precision, recall) = (share(hits, intruders), share(hits, misses));
        (precision, recall, f1(precision, recall))
    } else {
        (mean(&means[0]), mean(&means[1]), mean(&means[2]))
    };
    let bytes: usize = cases.iter().map(|case| case.html.len()).sum();
    Score {
        set,
        who: who.to_owned(),
        pages: cases.len(),
        precision,
        recall,
        f1,
        pages_per_second: cases.len() as f64 / seconds,
        megabytes_per_second: bytes as f64 / 1e6 / seconds,
    }
}

fn f1(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sequences of words; in scripts without spaces each character is one.
fn shingles(text: &str) -> HashSet<Vec<String>> {
    let unspaced = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.to_lowercase().chars().chain([' ']) {
        if unspaced(c) || !c.is_alphanumeric() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            words.extend(unspaced(c).then(|| c.to_string()));
        } else {
            word.push(c);
        }
    }
    if words.len() <= SHINGLE {
        return if words.is_empty() { HashSet::new() } else { HashSet::from([words]) };
    }
    words.windows(SHINGLE).map(<[String]>::to_vec).collect()
}

fn overlap(wanted: &HashSet<Vec<String>>, found: &HashSet<Vec<String>>) -> (f64, f64) {
    let both = wanted.intersection(found).count() as f64;
    let precision = if found.is_empty() { f64::from(u8::from(wanted.is_empty())) } else { both / found.len() as f64 };
    let recall = if wanted.is_empty() { 1.0 } else { both / wanted.len() as f64 };
    (precision, recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_definition() {
        let (gold, text) =
            (shingles("one two three four five six seven"), shingles("One, two three four five six. Eight"));
        // Two of three shingles are the same on either side.
        assert_eq!(overlap(&gold, &text), (2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(shingles("日本語 ok"), HashSet::from([["日", "本", "語", "ok"].map(str::to_owned).to_vec()]));
        assert_eq!(overlap(&HashSet::new(), &HashSet::new()), (1.0, 1.0));
        let gold = Gold::Snippets { with: vec!["a b".into(), "c".into()], without: vec!["x".into(), "y".into()] };
        let case = Case { name: "n".into(), url: String::new(), html: vec![0; 1_000_000], gold };
        let texts = BTreeMap::from([("n".to_owned(), "a\n b x".to_owned())]);
        let score = score("s", "w", &[case], &(texts, 0.5));
        assert_eq!((score.precision, score.recall, score.f1), (0.5, 0.5, 0.5));
        assert_eq!((score.pages_per_second, score.megabytes_per_second), (2.0, 2.0));
    }
}
