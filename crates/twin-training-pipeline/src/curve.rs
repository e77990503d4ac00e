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

    /// The curve as an SVG of 720 by 360 on a transparent ground, so that it can stand on a light and on a dark page.
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

        let root = SVGBackend::with_string(svg, (720, 360)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
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
        root.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: usize, loss: f64) -> StepPoint {
        StepPoint { step, loss, learning_rate: 1e-3, gradient_norm: 1.0, tokens: 0 }
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
