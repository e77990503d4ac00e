//! A map of passages: units of 500 words of the author, of other authors and of every way of writing, on the plane in which
//! people's use of common words and function words differs most.

use serde::{Deserialize, Serialize};
use twin_style::likeness::Ruler;
use twin_style::map::Plane;
use twin_style::text::{prose, units};

use super::likeness::text;
use super::{Arm, ArmReport, Corpus};

/// The most units of one kind, evenly spread: more would hide each other.
const MOST: usize = 40;

/// A unit on the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub whose: Arm,
    pub x: f64,
    pub y: f64,
}

/// The plane is that of people's units alone, so that no arm bends it. Empty where there are fewer than four of them.
pub(super) fn draw(ruler: &Ruler, corpus: &Corpus, arms: &[ArmReport]) -> Vec<Point> {
    let place = |texts: &[&str]| -> Vec<Vec<f64>> {
        let proses: Vec<String> = texts.iter().map(|text| prose(text)).collect();
        let units = units(&proses, ruler.config().unit_words);
        let step = units.len().div_ceil(MOST).max(1);
        units.iter().step_by(step).map(|unit| ruler.features(&unit.text)).collect()
    };
    let own = place(&corpus.held_out.iter().map(text).collect::<Vec<_>>());
    let strangers = corpus.strangers.iter().flat_map(|(_, posts)| posts.iter().map(text)).collect::<Vec<_>>();
    let mut placed = vec![(Arm::Author, own), (Arm::Others, place(&strangers))];
    let people: Vec<&[f64]> = placed.iter().flat_map(|(_, rows)| rows.iter().map(Vec::as_slice)).collect();
    let Some(plane) = Plane::of(&people) else { return Vec::new() };
    for report in arms.iter().filter(|report| Arm::WRITING.contains(&report.arm)) {
        placed.push((report.arm, place(&report.texts())));
    }
    let point = |whose: Arm, row: &Vec<f64>| {
        let [x, y] = plane.place(row);
        Point { whose, x, y }
    };
    placed.iter().flat_map(|(whose, rows)| rows.iter().map(move |row| point(*whose, row))).collect()
}
