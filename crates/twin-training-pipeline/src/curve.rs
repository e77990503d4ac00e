//! The loss curve of a run, as numbers and as a picture.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// One optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepPoint {
    /// From 1.
    pub step: usize,
    /// Mean negative log-likelihood of the step's target tokens, in nats.
    pub loss: f64,
    pub learning_rate: f64,
    /// The norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Tokens seen so far, prompts included.
    pub tokens: u64,
    /// How long the step took.
    #[serde(default)]
    pub seconds: f64,
}

/// One look at the calibration documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationPoint {
    /// The step after which it was taken; 0 is before the first.
    pub step: usize,
    /// Mean negative log-likelihood of the target tokens, in nats; of DPO, the mean loss of a pair.
    pub loss: f64,
    /// The mean margin of pairs and the chosen answers' nats a token, where the method is DPO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// Whether this adapter is not to be kept, whatever its loss.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// The course of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub steps: Vec<StepPoint>,
    pub validation: Vec<ValidationPoint>,
}

/// Why a curve could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the loss curve could not be drawn: {0}")]
pub struct DrawError(String);

const TRAIN: RGBColor = RGBColor(0x5b, 0x8d, 0xef);
const VALIDATION: RGBColor = RGBColor(0xe0, 0x7a, 0x3f);
const INK: RGBColor = RGBColor(0x66, 0x6a, 0x73);

impl Curve {
    /// The lowest validation loss and its step, of what may be kept.
    pub fn best(&self) -> Option<ValidationPoint> {
        self.validation.iter().copied().filter(|point| !point.refused).min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// The tokens a second of each step.
    pub fn tokens_per_second(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let before = std::iter::once(0).chain(self.steps.iter().map(|point| point.tokens));
        self.steps
            .iter()
            .zip(before)
            .filter(|(point, _)| point.seconds > 0.0)
            .map(|(point, before)| (point.step, point.tokens.saturating_sub(before) as f64 / point.seconds))
    }

    /// The curve as an SVG of 720 by 520 (losses, below them learning rate and tokens a second) on a transparent ground, so that it can stand on a light and on a dark page.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn to_svg(&self) -> Result<String, DrawError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| DrawError(error.to_string()))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let losses = || self.steps.iter().map(|p| p.loss).chain(self.validation.iter().map(|p| p.loss));
        let low = losses().fold(f64::INFINITY, f64::min);
        let high = losses().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) };
        let margin = ((high - low) * 0.08).max(0.05);
        let last = self.steps.last().map_or(1, |point| point.step) as f64;

        let root = SVGBackend::with_string(svg, (720, 520)).into_drawing_area();
        let (upper, lower) = root.split_vertically(360);
        let mut chart = ChartBuilder::on(&upper)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..last, (low - margin)..(high + margin))?;
        let label = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.2))
            .axis_style(INK)
            .label_style(label.clone())
            .x_desc("step")
            .y_desc("loss (nats a token)")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|loss| format!("{loss:.2}"))
            .draw()?;
        let train = self.steps.iter().map(|point| (point.step as f64, point.loss));
        chart
            .draw_series(LineSeries::new(train, TRAIN.mix(0.8)))?
            .label("training")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAIN));
        let validation = || self.validation.iter().map(|point| (point.step as f64, point.loss));
        chart
            .draw_series(LineSeries::new(validation(), VALIDATION.stroke_width(2)))?
            .label("validation")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], VALIDATION.stroke_width(2)));
        chart.draw_series(validation().map(|point| Circle::new(point, 3, VALIDATION.filled())))?;
        chart.configure_series_labels().label_font(label).border_style(TRANSPARENT).draw()?;
        let (left, right) = lower.split_horizontally(360);
        let rates = self.steps.iter().map(|point| (point.step as f64, point.learning_rate)).collect();
        small(&left, "learning rate", rates, last)?;
        let speeds = self.tokens_per_second().map(|(step, speed)| (step as f64, speed)).collect();
        small(&right, "tokens/s", speeds, last)?;
        root.present()?;
        Ok(())
    }
}

/// A chart of one line from 0 up.
fn small(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    what: &str,
    points: Vec<(f64, f64)>,
    last: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let most = points.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, 0.0..most)?;
    let label = ("sans-serif", 12).into_font().color(&INK);
    let number =
        |value: &f64| if *value != 0.0 && *value < 0.1 { format!("{value:.0e}") } else { format!("{value:.0}") };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.2))
        .axis_style(INK)
        .label_style(label)
        .y_labels(4)
        .y_desc(what)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&number)
        .draw()?;
    chart.draw_series(LineSeries::new(points, TRAIN))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: usize, loss: f64) -> StepPoint {
        StepPoint { step, loss, learning_rate: 1e-3, gradient_norm: 1.0, tokens: 100 * step as u64, seconds: 0.5 }
    }

    #[test]
    fn both_lines_are_drawn() {
        let curve = Curve {
            steps: vec![point(1, 3.0), point(2, 2.5), point(3, 2.4)],
            validation: vec![
                ValidationPoint { loss: 3.1, ..ValidationPoint::default() },
                ValidationPoint { step: 3, loss: 2.6, ..ValidationPoint::default() },
            ],
        };
        let svg = curve.to_svg().unwrap();
        for colour in ["#5B8DEF", "#E07A3F"] {
            assert!(svg.contains(colour), "no line of {colour}: {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2, "a point for each look");
        assert_eq!(curve.best().unwrap().step, 3);
        assert!(svg.contains("learning rate") && svg.contains("tokens/s"));
        assert_eq!(curve.tokens_per_second().collect::<Vec<_>>(), [(1, 200.0), (2, 200.0), (3, 200.0)]);
    }

    #[test]
    fn what_is_refused_is_not_the_best() {
        let look = |step, loss, refused| ValidationPoint { step, loss, refused, ..ValidationPoint::default() };
        let curve =
            Curve { steps: vec![], validation: vec![look(0, 3.0, false), look(4, 2.0, true), look(8, 2.5, false)] };
        assert_eq!(curve.best().unwrap().step, 8);
    }

    #[test]
    fn an_empty_curve_and_a_broken_one_can_be_drawn() {
        assert!(Curve::default().to_svg().unwrap().starts_with("<svg"));
        assert!(Curve { steps: vec![point(1, f64::NAN)], validation: vec![] }.to_svg().unwrap().starts_with("<svg"));
    }
}
