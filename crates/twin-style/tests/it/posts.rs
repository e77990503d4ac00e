use std::time::Instant;

use serde_json::Value;
use twin_style::copying::CopyIndex;
use twin_style::likeness::{AuthorTexts, Ruler, RulerConfig};
use twin_style::stats::quantile;
use twin_style::text::{as_markdown, normalise, prose, units, without_boilerplate};
use twin_style::verification::{Candidate, Pool, verify};

#[test]
fn technical_authors_are_told_apart() {
    let Some(known) = crate::rows("style-verification-tech/known.jsonl") else { return };
    let Some(questioned) = crate::rows("style-verification-tech/questioned.jsonl") else { return };
    let field = |row: &Value, name: &str| normalise(row[name].as_str().unwrap());
    let candidate = |row: &Value| Candidate {
        name: field(row, "author"),
        known: vec![field(row, "text")],
        questioned: questioned
            .iter()
            .filter(|one| one["author"] == row["author"])
            .map(|one| field(one, "text"))
            .collect(),
    };
    let candidates: Vec<Candidate> = known.iter().map(candidate).collect();
    let report = verify(&candidates, Pool::Closed, &RulerConfig::default()).unwrap();
    eprintln!("{report:#?}");
    assert_eq!((report.authors, report.pieces, report.cases), (9, 94, 94 * 9));
    assert!(report.auc >= 0.97 && report.calibration_error <= 0.05, "{report:?}");
    assert!(report.by_author.iter().all(|author| author.auc > 0.85));
    assert_eq!(report, verify(&candidates, Pool::Closed, &RulerConfig::default()).unwrap(), "twice the same");
}

#[test]
fn real_new_posts_are_not_copies_of_old_ones() {
    let Some(posts) = crate::rows("blogs-tech/matklad.jsonl") else { return };
    let mut dated: Vec<(&str, String)> = posts
        .iter()
        .map(|post| (post["date"].as_str().unwrap(), prose(&as_markdown(post["text"].as_str().unwrap()))))
        .collect();
    dated.sort();
    let proses = without_boilerplate(&dated.into_iter().map(|(_, prose)| prose).collect::<Vec<_>>());
    let (old, new) = proses.split_at(proses.len() * 6 / 10);
    let new: Vec<String> = units(new, 500).iter().map(|unit| as_markdown(&unit.text)).collect();
    let index = |proses: &[String]| {
        let known: Vec<String> = proses.iter().map(|prose| as_markdown(prose)).collect();
        let start = Instant::now();
        (CopyIndex::new(&known.iter().map(String::as_str).collect::<Vec<_>>()), start.elapsed())
    };
    let (all, built) = index(&proses);
    let start = Instant::now();
    // But for the quotations, every unit stands in one of the posts.
    assert!(new.iter().all(|unit| all.report(unit).share > 0.9));
    let searched = start.elapsed().as_secs_f64() / new.len() as f64;
    let (old_index, _) = index(old);
    let reports: Vec<_> = new.iter().map(|unit| old_index.report(unit)).collect();
    let shares: Vec<f64> = reports.iter().map(|report| report.share).collect();
    let runs: Vec<f64> = reports.iter().map(|report| report.longest_run as f64).collect();
    let flagged = reports.iter().filter(|report| report.is_copied()).count();
    eprintln!(
        "{} units: share p50 {:.3} p95 {:.3} p99 {:.3}, run p50 {} p95 {} p99 {}, flagged {flagged}; index of all posts {:.2} s, a report {:.2} ms",
        new.len(),
        quantile(&shares, 0.5),
        quantile(&shares, 0.95),
        quantile(&shares, 0.99),
        quantile(&runs, 0.5),
        quantile(&runs, 0.95),
        quantile(&runs, 0.99),
        built.as_secs_f64(),
        searched * 1000.0
    );
    assert!(flagged * 50 <= new.len(), "{flagged} of {} real units are taken for copies", new.len());
    assert!(quantile(&runs, 0.5) < 8.0);
}

#[test]
fn the_two_sample_authors_are_told_apart() {
    let (maren, idris) = (crate::sample_posts("maren-holt"), crate::sample_posts("idris-vane"));
    fn parted(posts: &[String]) -> AuthorTexts<'_> {
        AuthorTexts::by_date("author", &posts.iter().map(String::as_str).collect::<Vec<_>>(), 0.6)
    }
    for (author, impostor) in [(&maren, &idris), (&idris, &maren)] {
        let (author, impostor) = (parted(author), parted(impostor));
        let ruler = Ruler::fit(&author, std::slice::from_ref(&impostor), RulerConfig::default()).unwrap();
        let likeness = ruler.likeness(&author.held_out).unwrap();
        eprintln!("{:?}\n{likeness:?}", ruler.quality());
        assert!(ruler.quality().auc > 0.9);
        assert!((likeness.value - 1.0).abs() < 0.1);
        assert!(ruler.likeness(&impostor.held_out).unwrap().value < 0.2);
    }
}
