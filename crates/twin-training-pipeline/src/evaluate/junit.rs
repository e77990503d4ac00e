//! An evaluation as JUnit XML, which build servers read: what must hold, version by version.

use std::fmt::Write as _;

use super::html::escaped;
use super::{Arm, EvaluationReport};

/// One thing that must hold.
struct Case {
    name: String,
    seconds: f64,
    /// Why it does not.
    failure: Option<String>,
}

/// The file. A suite for each version; a failed case says what was found.
pub fn xml(reports: &[(String, EvaluationReport)]) -> String {
    let mut suites = String::new();
    let (mut all, mut failed) = (0, 0);
    for (name, report) in reports {
        let cases = cases(report);
        let failures = cases.iter().filter(|case| case.failure.is_some()).count();
        let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
        (all, failed) = (all + cases.len(), failed + failures);
        let _ = writeln!(
            suites,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" time=\"{seconds:.3}\">",
            attribute(name),
            cases.len()
        );
        for Case { name: case, seconds, failure } in cases {
            let head = format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"",
                attribute(name),
                attribute(&case)
            );
            let _ = match failure {
                None => writeln!(suites, "{head}/>"),
                Some(why) => writeln!(suites, "{head}><failure message=\"{}\"/></testcase>", attribute(&why)),
            };
        }
        suites.push_str("  </testsuite>\n");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{all}\" failures=\"{failed}\">\n{suites}</testsuites>\n"
    )
}

fn cases(report: &EvaluationReport) -> Vec<Case> {
    let case = |name: &str, failure: Option<String>| Case { name: name.to_owned(), seconds: 0.0, failure };
    let (low, high) = report.author.gain_interval;
    let predicts = format!("the gain is {:.3} [{low:.3}, {high:.3}] bits per byte", report.author.gain());
    let mut cases = vec![case("the adapter predicts the author's new posts better", (low <= 0.0).then_some(predicts))];
    if let Some(gain) = report.author_specific_gain() {
        let said = format!("{gain:.3} bits per byte less than on other authors' posts");
        cases.push(case("it gains more on the author than on others", (gain <= 0.0).then_some(said)));
    }
    let Some(likeness) = &report.likeness else { return cases };
    cases.push(case("the ruler tells the author from others", likeness.refused.clone()));
    for arm in report.arms.iter().filter(|arm| Arm::WRITING.contains(&arm.arm)) {
        if let Some(assessment) = &arm.assessment {
            let gates: Vec<&str> = assessment.gates_of_text().map(|gate| gate.label()).collect();
            cases.push(Case {
                name: format!("{} is new and fluent text", arm.arm.label()),
                seconds: arm.cost.seconds,
                failure: (!gates.is_empty()).then(|| format!("stopped by {}", gates.join(", "))),
            });
        }
    }
    if let Some(decision) = &likeness.decision {
        cases.push(case("training helps", (!decision.helps).then(|| decision.because.clone())));
    }
    if let Some(memorisation) = &report.memorisation {
        let more = memorisation.twin.by_heart.saturating_sub(memorisation.base.by_heart);
        let said = format!("{more} of {} training posts come back when they are begun", memorisation.probes);
        cases.push(case("no training post is known by heart", (more > 0).then_some(said)));
    }
    cases
}

/// For an attribute: no control characters, which XML cannot hold at all.
fn attribute(text: &str) -> String {
    escaped(&text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Decision, EvaluationConfig, LikenessReport, Prediction};

    fn report(helps: bool, gain: f64) -> EvaluationReport {
        let prediction = |gain: f64| Prediction {
            base: 1.5,
            twin: 1.5 - gain,
            gain_interval: (gain - 0.01, gain + 0.01),
            documents: Vec::new(),
        };
        EvaluationReport {
            config: EvaluationConfig::default(),
            author: prediction(gain),
            others: Some(prediction(0.02)),
            arms: Vec::new(),
            likeness: Some(LikenessReport {
                decision: Some(Decision { helps, because: "so \"much\" & <more>\u{0}".to_owned() }),
                ..super::super::likeness::refused("too little".to_owned())
            }),
            memorisation: None,
        }
    }

    #[test]
    fn what_failed_says_why_and_stays_text() {
        let xml = xml(&[("ada@v1".to_owned(), report(true, 0.1)), ("ada@v2".to_owned(), report(false, 0.0))]);
        assert!(xml.contains("<testsuites tests=\"8\" failures=\"5\">"), "{xml}");
        assert!(xml.contains("<testsuite name=\"ada@v2\" tests=\"4\" failures=\"4\""), "{xml}");
        assert!(xml.contains("<failure message=\"so &quot;much&quot; &amp; &lt;more&gt; \"/>"), "{xml}");
    }
}
