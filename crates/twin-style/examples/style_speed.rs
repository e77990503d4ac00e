//! How fast passages are measured, and whether memory stays flat.
//!
//!     cargo run --release -p twin-style --example style_speed -- [PASSAGES]
//!
//! 10,000 passages of 300 words by default, each with its likeness and all gates, as the style meter and the evaluation have
//! them; the ruler is made of a sample author among the population that comes with the program. The limit is 60 s on two
//! cores. Memory is the process's resident set, from Linux's `/proc`.
#![expect(clippy::print_stdout, reason = "this program prints what it measured")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use twin_style::assessment::Assessor;
use twin_style::cheats::Cheat;
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::population::Population;
use twin_style::profile::StyleProfile;
use twin_style::text::prose;

const WORDS: usize = 300;
const LIMIT_SECONDS: f64 = 60.0;
/// Passages are made and measured so many at a time, as they would come from a folder.
const BATCH: usize = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let passages: usize = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let population = Population::from_bytes(&std::fs::read(root.join("population/posts-and-essays-2.json.gz"))?)?;
    let posts = posts(&root.join("maren-holt/posts"))?;
    let refs: Vec<&str> = posts.iter().map(String::as_str).collect();
    let others = Others { population: Some(Arc::new(population)), ..Others::default() };
    let begun = Instant::now();
    let assessor = Assessor::fit(&AuthorTexts::by_date("maren", &refs, 0.6), &others, RulerConfig::default())?;
    println!("ruler: {:.1} s, {} MB resident", begun.elapsed().as_secs_f64(), resident());

    // New text without end: chains of the author's words, different in every batch.
    let known: String = posts.iter().map(|post| prose(post)).collect::<Vec<_>>().join("\n\n");
    let (mut measured, mut seconds, mut words, mut stopped) = (0, 0.0, 0, 0);
    let (mut least, mut most) = (u64::MAX, 0);
    while measured < passages {
        let count = BATCH.min(passages - measured);
        let texts = Cheat::Markov2.texts(&known, &[], count, WORDS, measured as u64);
        let begun = Instant::now();
        let found: Vec<(usize, bool)> = texts
            .par_iter()
            .map(|text| {
                let passage = assessor.passage(text);
                (passage.words + StyleProfile::of(text).words, !passage.stopped_by.is_empty())
            })
            .collect();
        seconds += begun.elapsed().as_secs_f64();
        words += found.iter().map(|(words, _)| words / 2).sum::<usize>();
        stopped += found.iter().filter(|(_, stopped)| *stopped).count();
        measured += count;
        let now = resident();
        (least, most) = (least.min(now), most.max(now));
    }
    println!(
        "{measured} passages of {} words on {} threads: {seconds:.1} s, {:.2} ms each, {:.0}% of the limit of \
         {LIMIT_SECONDS:.0} s for 10,000; {stopped} stopped by a gate",
        words / measured.max(1),
        rayon::current_num_threads(),
        seconds * 1e3 / measured as f64,
        seconds / measured as f64 * 10_000.0 / LIMIT_SECONDS * 100.0
    );
    println!("memory between batches: {least} to {most} MB resident");
    Ok(())
}

fn posts(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    files.iter().map(std::fs::read_to_string).collect()
}

/// Megabytes, 0 where there is no `/proc`.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|value| value.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
