//! Extracts main texts for `eval/extraction/compare.py`: pages as JSON lines in (`name`, `url`, `html` with a character for
//! each byte), the words a reader sees out, with the seconds that each took.

use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};
use twin_feature_pipeline::clean::{self, CleanOptions};
use twin_feature_pipeline::{Hints, Media, Page};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        let bytes: Vec<u8> = text("html").chars().map(|character| character as u8).collect();
        let begun = Instant::now();
        let found = clean::decode_page(&bytes, None).and_then(|body| {
            let page = Page { key: text("url"), url: text("url"), media: Media::Html, body, hints: Hints::default() };
            clean::page(&page, &CleanOptions::default())
        });
        let seconds = begun.elapsed().as_secs_f64();
        let (seen, problem) = match found {
            Ok(document) => (clean::visible_text(&document.text), None),
            Err(rejection) => (String::new(), Some(rejection.to_string())),
        };
        writeln!(out, "{}", json!({"name": text("name"), "text": seen, "problem": problem, "seconds": seconds}))?;
    }
    Ok(())
}
