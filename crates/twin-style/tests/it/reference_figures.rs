use serde_json::Value;
use twin_style::overlap::{chrf2, rouge_l, rouge_n};
use twin_style::stats::Verification;

#[test]
fn verification_figures_are_those_of_the_official_evaluator() {
    let Some(scores) = crate::real_data("golden-pan20/scores.tsv") else { return };
    let Some(expected) = crate::real_data("golden-pan20/expected.json") else { return };
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let mut lines = scores.lines();
    let systems: Vec<&str> = lines.next().unwrap().split('\t').skip(1).collect();
    let rows: Vec<Vec<f64>> = lines.map(|line| line.split('\t').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 14_311);
    for (column, system) in systems.iter().enumerate() {
        let cases: Vec<(f64, bool)> = rows.iter().map(|row| (row[column + 1], row[0] == 1.0)).collect();
        let found = Verification::of(&cases).unwrap();
        let figures = [
            ("auc", found.auc),
            ("c@1", found.c_at_1),
            ("f_05_u", found.f_0_5_u),
            ("F1", found.f1),
            ("brier_complement", found.brier_complement),
            ("unanswered", found.unanswered as f64),
        ];
        for (name, figure) in figures {
            let expected = expected[system][name].as_f64().unwrap();
            assert!((figure - expected).abs() < 1e-9, "{system} {name}: {figure} and not {expected}");
        }
    }
}

#[test]
fn overlap_figures_are_those_of_rouge_score_and_sacrebleu() {
    let Some(expected) = crate::real_data("golden-text-overlap/expected.json") else { return };
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (index, case) in expected.as_array().unwrap().iter().enumerate() {
        let (reference, hypothesis) = (case["reference"].as_str().unwrap(), case["hypothesis"].as_str().unwrap());
        let found = [
            ("rouge1", rouge_n(reference, hypothesis, 1)),
            ("rouge2", rouge_n(reference, hypothesis, 2)),
            ("rougeL", rouge_l(reference, hypothesis)),
        ];
        for (name, rouge) in found {
            for (part, value) in [("p", rouge.precision), ("r", rouge.recall), ("f", rouge.f)] {
                let expected = case[name][part].as_f64().unwrap();
                assert!((value - expected).abs() < 1e-9, "case {index} {name} {part}: {value} and not {expected}");
            }
        }
        let (found, expected) = (chrf2(reference, hypothesis), case["chrf2"].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-6, "case {index} chrF2: {found} and not {expected}");
    }
}
