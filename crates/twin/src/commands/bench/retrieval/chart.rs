//! The stages of each collection as bars of nDCG@10 with their intervals, drawn as SVG that needs nothing else.

use std::fmt::Write;

use super::{CollectionOutcome, Outcome};

/// Sizes in pixels.
const BAR: usize = 22;
const LABELS: usize = 210;
const SCALE: usize = 520;
const TITLE: usize = 34;

/// One group of bars for each collection, on one scale from 0 to 1.
pub fn svg(outcome: &Outcome) -> String {
    let rows: usize = outcome.collections.iter().map(|collection| collection.stages.len()).sum();
    let height = rows * BAR + outcome.collections.len() * TITLE + 20;
    let width = LABELS + SCALE + 70;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\"><title>nDCG@10 by stage</title>\
         <style>text{{fill:#222}}rect{{fill:#4a7fb0}}line{{stroke:#222}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}\
         line{{stroke:#ddd}}}}</style>\n"
    );
    let mut top = 0;
    for collection in &outcome.collections {
        group(&mut out, collection, top);
        top += TITLE + collection.stages.len() * BAR;
    }
    out.push_str("</svg>\n");
    out
}

fn group(out: &mut String, collection: &CollectionOutcome, top: usize) {
    let name = escaped(&collection.name);
    let _ = writeln!(out, "<text x=\"4\" y=\"{}\" font-weight=\"bold\">{name}, nDCG@10</text>", top + 22);
    for (index, stage) in collection.stages.iter().enumerate() {
        let y = top + TITLE + index * BAR;
        let at = |value: f64| LABELS as f64 + value.clamp(0.0, 1.0) * SCALE as f64;
        let (mean, (low, high)) = (stage.means[0], stage.intervals[0]);
        let middle = y as f64 + BAR as f64 / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"4\" y=\"{:.1}\">{}</text><rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{mean:.3}</text>",
            middle + 4.0,
            escaped(stage.stage),
            y + 3,
            at(mean) - LABELS as f64,
            BAR - 6,
            at(low),
            at(high),
            at(high) + 6.0,
            middle + 4.0,
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
