//! How fast passages are measured: 10,000 of 300 words, and one of 500 as a live meter would.
//!
//!     cargo run --release -p twin-style --example style_speed
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;
use twin_style::assessment::Assessor;
use twin_style::likeness::{AuthorTexts, Others, RulerConfig};
use twin_style::profile::StyleProfile;

const PASSAGES: usize = 10_000;

fn main() {
    let (maren, idris) = (posts("maren-holt"), posts("idris-vane"));
    let refs = |posts: &'static [String]| posts.iter().map(String::as_str).collect::<Vec<_>>();
    let (maren, idris): (&'static [String], &'static [String]) = (maren.leak(), idris.leak());
    let others = [AuthorTexts::by_date("idris", &refs(idris), 0.6)];
    let others = Others { texts: &others, ..Others::default() };
    let begun = Instant::now();
    let assessor = Assessor::fit(&AuthorTexts::by_date("maren", &refs(maren), 0.6), &others, RulerConfig::default());
    let assessor = match assessor {
        Ok(assessor) => assessor,
        Err(refusal) => return println!("no ruler: {refusal}"),
    };
    println!("a ruler: {:.2} s, {} MB", begun.elapsed().as_secs_f64(), memory_mb());

    let all = [maren.join(" "), idris.join(" ")].join(" ");
    let words: Vec<&str> = all.split_whitespace().collect();
    let passage = |index: usize, length: usize| words.iter().cycle().skip(index * 7 % words.len()).take(length);
    let passage = |index: usize, length: usize| passage(index, length).copied().collect::<Vec<_>>().join(" ");
    let begun = Instant::now();
    let accepted = (0..PASSAGES)
        .into_par_iter()
        .filter(|index| !assessor.passage(&passage(*index, 300)).stopped_by.is_empty())
        .count();
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{PASSAGES} passages of 300 words: {seconds:.1} s ({:.2} of 60 s) on {} threads, {accepted} stopped, {} MB",
        seconds / 60.0,
        rayon::current_num_threads(),
        memory_mb()
    );

    let text = passage(0, 500);
    let each = |work: &dyn Fn()| {
        let begun = Instant::now();
        (0..100).for_each(|_| work());
        begun.elapsed().as_secs_f64() * 10.0
    };
    println!(
        "500 words: profile {:.2} ms, likeness and gates {:.2} ms, of 20 ms",
        each(&|| {
            std::hint::black_box(StyleProfile::of(&text));
        }),
        each(&|| {
            std::hint::black_box(assessor.passage(&text));
        })
    );
}

fn posts(author: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data").join(author).join("posts");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

/// Resident memory, where the system says it.
fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    resident.unwrap_or(0_u64) / 1024
}
