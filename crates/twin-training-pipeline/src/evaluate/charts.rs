//! Pictures of an evaluation, as SVG on a transparent ground.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Arm, EvaluationReport};

/// Why a picture could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("a chart could not be drawn: {0}")]
pub struct ChartError(String);

const PEOPLE: RGBColor = RGBColor(0x5b, 0x8d, 0xef);
const MACHINE: RGBColor = RGBColor(0xe0, 0x7a, 0x3f);
const INK: RGBColor = RGBColor(0x66, 0x6a, 0x73);
const WIDTH: u32 = 760;
const ROW_HEIGHT: u32 = 44;

/// One line of a chart: a name, single values, and a mean with its interval.
struct Row {
    name: String,
    values: Vec<f64>,
    mean: Option<(f64, f64, f64)>,
    colour: RGBColor,
}

/// The likeness of units: the author's held-out ones, those of every arm, and other people's. `None` where there is no ruler.
///
/// # Errors
/// When the drawing library fails.
pub fn likeness(report: &EvaluationReport) -> Result<Option<String>, ChartError> {
    let Some(measured) = report.likeness.as_ref().filter(|measured| measured.ruler.is_some()) else { return Ok(None) };
    let people =
        |name: &str, values: &[f64]| Row { name: name.to_owned(), values: values.to_vec(), mean: None, colour: PEOPLE };
    let mut rows = vec![people("the author's new posts", &measured.author_units)];
    for arm in report.arms.iter().filter(|report| Arm::WRITING.contains(&report.arm)) {
        if let Some(likeness) = arm.assessment.as_ref().and_then(|assessment| assessment.likeness.as_ref()) {
            rows.push(Row {
                name: arm.arm.label().to_owned(),
                values: likeness.of_units.clone(),
                mean: Some((likeness.interval.0, likeness.value, likeness.interval.1)),
                colour: MACHINE,
            });
        }
    }
    rows.push(people("other people's posts", &measured.impostor_units));
    draw(&rows, "likeness: 0 other people, 1 the author").map(Some)
}

/// The likeness of the adapter's texts by version. `None` with fewer than two versions that have one.
///
/// # Errors
/// When the drawing library fails.
pub fn versions(reports: &[(String, EvaluationReport)]) -> Result<Option<String>, ChartError> {
    let row = |(name, report): &(String, EvaluationReport)| {
        let likeness = report.arm(Arm::Lora)?.assessment.as_ref()?.likeness.as_ref()?;
        let mean = Some((likeness.interval.0, likeness.value, likeness.interval.1));
        Some(Row { name: name.clone(), values: likeness.of_units.clone(), mean, colour: MACHINE })
    };
    let rows: Vec<Row> = reports.iter().filter_map(row).collect();
    if rows.len() < 2 { Ok(None) } else { draw(&rows, "likeness of the adapter's texts, version by version").map(Some) }
}

fn draw(rows: &[Row], title: &str) -> Result<String, ChartError> {
    let mut svg = String::new();
    draw_rows(&mut svg, rows, title).map_err(|error| ChartError(error.to_string()))?;
    Ok(svg)
}

fn draw_rows<'a>(svg: &'a mut String, rows: &[Row], title: &str) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let finite = |value: &f64| value.is_finite();
    let all = rows.iter().flat_map(|row| row.values.iter().copied().chain(row.mean.iter().flat_map(|m| [m.0, m.2])));
    let all: Vec<f64> = all.filter(finite).chain([0.0, 1.0]).collect();
    let (low, high) = (all.iter().copied().fold(0.0, f64::min), all.iter().copied().fold(1.0, f64::max));
    let height = ROW_HEIGHT * rows.len() as u32 + 60;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(170)
        .build_cartesian_2d((low - 0.1)..(high + 0.1), -0.5..(rows.len() as f64 - 0.5))?;
    let label = ("sans-serif", 13).into_font().color(&INK);
    let name = |place: &f64| {
        let index = rows.len() as f64 - 1.0 - place;
        let near = (index - index.round()).abs() < 0.01 && index >= -0.01;
        rows.get(index.round().max(0.0) as usize).filter(|_| near).map_or(String::new(), |row| row.name.clone())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.2))
        .axis_style(INK)
        .label_style(label)
        .y_labels(rows.len() * 2 + 1)
        .y_label_formatter(&name)
        .x_desc(title)
        .x_label_formatter(&|value| format!("{value:.1}"))
        .draw()?;
    for (index, row) in rows.iter().enumerate() {
        let place = rows.len() as f64 - 1.0 - index as f64;
        let values = row.values.iter().copied().filter(finite);
        chart.draw_series(values.map(|value| Circle::new((value, place), 4, row.colour.mix(0.35).filled())))?;
        if let Some((least, mean, most)) = row.mean.filter(|mean| mean.0.is_finite() && mean.2.is_finite()) {
            chart.draw_series([PathElement::new([(least, place), (most, place)], row.colour.stroke_width(3))])?;
            chart.draw_series([Circle::new((mean, place), 6, row.colour.filled())])?;
        }
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_name_and_its_values() {
        let row = |name: &str, values: Vec<f64>, mean| Row { name: name.to_owned(), values, mean, colour: MACHINE };
        let rows =
            [row("the author", vec![0.9, 1.1], None), row("a machine", vec![0.2, f64::NAN], Some((0.1, 0.2, 0.3)))];
        let svg = draw(&rows, "likeness").unwrap();
        assert_eq!(svg.matches("<circle").count(), 4, "three values and a mean: {svg}");
        assert!(svg.contains("the author") && svg.contains("a machine"), "{svg}");
        assert!(draw(&[row("nothing", vec![f64::NAN], Some((f64::NAN, 0.0, 1.0)))], "x").unwrap().starts_with("<svg"));
    }
}
