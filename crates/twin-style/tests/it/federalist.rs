use serde_json::Value;
use twin_style::delta::{DeltaModel, Features, Measure};
use twin_style::text::normalise;

struct Papers {
    model: DeltaModel,
    disputed: Vec<(String, String)>,
}

fn papers(features: Features) -> Option<Papers> {
    let rows = crate::rows("federalist/federalist.jsonl")?;
    // The reference takes for a word what ASCII letters there are: `abb` of `abbé`, `st` of `1st`.
    let ascii = |c: char| if c.is_ascii_alphabetic() || c == '\'' { c } else { ' ' };
    let text = |row: &Value| normalise(row["text"].as_str().unwrap()).chars().map(ascii).collect::<String>();
    let of = |author: &str| rows.iter().filter(|row| row["author"] == author).collect::<Vec<_>>();
    let known: Vec<(&str, Vec<String>)> =
        ["hamilton", "madison", "jay"].map(|author| (author, of(author).into_iter().map(text).collect())).to_vec();
    assert_eq!(known.iter().map(|(_, papers)| papers.len()).sum::<usize>(), 70);
    let disputed = of("hamilton_or_madison").into_iter().map(|row| (row["number"].to_string(), text(row))).collect();
    Some(Papers { model: DeltaModel::fit(&known, features), disputed })
}

#[test]
fn delta_agrees_with_the_reference() {
    let Some(papers) = papers(Features::MostFrequentWords(150)) else { return };
    let Some(reference) = crate::real_data("golden-delta-federalist/delta_reference.json") else { return };
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let vocabulary: Vec<&str> =
        reference["vocabulary"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(papers.model.vocabulary(), vocabulary);
    assert_eq!(papers.disputed.len(), 12);
    let mut largest: f64 = 0.0;
    for (number, text) in &papers.disputed {
        for author in ["hamilton", "madison", "jay"] {
            for (name, measure) in
                [("burrows", Measure::Burrows), ("cosine_delta", Measure::Cosine), ("quadratic", Measure::Quadratic)]
            {
                let expected = reference["papers"][number][author][name].as_f64().unwrap();
                let found = papers.model.distance(text, author, measure).unwrap();
                largest = largest.max((found - expected).abs());
                assert!((found - expected).abs() < 1e-9, "No. {number} {author} {name}: {found} and not {expected}");
            }
        }
    }
    eprintln!("largest difference from the reference: {largest:e}");
}

#[test]
fn the_disputed_papers_are_madisons() {
    let Some(papers) = papers(Features::MostFrequentWords(150)) else { return };
    for (measure, expected) in [(Measure::Cosine, 12), (Measure::Burrows, 11), (Measure::Eder, 11)] {
        let is_madisons = |(_, text): &&(String, String)| {
            let distances = papers.model.distances(text, measure);
            distances.iter().min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0 == "madison"
        };
        assert_eq!(papers.disputed.iter().filter(is_madisons).count(), expected, "{measure:?}");
    }
}
