//! Pictures of an evaluation, as SVG on a transparent ground.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::html::{self, Deviation};
use super::{Arm, EvaluationReport, Point};

/// Why a picture could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("a chart could not be drawn: {0}")]
pub struct ChartError(String);

const PEOPLE: RGBColor = RGBColor(0x5b, 0x8d, 0xef);
const MACHINE: RGBColor = RGBColor(0xe0, 0x7a, 0x3f);
const INK: RGBColor = RGBColor(0x66, 0x6a, 0x73);
const WIDTH: u32 = 760;
const ROW_HEIGHT: u32 = 44;
/// How many features are drawn.
const MOST_BARS: usize = 12;

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

/// The map of passages. `None` where there is none.
///
/// # Errors
/// When the drawing library fails.
pub fn map(report: &EvaluationReport) -> Result<Option<String>, ChartError> {
    let Some(points) = report.likeness.as_ref().map(|likeness| &likeness.map).filter(|map| !map.is_empty()) else {
        return Ok(None);
    };
    drawn(|svg| draw_map(svg, points)).map(Some)
}

/// The features in which the adapter's texts differ most from the author's, as ratios. `None` where nothing differs, or no
/// adapter wrote.
///
/// # Errors
/// When the drawing library fails.
pub fn deviations(report: &EvaluationReport) -> Result<Option<String>, ChartError> {
    let Some(arm) = report.arm(Arm::Lora).or_else(|| report.arm(Arm::LoraRag)) else { return Ok(None) };
    let ratio = |found: Deviation| {
        (found.feature.to_owned(), ((found.machine.max(0.0) + 0.5) / (found.own.max(0.0) + 0.5)).log2())
    };
    let bars: Vec<(String, f64)> = html::deviations(arm, report).into_iter().take(MOST_BARS).map(ratio).collect();
    if bars.is_empty() { Ok(None) } else { drawn(|svg| draw_bars(svg, &bars, arm.arm)).map(Some) }
}

fn draw(rows: &[Row], title: &str) -> Result<String, ChartError> {
    drawn(|svg| draw_rows(svg, rows, title))
}

type Drawing<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

fn drawn(draw: impl for<'a> FnOnce(&'a mut String) -> Drawing<'a>) -> Result<String, ChartError> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|error| ChartError(error.to_string()))?;
    Ok(svg)
}

fn label() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

fn draw_map<'a>(svg: &'a mut String, points: &[Point]) -> Drawing<'a> {
    let bounds = |value: fn(&Point) -> f64| {
        let (low, high) = points.iter().map(value).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let room = (high - low).max(1e-6) * 0.06;
        (low - room)..(high + room)
    };
    let root = SVGBackend::with_string(svg, (WIDTH, 480)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root).margin(12).build_cartesian_2d(bounds(|p| p.x), bounds(|p| p.y))?;
    // The axes have no meaning of their own: only who is near whom.
    for (index, whose) in [Arm::Others, Arm::Author].into_iter().chain(Arm::WRITING).enumerate() {
        let colour = colour(whose);
        let own: Vec<&Point> = points.iter().filter(|point| point.whose == whose).collect();
        if own.is_empty() {
            continue;
        }
        chart
            .draw_series(own.iter().map(|point| Circle::new((point.x, point.y), 4, colour.mix(0.6).filled())))?
            .label(whose.label())
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        // Their middle, for the eye.
        let middle = |value: fn(&Point) -> f64| own.iter().map(|point| value(point)).sum::<f64>() / own.len() as f64;
        if index > 0 {
            chart.draw_series([Cross::new((middle(|p| p.x), middle(|p| p.y)), 8, colour.stroke_width(3))])?;
        }
    }
    chart.configure_series_labels().border_style(INK.mix(0.3)).label_font(label()).draw()?;
    root.present()?;
    Ok(())
}

fn colour(whose: Arm) -> RGBColor {
    match whose {
        Arm::Author => PEOPLE,
        Arm::Others => RGBColor(0x9a, 0xa3, 0xb2),
        Arm::Base => RGBColor(0xd4, 0xb1, 0x4a),
        Arm::Prompted => RGBColor(0x8a, 0xa8, 0x3c),
        Arm::FewShotRag => RGBColor(0x3f, 0xa0, 0x8c),
        Arm::Lora => MACHINE,
        Arm::LoraRag => RGBColor(0xb4, 0x4f, 0xa6),
    }
}

fn draw_bars<'a>(svg: &'a mut String, bars: &[(String, f64)], whose: Arm) -> Drawing<'a> {
    let most = bars.iter().map(|(_, ratio)| ratio.abs()).fold(1.0, f64::max) + 0.2;
    let height = 26 * bars.len() as u32 + 70;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(210)
        .build_cartesian_2d(-most..most, -0.5..(bars.len() as f64 - 0.5))?;
    let name = |place: &f64| {
        let index = bars.len() as f64 - 1.0 - place;
        let near = (index - index.round()).abs() < 0.01 && index >= -0.01;
        bars.get(index.round().max(0.0) as usize).filter(|_| near).map_or(String::new(), |(name, _)| name.clone())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.2))
        .axis_style(INK)
        .label_style(label())
        .y_labels(bars.len() * 2 + 1)
        .y_label_formatter(&name)
        .x_desc(format!("{}: times as much as the author", whose.label()))
        .x_label_formatter(&|value| format!("{:.2}", value.exp2()))
        .draw()?;
    for (index, (_, ratio)) in bars.iter().enumerate() {
        let place = bars.len() as f64 - 1.0 - index as f64;
        let corners = [(0.0, place - 0.3), (*ratio, place + 0.3)];
        chart.draw_series([Rectangle::new(corners, colour(whose).mix(0.7).filled())])?;
    }
    root.present()?;
    Ok(())
}

fn draw_rows<'a>(svg: &'a mut String, rows: &[Row], title: &str) -> Drawing<'a> {
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
        .label_style(label())
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
    fn the_map_and_the_bars_have_their_names() {
        let point = |whose, x: f64| Point { whose, x, y: -x };
        let points = [point(Arm::Author, 1.0), point(Arm::Others, -1.0), point(Arm::Lora, 0.5)];
        let svg = drawn(|svg| draw_map(svg, &points)).unwrap();
        assert!(svg.contains("the author (ceiling)") && svg.contains("LoRA"), "{svg}");
        assert!(!svg.contains("base + prompt"), "who has no text is not named");
        let bars = [("semicolons".to_owned(), 1.0), ("commas".to_owned(), -2.0)];
        let svg = drawn(|svg| draw_bars(svg, &bars, Arm::Lora)).unwrap();
        assert!(svg.contains("semicolons") && svg.contains("4.00"), "{svg}");
    }

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
